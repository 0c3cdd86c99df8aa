//! Applies the edits that policy requests: the author, missing, unreadable and removed fields, the recipient.
//!
//! Only the header section changes, and policy decides about the result before it is sent.

use super::Relay;
use super::reception::BufferedMessage;
use super::reencode::fold;
use crate::mail::address_list;
use crate::mail::headers::{HeaderLimits, blank_line};
use crate::mail::parameters::Edits;
use crate::mail::trace::rfc5322_date;
use crate::mail::{Author, Envelope, Field, HeaderSection, Refusal, TransactionId, replies};
use bytes::Bytes;
use std::sync::Arc;

/// Applies the edits. `authors` are those of the received message.
pub(super) fn apply(
    edits: &Edits,
    authors: &[Author],
    message: &mut BufferedMessage,
    transaction: TransactionId,
    relay: &Relay,
) -> Result<(), Refusal> {
    let octets = message.content.octets();
    let end = blank_line(octets, 0).unwrap_or(octets.len());
    let mut header = Vec::with_capacity(end + 512);
    let is_removed = |field: &Field<'_>| {
        edits.author.is_some() && (field.is("From") || field.is("Sender"))
            || edits.without_resent && field.name.get(..7).is_some_and(|name| name.eq_ignore_ascii_case("Resent-"))
            || edits.without.iter().any(|name| field.is(name))
    };
    let mut has_reply_to = false;
    // The trace field of this relay, which is the first, always stays.
    for (place, field) in
        message.content.fields().enumerate().filter(|(place, field)| *place == 0 || !is_removed(field))
    {
        let unreadable = edits.readable_lists
            && place > 0
            && address_list::FIELDS.iter().any(|name| field.is(name))
            && address_list::check(field.value).is_err();
        let readable = if unreadable { address_list::readable(field.value) } else { Vec::new() };
        // An empty Reply-To is removed, so that the replaced author is added as Reply-To.
        let empty = if unreadable { readable.is_empty() } else { field.value.trim_ascii().is_empty() };
        if empty && (unreadable || edits.author.is_some() && field.is("Reply-To")) {
            continue;
        }
        has_reply_to |= field.is("Reply-To");
        match unreadable {
            false => header.extend_from_slice(field.octets),
            // One address per line, because the length of a header line is limited.
            true => {
                let list = readable.join(&b",\r\n\t"[..]);
                header.extend_from_slice(&[field.name.as_bytes(), b": ", &list, b"\r\n"].concat());
            }
        }
    }
    let mut add = |name: &str, value: &str| {
        let field = format!("{name}: {value}\r\n");
        field.as_bytes().split_inclusive(|octet| *octet == b'\n').try_for_each(|line| fold(&mut header, line))
    };
    if let Some(author) = &edits.author {
        add("From", &author.to_string())?;
        if !authors.is_empty() && !has_reply_to {
            // One mailbox per line.
            let list: Vec<String> = authors.iter().map(ToString::to_string).collect();
            add("Reply-To", &list.join(",\r\n\t"))?;
        }
    }
    if edits.date {
        add("Date", &rfc5322_date(relay.clock.wall()))?;
    }
    if edits.message_id {
        add("Message-ID", &format!("<{transaction}@{}>", relay.settings.hostname))?;
    }
    if let Some(path) = &edits.redirect_to {
        let list: Vec<String> = message.envelope.forward_paths().iter().map(ToString::to_string).collect();
        add("X-Original-Recipients", &list.join(",\r\n\t"))?;
        let envelope = &message.envelope;
        let redirected = Envelope::new(envelope.reverse_path().clone(), envelope.parameters().clone(), path.clone());
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
