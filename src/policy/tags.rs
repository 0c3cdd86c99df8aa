//! Message tags with placeholders: `app-{app}`, `{auth}`.
//!
//! SES permits letters, digits, `_` and `-` in a tag. Any other character of a name becomes `_`, and a value is cut after 256
//! octets. A tag with the AUTH name is left out for a client without one, since SES refuses an empty tag.
//! API reference, "MessageTag".

use crate::mail::Client;
use crate::mail::parameters::{AppName, Tag, TagName, TagText};
use std::fmt;

/// A tag whose value may have placeholders.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TagTemplate {
    /// Its name.
    pub name: TagName,
    /// Its value.
    pub value: TagPattern,
}

/// A tag's value, which may have placeholders.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TagPattern(Vec<Piece>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    /// `{app}`.
    App,
    /// `{auth}`.
    Auth,
}

/// Why a text is not valid as a tag's value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} cannot be the value of a tag")]
pub struct TagPatternError(String);

const BLANKS: [(&str, Piece); 2] = [("{app}", Piece::App), ("{auth}", Piece::Auth)];
/// API reference, "MessageTag".
const VALUE_OCTETS_MAX: usize = 256;

impl TagPattern {
    /// Compiles a value.
    ///
    /// # Errors
    /// [`TagPatternError`].
    pub fn parse(text: &str) -> Result<Self, TagPatternError> {
        let error = || TagPatternError(text.to_owned());
        let mut pieces = Vec::new();
        let mut rest = text;
        while !rest.is_empty() {
            if let Some((blank, piece)) = BLANKS.iter().find(|(blank, _)| rest.starts_with(blank)) {
                pieces.push(piece.clone());
                rest = &rest[blank.len()..];
                continue;
            }
            let plain = rest.find('{').unwrap_or(rest.len());
            let text = TagText::parse(&rest[..plain]).map_err(|_| error())?;
            pieces.push(Piece::Text(text.as_str().to_owned()));
            rest = &rest[plain..];
        }
        if pieces.is_empty() { Err(error()) } else { Ok(Self(pieces)) }
    }

    /// The value for a client; `None` if the client has no such name.
    fn fill(&self, app: &AppName, client: &Client) -> Option<TagText> {
        let mut value = String::new();
        for piece in &self.0 {
            match piece {
                Piece::Text(text) => value.push_str(text),
                Piece::App => push_clean(&mut value, app.as_str()),
                Piece::Auth => push_clean(&mut value, client.identity.as_ref()?.name()),
            }
        }
        value.truncate(VALUE_OCTETS_MAX);
        TagText::parse(&value).ok()
    }
}

fn push_clean(value: &mut String, name: &str) {
    value.extend(name.chars().map(|c| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' }));
}

/// The tags of one message; `None` if there are none.
pub(super) fn fill(templates: &[TagTemplate], app: &AppName, client: &Client) -> Option<Vec<Tag>> {
    let tags: Vec<Tag> = templates
        .iter()
        .filter_map(|tag| Some(Tag { name: tag.name.clone(), value: tag.value.fill(app, client)? }))
        .collect();
    (!tags.is_empty()).then_some(tags)
}

impl fmt::Display for TagPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|piece| match piece {
            Piece::Text(text) => f.write_str(text),
            Piece::App => f.write_str("{app}"),
            Piece::Auth => f.write_str("{auth}"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::{ClientAddress, Identity, SessionId};

    #[test]
    fn blanks_are_filled_and_what_a_tag_cannot_have_becomes_an_underscore() {
        let mut client = Client::new(SessionId::fresh(), ClientAddress::Unix, "main".into());
        let app = AppName::parse("web.shop").unwrap();
        let long = "x".repeat(255);
        for (pattern, auth, want) in [
            ("fixed", None, Some("fixed".to_owned())),
            ("{app}", None, Some("web_shop".to_owned())),
            ("a-{app}-z", None, Some("a-web_shop-z".to_owned())),
            ("{auth}", None, None),
            ("{auth}", Some("ann@example.com"), Some("ann_example_com".to_owned())),
            ("{app}-{auth}", Some("bücher"), Some("web_shop-b_cher".to_owned())),
            (long.as_str(), None, Some(long.clone())),
            ("x{auth}", Some(long.as_str()), Some("x".repeat(256))),
            ("xx{auth}", Some(long.as_str()), Some("x".repeat(256))),
        ] {
            client.identity = auth.map(Identity::new);
            let compiled = TagPattern::parse(pattern).unwrap();
            assert_eq!(compiled.to_string(), pattern);
            assert_eq!(compiled.fill(&app, &client).map(|text| text.to_string()), want, "{pattern}");
        }
        for text in ["", "a b", "{user}", "{app", "app}", "a.b"] {
            assert!(TagPattern::parse(text).is_err(), "{text}");
        }
    }
}
