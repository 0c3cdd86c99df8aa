//! Dialogues as text: how `tests/transcripts/*.smtp` are read. Knows no driver and nothing of the server.
//!
//! Strict: an unknown directive, setting or escape is a failure, so that a typing error cannot make a test pass.
//!
//! ```text
//! # the story, with the section of the RFC                            (first line)
//! # listener: auth=required tls=starttls require_tls errors_max=3      (what the listener offers)
//! # answer: RCPT <bad@b.example> 550 5.7.1 Not here                    (what the caller answers, once; otherwise it accepts)
//! # pipelined                                                          (may also be played in as few writes as possible)
//! C: EHLO client.example       the client sends this line and CR LF
//! C| half a line\r             the client sends these octets; \r \n \0 \\ \xHH, and \{300*text} for repetition
//! S: 250-…                     any number of continuation lines
//! S: 250 AUTH …                a reply line; … stands for any rest
//! T: +300s                     time passes                             (bare session only)
//! DRAIN                        the service begins to shut down         (bare session only)
//! TLS                          the handshake is done
//! X                            the client cuts the connection
//! CLOSED                       the server has closed; a dialogue without it ends with an open session
//! M: <ann@a.example> <bob@b.example> <cy@c.example>                    a message that was accepted: reverse-path, forward-paths
//! M| Subject: x\r\n            its content, as octets; several lines are put together
//! M: none                      no message was accepted
//! ```

use std::path::Path;
use std::time::Duration;

/// All dialogues, by name.
pub(crate) fn all() -> Vec<Transcript> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/transcripts");
    let mut transcripts: Vec<Transcript> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| {
            assert_eq!(path.extension().and_then(|end| end.to_str()), Some("smtp"), "{}", path.display());
            let text = std::fs::read_to_string(&path).unwrap();
            let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
            Transcript::parse(&name, &text).unwrap_or_else(|error| panic!("{error}"))
        })
        .collect();
    transcripts.sort_by(|one, other| one.name.cmp(&other.name));
    transcripts
}

/// One dialogue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Transcript {
    /// The file name without its ending.
    pub(crate) name: String,
    /// What the listener offers.
    pub(crate) settings: ListenerSettings,
    /// What the caller answers instead of accepting. Each answers one question.
    pub(crate) answers: Vec<ScriptedAnswer>,
    /// Whether the client's octets may also be sent in as few pieces as possible.
    pub(crate) pipelined: bool,
    /// The dialogue.
    pub(crate) steps: Vec<Step>,
    /// The messages that were accepted, in their order.
    pub(crate) messages: Vec<Message>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// The client sends these octets.
    Client(Vec<u8>),
    /// The server sends a line that fits.
    Server(Pattern),
    /// Time passes.
    Pass(Duration),
    /// The service begins to shut down.
    Drain,
    /// The TLS handshake takes place.
    Tls,
    /// The client cuts the connection.
    Cut,
    /// The server has closed.
    Closed,
}

/// What a reply line must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Pattern {
    /// Exactly this.
    Line(String),
    /// A line that begins like this.
    Prefix(String),
    /// Any number of lines that begin like this, up to one that the next pattern fits.
    Group(String),
}

impl Pattern {
    pub(crate) fn fits(&self, line: &str) -> bool {
        match self {
            Self::Line(text) => line == text,
            Self::Prefix(start) | Self::Group(start) => line.starts_with(start.as_str()),
        }
    }
}

/// `None`: the server's default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ListenerSettings {
    pub(crate) tls: Tls,
    pub(crate) require_tls: bool,
    pub(crate) auth: Auth,
    pub(crate) auth_in_clear: bool,
    pub(crate) normalize: bool,
    pub(crate) message_octets_max: Option<u64>,
    pub(crate) recipients_max: Option<u64>,
    pub(crate) transactions_max: Option<u64>,
    pub(crate) commands_max: Option<u64>,
    pub(crate) errors_max: Option<u64>,
    pub(crate) auth_failures_max: Option<u64>,
    pub(crate) session_seconds_max: Option<u64>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Tls {
    #[default]
    None,
    OnRequest,
    Implicit,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Auth {
    #[default]
    Off,
    Optional,
    Required,
    Any,
}

/// A refusal by the caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ScriptedAnswer {
    pub(crate) to: AskedAbout,
    pub(crate) code: u16,
    pub(crate) status: (u8, u16, u16),
    pub(crate) text: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum AskedAbout {
    /// AUTH with this name.
    Auth(String),
    /// MAIL with this reverse-path, in angle brackets.
    Mail(String),
    /// RCPT with this forward-path, in angle brackets.
    Rcpt(String),
    /// DATA or the first BDAT.
    Data,
    /// The end of data.
    Commit,
}

/// A message that was accepted.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Message {
    /// In angle brackets.
    pub(crate) reverse_path: String,
    /// In angle brackets.
    pub(crate) forward_paths: Vec<String>,
    pub(crate) content: Vec<u8>,
}

/// As a file has it.
impl std::fmt::Debug for Message {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "M: {} {} / M| {}", self.reverse_path, self.forward_paths.join(" "), self.content.escape_ascii())
    }
}

impl Transcript {
    /// Whether a driver without power over time and the service can play it.
    pub(crate) fn is_for_a_bare_session_only(&self) -> bool {
        self.steps.iter().any(|step| matches!(step, Step::Pass(_) | Step::Drain))
    }

    /// Reads a dialogue; the error says where it is wrong.
    pub(crate) fn parse(name: &str, text: &str) -> Result<Self, String> {
        let mut transcript = Self {
            name: name.to_owned(),
            settings: ListenerSettings::default(),
            answers: Vec::new(),
            pipelined: false,
            steps: Vec::new(),
            messages: Vec::new(),
        };
        let directive = |line: &str| ["# listener:", "# answer:", "# pipelined"].iter().any(|d| line.starts_with(d));
        if !text.lines().next().is_some_and(|line| line.starts_with("# ") && !directive(line)) {
            return Err(format!("{name}:1: the first line tells the story"));
        }
        let mut says_which_messages = false;
        for (place, line) in text.lines().enumerate().skip(1) {
            let at = |error: String| format!("{name}:{}: {error}: {line}", place + 1);
            if let Some(rest) = line.strip_prefix("M: ") {
                if says_which_messages && (rest == "none" || transcript.messages.is_empty()) {
                    return Err(at("either messages or none".into()));
                }
                says_which_messages = true;
                if rest != "none" {
                    transcript.messages.push(envelope(rest).map_err(at)?);
                }
            } else if let Some(octets) = line.strip_prefix("M| ") {
                let message = transcript.messages.last_mut().ok_or_else(|| at("content without a message".into()))?;
                message.content.extend(unescape(octets).map_err(at)?);
            } else if says_which_messages {
                return Err(at("messages stand at the end".into()));
            } else if let Some(directive) = line.strip_prefix("# ") {
                transcript.directive(directive).map_err(at)?;
            } else if !line.is_empty() {
                transcript.steps.push(step(line).map_err(at)?);
            }
        }
        if says_which_messages { Ok(transcript) } else { Err(format!("{name}: no M: line")) }
    }

    fn directive(&mut self, directive: &str) -> Result<(), String> {
        if let Some(words) = directive.strip_prefix("listener: ") {
            words.split(' ').try_for_each(|word| self.settings.set(word))
        } else if let Some(answer) = directive.strip_prefix("answer: ") {
            self.answers.push(scripted_answer(answer).ok_or("unreadable answer")?);
            Ok(())
        } else if directive == "pipelined" {
            self.pipelined = true;
            Ok(())
        } else {
            Err("unknown directive".into())
        }
    }
}

impl ListenerSettings {
    fn set(&mut self, word: &str) -> Result<(), String> {
        let (name, value) = word.split_once('=').unwrap_or((word, ""));
        let number = || value.parse().map(Some).map_err(|_| format!("{name} wants a number"));
        match (name, value) {
            ("tls", "none") => self.tls = Tls::None,
            ("tls", "starttls") => self.tls = Tls::OnRequest,
            ("tls", "implicit") => self.tls = Tls::Implicit,
            ("auth", "off") => self.auth = Auth::Off,
            ("auth", "optional") => self.auth = Auth::Optional,
            ("auth", "required") => self.auth = Auth::Required,
            ("auth", "any") => self.auth = Auth::Any,
            ("require_tls", "") => self.require_tls = true,
            ("auth_in_clear", "") => self.auth_in_clear = true,
            ("normalize", "") => self.normalize = true,
            ("message_octets_max", _) => self.message_octets_max = number()?,
            ("recipients_max", _) => self.recipients_max = number()?,
            ("transactions_max", _) => self.transactions_max = number()?,
            ("commands_max", _) => self.commands_max = number()?,
            ("errors_max", _) => self.errors_max = number()?,
            ("auth_failures_max", _) => self.auth_failures_max = number()?,
            ("session_seconds_max", _) => self.session_seconds_max = number()?,
            _ => return Err(format!("unknown setting {word}")),
        }
        Ok(())
    }
}

fn step(line: &str) -> Result<Step, String> {
    match line {
        "TLS" => return Ok(Step::Tls),
        "X" => return Ok(Step::Cut),
        "CLOSED" => return Ok(Step::Closed),
        "DRAIN" => return Ok(Step::Drain),
        "C:" => return Ok(Step::Client(b"\r\n".to_vec())),
        _ => {}
    }
    if let Some(text) = line.strip_prefix("C: ") {
        Ok(Step::Client([text.as_bytes(), b"\r\n"].concat()))
    } else if let Some(octets) = line.strip_prefix("C| ") {
        Ok(Step::Client(unescape(octets)?))
    } else if let Some(text) = line.strip_prefix("S: ") {
        Ok(Step::Server(match text.strip_suffix('…') {
            Some(group) if group.len() == 4 && group.ends_with('-') => Pattern::Group(group.to_owned()),
            Some(start) => Pattern::Prefix(start.to_owned()),
            None => Pattern::Line(text.to_owned()),
        }))
    } else if let Some(time) = line.strip_prefix("T: +") {
        let seconds = time.strip_suffix('s').and_then(|seconds| seconds.parse().ok());
        Ok(Step::Pass(Duration::from_secs(seconds.ok_or("unreadable time")?)))
    } else {
        Err("unknown directive".into())
    }
}

fn envelope(line: &str) -> Result<Message, String> {
    let mut paths = line.split(' ').map(str::to_owned);
    let reverse_path = paths.next().unwrap_or_default();
    let forward_paths: Vec<String> = paths.collect();
    let bracketed = |path: &String| path.starts_with('<') && path.ends_with('>');
    if forward_paths.is_empty() || !bracketed(&reverse_path) || !forward_paths.iter().all(bracketed) {
        return Err("a message has a reverse-path and forward-paths, all in angle brackets".into());
    }
    Ok(Message { reverse_path, forward_paths, content: Vec::new() })
}

fn scripted_answer(line: &str) -> Option<ScriptedAnswer> {
    let (verb, rest) = line.split_once(' ')?;
    let (about, reply) = match verb {
        "DATA" | "COMMIT" => ("", rest),
        _ => rest.split_once(' ')?,
    };
    let to = match verb {
        "AUTH" => AskedAbout::Auth(about.to_owned()),
        "MAIL" => AskedAbout::Mail(about.to_owned()),
        "RCPT" => AskedAbout::Rcpt(about.to_owned()),
        "DATA" => AskedAbout::Data,
        "COMMIT" => AskedAbout::Commit,
        _ => return None,
    };
    let mut words = reply.splitn(3, ' ');
    let code = words.next()?.parse().ok()?;
    let mut digits = words.next()?.split('.');
    let status = (digits.next()?.parse().ok()?, digits.next()?.parse().ok()?, digits.next()?.parse().ok()?);
    Some(ScriptedAnswer { to, code, status, text: words.next()?.to_owned() })
}

/// `\r \n \0 \\ \xHH`, and `\{300*text}`, whose text may have escapes of the first kind.
fn unescape(text: &str) -> Result<Vec<u8>, String> {
    let mut octets = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        octets.extend_from_slice(&rest.as_bytes()[..at]);
        let escape = &rest[at + 1..];
        let used = match escape.bytes().next() {
            Some(b'r') => push(&mut octets, b"\r"),
            Some(b'n') => push(&mut octets, b"\n"),
            Some(b'0') => push(&mut octets, b"\0"),
            Some(b'\\') => push(&mut octets, b"\\"),
            Some(b'x') => {
                let digits = escape.get(1..3).ok_or("\\x wants two digits")?;
                octets.push(u8::from_str_radix(digits, 16).map_err(|_| "\\x wants two digits")?);
                3
            }
            Some(b'{') => {
                let inside = escape[1..].split_once('}').ok_or("\\{ without }")?.0;
                let (times, text) = inside.split_once('*').ok_or("\\{ wants times*text")?;
                let times: usize = times.parse().map_err(|_| "\\{ wants times*text")?;
                octets.extend(unescape(text)?.repeat(times));
                inside.len() + 2
            }
            _ => return Err("unknown escape".into()),
        };
        rest = &escape[used..];
    }
    octets.extend_from_slice(rest.as_bytes());
    Ok(octets)
}

fn push(octets: &mut Vec<u8>, what: &[u8]) -> usize {
    octets.extend_from_slice(what);
    1
}

#[test]
fn what_is_misspelt_is_refused() {
    let story = "# a story that is long enough\n";
    assert!(Transcript::parse("x", &format!("{story}C: QUIT\nM: none\n")).is_ok());
    for (name, text) in [
        ("no story", "C: QUIT\nM: none\n".to_owned()),
        ("no M", format!("{story}C: QUIT\n")),
        ("unknown step", format!("{story}Q: QUIT\nM: none\n")),
        ("unknown comment", format!("{story}# listner: tls=none\nM: none\n")),
        ("unknown setting", format!("{story}# listener: tls=yes\nM: none\n")),
        ("unknown escape", format!("{story}C| \\q\nM: none\n")),
        ("none beside a message", format!("{story}M: <> <b@b.example>\nM: none\n")),
        ("no brackets", format!("{story}M: a@a.example b@b.example\n")),
        ("step behind the messages", format!("{story}M: none\nC: QUIT\n")),
    ] {
        assert!(Transcript::parse("x", &text).is_err(), "{name}");
    }
    assert_eq!(unescape("a\\r\\n\\x2e\\{2*b\\0}c").unwrap(), b"a\r\n.b\0b\0c");
}
