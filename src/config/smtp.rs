//! `[smtp]`: limits of one SMTP session.

use super::diagnostics::Diagnostics;
use super::number::{Count, Number, Octets, Seconds};
use super::section::section;
use crate::smtp::{Limits, MESSAGE_OCTETS_MAX};

section! {
    /// Limits of one SMTP session, for all listeners.
    pub(crate) Smtp {
        /// Bytes of a message as the client sends it, up to 29999000. Advertised with SIZE and enforced. The default is the
        /// maximum: base64 adds a third, and SES accepts 40 MB after it.
        message_octets_max: Octets = Number::of(Limits::default().message_octets_max),
        /// Recipients of a message, 1 to 1000. Further recipients receive 452, and clients send them in a second message. More
        /// than 50, which is what SES accepts in one call, need a delivery by the spool.
        recipients_max: Number<1, 1000> = Number::of(Limits::default().recipients_max as u64),
        /// Bytes of a line of content without its CR LF, up to 998: SES rejects longer lines.
        content_line_octets_max: Number<78, 998> = Number::of(Limits::default().content_line_octets_max as u64),
        /// Bytes of a command line with its CR LF; RFC 5321 requires at least 512.
        command_line_octets_max: Number<512, 65_536> = Number::of(Limits::default().command_line_octets_max as u64),
        /// Bytes of a line of an AUTH exchange; RFC 4954 requires at least 12288.
        auth_line_octets_max: Number<12_288, 65_536> = Number::of(Limits::default().auth_line_octets_max as u64),
        /// Messages in a session. Advertised as LIMITS MAILMAX.
        transactions_max: Count = Number::of(Limits::default().transactions_max.into()),
        /// Commands in a session.
        commands_max: Count = Number::of(Limits::default().commands_max.into()),
        /// Consecutive rejected commands and messages after which the session is closed. Deferrals do not count.
        errors_max: Count = Number::of(Limits::default().errors_max.into()),
        /// Failed AUTH exchanges in a session. Clients try two mechanisms with one wrong password.
        auth_failures_max: Count = Number::of(Limits::default().auth_failures_max.into()),
        /// Seconds from the start of a session until the client is recognised: its first MAIL is accepted, or its login
        /// succeeds. After that the session is closed with 421.
        unrecognised_seconds_max: Seconds = Number::seconds(Limits::default().unrecognised_max),
        /// Seconds until the next command; RFC 5321 requires at least 300.
        command_seconds_max: Seconds = Number::seconds(Limits::default().command_wait_max),
        /// Seconds until the next bytes of a message; RFC 5321 requires at least 180.
        content_seconds_max: Seconds = Number::seconds(Limits::default().content_wait_max),
        /// Bytes a second that a client must send on average while it transfers a message, after content_rate_grace_seconds.
        /// Against clients that hold a connection by sending very slowly.
        content_rate_min: Number<0, 1_000_000> = Number::of(Limits::default().content_rate_min.into()),
        /// Seconds during which a message may arrive more slowly.
        content_rate_grace_seconds: Seconds = Number::seconds(Limits::default().content_rate_grace),
        /// Seconds that a session may last. A message whose transfer has begun may finish.
        session_seconds_max: Seconds = Number::seconds(Limits::default().session_max),
    } []
}

impl Smtp {
    /// The limits of a session.
    pub(crate) fn limits(&self) -> Limits {
        Limits {
            command_line_octets_max: self.command_line_octets_max.size(),
            auth_line_octets_max: self.auth_line_octets_max.size(),
            content_line_octets_max: self.content_line_octets_max.size(),
            message_octets_max: self.message_octets_max.get(),
            recipients_max: self.recipients_max.size(),
            transactions_max: self.transactions_max.small(),
            commands_max: self.commands_max.small(),
            errors_max: self.errors_max.small(),
            auth_failures_max: self.auth_failures_max.small(),
            unrecognised_max: self.unrecognised_seconds_max.wait(),
            command_wait_max: self.command_seconds_max.wait(),
            content_wait_max: self.content_seconds_max.wait(),
            content_rate_grace: self.content_rate_grace_seconds.wait(),
            content_rate_min: self.content_rate_min.small(),
            session_max: self.session_seconds_max.wait(),
        }
    }

    /// Reports a message size that SES does not accept, and returns the largest size that may arrive.
    pub(super) fn check(&self, diagnostics: &mut Diagnostics<'_>) -> u64 {
        let octets = self.message_octets_max.get();
        if octets > MESSAGE_OCTETS_MAX {
            let hint = format!("{MESSAGE_OCTETS_MAX} at most: base64 adds a third, and SES takes 40 MB after it");
            let message = format!("messages of {octets} octets are too large for SES");
            diagnostics.error("smtp.message_octets_max", message, hint);
        }
        octets.min(MESSAGE_OCTETS_MAX)
    }
}
