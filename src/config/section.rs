//! The macros that sections of the file are written with.
//!
//! `words!` makes an enum out of the words that a key accepts. `section!` makes a section out of fields with defaults, and of
//! groups of keys that several sections share. `group!` makes such a group. serde's `flatten` would lose the places of keys
//! and accept unknown ones, so the macros write the fields of a group into each section.

/// Enums whose variants are the words of a key, in kebab case. `Name => Target { Word => Variant, }` also converts the word
/// into the variant of `Target`; `Word => Variant(data)` where the variant has data.
macro_rules! words {
    () => {};
    ($(#[$doc:meta])+ $name:ident { $( $(#[$word:meta])+ $variant:ident, )+ } $($more:tt)*) => {
        $(#[$doc])+
        #[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize, serde::Serialize, schemars::JsonSchema)]
        #[serde(rename_all = "kebab-case")]
        pub(crate) enum $name { $( $(#[$word])+ $variant, )+ }

        $crate::config::section::words! { $($more)* }
    };
    (
        $(#[$doc:meta])+ $name:ident => $target:ty {
            $( $(#[$word:meta])+ $variant:ident => $value:ident $(($data:expr))?, )+
        }
        $($more:tt)*
    ) => {
        $crate::config::section::words! { $(#[$doc])+ $name { $( $(#[$word])+ $variant, )+ } }

        impl From<$name> for $target {
            fn from(word: $name) -> Self {
                match word { $( $name::$variant => Self::$value $(($data))?, )+ }
            }
        }

        $crate::config::section::words! { $($more)* }
    };
}
pub(super) use words;

/// The keyword of the schema with the order of keys: JSON objects have none.
pub(super) const ORDER: &str = "x-order";

/// A section: `section! { /// … Name { /// … key: Type = default, } [groups of keys] }`.
macro_rules! section {
    // Each step appends the keys of one group.
    ($(#[$meta:meta])+ $vis:vis $name:ident { $($fields:tt)* } [$group:ident $($more:ident)*]) => {
        $crate::config::$group::$group! { $(#[$meta])+ $vis $name { $($fields)* } [$($more)*] }
    };
    ($(#[$meta:meta])+ $vis:vis $name:ident { $( $(#[$doc:meta])+ $field:ident : $type:ty = $default:expr, )* } []) => {
        $(#[$meta])+
        #[derive(Clone, Debug, serde::Deserialize, serde::Serialize, schemars::JsonSchema)]
        #[serde(deny_unknown_fields, default)]
        #[schemars(extend("x-order" = [$( stringify!($field) ),*]))]
        $vis struct $name { $( $(#[$doc])+ pub(crate) $field: $type, )* }

        impl Default for $name {
            fn default() -> Self {
                Self { $( $field: $default, )* }
            }
        }
    };
}
pub(super) use section;

/// A group of keys: a struct, and the macro that writes its fields into a section. The macro has the name of the file that it
/// stands in. The first argument is a `$`, which a macro that makes a macro cannot write itself.
macro_rules! group {
    (($d:tt) $(#[$meta:meta])+ $struct:ident, $group:ident { $( $(#[$doc:meta])+ $field:ident : $type:ty, )+ }) => {
        $(#[$meta])+
        #[derive(Clone, Debug, Default)]
        pub(crate) struct $struct { $( pub(super) $field: $type, )+ }

        macro_rules! $group {
            ($d(#[$d meta:meta])+ $d vis:vis $d name:ident { $d($d fields:tt)* } [$d($d more:ident)*]) => {
                $crate::config::section::section! {
                    $d(#[$d meta])+ $d vis $d name {
                        $d($d fields)*
                        $( $(#[$doc])+ $field: $type = Default::default(), )+
                    } [$d($d more)*]
                }

                impl $d name {
                    /// The keys of that group.
                    pub(super) fn $group(&self) -> $crate::config::$group::$struct {
                        $crate::config::$group::$struct { $( $field: self.$field.clone(), )+ }
                    }
                }
            };
        }
        pub(super) use $group;
    };
}
pub(super) use group;
