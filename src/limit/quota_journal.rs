//! Where quotas survive a restart: one file, to which counts are appended.
//!
//! A line is a key, its period, the count as it is now, and a checksum; the last line of a key holds. Lines are on disk
//! within half a second of the counting, and sooner where more than a hundredth of a quota was taken meanwhile: what is
//! beyond waits for the disk. So a crash forgets a hundredth that is being written and one that is not yet, and a process
//! that crashes again and again cannot use a quota many times over. A torn last line is passed over; any
//! other that cannot be read is reported, because a quota would begin anew. One process at a time: the file beside it is
//! locked. What is over is left out when the file is written anew, at start and when it has grown.

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

/// Why counts cannot be kept.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StateError {
    /// Reading, writing or locking failed.
    #[error("quota counts: {path}: {error}")]
    Io {
        /// Which file.
        path: PathBuf,
        /// What went wrong.
        error: io::Error,
    },
    /// Another process has it.
    #[error("quota counts: {0} is in use by another process; each needs a state directory of its own")]
    InUse(PathBuf),
    /// Not a file of ours, or one of a later version.
    #[error("quota counts: {path}, line {line}, cannot be read: move the file away, and quotas begin anew")]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// Which line.
        line: usize,
    },
}

/// The thread that writes to the file.
#[derive(Debug)]
pub(super) struct JournalWriter {
    bell: Arc<WriteSignal>,
    thread: Option<JoinHandle<()>>,
}

/// How the thread hears that there is something to write.
#[derive(Debug, Default)]
struct WriteSignal {
    rung: Mutex<Signalled>,
    heard: Condvar,
    /// The changes so far are being written.
    began: Notify,
}

#[derive(Debug, Default)]
struct Signalled {
    changed: bool,
    /// Somebody waits for the disk.
    urgent: bool,
    /// The last write failed.
    broken: bool,
    ended: bool,
}

/// What was kept: the key of the hash, and the counts.
pub(super) struct Kept {
    pub(super) keys: Keys,
    pub(super) counts: HashMap<CountKey, u32>,
    pub(super) file: StateFile,
}

pub(super) struct StateFile {
    path: PathBuf,
    file: File,
    /// Held as long as the process counts.
    _lock: File,
    keys: Keys,
    /// Lines since it was written anew.
    appended: usize,
    /// The last write failed.
    broken: bool,
}

const FILE: &str = "quotas";
const LOCK: &str = "quotas.lock";
const FIRST_LINE: &str = "gatepost quotas 1";
/// How long a change waits for others before it is written down.
const GATHER: Duration = Duration::from_millis(400);
/// Of a quota, this part may be taken before it is written down.
const UNWRITTEN_PART: u32 = 100;
/// The longest wait for one write to begin.
const WRITE_MAX: Duration = Duration::from_secs(1);
/// After an error.
const RETRY: Duration = Duration::from_secs(1);
/// The file is written anew when it has this many lines, and four for each count.
const LINES_MIN: usize = 10_000;

/// Opens the counts of a directory, or begins them with that key.
pub(super) fn open(directory: &Path, fresh: Keys) -> Result<Kept, StateError> {
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
    let lines: Vec<(CountKey, u32)> = counts.iter().map(|(place, count)| (*place, *count)).collect();
    let file = write_anew(&path, keys, &lines).map_err(at(&path))?;
    Ok(Kept { keys, counts, file: StateFile { path, file, _lock: lock, keys, appended: 0, broken: false } })
}

/// The counts of a directory as they are now.
pub(super) fn read_only(directory: &Path, fresh: Keys) -> Result<(Keys, HashMap<CountKey, u32>), StateError> {
    let path = directory.join(FILE);
    match std::fs::read_to_string(&path) {
        Ok(text) => read(&text).map_err(|line| StateError::Unreadable { path, line }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok((fresh, HashMap::new())),
        Err(error) => Err(StateError::Io { path, error }),
    }
}

impl JournalWriter {
    /// Begins to write down what changes.
    pub(super) fn start(mut file: StateFile, counts: Arc<Counts>, clock: Arc<dyn Clock>) -> Self {
        let bell = Arc::new(WriteSignal::default());
        let heard = Arc::clone(&bell);
        let write = move || while file.keep(&heard, &counts, &*clock) {};
        let thread = std::thread::Builder::new().name("quotas".to_owned()).spawn(write);
        if let Err(error) = &thread {
            tracing::error!(%error, "quota counts will not survive a restart");
        }
        Self { bell, thread: thread.ok() }
    }

    /// Something was counted.
    pub(super) fn wake(&self) {
        let mut rung = self.bell.rung();
        if !std::mem::replace(&mut rung.changed, true) {
            self.bell.heard.notify_one();
        }
    }
}

impl JournalWriter {
    /// How much of a quota may be taken before it is written down; `None`: counts cannot be written, and the log says so.
    pub(super) fn unwritten_max(&self, quota: u32) -> Option<u32> {
        let is_written = self.thread.is_some() && !self.bell.rung().broken;
        is_written.then_some(quota / UNWRITTEN_PART)
    }

    /// Has the changes so far written at once, and waits until that begins.
    pub(super) async fn hurry(&self) {
        let began = self.bell.began.notified();
        {
            let mut rung = self.bell.rung();
            (rung.changed, rung.urgent) = (true, true);
            self.bell.heard.notify_one();
        }
        // A write that began before this call may be the one that is heard of; the caller asks again.
        let _ = tokio::time::timeout(WRITE_MAX, began).await;
    }
}

impl Drop for JournalWriter {
    /// What was counted last is written down before the process ends.
    fn drop(&mut self) {
        self.bell.rung().ended = true;
        self.bell.heard.notify_one();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl WriteSignal {
    fn rung(&self) -> MutexGuard<'_, Signalled> {
        self.rung.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a change, then a little for others. False: that was the last of them.
    fn wait(&self, gather: Duration) -> bool {
        let quiet = |rung: &mut Signalled| !rung.changed && !rung.ended;
        let rung = self.heard.wait_while(self.rung(), quiet).unwrap_or_else(PoisonError::into_inner);
        let gathered = self.heard.wait_timeout_while(rung, gather, |rung| !rung.ended && !rung.urgent);
        let (mut rung, _) = gathered.unwrap_or_else(PoisonError::into_inner);
        (rung.changed, rung.urgent) = (false, false);
        !rung.ended
    }
}

impl StateFile {
    /// Writes down the next changes. False: there will be no more.
    fn keep(&mut self, bell: &WriteSignal, counts: &Counts, clock: &dyn Clock) -> bool {
        let more = bell.wait(if self.broken { RETRY } else { GATHER });
        let changes = counts.changes();
        bell.began.notify_waiters();
        let written = self.write(&changes, counts, clock);
        let (was_broken, file) = (std::mem::replace(&mut self.broken, written.is_err()), self.path.display());
        bell.rung().broken = self.broken;
        match written {
            Ok(()) if was_broken => tracing::info!(%file, "quota counts are written down again"),
            Ok(()) => {}
            Err(error) => {
                tracing::error!(%error, %file, "quota counts cannot be written down; a restart would forget them");
                counts.unwritten(&changes);
                bell.rung().changed = true;
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
        // What failed may have left half a line; an empty one behind it says that nobody relied on it.
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

/// For nobody else's eyes.
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

/// Key and counts of a file, or the number of the line that cannot be read.
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
                Some((place, count)) => drop(counts.insert(place, count)),
                None => torn = Some(number + 1),
            },
        }
    }
    Ok((Keys([one, two]), counts))
}

fn read_line(line: &str) -> Option<(CountKey, u32)> {
    let (said, sum) = line.rsplit_once(' ')?;
    if u32::from_str_radix(sum, 16).ok()? != crc32fast::hash(said.as_bytes()) {
        return None;
    }
    let mut words = said.split(' ');
    let key = u128::from_str_radix(words.next()?, 16).ok()?;
    let span = Span { start: words.next()?.parse().ok()?, end: words.next()?.parse().ok()? };
    Some(((key, span), words.next()?.parse().ok()?))
}

#[cfg(test)]
#[path = "quota_journal_tests.rs"]
mod tests;
