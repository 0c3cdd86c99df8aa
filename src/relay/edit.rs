//! Changing a message where policy wants it: the author, missing fields, the recipient.
//!
//! Only the header section is touched, and the result is judged again before it leaves.

use super::Relay;
use super::admission::Refusal;
use super::reception::Loaded;
use crate::mail::headers::{HeaderLimits, blank_line};
use crate::mail::parameters::Edits;
use crate::mail::trace::rfc5322_date;
use crate::mail::{Author, Envelope, HeaderSection, TransactionId, replies};
use bytes::Bytes;
use std::sync::Arc;

/// Makes the edits. `authors` are those of the message as it came.
pub(super) fn apply(
    edits: &Edits,
    authors: &[Author],
    message: &mut Loaded,
    transaction: TransactionId,
    relay: &Relay,
) -> Result<(), Refusal> {
    let octets = message.content.octets();
    let end = blank_line(octets, 0).unwrap_or(octets.len());
    let mut header = Vec::with_capacity(end + 512);
    let replaced =
        |name: &str| edits.author.is_some() && ["From", "Sender"].iter().any(|field| name.eq_ignore_ascii_case(field));
    for field in message.content.fields().filter(|field| !replaced(field.name)) {
        header.extend_from_slice(field.octets);
    }
    let mut add = |name: &str, value: &str| header.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
    if let Some(author) = &edits.author {
        add("From", &author.to_string());
        if !authors.is_empty() && message.content.fields_named("Reply-To").next().is_none() {
            // One mailbox a line: header lines have a length too.
            let list: Vec<String> = authors.iter().map(ToString::to_string).collect();
            add("Reply-To", &list.join(",\r\n\t"));
        }
    }
    if edits.date {
        add("Date", &rfc5322_date(relay.clock.wall()));
    }
    if edits.message_id {
        add("Message-ID", &format!("<{transaction}@{}>", relay.settings.hostname));
    }
    if let Some(path) = &edits.redirect_to {
        let list: Vec<String> = message.envelope.forward_paths().iter().map(ToString::to_string).collect();
        add("X-Original-Recipients", &list.join(",\r\n\t"));
        let envelope = &message.envelope;
        let redirected = Envelope::new(envelope.reverse_path().clone(), envelope.parameters(), path.clone());
        message.envelope = Arc::new(redirected);
    }
    let section = HeaderSection::parse(&header, &HeaderLimits { octets_max: usize::MAX, ..relay.settings.header });
    let section = section.map_err(|error| Refusal {
        reply: replies::LOCAL_ERROR,
        rule: None,
        detail: format!("after policy's edits: {error}"),
    })?;
    header.extend_from_slice(&octets[end..]);
    message.content = message.content.with_header(Bytes::from(header), section);
    Ok(())
}
