//! A spool on disk: append-only segments with group commit.
//!
//! One thread writes. Everything that waits when a flush ends goes into the next one, so that with many clients one flush serves
//! many messages. Content larger than [`LARGE_OCTETS_MIN`] is written and flushed by the task that received it, to a file of its own,
//! and only its head goes through the writer.
//!
//! ```text
//! directory/             0700
//!   lock                 held while a process uses the spool
//!   0000000001.segment   records, see `segment.rs`
//!   content/ID           large content, until its message leaves the queue
//!   corrupt/             damaged records, for the operator; never deleted
//! ```
//!
//! Recovery: whole records count, the torn tail of the last segment does not, a damaged record is set aside and counted, and nothing
//! is deleted silently.

mod found_header;
mod head;
mod log;
mod record;
mod recovery;
mod segment;
mod storage;
mod writer;

#[cfg(test)]
mod disk_tests;
#[cfg(test)]
mod model_tests;
#[cfg(test)]
mod simulated_disk;

pub use recovery::Recovery;

use super::queue::{Queue, Reservation, lock};
use super::queued_message::{Change, QueuedMessage, Timestamp};
use super::stored_message::StoredMessage;
use super::{Spool, SpoolError, SpoolLimits, SpoolUsage, StagedMessage};
use crate::mail::parameters::AppName;
use crate::mail::{Clock, Permitted, QueueId};
use async_trait::async_trait;
use bytes::Bytes;
use head::Head;
use log::{Append, Effect, Location, SegmentLog, content_name, read_record};
use record::RecordKind;
use recovery::LogError;
use std::fs::{OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use storage::{Directory, Storage, StorageFile};
use writer::{Health, Writer};

/// Content of more octets is stored in a file of its own.
pub(super) const LARGE_OCTETS_MIN: usize = 1024 * 1024;

const LOCK: &str = "lock";

/// Where a spool is, and how much it may take.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct DiskSpoolSettings {
    /// The directory. It is created with mode 0700 if it is missing.
    pub directory: PathBuf,
    /// What the messages may take. What is on disk may be twice as much, and two segments.
    pub limits: SpoolLimits,
    /// Free space of the file system that stays free: with less, no message is accepted.
    pub free_octets_min: u64,
    /// The size of a segment.
    pub segment_octets: u64,
}

impl DiskSpoolSettings {
    /// A spool in that directory with the default limits: 10 GiB, 1,000,000 messages, 256 MiB that stay free, segments of 64 MiB.
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self {
            directory: directory.into(),
            limits: SpoolLimits::default(),
            free_octets_min: 256 * 1024 * 1024,
            segment_octets: 64 * 1024 * 1024,
        }
    }
}

/// Why a spool cannot be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// A file could not be read or written.
    #[error("spool: {path}: {error}")]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// The error.
        error: io::Error,
    },
    /// Another process uses the directory.
    #[error("spool: {0} is in use by another process; each needs a directory of its own")]
    InUse(PathBuf),
    /// A later version wrote to the directory.
    #[error(
        "spool: {path} has format {version}, and this version reads formats up to 1: use the version that wrote it"
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its format.
        version: u32,
    },
}

/// A spool in a directory.
pub struct DiskSpool {
    queue: Arc<Mutex<Queue<Location>>>,
    storage: Arc<dyn Storage>,
    writer: Arc<Writer>,
    clock: Arc<dyn Clock>,
    free_octets_min: u64,
    /// The lock, held as long as the spool is open.
    _lock: std::fs::File,
}

impl std::fmt::Debug for DiskSpool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DiskSpool").finish_non_exhaustive()
    }
}

impl DiskSpool {
    /// Opens a spool, or creates it, and reads what is in the queue. Blocks: about a second for 100,000 messages.
    ///
    /// # Errors
    /// [`OpenError`]. A damaged record is none: it is set aside, see [`Recovery`].
    pub fn open(settings: &DiskSpoolSettings, clock: Arc<dyn Clock>) -> Result<(Self, Recovery), OpenError> {
        let directory = &settings.directory;
        let at = |path: &Path| {
            let path = path.to_owned();
            move |error| OpenError::Io { path, error }
        };
        let storage: Arc<dyn Storage> = Arc::new(Directory::create(directory).map_err(at(directory))?);
        let path = directory.join(LOCK);
        let file = OpenOptions::new().create(true).write(true).truncate(false).mode(0o600).open(&path);
        let file = file.map_err(at(&path))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(OpenError::InUse(directory.clone())),
            Err(TryLockError::Error(error)) => return Err(at(&path)(error)),
        }
        let queue = Arc::new(Mutex::new(Queue::new(settings.limits)));
        let (log, recovery) = SegmentLog::open(Arc::clone(&storage), Arc::clone(&queue), settings.segment_octets)
            .map_err(|error| match error {
                LogError::Io { name, error } => OpenError::Io { path: directory.join(name), error },
                LogError::Newer { name, version } => OpenError::Newer { path: directory.join(name), version },
            })?;
        let writer = Writer::start(log, recovery.damaged).map_err(at(directory))?;
        let free_octets_min = settings.free_octets_min;
        Ok((Self { queue, storage, writer: Arc::new(writer), clock, free_octets_min, _lock: file }, recovery))
    }

    /// Runs on a thread that may block.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&dyn Storage, &Mutex<Queue<Location>>) -> Result<T, SpoolError> + Send + 'static,
    ) -> Result<T, SpoolError> {
        let (storage, queue) = (Arc::clone(&self.storage), Arc::clone(&self.queue));
        let done = tokio::task::spawn_blocking(move || work(&*storage, &queue)).await;
        done.unwrap_or_else(|error| Err(SpoolError::Unavailable(error.to_string())))
    }

    /// A message that could not be read is set aside.
    async fn or_set_aside<T>(&self, read: Result<T, SpoolError>) -> Result<T, SpoolError> {
        if let Err(SpoolError::Damaged(id)) = read {
            self.writer.set_aside(id).await?;
        }
        read
    }
}

#[async_trait]
impl Spool for DiskSpool {
    fn stage(&self, app: Option<&AppName>, octets: u64) -> Result<Box<dyn StagedMessage>, SpoolError> {
        if let Health::Failing(error) = self.writer.health() {
            return Err(error);
        }
        let free = self.storage.free_octets().map_err(unavailable)?;
        if free < self.free_octets_min.saturating_add(octets) {
            return Err(SpoolError::Full(format!("{free} octets of disk are free")));
        }
        let reservation = Reservation::take(&self.queue, app, octets)?;
        Ok(Box::new(Staged {
            storage: Arc::clone(&self.storage),
            writer: Arc::clone(&self.writer),
            clock: Arc::clone(&self.clock),
            _reservation: reservation,
        }))
    }

    async fn change(&self, id: QueueId, change: Change) -> Result<bool, SpoolError> {
        if lock(&self.queue).get(id).is_none() {
            return Ok(false);
        }
        let head = serde_json::to_vec(&change).map_err(|error| SpoolError::Unavailable(error.to_string()))?;
        let effect = Effect::Change(change);
        self.writer.append(Append { id, kind: RecordKind::Change, head, content: Bytes::new(), effect }).await
    }

    async fn load(&self, id: QueueId) -> Result<Permitted, SpoolError> {
        let read = self.blocking(move |storage, queue| {
            let (head, content) = read(storage, queue, id, true)?;
            head.message.restore(id, content).map_err(|_| SpoolError::Damaged(id))
        });
        self.or_set_aside(read.await).await
    }

    async fn describe(&self, id: QueueId) -> Result<StoredMessage, SpoolError> {
        let read = self.blocking(move |storage, queue| Ok(read(storage, queue, id, false)?.0.message));
        self.or_set_aside(read.await).await
    }

    fn get(&self, id: QueueId) -> Option<QueuedMessage> {
        lock(&self.queue).get(id).map(|stored| stored.message.clone())
    }

    fn page(&self, after: Option<QueueId>, count: usize) -> Vec<QueuedMessage> {
        lock(&self.queue).page(after, count)
    }

    fn usage(&self) -> SpoolUsage {
        let failing = matches!(self.writer.health(), Health::Failing(_));
        SpoolUsage { damaged: self.writer.damaged(), failing, ..lock(&self.queue).usage() }
    }
}

/// Reads head and, if it is wanted, content of a message.
fn read(
    storage: &dyn Storage,
    queue: &Mutex<Queue<Location>>,
    id: QueueId,
    with_content: bool,
) -> Result<(Head, Bytes), SpoolError> {
    let place = || lock(queue).get(id).map(|stored| stored.place).ok_or(SpoolError::NotFound(id));
    let mut at = place()?;
    let record = loop {
        match read_at(storage, at) {
            Ok(record) => break record,
            // It was copied, and its segment removed, between the look and the reading.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let now = place()?;
                if now == at {
                    return Err(SpoolError::Damaged(id));
                }
                at = now;
            }
            // The segment is shorter than it was.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Err(SpoolError::Damaged(id)),
            Err(error) => return Err(unavailable(error)),
        }
    };
    let record = record.ok_or(SpoolError::Damaged(id))?;
    let head = Head::read(record.head()).ok_or(SpoolError::Damaged(id))?;
    let content = match at.large && with_content {
        false => record.content(),
        true => {
            let content = match storage.open(&content_name(id)).and_then(|file| whole(&*file)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(unavailable(error)),
                // Without the file the checksum is wrong.
                content => content.unwrap_or_default(),
            };
            if head.content_checksum != Some(crc32c::crc32c(&content)) {
                return Err(SpoolError::Damaged(id));
            }
            content
        }
    };
    Ok((head, content))
}

fn read_at(storage: &dyn Storage, place: Location) -> io::Result<Option<log::ReadRecord>> {
    let file = storage.open(&segment::file_name(place.segment))?;
    match found_header::marker_of(&*file)? {
        Some(marker) => read_record(&*file, marker, place),
        None => Ok(None),
    }
}

fn whole(file: &dyn StorageFile) -> io::Result<Bytes> {
    let mut octets = vec![0; usize::try_from(file.octets()?).map_err(io::Error::other)?];
    file.read_at(&mut octets, 0)?;
    Ok(octets.into())
}

/// Space for a message.
struct Staged {
    storage: Arc<dyn Storage>,
    writer: Arc<Writer>,
    clock: Arc<dyn Clock>,
    /// Until the message itself counts.
    _reservation: Reservation<Location>,
}

#[async_trait]
impl StagedMessage for Staged {
    async fn commit(self: Box<Self>, message: Permitted) -> Result<QueueId, SpoolError> {
        let id = QueueId::of(message.transaction());
        let content = message.content().octets().clone();
        let large = content.len() > LARGE_OCTETS_MIN;
        let head = Head {
            accepted: Timestamp::from(self.clock.wall()),
            octets: content.len() as u64,
            content_checksum: None,
            state: None,
            message: StoredMessage::of(&message),
        };
        drop(message);
        let (kind, head, content) = match large {
            false => (RecordKind::Message, head, content),
            true => {
                let storage = Arc::clone(&self.storage);
                let checksum = tokio::task::spawn_blocking(move || store_content(&*storage, id, &content)).await;
                let checksum = checksum.map_err(io::Error::other).and_then(|stored| stored).map_err(unavailable)?;
                (RecordKind::LargeMessage, Head { content_checksum: Some(checksum), ..head }, Bytes::new())
            }
        };
        let message = head.message(id).ok_or_else(|| SpoolError::Unavailable("the head has no message".to_owned()))?;
        let json = head.to_json().ok_or_else(|| SpoolError::Unavailable("the head has no JSON".to_owned()))?;
        self.writer.append(Append { id, kind, head: json, content, effect: Effect::Insert(message) }).await?;
        Ok(id)
    }
}

/// Writes large content to its own file, durably. Returns its checksum.
fn store_content(storage: &dyn Storage, id: QueueId, content: &[u8]) -> io::Result<u32> {
    let name = content_name(id);
    let file = storage.create(&name, content.len() as u64)?;
    let stored = file.write_at(content, 0).and_then(|()| file.sync()).and_then(|()| storage.sync_name(&name));
    if let Err(error) = stored {
        // What cannot be removed now is removed at the next start: no record names it.
        let _ = storage.remove(&name);
        return Err(error);
    }
    Ok(crc32c::crc32c(content))
}

/// What an error of the file system is for the caller.
fn unavailable(error: io::Error) -> SpoolError {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => SpoolError::Full(error.to_string()),
        _ => SpoolError::Unavailable(error.to_string()),
    }
}
