//! The address fields of a message, read for policy: author, sender, recipients.
//!
//! From, Sender and the Resent fields are parsed strictly, and compared with the result of mail-parser: if the two differ, the
//! field is unreadable. To, Cc and Reply-To must only be readable for SES.

use crate::mail::address_list;
use crate::mail::{Author, AuthorError, Content, Refusal, Reply, author, replies};
use crate::policy::AddressField;

/// The address fields of one message.
#[derive(Debug)]
pub(super) struct Fields {
    pub(super) from: Field,
    pub(super) sender: Field,
    pub(super) resent: Field,
    /// The first of To, Cc and Reply-To that SES cannot read.
    pub(super) unreadable: Option<Refusal>,
}

/// One field.
#[derive(Debug)]
pub(super) enum Field {
    Missing,
    Empty,
    Unreadable(Refusal),
    Mailboxes(Vec<Author>),
}

impl Field {
    pub(super) fn facts(&self) -> AddressField<'_> {
        match self {
            Self::Missing => AddressField::Missing,
            Self::Empty => AddressField::Empty,
            Self::Unreadable(fault) => AddressField::Unreadable(fault),
            Self::Mailboxes(mailboxes) => AddressField::Mailboxes(mailboxes),
        }
    }
}

impl Fields {
    pub(super) fn read(content: &Content) -> Self {
        let from = content.fields_named("From").map(|field| field.value).collect::<Vec<_>>();
        let sender = content.fields_named("Sender").map(|field| field.value).collect::<Vec<_>>();
        Self {
            from: one("From", &from),
            sender: one("Sender", &sender),
            resent: resent(content),
            unreadable: list(content),
        }
    }
}

/// Reads a field that may occur once only.
fn one(name: &'static str, values: &[&[u8]]) -> Field {
    let value = match values {
        [] => return Field::Missing,
        [value] => value,
        _ => return Field::Unreadable(fault(name, replies::AUTHOR_REPEATED, "occurs more than once".to_owned())),
    };
    if value.trim_ascii().is_empty() {
        return Field::Empty;
    }
    if hides_a_from_field(value) {
        return Field::Unreadable(ambiguous(name, "a continuation line looks like a second From field"));
    }
    match read_mailboxes(name, value) {
        Ok(mailboxes) if mailboxes.is_empty() => Field::Empty,
        Ok(mailboxes) if name == "Sender" && mailboxes.len() > 1 => {
            Field::Unreadable(ambiguous(name, "names more than one mailbox"))
        }
        Ok(mailboxes) => Field::Mailboxes(mailboxes),
        Err(fault) => Field::Unreadable(fault),
    }
}

/// The mailboxes of every Resent-From and Resent-Sender field.
fn resent(content: &Content) -> Field {
    let mut mailboxes = Vec::new();
    for name in ["Resent-From", "Resent-Sender"] {
        for field in content.fields_named(name) {
            match read_mailboxes(name, field.value) {
                Ok(read) => mailboxes.extend(read),
                Err(fault) => return Field::Unreadable(fault),
            }
        }
    }
    if mailboxes.is_empty() { Field::Missing } else { Field::Mailboxes(mailboxes) }
}

/// Whether a continuation line of a field begins with `From:` and has an address. It is part of that field, but a reader that
/// trims lines before it parses them sees an author.
pub(super) fn hides_a_from_field(value: &[u8]) -> bool {
    value.split(|octet| *octet == b'\n').skip(1).any(|line| {
        let line = line.trim_ascii_start();
        line.get(..4).is_some_and(|name| name.eq_ignore_ascii_case(b"From"))
            && line[4..].trim_ascii_start().starts_with(b":")
            && line.contains(&b'@')
    })
}

/// The mailboxes by the strict parser, if mail-parser finds the same ones.
fn read_mailboxes(name: &'static str, value: &[u8]) -> Result<Vec<Author>, Refusal> {
    let authors = author::parse(value).map_err(|error| match error {
        AuthorError::Ambiguous(cause) => ambiguous(name, cause),
        AuthorError::NotAscii(_) => {
            fault(name, replies::AUTHOR_NOT_ASCII.with_text(&format!("{name} field: {RAW_OCTETS}")), error.to_string())
        }
    })?;
    if !authors.is_empty() && !author::agree(value, &authors) {
        let ours: Vec<String> = authors.iter().map(|author| author.mailbox.to_string()).collect();
        let detail = format!("a second reader does not find {}", ours.join(", "));
        return Err(Refusal {
            detail: format!("{name}: {detail}"),
            ..ambiguous(name, "two mail readers would see different addresses")
        });
    }
    Ok(authors)
}

/// The first of To, Cc and Reply-To that SES cannot read.
fn list(content: &Content) -> Option<Refusal> {
    address_list::FIELDS.into_iter().find_map(|name| {
        content.fields_named(name).find_map(|field| {
            let error = address_list::check(field.value).err()?;
            let reply = replies::ADDRESS_FIELD_UNREADABLE.with_text(&format!("{name} field has {error}"));
            Some(fault(name, reply, error.to_string()))
        })
    })
}

/// A field that cannot be read, or has more than one interpretation. The cause goes into the reply, so it must not contain text of
/// the message.
fn ambiguous(name: &'static str, cause: &str) -> Refusal {
    fault(name, replies::AUTHOR_AMBIGUOUS.with_text(&format!("{name} field: {cause}")), cause.to_owned())
}

/// What the client can do about raw octets in an address field.
const RAW_OCTETS: &str = "raw 8-bit or control octets; encode them (RFC 2047)";

fn fault(name: &'static str, reply: Reply, detail: String) -> Refusal {
    Refusal::new(reply, format!("{name}: {detail}"))
}
