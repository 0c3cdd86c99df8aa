//! `[deadline]`: the time from the end of a message to the reply.

use super::diagnostics::Diagnostics;
use super::number::{Number, Octets, Seconds, SecondsOrZero};
use super::section::section;
use crate::relay::DeadlineSettings;

section! {
    /// The time from the end of a message to the reply, the call to SES included.
    pub(crate) Deadline {
        /// Seconds. Shorter than clients wait (30 s is common): a client that gives up may send a message again that
        /// SES has accepted.
        base_seconds: Seconds = Number::seconds(DeadlineSettings::default().base),
        /// Bytes a second to SES: a message extends the deadline by its size over this rate.
        upload_octets_per_second: Octets = Number::of(DeadlineSettings::default().upload_octets_per_second),
        /// Seconds, less than base_seconds. With less time left than this, no attempt begins: it would most likely end without
        /// an answer, and the message may have been sent.
        attempt_seconds_min: SecondsOrZero = Number::seconds(DeadlineSettings::default().attempt_min),
    } []
}

impl Deadline {
    /// The deadline of the relay.
    pub(crate) fn settings(&self) -> DeadlineSettings {
        DeadlineSettings {
            base: self.base_seconds.wait(),
            upload_octets_per_second: self.upload_octets_per_second.get(),
            attempt_min: self.attempt_seconds_min.wait(),
            ..DeadlineSettings::default()
        }
    }

    /// Whether the largest message is finished before a shutdown ends, and whether there is time for an attempt.
    pub(super) fn check(&self, message_octets: u64, grace: Seconds, diagnostics: &mut Diagnostics<'_>) {
        let deadline = self.settings().of(message_octets);
        if deadline >= grace.wait() {
            let message = format!(
                "a message of {message_octets} octets may take {:.1} s, and a shutdown waits {grace} s only",
                deadline.as_secs_f64()
            );
            let is_set = diagnostics.source_map().contains("deadline");
            let path = if is_set { "deadline.base_seconds" } else { "shutdown_grace_seconds" };
            let hint = "raise shutdown_grace_seconds, or lower deadline.base_seconds or smtp.message_octets_max";
            diagnostics.error(path, message, hint);
        }
        if self.attempt_seconds_min.get() >= self.base_seconds.get() {
            let message = "with a deadline this short, no attempt would ever begin";
            diagnostics.error("deadline.attempt_seconds_min", message, "less than deadline.base_seconds");
        }
    }
}
