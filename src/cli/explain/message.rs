//! The message to explain: a file, or one that is made of `--from`, of `--mail-from`, or of what the application may use.

use super::Arguments;
use crate::cli::exit::{Exit, Failure};
use crate::mail::{Clock, Mailbox, SystemClock, trace};
use crate::policy::{self, AddressPattern};
use std::io::Read;
use std::path::Path;

/// A message and its reverse-path.
pub(super) struct Message {
    pub(super) octets: Vec<u8>,
    pub(super) reverse_path: String,
    /// How From was chosen, if none was given.
    pub(super) derived: Option<String>,
}

const CHOICES: &str = "give --from FIELD or --mail-from ADDRESS for a test message, or --file message.eml";

/// The message that the arguments speak of. `app`: whose patterns From may be derived from.
pub(super) fn read(arguments: &Arguments, app: Option<&policy::App>) -> Result<Message, Failure> {
    let wrong = |text: &str| Failure::new(Exit::Usage, text);
    if let Some(path) = &arguments.message {
        let octets = of_file(path)?;
        let reverse_path = arguments.mail_from.clone().or_else(|| address_of(&from_field(&octets)?));
        let reverse_path = reverse_path.ok_or_else(|| {
            wrong("the message has no From field that can be parsed")
                .with_hint("give the reverse-path with --mail-from")
        })?;
        return Ok(Message { octets, reverse_path, derived: None });
    }
    let (from, derived) = match (arguments.from.as_ref().or(arguments.mail_from.as_ref()), app) {
        (Some(from), _) => (from.clone(), None),
        (None, Some(app)) => {
            let (mailbox, told) = instance(app).ok_or_else(|| {
                let patterns: Vec<String> = app.from.iter().map(ToString::to_string).collect();
                let patterns = patterns.join(", ");
                wrong(&format!("no address can be derived from the patterns of {} ({patterns})", app.name))
                    .with_hint(CHOICES)
            })?;
            (mailbox.to_string(), Some(told))
        }
        (None, None) => return Err(wrong("there is no message to explain").with_hint(CHOICES)),
    };
    let reverse_path = arguments.mail_from.clone().or_else(|| address_of(&from));
    let reverse_path = reverse_path.ok_or_else(|| {
        wrong("--from has no address that can be parsed")
            .with_hint("such as 'Shop <shop@example.com>', or give --mail-from")
    })?;
    Ok(Message { octets: made(&from), reverse_path, derived })
}

/// An address that the application may use, and how it was found: an exact one of its patterns if there is one.
fn instance(app: &policy::App) -> Option<(Mailbox, String)> {
    let texts: Vec<String> = app.from.iter().map(ToString::to_string).collect();
    if let Some(exact) = texts.iter().find(|text| !text.contains('*')) {
        return Some((Mailbox::parse(exact).ok()?, format!("{exact}, the first exact address of from")));
    }
    app.from.iter().zip(&texts).find_map(|(pattern, text)| {
        let mailbox = of_pattern(pattern, text)?;
        let told = format!("{mailbox}, made from the pattern {text}");
        Some((mailbox, told))
    })
}

/// `*@example.com`: `test@example.com`; `billing+*@…`: `billing+1@…`; `*@*.example.com`: `test@sub.example.com`. Of `*@*`
/// nothing sensible can be made.
fn of_pattern(pattern: &AddressPattern, text: &str) -> Option<Mailbox> {
    let (local, domain) = text.rsplit_once('@')?;
    let domain = match domain.strip_prefix("*.") {
        Some(parent) => format!("sub.{parent}"),
        None if domain == "*" => return None,
        None => domain.to_owned(),
    };
    let local = if local == "*" { "test".to_owned() } else { local.replace('*', "1") };
    let mailbox = Mailbox::parse(&format!("{local}@{domain}")).ok()?;
    pattern.matches(&mailbox).then_some(mailbox)
}

/// A file as clients send it: one with LF alone is a file of this system, and SMTP clients make its line ends CR LF.
fn of_file(path: &Path) -> Result<Vec<u8>, Failure> {
    let octets = if path == Path::new("-") {
        let mut octets = Vec::new();
        let read = std::io::stdin().lock().read_to_end(&mut octets);
        read.map_err(|error| Failure::new(Exit::Io, format!("cannot read the message: {error}")))?;
        octets
    } else {
        std::fs::read(path).map_err(|error| Failure::reading(path, &error))?
    };
    if octets.contains(&b'\r') {
        return Ok(octets);
    }
    let mut wire = Vec::with_capacity(octets.len() + octets.len() / 32);
    for line in octets.split_inclusive(|octet| *octet == b'\n') {
        match line.strip_suffix(b"\n") {
            Some(line) => wire.extend([line, b"\r\n"].concat()),
            None => wire.extend_from_slice(line),
        }
    }
    Ok(wire)
}

/// A small message that lacks nothing.
fn made(from: &str) -> Vec<u8> {
    let date = trace::rfc5322_date(SystemClock.wall());
    let header = format!("From: {from}\r\nSubject: A question\r\nDate: {date}\r\nMessage-ID: <1@gatepost.invalid>\r\n");
    format!("{header}\r\nA question.\r\n").into_bytes()
}

/// The From field of a message.
fn from_field(message: &[u8]) -> Option<String> {
    let header = String::from_utf8_lossy(message);
    let header = header.split("\r\n\r\n").next().unwrap_or_default().replace("\r\n ", " ").replace("\r\n\t", " ");
    let is_from = |line: &&str| line.get(..5).is_some_and(|name| name.eq_ignore_ascii_case("From:"));
    header.lines().find(is_from).map(|line| line[5..].to_owned())
}

/// The first address of a From field.
fn address_of(field: &str) -> Option<String> {
    crate::mail::author::parse(field.as_bytes()).ok()?.first().map(|author| author.mailbox.to_string())
}
