//! A spool in memory: for tests, and for embedding programs whose messages may be lost with the process.

use super::queue::{Queue, Reservation, lock};
use super::queued_message::{Change, QueuedMessage, Timestamp};
use super::stored_message::StoredMessage;
use super::{Spool, SpoolError, SpoolLimits, SpoolUsage, StagedMessage};
use crate::mail::parameters::AppName;
use crate::mail::{Clock, Permitted, QueueId};
use async_trait::async_trait;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Keeps messages in memory. A commit is durable as long as the process runs, and no longer.
pub struct MemorySpool {
    shared: Arc<Shared>,
}

struct Shared {
    queue: Arc<Mutex<Queue<()>>>,
    messages: Mutex<HashMap<QueueId, Permitted>>,
    clock: Arc<dyn Clock>,
}

impl std::fmt::Debug for MemorySpool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MemorySpool").finish_non_exhaustive()
    }
}

impl MemorySpool {
    /// An empty spool.
    pub fn new(limits: SpoolLimits, clock: Arc<dyn Clock>) -> Self {
        let queue = Arc::new(Mutex::new(Queue::new(limits)));
        Self { shared: Arc::new(Shared { queue, messages: Mutex::default(), clock }) }
    }
}

impl Shared {
    fn messages(&self) -> MutexGuard<'_, HashMap<QueueId, Permitted>> {
        self.messages.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Spool for MemorySpool {
    fn stage(&self, app: Option<&AppName>, octets: u64) -> Result<Box<dyn StagedMessage>, SpoolError> {
        let reservation = Reservation::take(&self.shared.queue, app, octets)?;
        Ok(Box::new(Staged { shared: Arc::clone(&self.shared), _reservation: reservation }))
    }

    async fn change(&self, id: QueueId, change: Change) -> Result<bool, SpoolError> {
        let applied = lock(&self.shared.queue).apply(id, &change);
        if let Some(Some(_)) = applied {
            self.shared.messages().remove(&id);
        }
        Ok(applied.is_some())
    }

    async fn load(&self, id: QueueId) -> Result<Permitted, SpoolError> {
        self.shared.messages().get(&id).cloned().ok_or(SpoolError::NotFound(id))
    }

    async fn describe(&self, id: QueueId) -> Result<StoredMessage, SpoolError> {
        self.shared.messages().get(&id).map(StoredMessage::of).ok_or(SpoolError::NotFound(id))
    }

    fn get(&self, id: QueueId) -> Option<QueuedMessage> {
        lock(&self.shared.queue).get(id).map(|stored| stored.message.clone())
    }

    fn page(&self, after: Option<QueueId>, count: usize) -> Vec<QueuedMessage> {
        lock(&self.shared.queue).page(after, count)
    }

    fn usage(&self) -> SpoolUsage {
        lock(&self.shared.queue).usage()
    }
}

struct Staged {
    shared: Arc<Shared>,
    /// Until the message itself counts.
    _reservation: Reservation<()>,
}

#[async_trait]
impl StagedMessage for Staged {
    async fn commit(self: Box<Self>, message: Permitted) -> Result<QueueId, SpoolError> {
        let id = QueueId::of(message.transaction());
        let (app, octets) = (message.granted().app.clone(), message.content().octets().len() as u64);
        let recipients = message.envelope().forward_paths().len();
        let accepted = Timestamp::from(self.shared.clock.wall());
        let queued = QueuedMessage::accepted(id, app, accepted, octets, recipients);
        self.shared.messages().insert(id, message);
        lock(&self.shared.queue).insert(queued, ());
        Ok(id)
    }
}
