//! One SMTP reply: code, enhanced status, text.
//!
//! The replies of gatepost are in [`replies`](super::replies); this file has only their type. RFC 5321 §4.2, RFC 2034,
//! RFC 3463. Texts are for clients: printable ASCII, without addresses, and without internal details except the
//! reference id.

use std::borrow::Cow;
use std::fmt;

/// The class.subject.detail of RFC 3463. The class equals the first digit of the reply code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct EnhancedStatus(pub u8, pub u16, pub u16);

impl fmt::Display for EnhancedStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut digits = itoa::Buffer::new();
        f.write_str(digits.format(self.0))?;
        for number in [self.1, self.2] {
            f.write_str(".")?;
            f.write_str(digits.format(number))?;
        }
        Ok(())
    }
}

/// A single-line reply to a command or a message. The session writes multi-line replies (EHLO) itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    code: u16,
    status: Option<EnhancedStatus>,
    text: Cow<'static, str>,
}

/// RFC 5321 §4.5.3.1.5 allows 512 octets with CRLF. This is what remains besides code, status and reference id.
const TEXT_OCTETS_MAX: usize = 400;

impl Reply {
    /// A reply with a fixed text: printable ASCII, at most 400 octets, which is not checked.
    pub const fn new(code: u16, status: Option<EnhancedStatus>, text: &'static str) -> Self {
        Self { code, status, text: Cow::Borrowed(text) }
    }

    /// The same code and status with another text. Octets that are not printable ASCII become `?`, and the text is
    /// truncated to 400 octets, because part of it may come from a provider's error message.
    #[must_use]
    pub fn with_text(&self, text: &str) -> Self {
        let text = if text.len() <= TEXT_OCTETS_MAX && text.bytes().all(|octet| matches!(octet, b' '..=b'~')) {
            text.to_owned()
        } else {
            text.chars().take(TEXT_OCTETS_MAX).map(|c| if matches!(c, ' '..='~') { c } else { '?' }).collect()
        };
        Self { code: self.code, status: self.status, text: Cow::Owned(text) }
    }

    /// The same reply with the cause after the text: `Bad address syntax: address has no domain`.
    #[must_use]
    pub fn with_cause(&self, cause: impl fmt::Display) -> Self {
        self.with_text(&format!("{}: {cause}", self.text))
    }

    /// The same reply with the id to search for in the log.
    #[must_use]
    pub fn with_reference(&self, id: &dyn fmt::Display) -> Self {
        self.with_text(&format!("{} (ref {id})", self.text))
    }

    /// The same refusal as a temporary one: the first digit of code and status becomes 4. Other replies are unchanged.
    /// For a first roll-out, where a wrong rule should delay mail instead of losing it.
    #[must_use]
    pub fn softened(&self) -> Self {
        if !self.is_permanent() {
            return self.clone();
        }
        // Only 450 and 451 are defined as "try again" for every command (RFC 5321 §4.2.3).
        Self {
            code: 451,
            status: self.status.map(|EnhancedStatus(_, subject, detail)| EnhancedStatus(4, subject, detail)),
            text: self.text.clone(),
        }
    }

    /// The three-digit reply code.
    pub const fn code(&self) -> u16 {
        self.code
    }

    /// The enhanced status code, if this reply has one.
    pub const fn status(&self) -> Option<EnhancedStatus> {
        self.status
    }

    /// The text after code and status.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// 2yz.
    pub const fn is_positive(&self) -> bool {
        self.code / 100 == 2
    }

    /// 4yz: the client may retry.
    pub const fn is_temporary(&self) -> bool {
        self.code / 100 == 4
    }

    /// 5yz: a retry cannot succeed.
    pub const fn is_permanent(&self) -> bool {
        self.code / 100 == 5
    }

    /// Appends the line with its CRLF.
    pub fn write_line(&self, out: &mut impl fmt::Write) {
        // Writing to a growable buffer does not fail.
        let _ = write!(out, "{self}\r\n");
    }
}

impl fmt::Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(itoa::Buffer::new().format(self.code))?;
        if let Some(status) = self.status {
            f.write_str(" ")?;
            status.fmt(f)?;
        }
        f.write_str(" ")?;
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_from_elsewhere_cannot_start_a_line_of_its_own() {
        let reply = Reply::new(554, Some(EnhancedStatus(5, 0, 0)), "").with_text("bad\r\n250 ok\u{7}é");
        assert_eq!(reply.to_string(), "554 5.0.0 bad??250 ok??");
        for (sent, octets) in [(399, 399), (400, 400), (401, 400)] {
            assert_eq!(reply.with_text(&"x".repeat(sent)).text().len(), octets);
            assert_eq!(reply.with_text(&"\u{7}".repeat(sent)).text().len(), octets);
        }
    }

    #[test]
    fn a_line_says_what_the_reply_says() {
        for (reply, want) in [
            (Reply::new(250, None, "Ok"), "250 Ok"),
            (Reply::new(452, Some(EnhancedStatus(4, 5, 3)), "Too many"), "452 4.5.3 Too many"),
            (Reply::new(550, Some(EnhancedStatus(5, 7, 509)), ""), "550 5.7.509 "),
        ] {
            let mut line = String::new();
            reply.write_line(&mut line);
            assert_eq!((reply.to_string().as_str(), line), (want, format!("{want}\r\n")));
        }
    }

    #[test]
    fn softening_changes_the_class_and_keeps_the_detail() {
        let reply = Reply::new(550, Some(EnhancedStatus(5, 7, 1)), "no");
        assert_eq!(reply.softened().to_string(), "451 4.7.1 no");
        assert_eq!(Reply::new(250, None, "Ok").softened().to_string(), "250 Ok");
    }
}
