//! The trace field: one `Received` field at the top of every message. RFC 5321 §4.4.
//!
//! It names no recipient, because the first one may be a blind copy. [`TraceDetail`] selects what it shows of the client.

use super::client::{Client, ClientAddress};
use super::id::TransactionId;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use std::time::SystemTime;

/// How much of the client the `from` clause shows to all recipients of the message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TraceDetail {
    /// `from unknown`: nothing about the client.
    #[default]
    Hidden,
    /// The client's address: `from unknown ([10.0.0.7])`.
    Address,
    /// The argument of EHLO and the address: `from scanner-3 ([10.0.0.7])`.
    Hello,
}

/// The maximum octets that [`received`] returns. They are reserved in the advertised message size.
pub const TRACE_OCTETS_MAX: usize = 1_000;

/// The field with its final CR LF.
pub fn received(
    hostname: &str,
    detail: TraceDetail,
    client: &Client,
    esmtp: bool,
    id: TransactionId,
    wall: SystemTime,
) -> String {
    let address = match client.address {
        ClientAddress::Ip(address) if address.is_ipv6() => format!(" ([IPv6:{}])", address.ip()),
        ClientAddress::Ip(address) => format!(" ([{}])", address.ip()),
        ClientAddress::Unix | ClientAddress::Unknown => String::new(),
    };
    let from = match detail {
        TraceDetail::Hidden => "unknown".to_owned(),
        TraceDetail::Address => format!("unknown{address}"),
        TraceDetail::Hello => format!("{}{address}", hello_token(&client.hello)),
    };
    format!(
        "Received: from {from}\r\n\tby {hostname} with {} id {id};\r\n\t{}\r\n",
        protocol(client, esmtp),
        rfc5322_date(wall)
    )
}

/// RFC 3848: `ESMTP`, with `S` under TLS and `A` after AUTH.
pub fn protocol(client: &Client, esmtp: bool) -> &'static str {
    match (esmtp, client.tls.is_some(), client.identity.is_some()) {
        (false, ..) => "SMTP",
        (true, false, false) => "ESMTP",
        (true, true, false) => "ESMTPS",
        (true, false, true) => "ESMTPA",
        (true, true, true) => "ESMTPSA",
    }
}

/// The argument of EHLO, if it is valid in a trace field; it may be any text.
fn hello_token(hello: &str) -> &str {
    let token = |octet: u8| octet.is_ascii_alphanumeric() || matches!(octet, b'.' | b'-' | b'_' | b':' | b'[' | b']');
    if !hello.is_empty() && hello.len() <= 255 && hello.bytes().all(token) { hello } else { "unknown" }
}

/// RFC 5322 §3.3 `date-time`, in UTC.
pub fn rfc5322_date(wall: SystemTime) -> String {
    let zoned = Timestamp::try_from(wall).unwrap_or(Timestamp::UNIX_EPOCH).to_zoned_datetime(TimeZone::UTC);
    jiff::fmt::rfc2822::to_string(&zoned).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::client::{Identity, TlsInfo};
    use crate::mail::id::SessionId;
    use std::time::Duration;

    #[test]
    fn shows_of_the_inside_only_what_was_chosen() {
        let mut client =
            Client::new(SessionId::fresh(), ClientAddress::Ip("10.0.0.7:40000".parse().unwrap()), "main".into());
        client.hello = "scanner_3".to_owned();
        let id = client.session.transaction(1);
        let wall = SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_000_000);
        let field = |client: &Client, detail| received("relay.example", detail, client, true, id, wall);
        assert_eq!(
            field(&client, TraceDetail::Hidden),
            format!(
                "Received: from unknown\r\n\tby relay.example with ESMTP id {id};\r\n\tWed, 18 Nov 2026 11:06:40 +0000\r\n"
            )
        );
        assert!(field(&client, TraceDetail::Address).starts_with("Received: from unknown ([10.0.0.7])\r\n"));
        assert!(field(&client, TraceDetail::Hello).starts_with("Received: from scanner_3 ([10.0.0.7])\r\n"));
        client.hello = "x\r\nBcc: a@b".to_owned();
        client.identity = Some(Identity::new("app"));
        client.tls = Some(TlsInfo { version: String::new(), cipher: String::new(), client_certificate: None });
        let hostile = field(&client, TraceDetail::Hello);
        assert!(hostile.starts_with("Received: from unknown ([10.0.0.7])\r\n\tby relay.example with ESMTPSA "));
        assert!(hostile.len() < TRACE_OCTETS_MAX);
    }
}
