//! The content of one message while it is received: scanner, size, transfer rate and the first fault.

use super::content::{ContentFault, LineEndings, LongLines, Scanner, Step};
use super::{Limits, Settings};
use crate::mail::{Reply, replies};
use bytes::{Bytes, BytesMut};
use std::time::{Duration, Instant};

/// The content of one message, as far as it is received.
#[derive(Debug)]
pub(super) struct IncomingContent {
    pub(super) scanner: Scanner,
    /// Octets of content. RFC 1870 §3: doubled dots and the end mark do not count.
    pub(super) octets: u64,
    pub(super) rate: TransferRate,
    pub(super) fault: Option<Reply>,
}

/// The transfer rate of octets that are not commands, whether stored or discarded.
#[derive(Debug)]
pub(super) struct TransferRate {
    started: Instant,
    pub(super) octets: u64,
}

/// The result of one step of the scanner.
pub(super) enum ScanResult {
    Nothing,
    Content(Bytes),
    Rejected,
    End,
}

impl IncomingContent {
    /// After DATA, up to the line with one dot.
    pub(super) fn after_data(settings: &Settings, now: Instant) -> Self {
        Self::scanned_by(Scanner::data, settings, now)
    }

    /// In BDAT chunks, whose lengths are known.
    pub(super) fn in_chunks(settings: &Settings, now: Instant) -> Self {
        Self::scanned_by(Scanner::chunks, settings, now)
    }

    fn scanned_by(scanner: fn(LineEndings, LongLines, usize) -> Scanner, settings: &Settings, now: Instant) -> Self {
        let scanner = scanner(settings.line_endings, settings.long_lines, settings.limits.content_line_octets_max);
        Self { scanner, octets: 0, rate: TransferRate::new(now), fault: None }
    }

    /// Scans the next octets and removes them from `input`. Scans no further than the size limit, so that the reported
    /// fault does not depend on how the network divided the content.
    pub(super) fn scan(&mut self, input: &mut BytesMut, octets_max: usize, limits: &Limits) -> ScanResult {
        let capacity = limits.message_octets_max.saturating_sub(self.octets);
        let capacity = usize::try_from(capacity).unwrap_or(usize::MAX).saturating_add(1);
        let end = input.len().min(octets_max);
        let end = if self.fault.is_some() { end } else { end.min(capacity) };
        let step = self.scanner.step(&input[..end]);
        let before = input.len();
        let result = self.take_step(input, step, limits);
        self.rate.octets += (before - input.len()) as u64;
        result
    }

    fn take_step(&mut self, input: &mut BytesMut, step: Step, limits: &Limits) -> ScanResult {
        match step {
            Step::Dropped(octets) => {
                drop(input.split_to(octets));
                ScanResult::Nothing
            }
            Step::Content(octets) => {
                let octets = input.split_to(octets).freeze();
                self.keep(octets, limits)
            }
            Step::Instead(consumed, octets) => {
                drop(input.split_to(consumed));
                self.keep(Bytes::from_static(octets), limits)
            }
            Step::End(octets) => {
                drop(input.split_to(octets));
                ScanResult::End
            }
            Step::Fault(octets, fault) => {
                drop(input.split_to(octets));
                self.reject(match fault {
                    ContentFault::BareLineEnd => replies::BARE_LINE_END_IN_CONTENT,
                    ContentFault::LineTooLong => replies::CONTENT_LINE_TOO_LONG,
                    ContentFault::Nul => replies::NUL_IN_CONTENT,
                })
            }
        }
    }

    fn keep(&mut self, octets: Bytes, limits: &Limits) -> ScanResult {
        self.octets += octets.len() as u64;
        if self.octets > limits.message_octets_max {
            self.scanner.discard();
            return self.reject(replies::MESSAGE_TOO_LARGE);
        }
        ScanResult::Content(octets)
    }

    /// Rejects the message. The client receives the first reason.
    fn reject(&mut self, reply: Reply) -> ScanResult {
        self.fault.get_or_insert(reply);
        ScanResult::Rejected
    }
}

impl TransferRate {
    pub(super) fn new(now: Instant) -> Self {
        Self { started: now, octets: 0 }
    }

    /// When the next octets must arrive for the average rate to be above the minimum.
    pub(super) fn deadline(&self, limits: &Limits) -> Instant {
        let allowed = Duration::from_secs(self.octets / u64::from(limits.content_rate_min.max(1)));
        self.started + limits.content_rate_grace + allowed
    }
}
