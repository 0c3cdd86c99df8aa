//! `[memory]`: memory and disk for the content of messages.

use super::diagnostics::Diagnostics;
use super::number::Octets;
use super::section::section;
use crate::auth::{Authenticator, Users};
use crate::relay::BudgetSettings;
use std::path::PathBuf;

section! {
    /// Memory and disk for the content of all messages together. Without capacity, clients receive 452 and retry.
    pub(crate) Memory {
        /// Bytes of memory for all messages and for password verification together. A quarter is for receiving, the rest
        /// for sending; sending a message takes about three times its size. The default is 256 MiB.
        octets: Octets = Octets::of(BudgetSettings::default().memory_octets),
        /// Bytes of disk for content that waits to be sent; at least smtp.message_octets_max. The default is 4 GiB.
        disk_octets: Octets = Octets::of(BudgetSettings::default().disk_octets),
        /// A directory for that content, which must exist. It is kept in unlinked files, which disappear with the process.
        /// Default: the temporary directory of the system; where that is in memory (tmpfs), choose another.
        #[schemars(example = &"/var/tmp")]
        disk_directory: Option<PathBuf> = BudgetSettings::default().directory,
        /// Bytes; larger messages wait on disk.
        message_in_memory_octets_max: Octets = Octets::of(BudgetSettings::default().message_in_memory_octets_max),
    } []
}

impl Memory {
    /// The budget of the relay.
    pub(crate) fn budget(&self) -> BudgetSettings {
        BudgetSettings {
            memory_octets: self.octets.get(),
            disk_octets: self.disk_octets.get(),
            directory: self.disk_directory.clone(),
            message_in_memory_octets_max: self.message_in_memory_octets_max.get(),
            file_descriptors_max: None,
        }
    }

    /// Whether a message of the largest size, and password verification, fit.
    pub(super) fn check(&self, message_octets: u64, users: Option<&Users>, diagnostics: &mut Diagnostics<'_>) {
        if self.disk_octets.get() < message_octets {
            let message = format!("a message of {message_octets} octets would never fit");
            diagnostics.error("memory.disk_octets", message, "at least smtp.message_octets_max");
        }
        if let Some(directory) = self.disk_directory.as_ref().filter(|directory| !directory.is_dir()) {
            let what = if directory.exists() { "is not a directory" } else { "does not exist" };
            let message =
                format!("{} {what}: content that does not fit into memory could not be stored", directory.display());
            let hint = "make it, writable for the relay's user; or leave the key out";
            diagnostics.error("memory.disk_directory", message, hint);
        }
        let verifying = users.map_or(0, Authenticator::octets_held_max);
        if verifying * 2 > self.octets.get() {
            let message = format!("verifying passwords alone may take {verifying} octets");
            diagnostics.error("memory.octets", message, "at least twice that; or lower auth.parallel_max");
        }
    }
}
