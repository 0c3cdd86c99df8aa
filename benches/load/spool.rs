//! Mail that is kept: durable acceptance beside Postfix, and the rate at which a queue is sent.
//!
//! Both servers write to the same file system, flush before each 250, and send nothing meanwhile: gatepost cannot reach SES, Postfix
//! holds what it accepts. Every acceptance is counted in their queues afterwards.

use crate::contest::{Contest, Entry, Stage, Subject, contest, plain, round};
use crate::drive::{LimitKey, Load, Smtp};
use crate::postfix::Postfix;
use crate::processes::Place;
use crate::relay::{Relay, Settings, Workshop};
use crate::row::{Results, Row, Target};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const OCTETS: usize = 10_000;

/// Runs all measurements.
pub(crate) fn run(
    workshop: &mut Workshop,
    stage: &mut Stage,
    postfix: Option<&Path>,
    (seconds, rounds, queued): (f64, usize, u64),
) -> io::Result<Results> {
    let (mut rows, mut contests) = (Vec::new(), Vec::new());
    accepts(workshop, stage, postfix, (seconds, rounds), &mut rows, &mut contests)?;
    rows.push(drain(workshop, stage, (seconds, rounds, queued), &mut contests)?);
    Ok((rows, contests))
}

/// Nothing listens there.
const NO_ENDPOINT: &str = "http://127.0.0.1:9";

fn settings(spool: PathBuf) -> Settings {
    Settings { log: true, metrics: true, spool: Some(spool), ..Settings::bare() }
}

fn accepts(
    workshop: &mut Workshop,
    stage: &mut Stage,
    postfix: Option<&Path>,
    (seconds, rounds): (f64, usize),
    rows: &mut Vec<Row>,
    contests: &mut Vec<(String, Contest)>,
) -> io::Result<()> {
    let spool = workshop.directory().join("spool");
    let relay = workshop.start(&settings(spool), NO_ENDPOINT, &Place::default())?;
    let postfix =
        postfix.map(|unpacked| Postfix::start(unpacked, &workshop.directory().join("postfix"))).transpose()?;
    for connections in [16, 128] {
        let name = format!("Kept, {} KB, C={connections}, flushed", OCTETS / 1_000);
        println!("\n{name}");
        let load = plain(&relay, connections, OCTETS, seconds);
        let mut entries = vec![Entry { name: "gatepost", subject: Subject::Keeper(relay.process.id()), load }];
        if let Some(postfix) = &postfix {
            let by = LimitKey::Smtp(Smtp::plain(postfix.server, 0));
            let load = Load::closed(by, connections, OCTETS, seconds);
            entries.push(Entry { name: "Postfix", subject: Subject::Keeper(postfix.id()), load });
        }
        let done = contest(stage, rounds, &entries)?;
        print!("{done}");
        let rate = done.median(0, |round| round.report.rate());
        rows.push(Row::shown(&format!("kept, C={connections}: accepted and flushed"), rate, "/s"));
        if postfix.is_some() {
            let row = |what: &str, target, measured| Row {
                what: format!("kept, C={connections}: {what} / Postfix's"),
                target,
                goal: None,
                measured,
                unit: "×",
            };
            rows.push(row("rate", Target::AtLeast(3.0), done.ratio(0, 1, |round| round.report.rate())));
            rows.push(row("CPU", Target::AtMost(0.25), done.ratio(0, 1, |round| round.cpu)));
        }
        contests.push((name, done));
    }
    if let Some(postfix) = postfix {
        let rounds = contests.iter().flat_map(|(_, done)| &done.rounds[1]);
        let (accepted, held) = (rounds.map(|round| round.report.accepted).sum::<u64>(), postfix.held()?);
        // It has those of the warm-up too.
        if held < accepted {
            return Err(io::Error::other(format!("Postfix accepted {accepted} messages and has {held}")));
        }
        postfix.stop()?;
    }
    relay.process.stop()
}

/// Fills a queue while SES cannot be reached, then starts the relay again with SES and watches the queue leave.
fn drain(
    workshop: &mut Workshop,
    stage: &mut Stage,
    (seconds, rounds, queued): (f64, usize, u64),
    contests: &mut Vec<(String, Contest)>,
) -> io::Result<Row> {
    let name = "Sending a queue";
    println!("\n{name} of {queued} messages");
    let settings = settings(workshop.directory().join("spool-to-send"));
    let relay = workshop.start(&settings, NO_ENDPOINT, &Place::default())?;
    let load = Load { messages_max: Some(queued), ..plain(&relay, 128, OCTETS, 0.0) };
    let filled = round(stage, &Entry { name: "gatepost", subject: Subject::Keeper(relay.process.id()), load })?;
    if filled.report.accepted != queued {
        return Err(io::Error::other(format!("{name}: filled with {:?}", filled.report)));
    }
    relay.process.stop()?;

    let endpoint = stage.ses.endpoint()?;
    let handing_off = workshop.start(&Settings { spool: None, ..settings.clone() }, &endpoint, &Place::default())?;
    let before = hand_off(stage, &handing_off, seconds, rounds)?;
    let accepted_before = stage.ses.count("accepted")?;
    let relay = workshop.start(&settings, &endpoint, &Place::default())?;
    // Without the first, which wait for connections, and the last few, which failed while the queue was filled and wait for that reason.
    let (first, last) = (queued / 20, queued - queued / 20);
    let mut began = None;
    let ends = Instant::now() + Duration::from_secs(600);
    let rate = loop {
        let sent = stage.ses.count("accepted")? - accepted_before;
        match began {
            None if sent >= first => began = Some((Instant::now(), sent)),
            Some((since, at)) if sent >= last => {
                break (sent - at) as f64 / Instant::now().duration_since(since).as_secs_f64();
            }
            _ if Instant::now() > ends => {
                return Err(io::Error::other(format!("{name}: {sent} of {queued} were sent")));
            }
            _ => std::thread::sleep(Duration::from_millis(20)),
        }
    };
    while stage.ses.count("accepted")? - accepted_before < queued {
        if Instant::now() > ends {
            return Err(io::Error::other(format!("{name}: the last ones were not sent")));
        }
        std::thread::sleep(Duration::from_millis(200));
    }
    relay.process.stop()?;
    let after = hand_off(stage, &handing_off, seconds, rounds)?;
    let handed_off =
        |done: &Contest| (0..2).map(|subject| done.median(subject, |round| round.report.rate())).fold(0.0, f64::max);
    let of_hand_off = rate / f64::midpoint(handed_off(&before), handed_off(&after));
    println!("  the queue: {rate:.0}/s");
    contests.extend([("Hand-off before".to_owned(), before), ("Hand-off after".to_owned(), after)]);
    handing_off.process.stop()?;
    Ok(Row {
        what: format!("sending {queued} kept messages: rate / hand-off's"),
        target: Target::AtLeast(0.8),
        goal: None,
        measured: of_hand_off,
        unit: "×",
    })
}

fn hand_off(stage: &mut Stage, relay: &Relay, seconds: f64, rounds: usize) -> io::Result<Contest> {
    let entry = |connections| Entry::relay("hand-off", relay, plain(relay, connections, OCTETS, seconds));
    let done = contest(stage, rounds, &[entry(16), entry(128)])?;
    print!("{done}");
    Ok(done)
}
