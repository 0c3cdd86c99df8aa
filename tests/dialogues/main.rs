//! Golden dialogues: every file of `tests/transcripts`, with the octets divided in every way that a network may.

// A test that cannot go on says so by panicking, in its helpers too.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod properties;
mod settings;
mod transcript;
mod without_io;

use transcript::{Transcript, all as transcripts};
use without_io::Cut;

/// Reports every failure, not only the first.
fn play_all(transcripts: &[Transcript], cut: Cut) {
    let failures: Vec<String> = transcripts.iter().filter_map(|one| without_io::play(one, cut).err()).collect();
    assert!(failures.is_empty(), "{} of {} failed:\n{}", failures.len(), transcripts.len(), failures.join("\n"));
}

#[test]
fn dialogues_as_they_are_written() {
    play_all(&transcripts(), Cut::Whole);
}

#[test]
fn dialogues_octet_by_octet() {
    play_all(&transcripts(), Cut::Octets);
}

#[test]
fn pipelined_dialogues_in_as_few_writes_as_possible() {
    let pipelined: Vec<Transcript> = transcripts().into_iter().filter(|one| one.pipelined).collect();
    assert!(pipelined.len() >= 20, "only {} dialogues are marked", pipelined.len());
    play_all(&pipelined, Cut::Joined);
}

/// The same files are played over a socket, but for those that need power over time; these must stay few.
#[test]
fn most_dialogues_need_no_power_over_time() {
    let transcripts = transcripts();
    let bare_only = transcripts.iter().filter(|one| one.is_for_a_bare_session_only()).count();
    assert!(bare_only * 4 < transcripts.len(), "{bare_only} of {}", transcripts.len());
}
