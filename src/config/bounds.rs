//! The sections of the file that bound things: SMTP sessions, connections, header sections, memory, the deadline.

use super::number::{Count, Number, Octets, Seconds, SecondsOrZero};
use crate::mail::headers::HeaderLimits;
use crate::mail::mime::MimeLimits;
use crate::relay::{BudgetSettings, DeadlineSettings};
use crate::smtp::Limits;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// Bounds of one SMTP session, for all listeners.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Smtp {
    /// Octets of a message as the client sends it, 29999000 at most: advertised with SIZE and enforced. SES takes 40 MB
    /// after base64, which adds a third.
    pub message_octets_max: Octets,
    /// Recipients of a message, 1 to 50: SES takes 50 in one call. Further ones are told 452, and clients send them in a
    /// second message.
    pub recipients_max: Number<1, 50>,
    /// Octets of a line of content without its CR LF, up to 998: SES refuses longer ones.
    pub content_line_octets_max: Number<78, 998>,
    /// Octets of a command line with its CR LF; RFC 5321 wants at least 512.
    pub command_line_octets_max: Number<512, 65_536>,
    /// Octets of a line of an AUTH exchange; RFC 4954 wants at least 12288.
    pub auth_line_octets_max: Number<12_288, 65_536>,
    /// Messages in a session.
    pub transactions_max: Count,
    /// Commands in a session.
    pub commands_max: Count,
    /// Rejected commands and messages in a row before the session is ended. Deferrals do not count.
    pub errors_max: Count,
    /// Failed AUTH exchanges in a session. Clients try two mechanisms for one wrong password.
    pub auth_failures_max: Count,
    /// Seconds from the start of a session until the client is recognised: its first MAIL is accepted, or its login
    /// succeeds. Then the session is ended.
    pub unrecognised_seconds_max: Seconds,
    /// Seconds until the next command; RFC 5321 wants at least 300.
    pub command_seconds_max: Seconds,
    /// Seconds until the next octets of a message; RFC 5321 wants at least 180.
    pub content_seconds_max: Seconds,
    /// Octets a second that content must reach on average, after content_rate_grace_seconds.
    pub content_rate_min: Number<0, 1_000_000>,
    /// Seconds during which content may come more slowly.
    pub content_rate_grace_seconds: Seconds,
    /// Seconds that a session may last; a message under way at its end may finish.
    pub session_seconds_max: Seconds,
}

impl Default for Smtp {
    fn default() -> Self {
        let limits = Limits::default();
        Self {
            message_octets_max: Number::of(limits.message_octets_max),
            recipients_max: Number::of(limits.recipients_max as u64),
            content_line_octets_max: Number::of(limits.content_line_octets_max as u64),
            command_line_octets_max: Number::of(limits.command_line_octets_max as u64),
            auth_line_octets_max: Number::of(limits.auth_line_octets_max as u64),
            transactions_max: Number::of(limits.transactions_max.into()),
            commands_max: Number::of(limits.commands_max.into()),
            errors_max: Number::of(limits.errors_max.into()),
            auth_failures_max: Number::of(limits.auth_failures_max.into()),
            unrecognised_seconds_max: Number::seconds(limits.unrecognised_max),
            command_seconds_max: Number::seconds(limits.command_wait_max),
            content_seconds_max: Number::seconds(limits.content_wait_max),
            content_rate_min: Number::of(limits.content_rate_min.into()),
            content_rate_grace_seconds: Number::seconds(limits.content_rate_grace),
            session_seconds_max: Number::seconds(limits.session_max),
        }
    }
}

impl Smtp {
    /// As the SMTP room takes them.
    pub fn limits(&self) -> Limits {
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
}

/// Bounds of the MIME parts of a message.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Mime {
    /// Multiparts and attached messages inside each other.
    pub depth_max: Number<1, 100>,
    /// Parts of a message; SES takes 500.
    pub parts_max: Number<1, 10_000>,
    /// Octets of the header section of one part.
    pub header_octets_max: Number<1_024, 10_000_000>,
    /// Fields of the header section of one part.
    pub header_fields_max: Number<10, 100_000>,
    /// Parameters of Content-Type and Content-Disposition of one part, the pieces of RFC 2231 counted one by one.
    pub parameters_max: Number<10, 1_000>,
    /// Octets of Content-Type and Content-Disposition of all parts together.
    pub parameter_octets_max: Number<1_024, 10_000_000>,
}

impl Default for Mime {
    fn default() -> Self {
        let limits = MimeLimits::default();
        Self {
            depth_max: Number::of(limits.depth_max as u64),
            parts_max: Number::of(limits.parts_max as u64),
            header_octets_max: Number::of(limits.header_octets_max as u64),
            header_fields_max: Number::of(limits.header_fields_max as u64),
            parameters_max: Number::of(limits.parameters_max as u64),
            parameter_octets_max: Number::of(limits.parameter_octets_max as u64),
        }
    }
}

impl Mime {
    /// As the relay takes them.
    pub fn limits(&self) -> MimeLimits {
        MimeLimits {
            depth_max: self.depth_max.size(),
            parts_max: self.parts_max.size(),
            header_octets_max: self.header_octets_max.size(),
            header_fields_max: self.header_fields_max.size(),
            parameters_max: self.parameters_max.size(),
            parameter_octets_max: self.parameter_octets_max.size(),
        }
    }
}

/// Connections at a time.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Connections {
    /// Connections at a time, over all listeners; more are told 421. The process needs as many file descriptors and some.
    pub total_max: Count,
    /// Connections at a time of clients that are not recognised: no MAIL of theirs is accepted and no login succeeds; the
    /// other places are for recognised ones, and for addresses that were recognised within a day. Default: three quarters
    /// of total_max.
    pub unrecognised_max: Option<Count>,
    /// Connections at a time from one client address (of IPv6: from one /64).
    pub per_client_max: Count,
    /// Connections at a time of one application, unless its `[[app]]` says otherwise. Default: no bound of its own.
    pub per_app_max: Option<Count>,
}

impl Default for Connections {
    fn default() -> Self {
        Self { total_max: Count::of(1_000), unrecognised_max: None, per_client_max: Count::of(200), per_app_max: None }
    }
}

/// Bounds of a message's header section.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Header {
    /// Octets of all fields together.
    pub octets_max: Number<1_024, 10_000_000>,
    /// Number of fields.
    pub fields_max: Number<10, 100_000>,
    /// Number of Received fields; more mean a loop. RFC 5321 wants at least 100.
    pub hops_max: Number<1, 10_000>,
}

impl Default for Header {
    fn default() -> Self {
        let limits = HeaderLimits::default();
        Self {
            octets_max: Number::of(limits.octets_max as u64),
            fields_max: Number::of(limits.fields_max as u64),
            hops_max: Number::of(limits.hops_max as u64),
        }
    }
}

impl Header {
    /// As the relay takes them.
    pub fn limits(&self) -> HeaderLimits {
        HeaderLimits {
            octets_max: self.octets_max.size(),
            fields_max: self.fields_max.size(),
            hops_max: self.hops_max.size(),
        }
    }
}

/// How much all messages together may hold.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Memory {
    /// Octets of memory for all messages and for password verification together. A quarter of it receives, the rest
    /// sends; sending holds about three times a message.
    pub octets: Octets,
    /// Octets of disk for content that waits for its turn; at least smtp.message_octets_max.
    pub disk_octets: Octets,
    /// A directory for that content, in files without a name that vanish with the process. Default: the system's
    /// temporary directory; where that is memory (tmpfs), choose another.
    pub disk_directory: Option<PathBuf>,
    /// Octets; a message larger than this waits on disk for its turn.
    pub message_in_memory_octets_max: Octets,
}

impl Default for Memory {
    fn default() -> Self {
        let budget = BudgetSettings::default();
        Self {
            octets: Octets::of(budget.memory_octets),
            disk_octets: Octets::of(budget.disk_octets),
            disk_directory: budget.directory,
            message_in_memory_octets_max: Octets::of(budget.message_in_memory_octets_max),
        }
    }
}

impl Memory {
    /// As the relay takes them.
    pub fn budget(&self) -> BudgetSettings {
        BudgetSettings {
            memory_octets: self.octets.get(),
            disk_octets: self.disk_octets.get(),
            directory: self.disk_directory.clone(),
            message_in_memory_octets_max: self.message_in_memory_octets_max.get(),
            file_descriptors_max: None,
        }
    }
}

/// How long a client waits at most for the reply to its message.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Deadline {
    /// Seconds from the end of a message to the reply, SES's answer included. Shorter than clients wait (30 s is
    /// common), so that none sends again what was sent.
    pub base_seconds: Seconds,
    /// Octets a second to SES: a message adds its size over this rate to the deadline.
    pub upload_octets_per_second: Octets,
    /// Seconds; with less time left than this, an attempt is not begun: it would most likely end as "may have been sent".
    /// Less than base_seconds.
    pub attempt_seconds_min: SecondsOrZero,
}

impl Default for Deadline {
    fn default() -> Self {
        let DeadlineSettings { base, upload_octets_per_second, attempt_min } = DeadlineSettings::default();
        Self {
            base_seconds: Number::seconds(base),
            upload_octets_per_second: Number::of(upload_octets_per_second),
            attempt_seconds_min: Number::seconds(attempt_min),
        }
    }
}

impl Deadline {
    /// As the relay takes it.
    pub fn settings(&self) -> DeadlineSettings {
        DeadlineSettings {
            base: self.base_seconds.wait(),
            upload_octets_per_second: self.upload_octets_per_second.get(),
            attempt_min: self.attempt_seconds_min.wait(),
        }
    }
}
