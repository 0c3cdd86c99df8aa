//! The limits of memory and disk for all messages together.
//!
//! Memory is divided once: a share for content that is being received, a share for messages that are being sent, and what
//! verifying passwords may take. Receiving and sending have separate shares, because a message that waits to be sent holds
//! its received octets: with one share, all messages could wait for each other. Sending takes its weight in one piece.
//! Semaphores count KiB.

use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The sizes of the budget.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct BudgetSettings {
    /// Memory for messages and password verification together.
    pub memory_octets: u64,
    /// Disk for content that does not fit into memory, in unlinked temporary files.
    pub disk_octets: u64,
    /// Where those files are; `None`: the system's temporary directory.
    pub directory: Option<std::path::PathBuf>,
    /// A message larger than this is on disk while it waits to be sent.
    pub message_in_memory_octets_max: u64,
    /// The most file descriptors that the process may open; `None`: not known.
    pub file_descriptors_max: Option<u64>,
}

impl Default for BudgetSettings {
    fn default() -> Self {
        Self {
            memory_octets: 256 * MIB,
            disk_octets: 4096 * MIB,
            directory: None,
            message_in_memory_octets_max: 4 * MIB,
            file_descriptors_max: None,
        }
    }
}

const MIB: u64 = 1024 * 1024;

/// The divisor of the memory for receiving: a quarter.
const RECEIVING_SHARE: u64 = 4;

/// The memory and disk budget of a relay.
#[derive(Debug)]
pub struct Budget {
    receiving: Arc<Semaphore>,
    sending: Arc<Semaphore>,
    disk: Arc<Semaphore>,
    sending_kib: u32,
    receiving_kib: u32,
    disk_kib: u32,
    pub(super) directory: Option<std::path::PathBuf>,
    pub(super) message_in_memory_octets_max: u64,
    descriptors: Option<u64>,
}

/// File descriptors that are reserved for health checks and calls to the provider, at the end of the range: enough for 200
/// calls and 32 connections of the admin endpoint. Of a small range, a quarter is reserved.
const DESCRIPTORS_KEPT_MAX: u64 = 256;

/// A part of a budget. Dropping it returns the part.
pub(super) type Share = OwnedSemaphorePermit;

impl Budget {
    pub(super) fn new(settings: &BudgetSettings, set_aside: u64) -> Self {
        let memory = settings.memory_octets.saturating_sub(set_aside);
        let receiving_kib = kib(memory / RECEIVING_SHARE);
        let sending_kib = kib(memory - memory / RECEIVING_SHARE);
        let disk_kib = kib(settings.disk_octets);
        Self {
            receiving: Arc::new(Semaphore::new(receiving_kib as usize)),
            sending: Arc::new(Semaphore::new(sending_kib as usize)),
            disk: Arc::new(Semaphore::new(disk_kib as usize)),
            sending_kib,
            receiving_kib,
            disk_kib,
            directory: settings.directory.clone(),
            message_in_memory_octets_max: settings.message_in_memory_octets_max,
            descriptors: settings.file_descriptors_max.map(|most| most - (most / 4).min(DESCRIPTORS_KEPT_MAX)),
        }
    }

    /// Octets of memory for sending. A message whose attempt needs more is sent alone.
    pub fn sending_octets(settings: &BudgetSettings, set_aside: u64) -> u64 {
        let memory = settings.memory_octets.saturating_sub(set_aside);
        memory - memory / RECEIVING_SHARE
    }

    /// Takes memory for receiving, if it is free now.
    pub(super) fn receive(&self, octets: u64) -> Option<Share> {
        Arc::clone(&self.receiving).try_acquire_many_owned(kib(octets)).ok()
    }

    /// Takes disk space, if it is free now.
    pub(super) fn store(&self, octets: u64) -> Option<Share> {
        Arc::clone(&self.disk).try_acquire_many_owned(kib(octets)).ok()
    }

    /// Takes memory for sending, if it is free now.
    pub(super) fn try_send(&self, octets: u64) -> Option<Share> {
        Arc::clone(&self.sending).try_acquire_many_owned(self.sending_weight(octets)).ok()
    }

    /// Waits for memory for sending, in the order of the calls.
    pub(super) async fn send(&self, octets: u64) -> Option<Share> {
        Arc::clone(&self.sending).acquire_many_owned(self.sending_weight(octets)).await.ok()
    }

    /// Whether this much memory for sending is free now.
    pub(super) fn has_memory_to_send(&self, octets: u64) -> bool {
        self.sending.available_permits() >= self.sending_weight(octets) as usize
    }

    fn sending_weight(&self, octets: u64) -> u32 {
        kib(octets).min(self.sending_kib.max(1))
    }

    /// Whether only reserved file descriptors are left, by the number of one that was opened now. POSIX: `open` returns the
    /// lowest free number.
    pub(crate) fn is_short_of_descriptors(&self, opened: Option<i32>) -> bool {
        let opened = opened.and_then(|opened| u64::try_from(opened).ok());
        matches!((self.descriptors, opened), (Some(most), Some(opened)) if opened >= most)
    }

    /// Whether there is capacity to receive another message.
    pub fn has_room(&self) -> bool {
        const LEAST_KIB: usize = 64;
        self.receiving.available_permits() >= LEAST_KIB || self.disk.available_permits() >= LEAST_KIB
    }

    /// Octets in use now: received content in memory, messages being sent, content on disk.
    pub fn in_use(&self) -> (u64, u64, u64) {
        let used = |all: u32, left: &Semaphore| u64::from(all).saturating_sub(left.available_permits() as u64) * 1024;
        (
            used(self.receiving_kib, &self.receiving),
            used(self.sending_kib, &self.sending),
            used(self.disk_kib, &self.disk),
        )
    }
}

/// Octets in KiB, rounded up; at least one.
fn kib(octets: u64) -> u32 {
    u32::try_from(octets.div_ceil(1024)).unwrap_or(u32::MAX >> 3).clamp(1, u32::MAX >> 3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_message_heavier_than_the_share_is_sent_alone() {
        let settings = BudgetSettings { memory_octets: 4 * MIB, ..BudgetSettings::default() };
        let budget = Budget::new(&settings, 0);
        let heavy = budget.send(100 * MIB).await.unwrap();
        assert!(budget.try_send(1).is_none(), "nothing beside it");
        drop(heavy);
        assert!(budget.try_send(1).is_some());
    }

    #[test]
    fn what_is_taken_comes_back() {
        let budget =
            Budget::new(&BudgetSettings { memory_octets: 4 * MIB, disk_octets: MIB, ..Default::default() }, MIB);
        assert_eq!(budget.in_use(), (0, 0, 0));
        let memory = budget.receive(700 * 1024).unwrap();
        assert!(budget.receive(100 * 1024).is_none(), "three quarters of a MiB are there to receive");
        let disk = budget.store(MIB).unwrap();
        assert!(budget.store(1).is_none());
        assert_eq!(budget.in_use(), (700 * 1024, 0, MIB));
        drop((memory, disk));
        assert_eq!(budget.in_use(), (0, 0, 0));
    }
}
