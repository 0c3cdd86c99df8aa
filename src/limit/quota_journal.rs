//! The file in which quotas survive a restart. Counts are appended to it.
//!
//! A line has a key, its period, the current count and a checksum; the last line of a key is the valid one. A change is
//! on disk within half a second, and sooner if more than a hundredth of a quota was taken since the last write: further
//! takes wait for the disk. A crash therefore loses at most two hundredths, of which one is being
//! written, and a process that crashes repeatedly cannot use a quota several times. A torn last line is ignored. Any other
//! unreadable line is an error, because ignoring it would reset a quota. A lock file beside it allows one process at a
//! time. Expired counts are dropped when the file is rewritten, at the start and when it has grown.

use super::calendar::{CountKey, Counts, Span};
use super::matching::Keys;
use crate::mail::Clock;
use std::collections::HashMap;
use std::fmt::Write as _;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::Notify;

/// Why quota counts cannot be stored.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StateError {
    /// A file could not be read, written or locked.
    #[error("quota counts: {path}: {error}")]
    Io {
        /// The file.
        path: PathBuf,
        /// The error.
        error: io::Error,
    },
    /// Another process uses the directory.
    #[error("quota counts: {0} is in use by another process; each needs a state directory of its own")]
    InUse(PathBuf),
    /// The file is not a quota file, or has a later version.
    #[error("quota counts: {path}: line {line} is unreadable: move the file away to start with empty quotas")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The line number.
        line: usize,
    },
}

/// The thread that writes to the file.
#[derive(Debug)]
pub(super) struct JournalWriter {
    signal: Arc<WriteSignal>,
    thread: Option<JoinHandle<()>>,
}

/// Signals the thread that there are changes to write.
#[derive(Debug, Default)]
struct WriteSignal {
    state: Mutex<Signalled>,
    changed: Condvar,
    /// Signals that the writing of the changes so far has begun.
    began: Notify,
}

#[derive(Debug, Default)]
struct Signalled {
    changed: bool,
    /// A caller waits for the disk.
    urgent: bool,
    /// The last write failed.
    broken: bool,
    ended: bool,
}

/// The content of the directory: the key of the hash, and the counts.
pub(super) struct StoredCounts {
    pub(super) keys: Keys,
    pub(super) counts: HashMap<CountKey, u32>,
    pub(super) file: StateFile,
}

pub(super) struct StateFile {
    path: PathBuf,
    file: File,
    /// The lock, held as long as the process counts.
    _lock: File,
    keys: Keys,
    /// Lines since the file was last rewritten.
    appended: usize,
    /// The last write failed.
    broken: bool,
}

const FILE: &str = "quotas";
const LOCK: &str = "quotas.lock";
const FIRST_LINE: &str = "gatepost quotas 1";
/// How long a change waits for further changes before both are written.
const GATHER: Duration = Duration::from_millis(400);
/// The divisor of the part of a quota that may be taken before it is written.
const UNWRITTEN_PART: u32 = 100;
/// The longest wait for one write to begin.
const WRITE_MAX: Duration = Duration::from_secs(1);
/// The wait after a failed write.
const RETRY: Duration = Duration::from_secs(1);
/// The file is rewritten when it has this many lines, and four for each count.
const LINES_MIN: usize = 10_000;

/// Opens the counts of a directory. If there are none, creates the file with the key `fresh`.
pub(super) fn open(directory: &Path, fresh: Keys) -> Result<StoredCounts, StateError> {
    let at = |path: &Path| {
        let path = path.to_owned();
        move |error| StateError::Io { path, error }
    };
    std::fs::create_dir_all(directory).map_err(at(directory))?;
    let (path, lock_path) = (directory.join(FILE), directory.join(LOCK));
    let mut options = private();
    let lock = options.create(true).write(true).truncate(false).open(&lock_path).map_err(at(&lock_path))?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(StateError::InUse(directory.to_owned())),
        Err(TryLockError::Error(error)) => return Err(at(&lock_path)(error)),
    }
    let (keys, counts) = read_only(directory, fresh)?;
    let lines: Vec<(CountKey, u32)> = counts.iter().map(|(key, count)| (*key, *count)).collect();
    let file = write_anew(&path, keys, &lines).map_err(at(&path))?;
    Ok(StoredCounts { keys, counts, file: StateFile { path, file, _lock: lock, keys, appended: 0, broken: false } })
}

/// Reads the counts of a directory without changing it.
pub(super) fn read_only(directory: &Path, fresh: Keys) -> Result<(Keys, HashMap<CountKey, u32>), StateError> {
    let path = directory.join(FILE);
    match std::fs::read_to_string(&path) {
        Ok(text) => read(&text).map_err(|line| StateError::Unreadable { path, line }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok((fresh, HashMap::new())),
        Err(error) => Err(StateError::Io { path, error }),
    }
}

impl JournalWriter {
    /// Starts the thread that writes changes.
    pub(super) fn start(mut file: StateFile, counts: Arc<Counts>, clock: Arc<dyn Clock>) -> Self {
        let signal = Arc::new(WriteSignal::default());
        let thread_signal = Arc::clone(&signal);
        let write = move || while file.write_next(&thread_signal, &counts, &*clock) {};
        let thread = std::thread::Builder::new().name("quotas".to_owned()).spawn(write);
        if let Err(error) = &thread {
            tracing::error!(%error, "quota counts will not survive a restart");
        }
        Self { signal, thread: thread.ok() }
    }

    /// Signals that a count changed.
    pub(super) fn wake(&self) {
        let mut state = self.signal.state();
        if !std::mem::replace(&mut state.changed, true) {
            self.signal.changed.notify_one();
        }
    }

    /// The amount of a quota that may be taken before it is written. `None`: counts cannot be written, which is logged.
    pub(super) fn unwritten_max(&self, quota: u32) -> Option<u32> {
        let is_written = self.thread.is_some() && !self.signal.state().broken;
        is_written.then_some(quota / UNWRITTEN_PART)
    }

    /// Requests that the changes so far are written at once, and waits until the write begins.
    pub(super) async fn hurry(&self) {
        let began = self.signal.began.notified();
        {
            let mut state = self.signal.state();
            (state.changed, state.urgent) = (true, true);
            self.signal.changed.notify_one();
        }
        // The signal may be for a write that began before this call. The caller checks again.
        let _ = tokio::time::timeout(WRITE_MAX, began).await;
    }
}

impl Drop for JournalWriter {
    /// Writes the last changes before the process ends.
    fn drop(&mut self) {
        self.signal.state().ended = true;
        self.signal.changed.notify_one();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl WriteSignal {
    fn state(&self) -> MutexGuard<'_, Signalled> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a change, then for `gather` for further ones. False: the process ends, and this write is the last.
    fn wait(&self, gather: Duration) -> bool {
        let quiet = |state: &mut Signalled| !state.changed && !state.ended;
        let state = self.changed.wait_while(self.state(), quiet).unwrap_or_else(PoisonError::into_inner);
        let gathered = self.changed.wait_timeout_while(state, gather, |state| !state.ended && !state.urgent);
        let (mut state, _) = gathered.unwrap_or_else(PoisonError::into_inner);
        (state.changed, state.urgent) = (false, false);
        !state.ended
    }
}

impl StateFile {
    /// Writes the next changes. False: there will be no more.
    fn write_next(&mut self, signal: &WriteSignal, counts: &Counts, clock: &dyn Clock) -> bool {
        let more = signal.wait(if self.broken { RETRY } else { GATHER });
        let changes = counts.changes();
        signal.began.notify_waiters();
        let written = self.write(&changes, counts, clock);
        let (was_broken, file) = (std::mem::replace(&mut self.broken, written.is_err()), self.path.display());
        signal.state().broken = self.broken;
        match written {
            Ok(()) if was_broken => tracing::info!(%file, "quota counts are written again"),
            Ok(()) => {}
            Err(error) => {
                tracing::error!(%error, %file, "cannot write quota counts: a restart would lose them");
                counts.unwritten(&changes);
                signal.state().changed = true;
            }
        }
        more
    }

    fn write(&mut self, changes: &[(CountKey, u32)], counts: &Counts, clock: &dyn Clock) -> io::Result<()> {
        self.appended += changes.len();
        if self.appended > LINES_MIN {
            let all = counts.all(clock.wall());
            if self.appended > 4 * all.len() {
                self.file = write_anew(&self.path, self.keys, &all)?;
                self.appended = 0;
                return Ok(());
            }
        }
        // A failed write may have left half a line. The empty line after it marks that line as not valid.
        let mut text = String::from(if self.broken { "\n\n" } else { "" });
        lines(&mut text, changes);
        self.file.write_all(text.as_bytes())?;
        self.file.sync_data()
    }
}

fn write_anew(path: &Path, Keys(keys): Keys, counts: &[(CountKey, u32)]) -> io::Result<File> {
    let fresh = path.with_extension("new");
    let mut file = private().create(true).write(true).truncate(true).open(&fresh)?;
    let mut text = format!("{FIRST_LINE} {:016x}{:016x}\n", keys[0], keys[1]);
    lines(&mut text, counts);
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    std::fs::rename(&fresh, path)?;
    if let Some(directory) = path.parent() {
        File::open(directory)?.sync_all()?;
    }
    OpenOptions::new().append(true).open(path)
}

/// Options for a file that only its owner can read.
fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}

fn lines(text: &mut String, counts: &[(CountKey, u32)]) {
    for ((key, span), count) in counts {
        let line = format!("{key:032x} {} {} {count}", span.start, span.end);
        let _ = writeln!(text, "{line} {:08x}", crc32fast::hash(line.as_bytes()));
    }
}

/// The key and counts of a file, or the number of the unreadable line.
fn read(text: &str) -> Result<(Keys, HashMap<CountKey, u32>), usize> {
    let mut all = text.split('\n').enumerate();
    let first = all.next().and_then(|(_, line)| line.strip_prefix(FIRST_LINE)).map(str::trim).unwrap_or_default();
    let half = |range: std::ops::Range<usize>| first.get(range).and_then(|hex| u64::from_str_radix(hex, 16).ok());
    let (Some(one), Some(two), 32) = (half(0..16), half(16..32), first.len()) else { return Err(1) };
    let (mut counts, mut torn) = (HashMap::new(), None);
    for (number, line) in all {
        match (line, torn) {
            ("", _) => torn = None,
            (_, Some(number)) => return Err(number),
            (line, None) => match read_line(line) {
                Some((key, count)) => drop(counts.insert(key, count)),
                None => torn = Some(number + 1),
            },
        }
    }
    Ok((Keys([one, two]), counts))
}

fn read_line(line: &str) -> Option<(CountKey, u32)> {
    let (content, sum) = line.rsplit_once(' ')?;
    if u32::from_str_radix(sum, 16).ok()? != crc32fast::hash(content.as_bytes()) {
        return None;
    }
    let mut words = content.split(' ');
    let key = u128::from_str_radix(words.next()?, 16).ok()?;
    let span = Span { start: words.next()?.parse().ok()?, end: words.next()?.parse().ok()? };
    Some(((key, span), words.next()?.parse().ok()?))
}

#[cfg(test)]
#[path = "quota_journal_tests.rs"]
mod tests;
