use super::super::rule::{Period, Quota};
use super::*;
use crate::mail::SystemClock;
use std::num::NonZeroU32;

const SPAN: Span = Span { start: 0, end: i64::MAX / 2 };
const KEYS: Keys = Keys([0x0123, 0x4567]);

fn take(counts: &Counts, key: u128) {
    let quota = Quota { amount: NonZeroU32::MAX, per: Period::Day };
    counts.take(&quota, (key, SPAN), NonZeroU32::MIN, SystemClock.wall(), None).unwrap();
}

/// Opens the directory, counts the keys, stops the writer as an orderly exit does, and returns the content of the file.
fn count(directory: &Path, keys: &[u128]) -> String {
    let stored = open(directory, KEYS).unwrap();
    let counts = Arc::new(Counts::new(1_000, stored.counts));
    let keeper = JournalWriter::start(stored.file, Arc::clone(&counts), Arc::new(SystemClock));
    for key in keys {
        take(&counts, *key);
        keeper.wake();
    }
    drop(keeper);
    std::fs::read_to_string(directory.join(FILE)).unwrap()
}

fn counted(directory: &Path, key: u128) -> Option<u32> {
    open(directory, Keys([9, 9])).unwrap().counts.get(&(key, SPAN)).copied()
}

#[test]
fn counts_and_the_key_of_their_hash_survive_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let directory = &directory.path().join("made");
    count(directory, &[1, 1, 2]);
    let text = count(directory, &[1]);
    assert_eq!([counted(directory, 1), counted(directory, 2), counted(directory, 3)], [Some(3), Some(1), None]);
    assert!(text.starts_with("gatepost quotas 1 00000000000001230000000000004567\n"), "{text}");
    #[cfg(unix)]
    {
        let mode = std::os::unix::fs::PermissionsExt::mode(&directory.join(FILE).metadata().unwrap().permissions());
        assert_eq!(mode & 0o777, 0o600);
    }
}

#[test]
fn a_file_cut_at_any_octet_loses_no_more_than_its_last_line() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    count(directory, &[1, 2, 3]);
    // Rewritten at the start, so that every count has one line.
    let text = count(directory, &[]);
    let first = text.find('\n').unwrap() + 1;
    for cut in first..=text.len() {
        std::fs::write(directory.join(FILE), &text[..cut]).unwrap();
        let whole = text[first..cut].matches('\n').count();
        let left = open(directory, KEYS).unwrap().counts.len();
        assert!(left == whole || left == whole + 1, "cut at {cut}: {left} of {whole}");
    }
}

#[test]
fn an_unreadable_line_is_reported_with_its_number() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    let text = count(directory, &[1, 2, 3]);
    let line = text.lines().nth(1).unwrap();
    for (name, bad, want) in [
        ("empty", String::new(), Some(1)),
        ("another version", text.replacen("quotas 1", "quotas 2", 1), Some(1)),
        ("a digit changed", text.replacen(line, &line.replace(" 1 ", " 2 "), 1), Some(2)),
        ("half a line, marked as not valid", format!("{}\n\n{line}\n", &text[..text.len() - 9]), None),
    ] {
        std::fs::write(directory.join(FILE), bad).unwrap();
        let got = match open(directory, KEYS) {
            Err(StateError::Unreadable { line, .. }) => Some(line),
            Err(error) => panic!("{name}: {error}"),
            Ok(_) => None,
        };
        assert_eq!(got, want, "{name}");
    }
}

#[test]
fn two_processes_do_not_count_in_one_file() {
    let directory = tempfile::tempdir().unwrap();
    let held = open(directory.path(), KEYS).unwrap();
    assert!(matches!(open(directory.path(), KEYS), Err(StateError::InUse(_))));
    drop(held);
    assert!(open(directory.path(), KEYS).is_ok());
}

#[test]
fn the_size_of_the_file_is_bounded() {
    let directory = tempfile::tempdir().unwrap();
    let stored = open(directory.path(), KEYS).unwrap();
    let (counts, mut file) = (Counts::new(1_000, stored.counts), stored.file);
    for _ in 0..3 * LINES_MIN {
        take(&counts, 1);
        let changes = counts.changes();
        // The lines of this many writes, without waiting for the disk.
        file.appended += changes.len();
        let mut text = String::new();
        lines(&mut text, &changes);
        file.file.write_all(text.as_bytes()).unwrap();
    }
    take(&counts, 1);
    file.write(&counts.changes(), &counts, &SystemClock).unwrap();
    drop(file);
    assert_eq!(std::fs::read_to_string(directory.path().join(FILE)).unwrap().lines().count(), 2);
    assert_eq!(counted(directory.path(), 1), Some(u32::try_from(3 * LINES_MIN + 1).unwrap()));
}

#[test]
fn a_failing_disk_loses_no_counts_once_it_works_again() {
    let directory = tempfile::tempdir().unwrap();
    let stored = open(directory.path(), KEYS).unwrap();
    let (counts, mut file) = (Counts::new(1_000, stored.counts), stored.file);
    let good = file.file.try_clone().unwrap();
    // A file that is open for reading only: every write to it fails.
    file.file = File::open(directory.path().join(FILE)).unwrap();
    let signal = WriteSignal::default();
    signal.state().ended = true;
    take(&counts, 1);
    file.write_next(&signal, &counts, &SystemClock);
    take(&counts, 2);
    file.file = good;
    file.write_next(&signal, &counts, &SystemClock);
    drop(file);
    assert_eq!([counted(directory.path(), 1), counted(directory.path(), 2)], [Some(1), Some(1)]);
}
