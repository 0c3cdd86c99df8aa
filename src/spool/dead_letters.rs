//! Messages that failed, for the operator: a directory with two files for each, the content as it would have been sent (`.eml`) and
//! the reason (`.json`).
//!
//! Nothing in it is deleted by the relay. When it is full, messages that fail are held in the queue.

use super::stored_message::StoredMessage;
use crate::mail::{ForwardPath, Permitted, QueueId};
use serde_json::json;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// The directory.
#[derive(Debug)]
pub struct DeadLetters {
    directory: PathBuf,
    octets_max: u64,
    shared: Arc<Stored>,
}

#[derive(Debug, Default)]
struct Stored {
    messages: AtomicU64,
    octets: AtomicU64,
    /// The last message could not be stored.
    failing: AtomicBool,
}

impl Stored {
    /// Counts what is in the directory.
    fn count(&self, directory: &Path) -> io::Result<()> {
        let (mut messages, mut octets) = (0, 0);
        for entry in std::fs::read_dir(directory)? {
            let entry = entry?;
            octets += entry.metadata()?.len();
            messages += u64::from(entry.path().extension().is_some_and(|extension| extension == CONTENT));
        }
        self.messages.store(messages, Ordering::Relaxed);
        self.octets.store(octets, Ordering::Relaxed);
        Ok(())
    }
}

/// Why a message is not stored.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DeadLetterError {
    /// The directory has as many octets as it may have.
    #[error("dead_letter is full: {octets} of {octets_max} octets")]
    Full {
        /// What it has.
        octets: u64,
        /// What it may have.
        octets_max: u64,
    },
    /// A file could not be written.
    #[error("dead_letter: {0}")]
    Io(#[from] io::Error),
}

impl DeadLetters {
    /// Opens the directory, or creates it with mode 0700.
    ///
    /// # Errors
    /// If it cannot be created or read.
    pub fn open(directory: impl Into<PathBuf>, octets_max: u64) -> io::Result<Self> {
        let directory = directory.into();
        DirBuilder::new().recursive(true).mode(0o700).create(&directory)?;
        let shared = Arc::new(Stored::default());
        shared.count(&directory)?;
        Ok(Self { directory, octets_max, shared })
    }

    /// Stores a message, durably.
    ///
    /// # Errors
    /// [`DeadLetterError`]; then nothing is left of it, or a file without its partner.
    pub async fn store(&self, message: &Permitted, failure: &str, result: &str) -> Result<(), DeadLetterError> {
        let stored = self.try_store(message, failure, result).await;
        self.shared.failing.store(stored.is_err(), Ordering::Relaxed);
        stored
    }

    /// Whether the last message could not be stored: the directory is full, or the disk fails.
    pub fn is_failing(&self) -> bool {
        self.shared.failing.load(Ordering::Relaxed)
    }

    async fn try_store(&self, message: &Permitted, failure: &str, result: &str) -> Result<(), DeadLetterError> {
        let id = QueueId::of(message.transaction());
        let recipients: Vec<String> = message.envelope().forward_paths().iter().map(ForwardPath::to_string).collect();
        let reason = json!({ "id": id.to_string(), "failure": failure, "result": result, "recipients": recipients,
            "message": StoredMessage::of(message) });
        let mut reason = serde_json::to_vec_pretty(&reason).map_err(io::Error::other)?;
        reason.push(b'\n');
        let content = message.content().octets().clone();
        let octets = (reason.len() + content.len()) as u64;
        if self.shared.octets.load(Ordering::Relaxed) + octets > self.octets_max {
            // The operator may have made room.
            let (directory, shared) = (self.directory.clone(), Arc::clone(&self.shared));
            let counted = tokio::task::spawn_blocking(move || shared.count(&directory)).await;
            counted.map_err(io::Error::other).and_then(|counted| counted)?;
        }
        let now = self.shared.octets.fetch_add(octets, Ordering::Relaxed);
        if now + octets > self.octets_max {
            self.shared.octets.fetch_sub(octets, Ordering::Relaxed);
            return Err(DeadLetterError::Full { octets: now, octets_max: self.octets_max });
        }
        let directory = self.directory.clone();
        let stored = tokio::task::spawn_blocking(move || {
            let name = free_name(&directory, &id.to_string())?;
            write(&directory.join(format!("{name}.{CONTENT}")), &content)?;
            write(&directory.join(format!("{name}.json")), &reason)?;
            File::open(&directory)?.sync_all()
        });
        let stored = stored.await.map_err(io::Error::other).and_then(|stored| stored);
        match stored {
            Ok(()) => self.shared.messages.fetch_add(1, Ordering::Relaxed),
            Err(_) => self.shared.octets.fetch_sub(octets, Ordering::Relaxed),
        };
        stored.map_err(DeadLetterError::Io)
    }

    /// Messages that are stored, and octets of all files, as of the start and since.
    pub fn stored(&self) -> (u64, u64) {
        (self.shared.messages.load(Ordering::Relaxed), self.shared.octets.load(Ordering::Relaxed))
    }
}

const CONTENT: &str = "eml";

/// Parts of one message that fail at different times have names of their own.
const NAMES_MAX: u32 = 1_000;

fn free_name(directory: &Path, id: &str) -> io::Result<String> {
    let names = std::iter::once(id.to_owned()).chain((2..NAMES_MAX).map(|number| format!("{id}.{number}")));
    for name in names {
        if !directory.join(format!("{name}.json")).try_exists()? {
            return Ok(name);
        }
    }
    Err(io::ErrorKind::AlreadyExists.into())
}

fn write(path: &Path, octets: &[u8]) -> io::Result<()> {
    // Where a crash left a file without its partner, it is written again.
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(octets)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::SessionId;

    fn message(body: &str) -> Permitted {
        let stored: StoredMessage = serde_json::from_str(r#"{"forward_paths":["b@b.example"],"rule":"app"}"#).unwrap();
        let id = QueueId::of(SessionId::fresh().transaction(1));
        stored.restore(id, format!("Subject: x\r\n\r\n{body}\r\n").into()).unwrap()
    }

    #[tokio::test]
    async fn a_message_is_stored_with_its_reason_and_nothing_is_overwritten() {
        let directory = tempfile::tempdir().unwrap();
        let letters = DeadLetters::open(directory.path().join("dead"), 100_000).unwrap();
        let message = message("hello");
        letters.store(&message, "rejected", "MessageRejected: no").await.unwrap();
        letters.store(&message, "expired", "unreachable").await.unwrap();
        let read = |name: &str| std::fs::read_to_string(directory.path().join("dead").join(name)).unwrap();
        let id = message.transaction();
        assert_eq!(read(&format!("{id}.eml")), "Subject: x\r\n\r\nhello\r\n");
        let reason: serde_json::Value = serde_json::from_str(&read(&format!("{id}.json"))).unwrap();
        assert_eq!((&reason["failure"], &reason["result"]), (&json!("rejected"), &json!("MessageRejected: no")));
        assert_eq!(reason["recipients"], json!(["b@b.example"]));
        assert!(read(&format!("{id}.2.json")).contains("expired"));
        assert_eq!(letters.stored().0, 2);
        let again = DeadLetters::open(directory.path().join("dead"), 100_000).unwrap();
        assert_eq!(again.stored(), letters.stored());
    }

    #[tokio::test]
    async fn a_full_directory_takes_no_more_and_deletes_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let letters = DeadLetters::open(directory.path(), 1_000).unwrap();
        letters.store(&message("hello"), "rejected", "").await.unwrap();
        let before = letters.stored();
        let refused = letters.store(&message(&"x".repeat(800)), "rejected", "").await.unwrap_err();
        assert!(refused.to_string().contains("dead_letter is full"), "{refused}");
        assert_eq!((letters.stored(), std::fs::read_dir(directory.path()).unwrap().count()), (before, 2));
        assert!(letters.is_failing(), "an alarm");
        for entry in std::fs::read_dir(directory.path()).unwrap() {
            std::fs::remove_file(entry.unwrap().path()).unwrap();
        }
        letters.store(&message("hello"), "rejected", "").await.unwrap();
        assert!(!letters.is_failing(), "room that the operator makes is noticed");
    }
}
