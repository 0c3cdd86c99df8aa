//! The thread that writes: it gathers what waits into one flush, and cleans when there is nothing to write.

use super::super::SpoolError;
use super::super::queued_message::Change;
use super::log::{Append, Effect, SegmentLog};
use super::record::RecordKind;
use super::unavailable;
use crate::mail::QueueId;
use bytes::Bytes;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::Instant;

/// Octets of one flush, about: what more waits goes into the next.
const FLUSH_OCTETS: u64 = 8 * 1024 * 1024;

/// Failed flushes in a row after which no more messages are taken: one may be a single bad block.
const FAILURES_MAX: u32 = 2;

/// A write that takes longer: no more messages are taken until it ends, because they would all wait in memory.
const FLUSH_MAX: Duration = Duration::from_secs(10);

/// How long to wait before an empty flush tests whether the disk works again.
const PROBE_INTERVAL: Duration = Duration::from_secs(5);

/// How long to wait for something to write when there is nothing to clean.
const IDLE_INTERVAL: Duration = Duration::from_secs(60);

type Answer = oneshot::Sender<Result<bool, SpoolError>>;

enum Request {
    Append(Append, Answer),
    SetAside(QueueId, Answer),
}

/// Whether the disk works.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Health {
    Good,
    /// Two flushes failed in a row; the last error.
    Failing(SpoolError),
}

/// The writing thread. Dropping it writes what waits, seals the segment and ends the thread.
pub(super) struct Writer {
    requests: Option<Sender<Request>>,
    status: Arc<Status>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Status {
    failing: Mutex<Option<SpoolError>>,
    /// When the write that is in progress began.
    writing: Mutex<Option<Instant>>,
    damaged: AtomicU64,
}

impl Writer {
    pub(super) fn start(log: SegmentLog, damaged: u64) -> io::Result<Self> {
        let (requests, receiver) = channel();
        let status = Arc::new(Status { damaged: AtomicU64::new(damaged), ..Status::default() });
        let work = Work { log, status: Arc::clone(&status), failures: 0 };
        let thread = std::thread::Builder::new().name("spool".to_owned()).spawn(move || work.run(&receiver))?;
        Ok(Self { requests: Some(requests), status, thread: Some(thread) })
    }

    /// Makes a record durable. `false`: its message has left the queue.
    pub(super) async fn append(&self, record: Append) -> Result<bool, SpoolError> {
        self.request(|answer| Request::Append(record, answer)).await
    }

    /// Takes a damaged message out of the queue.
    pub(super) async fn set_aside(&self, id: QueueId) -> Result<(), SpoolError> {
        self.request(|answer| Request::SetAside(id, answer)).await.map(drop)
    }

    async fn request(&self, request: impl FnOnce(Answer) -> Request) -> Result<bool, SpoolError> {
        let gone = || SpoolError::Unavailable("the thread that writes has ended".to_owned());
        let (answer, answered) = oneshot::channel();
        let requests = self.requests.as_ref().ok_or_else(gone)?;
        requests.send(request(answer)).map_err(|_| gone())?;
        answered.await.unwrap_or_else(|_| Err(gone()))
    }

    pub(super) fn health(&self) -> Health {
        if let Some(error) = &*self.status.failing.lock().unwrap_or_else(PoisonError::into_inner) {
            return Health::Failing(error.clone());
        }
        let writing = *self.status.writing.lock().unwrap_or_else(PoisonError::into_inner);
        match writing.filter(|began| began.elapsed() > FLUSH_MAX) {
            None => Health::Good,
            Some(_) => Health::Failing(SpoolError::Unavailable("a write to the disk does not end".to_owned())),
        }
    }

    /// Damaged records that were set aside.
    pub(super) fn damaged(&self) -> u64 {
        self.status.damaged.load(Ordering::Relaxed)
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        drop(self.requests.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Work {
    log: SegmentLog,
    status: Arc<Status>,
    /// In a row.
    failures: u32,
}

/// Also after a panic.
impl Drop for Work {
    fn drop(&mut self) {
        let ended = SpoolError::Unavailable("the thread that writes has ended".to_owned());
        *self.status.failing.lock().unwrap_or_else(PoisonError::into_inner) = Some(ended);
    }
}

impl Work {
    fn run(mut self, requests: &Receiver<Request>) {
        let mut more_to_clean = true;
        loop {
            let wait = match (self.failures, more_to_clean) {
                (FAILURES_MAX.., _) => PROBE_INTERVAL,
                (_, true) => Duration::ZERO,
                _ => IDLE_INTERVAL,
            };
            match requests.recv_timeout(wait) {
                Ok(request) => self.serve(request, requests),
                Err(RecvTimeoutError::Timeout) if self.failures >= FAILURES_MAX => self.probe(),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            // One step, so that nobody who waits for a flush waits for long.
            more_to_clean = self.failures == 0 && self.log.clean().unwrap_or(false);
        }
        self.log.close();
    }

    fn serve(&mut self, first: Request, requests: &Receiver<Request>) {
        let (mut records, mut answers, mut octets) = (Vec::new(), Vec::new(), 0);
        let mut next = Some(first);
        while let Some(request) = next {
            match request {
                Request::Append(record, answer) => {
                    octets += record.octets();
                    records.push(record);
                    answers.push(answer);
                }
                Request::SetAside(id, answer) => {
                    let done = self.log.damaged(id).map_err(unavailable);
                    self.status.damaged.fetch_add(u64::from(done.is_ok()), Ordering::Relaxed);
                    let _ = answer.send(done.map(|()| true));
                }
            }
            next = if octets < FLUSH_OCTETS { requests.try_recv().ok() } else { None };
        }
        if records.is_empty() {
            return;
        }
        let done = self.append(&records);
        for (place, answer) in answers.into_iter().enumerate() {
            let done = done.as_ref().map(|found| found.get(place).is_some_and(|found| *found));
            // A caller that is gone has no use for the answer.
            let _ = answer.send(done.map_err(Clone::clone));
        }
    }

    fn append(&mut self, records: &[Append]) -> Result<Vec<bool>, SpoolError> {
        *self.status.writing.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        let done = self.log.append(records).map_err(unavailable);
        *self.status.writing.lock().unwrap_or_else(PoisonError::into_inner) = None;
        self.failures = if done.is_ok() { 0 } else { self.failures.saturating_add(1) };
        let failing = done.as_ref().err().filter(|_| self.failures >= FAILURES_MAX).cloned();
        *self.status.failing.lock().unwrap_or_else(PoisonError::into_inner) = failing;
        done
    }

    /// Writes a change of no message.
    fn probe(&mut self) {
        let Ok(head) = serde_json::to_vec(&Change::Removed) else { return };
        let (id, effect) = (QueueId::from_numbers(0, 0), Effect::Change(Change::Removed));
        let _ = self.append(&[Append { id, kind: RecordKind::Change, head, content: Bytes::new(), effect }]);
    }
}
