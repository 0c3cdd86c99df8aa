//! How personal data is written: in log lines, and in answers of the admin endpoint.

use super::printable::{printable, printable_text};
use crate::mail::Mailbox;
use std::borrow::Cow;
use std::hash::{BuildHasher, RandomState};
use std::sync::OnceLock;

/// How addresses of people, and the names that they authenticate with, are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AddressForm {
    /// As they are.
    #[default]
    Plain,
    /// A hash of the local part under a key of this process, and the domain: `~1f0c…@a.example`. The same address gives
    /// the same hash until the process ends, in the log and on the admin endpoint.
    Hashed,
    /// Left out.
    Omitted,
}

/// The key of all hashes of this process.
fn key() -> &'static RandomState {
    static KEY: OnceLock<RandomState> = OnceLock::new();
    KEY.get_or_init(RandomState::new)
}

impl AddressForm {
    pub(crate) fn mailbox(self, mailbox: &Mailbox) -> String {
        match self {
            Self::Plain => printable_text(mailbox.to_string()),
            Self::Hashed => format!("~{:016x}@{}", key().hash_one(mailbox), mailbox.domain()),
            Self::Omitted => "-".to_owned(),
        }
    }

    /// An AUTH name, which may be a mistyped password, or a Message-ID, which may name a person or a machine.
    pub(crate) fn name(self, name: &str) -> Cow<'_, str> {
        match self {
            Self::Plain => printable(name),
            Self::Hashed => Cow::Owned(format!("~{:016x}", key().hash_one(name))),
            Self::Omitted => Cow::Borrowed("-"),
        }
    }

    /// Details name addresses too, so they are written only where addresses are.
    pub(crate) fn detail(self, detail: &str) -> Cow<'_, str> {
        if self == Self::Plain { printable(detail) } else { Cow::Borrowed("") }
    }

    /// What the provider answered: status and code contain no address; the text that follows them may.
    pub(crate) fn provider_detail(self, detail: &str) -> Cow<'_, str> {
        match self {
            Self::Plain => printable(detail),
            _ => printable(detail.split(": ").next().unwrap_or_default()),
        }
    }

    /// What permitted a message. A pattern that is no whole domain may be the address of a person: then `None`.
    pub(crate) fn permitted_by(self, permitted_by: &str) -> Option<&str> {
        let shown = self == Self::Plain || permitted_by.starts_with("*@") || !permitted_by.contains('@');
        shown.then_some(permitted_by)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_take_the_form_that_was_chosen() {
        let ann = Mailbox::parse("ann@a.example").unwrap();
        assert_eq!(AddressForm::Plain.mailbox(&ann), "ann@a.example");
        let text = AddressForm::Hashed.mailbox(&ann);
        assert!(text.ends_with("@a.example") && !text.contains("ann"), "{text}");
        assert_eq!(text, AddressForm::Hashed.mailbox(&ann));
        assert_eq!(AddressForm::Hashed.detail("ann@a.example matches no allowed pattern"), "");
        assert_eq!(AddressForm::Omitted.mailbox(&ann), "-");
        // AUTH names stood in plain, also those that failed.
        assert_eq!(AddressForm::Plain.name("ann"), "ann");
        let name = AddressForm::Hashed.name("correct horse");
        let again = AddressForm::Hashed.name("correct horse");
        assert!(name.starts_with('~') && name == again && name != AddressForm::Hashed.name("other"), "{name}");
        assert_eq!(AddressForm::Omitted.name("correct horse"), "-");
        for form in [AddressForm::Hashed, AddressForm::Omitted] {
            assert_eq!(form.provider_detail("400 MessageRejected: ann@a.example"), "400 MessageRejected");
        }
    }
}
