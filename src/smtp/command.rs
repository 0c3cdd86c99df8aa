//! Parses command lines. RFC 5321 §4.1, with the extensions that this server offers.
//!
//! The input is one line without its CR LF. Deviations whose meaning is not in doubt are accepted: lower case, a space
//! after the colon, missing angle brackets, trailing spaces, any EHLO word. Everything else is refused.

use crate::mail::address::is_atext;
use crate::mail::{
    AddressError, BodyType, ForwardPath, MailParameters, Mailbox, Reply, ReversePath, UnreadablePath, replies,
};
use std::borrow::Cow;

/// A valid command. The session checks the order of commands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// `EHLO word`. The word is optional and may be any text.
    Ehlo(String),
    /// `HELO word`.
    Helo(String),
    /// `MAIL FROM:<…>`.
    Mail(ReversePath, MailParameters),
    /// `RCPT TO:<…>`.
    Rcpt(ForwardPath),
    /// `DATA`.
    Data,
    /// `BDAT octets [LAST]` (RFC 3030).
    Bdat {
        /// The number of octets of content that follow the line.
        octets: u64,
        /// Whether they are the end of the message.
        last: bool,
    },
    /// `RSET`.
    Rset,
    /// `NOOP [word]`.
    Noop,
    /// `VRFY word`.
    Vrfy,
    /// `EXPN word`.
    Expn,
    /// `HELP [word]`.
    Help,
    /// `QUIT`.
    Quit,
    /// `STARTTLS` (RFC 3207).
    StartTls,
    /// `AUTH mechanism [initial-response]` (RFC 4954).
    Auth {
        /// In upper case.
        mechanism: String,
        /// Base64, or `=` for an empty response. `None`: the client sends it after a challenge.
        initial_response: Option<String>,
    },
}

/// A line that is not a valid command, with the reply that states the reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadCommand {
    /// The reply for the client.
    pub reply: Reply,
    /// The chunk length of a refused BDAT line. The client sends the octets although the line is refused, and they must
    /// not be run as commands. `u64::MAX` if the length is unknown: then no further input of this connection can be a
    /// command.
    pub chunk_octets: Option<u64>,
}

impl BadCommand {
    /// A line of which only the verb can be read.
    pub fn verb_only(verb: &str, reply: Reply) -> Self {
        Self { reply, chunk_octets: (verb == "BDAT").then_some(u64::MAX) }
    }
}

impl From<Reply> for BadCommand {
    fn from(reply: Reply) -> Self {
        Self { reply, chunk_octets: None }
    }
}

/// Parses one line.
///
/// # Errors
/// [`BadCommand`].
pub fn parse(line: &[u8]) -> Result<Command, BadCommand> {
    // The verb is read first, so that an 8-bit octet in the argument of RCPT does not make the verb unknown.
    let line = trim_end(line);
    let verb_end = line.iter().position(|octet| *octet == b' ' || *octet == b'\t').unwrap_or(line.len());
    let verb = String::from_utf8_lossy(&line[..verb_end]).to_ascii_uppercase();
    let argument = trim_start(&line[verb_end..]);
    let Some((_, parse)) = VERBS.iter().find(|(name, _)| *name == verb) else {
        return Err(replies::UNKNOWN_COMMAND.into());
    };
    // Devices send a host name in Latin-1, or with a trailing NUL. The name decides nothing, so it is accepted.
    let hello = verb == "EHLO" || verb == "HELO";
    let argument = match std::str::from_utf8(argument) {
        Ok(text) => Cow::Borrowed(text),
        Err(_) if hello => String::from_utf8_lossy(argument),
        Err(_) => return Err(BadCommand::verb_only(&verb, replies::SYNTAX.with_cause("the line is not UTF-8"))),
    };
    if argument.chars().any(|c| c.is_control() && c != '\t' && !(hello && c == '\0')) {
        let reply = replies::SYNTAX.with_cause("the line contains a control character");
        return Err(BadCommand::verb_only(&verb, reply));
    }
    parse(&argument)
}

/// Parses an RCPT line whose local part has misplaced dots, such as `foo..bar` or `foo.`, as if the local part were
/// quoted. `None`: any other line.
pub fn parse_with_stray_dots(line: &[u8]) -> Option<Command> {
    let text = std::str::from_utf8(line).ok()?;
    let start = text.find('<').filter(|start| text[..*start].trim_end().to_ascii_uppercase().ends_with("TO:"))? + 1;
    let (local_part, rest) = text[start..].split_once('@')?;
    let stray = |octet: u8| octet == b'.' || is_atext(octet);
    if local_part.is_empty() || !local_part.bytes().all(stray) || rest.contains(['@', '"']) {
        return None;
    }
    let quoted = format!("{}\"{local_part}\"@{rest}", &text[..start]);
    parse(quoted.as_bytes()).ok().filter(|command| matches!(command, Command::Rcpt(_)))
}

/// The verb of a line, with or without its line end, in upper case; `?` if it is unknown.
pub fn verb(line: &[u8]) -> &'static str {
    let word = line.split(|octet| matches!(octet, b' ' | b'\t' | b'\r' | b'\n')).next().unwrap_or_default();
    VERBS.iter().find(|(name, _)| name.as_bytes().eq_ignore_ascii_case(word)).map_or("?", |(name, _)| name)
}

/// Verbs that clients try because other servers support them: extensions of Postfix and Exchange, and verbs of RFC 821.
const OTHER_VERBS: [&str; 14] = [
    "XCLIENT",
    "XFORWARD",
    "XEXCH50",
    "X-EXPS",
    "X-LINK2STATE",
    "XADR",
    "TURN",
    "ETRN",
    "ATRN",
    "BURL",
    "SEND",
    "SOML",
    "SAML",
    "PROXY",
];

/// The part of a refused line that may be logged: the text after the verb, or an unknown verb if it is one that other
/// servers support, truncated to 256 octets. Empty where it may be a secret: after AUTH, and for any other unknown
/// word, which may be a password from a client that ignored the refusal of its AUTH.
pub fn argument(line: &[u8]) -> String {
    let text = match verb(line) {
        "AUTH" => return String::new(),
        "?" => {
            let word = line.split(|octet| matches!(octet, b' ' | b'\t')).next().unwrap_or_default();
            let known = OTHER_VERBS.iter().find(|name| name.as_bytes().eq_ignore_ascii_case(word));
            return known.map(|name| (*name).to_owned()).unwrap_or_default();
        }
        verb => trim_start(&line[verb.len().min(line.len())..]),
    };
    String::from_utf8_lossy(&text[..text.len().min(ARGUMENT_OCTETS_MAX)]).into_owned()
}

/// The longest path (RFC 5321 §4.5.3.1.3).
const ARGUMENT_OCTETS_MAX: usize = 256;

/// Whether a line begins an HTTP request. A web page can make a browser send a request here with SMTP commands in its
/// body (cross-protocol attack).
pub fn is_http(line: &[u8]) -> bool {
    const METHODS: [&[u8]; 9] =
        [b"GET ", b"POST ", b"PUT ", b"PATCH ", b"DELETE ", b"HEAD ", b"OPTIONS ", b"CONNECT ", b"PRI "];
    METHODS.iter().any(|method| line.starts_with(method))
}

type Parse = fn(&str) -> Result<Command, BadCommand>;

const VERBS: &[(&str, Parse)] = &[
    ("EHLO", |word| Ok(Command::Ehlo(printable(word)))),
    ("HELO", |word| Ok(Command::Helo(printable(word)))),
    ("MAIL", mail),
    ("RCPT", rcpt),
    ("DATA", |rest| alone("DATA", rest, Command::Data)),
    ("BDAT", bdat),
    ("RSET", |rest| alone("RSET", rest, Command::Rset)),
    ("NOOP", |_| Ok(Command::Noop)),
    ("VRFY", |_| Ok(Command::Vrfy)),
    ("EXPN", |_| Ok(Command::Expn)),
    ("HELP", |_| Ok(Command::Help)),
    ("QUIT", |rest| alone("QUIT", rest, Command::Quit)),
    ("STARTTLS", |rest| alone("STARTTLS", rest, Command::StartTls)),
    ("AUTH", auth),
];

fn printable(word: &str) -> String {
    word.replace('\0', "\u{fffd}")
}

fn alone(verb: &str, rest: &str, command: Command) -> Result<Command, BadCommand> {
    let superfluous = || replies::SYNTAX.with_cause(format_args!("{verb} takes no argument")).into();
    if rest.is_empty() { Ok(command) } else { Err(superfluous()) }
}

fn mail(argument: &str) -> Result<Command, BadCommand> {
    let (path, parameters) = path_and_parameters(argument, "FROM:", &replies::BAD_REVERSE_PATH_SYNTAX)?;
    let mut known = MailParameters::default();
    let reverse_path = match Mailbox::parse(path) {
        _ if path.is_empty() => ReversePath::Null,
        Ok(mailbox) => ReversePath::Mailbox(mailbox),
        Err(AddressError::NonAsciiLocalPart) => return Err(replies::NON_ASCII_LOCAL_PART.into()),
        // Devices send `MAIL FROM:<scanner>`. Policy decides whether that is accepted.
        Err(error) => {
            known.unreadable_path = Some(Box::new(UnreadablePath { text: path.to_owned(), error }));
            ReversePath::Null
        }
    };
    for (keyword, value) in parameters {
        match (keyword.as_str(), value) {
            ("SIZE", Some(value)) => {
                // RFC 1870 §4: up to 20 digits, which may overflow a u64. That is a size over the limit, not a syntax
                // error.
                let digits = (1..=20).contains(&value.len()) && value.bytes().all(|octet| octet.is_ascii_digit());
                let octets = value.parse().ok().or(digits.then_some(u64::MAX)).filter(|_| digits);
                let bad = || replies::SYNTAX.with_cause("SIZE must be 1 to 20 digits");
                known.declared_octets = Some(octets.ok_or_else(bad)?);
            }
            ("BODY", Some(value)) if value.eq_ignore_ascii_case("7BIT") => known.body = BodyType::SevenBit,
            ("BODY", Some(value)) if value.eq_ignore_ascii_case("8BITMIME") => known.body = BodyType::EightBitMime,
            // RFC 4954 §5: the original submitter. Ignored: the relay does not use it.
            ("AUTH", Some(_)) => {}
            _ => return Err(unknown_parameter(&keyword, value)),
        }
    }
    Ok(Command::Mail(reverse_path, known))
}

fn rcpt(argument: &str) -> Result<Command, BadCommand> {
    let (path, mut parameters) = path_and_parameters(argument, "TO:", &replies::BAD_FORWARD_PATH_SYNTAX)?;
    let mailbox = Mailbox::parse(path).map_err(|error| match error {
        AddressError::NonAsciiLocalPart => replies::NON_ASCII_LOCAL_PART,
        AddressError::NoDomain if path.is_empty() => {
            replies::RECIPIENT_WITHOUT_DOMAIN.with_text("Recipient address is missing")
        }
        AddressError::NoDomain => replies::RECIPIENT_WITHOUT_DOMAIN,
        error => replies::BAD_FORWARD_PATH_SYNTAX.with_cause(error),
    })?;
    if let Some((keyword, value)) = parameters.next() {
        return Err(unknown_parameter(&keyword, value));
    }
    Ok(Command::Rcpt(ForwardPath::new(mailbox).ok_or(replies::RECIPIENT_LITERAL)?))
}

fn unknown_parameter(keyword: &str, value: Option<&str>) -> BadCommand {
    let parameter = value.map_or_else(|| keyword.to_owned(), |value| format!("{keyword}={value}"));
    let parameter: String = parameter.chars().take(PARAMETER_CHARACTERS_MAX).collect();
    replies::UNKNOWN_PARAMETER.with_cause(parameter).into()
}

/// The length at which a parameter is truncated in a reply. Those of RFC 3461 and RFC 6531 are shorter.
const PARAMETER_CHARACTERS_MAX: usize = 40;

/// Splits `FROM:<path> KEY=value …` into the path without brackets and the parameters. A source route is refused, not
/// removed: other servers could take a different part of it for the address.
fn path_and_parameters<'a>(
    argument: &'a str,
    prefix: &str,
    error: &Reply,
) -> Result<(&'a str, impl Iterator<Item = (String, Option<&'a str>)> + use<'a>), BadCommand> {
    let after = argument
        .get(..prefix.len())
        .filter(|start| start.eq_ignore_ascii_case(prefix))
        .map(|_| argument[prefix.len()..].trim_start())
        .ok_or_else(|| {
            let verb = if prefix == "FROM:" { "MAIL" } else { "RCPT" };
            replies::SYNTAX.with_cause(format_args!("expected {verb} {prefix}<address>"))
        })?;
    let bad = |cause: &str| BadCommand::from(error.with_cause(cause));
    let (path, rest) = if let Some(inside) = after.strip_prefix('<') {
        let end = closing_bracket(inside).ok_or_else(|| bad("> is missing"))?;
        (inside[..end].trim(), &inside[end + 1..])
    } else {
        // Without brackets, the path ends at the first space. With a quote or bracket in it, its end would be
        // ambiguous.
        let end = after.find([' ', '\t']).unwrap_or(after.len());
        match &after[..end] {
            "" => return Err(bad("address is missing")),
            _ if after.contains('<') => return Err(bad("text before <; only an address may stand here, no name")),
            path if path.contains(['>', '"']) => return Err(bad("address has > or a quote and no angle brackets")),
            path => (path, &after[end..]),
        }
    };
    if !rest.is_empty() && !rest.starts_with([' ', '\t']) {
        return Err(bad("text after >"));
    }
    if path.starts_with('@') {
        return Err(bad("source routes are not accepted"));
    }
    let parameters = rest.split_ascii_whitespace().map(|parameter| match parameter.split_once('=') {
        Some((keyword, value)) => (keyword.to_ascii_uppercase(), Some(value)),
        None => (parameter.to_ascii_uppercase(), None),
    });
    Ok((path, parameters))
}

/// The position of the first `>` outside quoted strings.
fn closing_bracket(inside: &str) -> Option<usize> {
    let mut quoted = false;
    let mut octets = inside.bytes().enumerate();
    while let Some((at, octet)) = octets.next() {
        match octet {
            b'"' => quoted = !quoted,
            b'\\' if quoted => drop(octets.next()),
            b'>' if !quoted => return Some(at),
            _ => {}
        }
    }
    None
}

fn bdat(argument: &str) -> Result<Command, BadCommand> {
    let mut words = argument.split_ascii_whitespace();
    let digits = words.next().filter(|word| word.len() <= 18 && word.bytes().all(|octet| octet.is_ascii_digit()));
    let octets = digits.and_then(|word| word.parse().ok());
    let reply = || replies::SYNTAX.with_cause("expected BDAT octets [LAST]");
    let octets: u64 = octets.ok_or_else(|| BadCommand::verb_only("BDAT", reply()))?;
    match (words.next(), words.next()) {
        (None, None) => Ok(Command::Bdat { octets, last: false }),
        (Some(word), None) if word.eq_ignore_ascii_case("LAST") => Ok(Command::Bdat { octets, last: true }),
        _ => Err(BadCommand { reply: reply(), chunk_octets: Some(octets) }),
    }
}

fn auth(argument: &str) -> Result<Command, BadCommand> {
    let mut words = argument.split_ascii_whitespace();
    let bad = || replies::SYNTAX.with_cause("expected AUTH mechanism [initial-response]");
    let mechanism = words.next().ok_or_else(bad)?.to_ascii_uppercase();
    let initial_response = words.next().map(str::to_owned);
    match words.next() {
        None => Ok(Command::Auth { mechanism, initial_response }),
        Some(_) => Err(bad().into()),
    }
}

fn trim_end(line: &[u8]) -> &[u8] {
    let end = line.iter().rposition(|octet| !matches!(octet, b' ' | b'\t')).map_or(0, |at| at + 1);
    &line[..end]
}

fn trim_start(line: &[u8]) -> &[u8] {
    let start = line.iter().position(|octet| !matches!(octet, b' ' | b'\t')).unwrap_or(line.len());
    &line[start..]
}

#[cfg(test)]
#[path = "command_tests.rs"]
mod tests;
