//! Parses the authors of a message: the mailboxes of a `From`, `Sender` or other address field.
//!
//! The syntax is strict RFC 5322 §3.4 and RFC 6854 (groups). Of the obsolete syntax, only forms are accepted that
//! clients still send and that have one interpretation: `user@host (Real Name)`, a dot in a display name, and the
//! address itself as the display name without quotes. Routes, comments inside an address, white space around `@`, a
//! second angle-address and raw 8-bit octets are refused, because mail programs have shown different authors for each
//! of them. Also refused are encoded words that decode to a control character, and a comment beside a display name that
//! contains another address. mail-parser is a second parser for comparison ([`agree`]). It is lenient, so it never
//! decides alone, and it is used for small fields only.

use super::address::{MailDomain, Mailbox, is_atext, is_dot_string};
use super::words;
use mail_parser::MessageParser;
use std::fmt;
use std::sync::LazyLock;

/// One mailbox of an address field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Author {
    /// The phrase before an angle-address: words joined by one space, encoded words unchanged. For an address without a
    /// phrase: the comment after it, which mail programs show as the name.
    pub display_name: Option<String>,
    /// The address.
    pub mailbox: Mailbox,
    /// The domain as written in the field, if it has upper-case letters, which [`Mailbox`] does not preserve.
    pub domain_as_written: Option<Box<str>>,
}

impl Author {
    /// The address as written in the field: SES compares it with `ses:FromAddress`.
    pub fn address_as_written(&self) -> String {
        let mut address = self.mailbox.to_string();
        if let Some(domain) = &self.domain_as_written
            && let Some(at) = address.rfind('@')
        {
            address.replace_range(at + 1.., domain);
        }
        address
    }
}

/// As written in a field: `"Display, Name" <address>`. A name that is not ASCII becomes an encoded word (RFC 2047).
impl fmt::Display for Author {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(name) = &self.display_name else { return self.mailbox.fmt(f) };
        if name.is_ascii() && name.split(' ').all(|word| !word.is_empty() && word.bytes().all(is_atext)) {
            write!(f, "{name} <{}>", self.mailbox)
        } else if name.is_ascii() {
            write!(f, "\"{}\" <{}>", name.replace('\\', "\\\\").replace('"', "\\\""), self.mailbox)
        } else {
            let mut words: Vec<String> = vec![String::new()];
            for c in name.chars() {
                let encoded: String = c.to_string().bytes().map(|octet| format!("={octet:02X}")).collect();
                match words.last_mut() {
                    Some(word) if word.len() + encoded.len() <= ENCODED_OCTETS_MAX => word.push_str(&encoded),
                    _ => words.push(encoded),
                }
            }
            for word in words {
                write!(f, "=?utf-8?q?{word}?= ")?;
            }
            write!(f, "<{}>", self.mailbox)
        }
    }
}

/// Why an address field is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AuthorError {
    /// An octet outside printable ASCII. In ISO-2022-JP and similar charsets, `<`, `@` and `"` occur as data.
    #[error("raw 8-bit or control octet 0x{0:02x}")]
    NotAscii(u8),
    /// The field is malformed, or has more than one interpretation.
    #[error("{0}")]
    Ambiguous(&'static str),
}

/// RFC 2047 §2: an encoded word has at most 75 octets, of which `=?utf-8?q?` and `?=` take 12.
const ENCODED_OCTETS_MAX: usize = 75 - 12;
/// The maximum nesting of comments.
const COMMENT_DEPTH_MAX: usize = 20;
/// The maximum number of mailboxes in one field. Bounds the work of policy.
const MAILBOXES_MAX: usize = 100;
/// The maximum octets of one field: 100 mailboxes with names. Bounds the work of mail-parser, which is not linear.
const FIELD_OCTETS_MAX: usize = 16 * 1024;

/// Parses the value of an address field (the text after the colon, with folds) into its mailboxes, in order. Groups are
/// replaced by their members. The list may be empty (`undisclosed-recipients:;`).
///
/// # Errors
/// [`AuthorError`].
pub fn parse(value: &[u8]) -> Result<Vec<Author>, AuthorError> {
    if value.len() > FIELD_OCTETS_MAX {
        return Err(AuthorError::Ambiguous("longer than 16384 octets"));
    }
    let (tokens, comment) = tokens(value)?;
    // Anywhere in the field, also in a comment or in quotes: some mail programs show it.
    let text = std::str::from_utf8(value).unwrap_or_default();
    if words::encoded(text).any(|word| word.is_doubtful) {
        return Err(AuthorError::Ambiguous(
            "encoded word in an unknown charset, or with another one or a control in it",
        ));
    }
    if words::encoded(text).any(|word| word.text.contains(is_control)) {
        return Err(AuthorError::Ambiguous("encoded control character"));
    }
    let mut parser = Parser { tokens, comment, at: 0, authors: Vec::new() };
    parser.address_list()?;
    Ok(parser.authors)
}

/// C0 and C1 controls, DEL, and the separators that some mail programs take for line ends.
fn is_control(c: char) -> bool {
    c.is_control() || matches!(c, '\u{2028}' | '\u{2029}')
}

/// Whether a text, as displayed, contains an address other than this mailbox: a local part, an `@` and a domain with a
/// dot. A lone `@` is not an address.
pub fn names_another(mailbox: &Mailbox, text: &str) -> bool {
    shows_address(text, Some(&mailbox.to_string()))
}

/// Whether a text, as displayed, contains an address other than `own`.
fn shows_address(text: &str, own: Option<&str>) -> bool {
    let shown = decode_phrase(text).replace(['\u{ff20}', '\u{fe6b}'], "@").replace(['\u{ff0e}', '\u{3002}'], ".");
    let around = |c: char| matches!(c, '<' | '>' | '(' | ')' | '[' | ']' | '"' | '\'' | '\\') || c.is_control();
    let separates = |c: char| c.is_whitespace() || matches!(c, ',' | ';' | ':');
    // Quotes, brackets and blanks next to the `@` are ignored: a person still sees an address.
    let bare: String = shown.chars().filter(|c| !around(*c) && !is_invisible(*c)).collect();
    let joined = bare.split('@').map(str::trim).collect::<Vec<_>>().join("@");
    let split: Vec<&str> = shown.split(|c: char| separates(c) || around(c)).collect();
    split.into_iter().chain(bare.split(separates)).chain(joined.split(separates)).any(|word| {
        let word = word.trim_matches(|c: char| matches!(c, '.' | '!' | '?' | '-' | '='));
        let Some((local_part, domain)) = word.split_once('@') else { return false };
        let inside = domain.trim_matches('.');
        !local_part.is_empty()
            && inside.contains('.')
            && domain.contains(char::is_alphanumeric)
            && !own.is_some_and(|own| word.eq_ignore_ascii_case(own))
    })
}

/// Characters without width.
fn is_invisible(c: char) -> bool {
    matches!(c, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2064}' | '\u{feff}')
}

/// Whether mail-parser finds the same authors in the value.
pub fn agree(value: &[u8], authors: &[Author]) -> bool {
    static WITNESS: LazyLock<MessageParser> = LazyLock::new(|| MessageParser::new().with_address_headers());
    let field = [b"From:", value, b"\r\n\r\n"].concat();
    let Some(message) = WITNESS.parse_headers(&field[..]) else { return false };
    let mut lists = message.headers().iter().filter_map(|header| header.value().as_address());
    let (Some(list), None) = (lists.next(), lists.next()) else { return false };
    let theirs: Vec<&str> = list.iter().map(|addr| addr.address().unwrap_or_default()).collect();
    theirs.len() == authors.len()
        && theirs.iter().zip(authors).all(|(text, author)| is_written_as(&author.mailbox, text))
}

/// Whether a text is this mailbox. mail-parser drops a quoted local part, or its quotes. That is accepted if the local
/// part contains nothing that could be taken for an address or for syntax.
fn is_written_as(mailbox: &Mailbox, text: &str) -> bool {
    let quoted = || {
        let (local_part, domain) = text.rsplit_once('@')?;
        let harmless = |octet: u8| octet.is_ascii_alphanumeric() || matches!(octet, b' ' | b'.' | b'-' | b'_' | b'+');
        let dropped = local_part.is_empty() && !is_dot_string(mailbox.local_part());
        let same = dropped || local_part == mailbox.local_part();
        let domain = MailDomain::parse(domain).ok()?;
        Some(same && domain == *mailbox.domain() && mailbox.local_part().bytes().all(harmless))
    };
    Mailbox::parse(text).as_ref() == Ok(mailbox) || quoted() == Some(true)
}

/// A display name as displayed: encoded words (RFC 2047) are decoded, in any charset that mail-parser supports.
pub fn decode_phrase(name: &str) -> String {
    words::decode(name).into_owned()
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Token {
    kind: Kind,
    /// White space or a comment precedes the token.
    gap: bool,
    /// The text of the comments before the token.
    comment: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Kind {
    Atom(String),
    Quoted(String),
    Literal(String),
    Special(u8),
}

/// Splits a value into atoms, quoted strings, domain literals and specials (RFC 5322 §3.2). White space and comments
/// set `gap`. Also returns the comments at the end.
fn tokens(value: &[u8]) -> Result<(Vec<Token>, Option<String>), AuthorError> {
    if let Some(octet) = value.iter().find(|octet| !matches!(octet, b' '..=b'~' | b'\t' | b'\r' | b'\n')) {
        return Err(AuthorError::NotAscii(*octet));
    }
    let mut tokens = Vec::new();
    let mut gap = false;
    let mut comment: Option<String> = None;
    let mut rest = value;
    while let Some((&first, after)) = rest.split_first() {
        let kind = match first {
            b' ' | b'\t' | b'\r' | b'\n' => {
                gap = true;
                rest = after;
                continue;
            }
            b'(' => {
                let after = skip_comment(rest)?;
                let text = String::from_utf8_lossy(&rest[1..rest.len() - after.len() - 1]).replace("\r\n", "");
                comment = Some(match comment {
                    Some(before) => format!("{before} {text}"),
                    None => text,
                });
                gap = true;
                rest = after;
                continue;
            }
            b'"' => {
                let (text, after) = delimited(after, b'"', "quoted string is not closed")?;
                rest = after;
                Kind::Quoted(text)
            }
            b'[' => {
                let (text, after) = delimited(after, b']', "domain literal is not closed")?;
                rest = after;
                Kind::Literal(text)
            }
            octet if is_atext(octet) => {
                let end = rest.iter().position(|octet| !is_atext(*octet)).unwrap_or(rest.len());
                let (atom, after) = rest.split_at(end);
                rest = after;
                Kind::Atom(String::from_utf8_lossy(atom).into_owned())
            }
            b'<' | b'>' | b'@' | b',' | b';' | b':' | b'.' => {
                rest = after;
                Kind::Special(first)
            }
            b')' => return Err(AuthorError::Ambiguous(") without ( before it")),
            b']' => return Err(AuthorError::Ambiguous("] without [ before it; put the display name in quotes")),
            _ => return Err(AuthorError::Ambiguous("backslash outside quotes")),
        };
        tokens.push(Token { kind, gap, comment: comment.take() });
        gap = false;
    }
    Ok((tokens, comment))
}

/// The octets after the comment at the start of `rest`. Iterative, because the client chooses the depth.
fn skip_comment(rest: &[u8]) -> Result<&[u8], AuthorError> {
    let mut depth = 0;
    let mut octets = rest.iter().enumerate();
    while let Some((at, octet)) = octets.next() {
        match octet {
            b'\\' => {
                octets.next();
            }
            b'(' if depth == COMMENT_DEPTH_MAX => return Err(AuthorError::Ambiguous("comments nested too deeply")),
            b'(' => depth += 1,
            b')' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return Ok(&rest[at + 1..]);
        }
    }
    Err(AuthorError::Ambiguous("comment is not closed"))
}

/// Text up to an unescaped `close`, with quoted pairs resolved and folds removed, and the octets after it.
fn delimited<'a>(rest: &'a [u8], close: u8, open_error: &'static str) -> Result<(String, &'a [u8]), AuthorError> {
    let mut text = String::new();
    let mut octets = rest.iter().enumerate();
    while let Some((at, &octet)) = octets.next() {
        match octet {
            b'\\' => text.push(octets.next().map_or('\\', |(_, pair)| char::from(*pair))),
            b'\r' | b'\n' => {}
            _ if octet == close => return Ok((text, &rest[at + 1..])),
            _ => text.push(char::from(octet)),
        }
    }
    Err(AuthorError::Ambiguous(open_error))
}

struct Parser {
    tokens: Vec<Token>,
    /// The comments after the last token.
    comment: Option<String>,
    at: usize,
    authors: Vec<Author>,
}

impl Parser {
    /// `address-list = address *("," address)`, where an address is a mailbox or a group.
    fn address_list(&mut self) -> Result<(), AuthorError> {
        if self.tokens.is_empty() {
            return Err(AuthorError::Ambiguous("field is empty"));
        }
        loop {
            let words = self.words();
            match self.special() {
                Some(b':') => self.group(&words)?,
                _ => self.mailbox(&words)?,
            }
            match self.special() {
                None if self.at == self.tokens.len() => return Ok(()),
                Some(b',') => self.at += 1,
                _ => return Err(AuthorError::Ambiguous("text after an address")),
            }
        }
    }

    /// `group = display-name ":" [mailbox-list] ";"`
    fn group(&mut self, name: &[Token]) -> Result<(), AuthorError> {
        let shown = phrase(name)?.ok_or(AuthorError::Ambiguous("group has no name"))?;
        // Some mail programs show the comments around a group as the name of the author.
        let around = name.iter().chain(self.tokens.get(self.at)).filter_map(|token| token.comment.as_deref());
        if around.chain([&*shown]).any(|text| shows_address(text, None)) {
            return Err(AuthorError::Ambiguous("group name contains an address"));
        }
        self.at += 1;
        if self.special() == Some(b';') {
            self.at += 1;
            return Ok(());
        }
        loop {
            let words = self.words();
            self.mailbox(&words)?;
            match self.special() {
                Some(b',') => self.at += 1,
                Some(b';') => {
                    self.at += 1;
                    return Ok(());
                }
                _ => return Err(AuthorError::Ambiguous("group is not closed")),
            }
        }
    }

    /// `mailbox = [display-name] "<" addr-spec ">" / addr-spec`
    fn mailbox(&mut self, words: &[Token]) -> Result<(), AuthorError> {
        let mut comments: Vec<String> = words.iter().filter_map(|token| token.comment.clone()).collect();
        let (phrase, mailbox, domain_as_written) = if self.special() == Some(b'<') {
            comments.extend(self.tokens[self.at].comment.clone());
            self.at += 1;
            let inside = self.words();
            if self.special() != Some(b'>') {
                return Err(AuthorError::Ambiguous("angle-address is not closed, or has a route"));
            }
            if inside.iter().chain(self.tokens.get(self.at)).any(|token| token.comment.is_some()) {
                return Err(AuthorError::Ambiguous("comment inside an angle-address"));
            }
            self.at += 1;
            let (mailbox, written) = addr_spec(&inside)?;
            match phrase(words) {
                // The same address twice, without quotes, has one interpretation.
                Err(_) if addr_spec(words).is_ok_and(|(shown, _)| shown == mailbox) => (None, mailbox, written),
                phrase => (phrase?, mailbox, written),
            }
        } else {
            let (mailbox, written) = addr_spec(words)?;
            (None, mailbox, written)
        };
        comments.extend(self.tokens.get(self.at).map_or(self.comment.clone(), |token| token.comment.clone()));
        let display_name = match phrase {
            Some(_) if comments.iter().any(|comment| names_another(&mailbox, comment)) => {
                return Err(AuthorError::Ambiguous("comment names another address"));
            }
            Some(phrase) => Some(phrase),
            None => (!comments.is_empty()).then(|| comments.join(" ")),
        };
        let author = Author { display_name, mailbox, domain_as_written };
        if self.authors.len() == MAILBOXES_MAX {
            return Err(AuthorError::Ambiguous("too many mailboxes"));
        }
        self.authors.push(author);
        Ok(())
    }

    /// The tokens up to the next special of the list syntax.
    fn words(&mut self) -> Vec<Token> {
        let rest = &self.tokens[self.at..];
        let structural = |token: &Token| matches!(token.kind, Kind::Special(b'<' | b'>' | b',' | b';' | b':'));
        let end = rest.iter().position(structural).unwrap_or(rest.len());
        self.at += end;
        rest[..end].to_vec()
    }

    fn special(&self) -> Option<u8> {
        match self.tokens.get(self.at)?.kind {
            Kind::Special(octet) => Some(octet),
            _ => None,
        }
    }
}

/// `display-name`: words, and dots as in `John Q. Public` (RFC 5322 §4.1 `obs-phrase`). An `@` is refused, because it
/// can present one author as another.
fn phrase(words: &[Token]) -> Result<Option<String>, AuthorError> {
    let mut text = String::new();
    for token in words {
        let dot = token.kind == Kind::Special(b'.');
        if token.gap && !text.is_empty() && !dot {
            text.push(' ');
        }
        match &token.kind {
            Kind::Atom(word) | Kind::Quoted(word) => text.push_str(word),
            Kind::Special(b'.') => text.push('.'),
            Kind::Literal(_) => {
                return Err(AuthorError::Ambiguous("display name contains brackets; put it in quotes"));
            }
            Kind::Special(_) => return Err(AuthorError::Ambiguous("display name contains an address")),
        }
    }
    Ok((!words.is_empty()).then_some(text))
}

/// `addr-spec = local-part "@" domain`, without white space or comments inside, which are obsolete syntax that parsers
/// interpret differently. Also returns the domain as written, if it differs.
fn addr_spec(words: &[Token]) -> Result<(Mailbox, Option<Box<str>>), AuthorError> {
    const LOCAL_PART: AuthorError = AuthorError::Ambiguous("local part of an address is malformed");
    const DOMAIN: AuthorError = AuthorError::Ambiguous("domain of an address is malformed");
    if words.is_empty() {
        return Err(AuthorError::Ambiguous("address is missing"));
    }
    let at = words.iter().position(|token| token.kind == Kind::Special(b'@'));
    let at = at.ok_or(AuthorError::Ambiguous("address has no domain"))?;
    if words.iter().skip(1).any(|token| token.gap) {
        return Err(AuthorError::Ambiguous("white space or comment inside an address"));
    }
    let (local, domain) = (&words[..at], &words[at + 1..]);
    let local_part = match local {
        [Token { kind: Kind::Quoted(text), .. }] => text.clone(),
        _ => dotted(local).ok_or(LOCAL_PART)?,
    };
    let domain = match domain {
        [Token { kind: Kind::Literal(inside), .. }] => format!("[{inside}]"),
        _ => dotted(domain).ok_or(DOMAIN)?,
    };
    let read = MailDomain::parse(&domain).map_err(|_| DOMAIN)?;
    let written = domain.bytes().any(|octet| octet.is_ascii_uppercase()).then(|| domain.into_boxed_str());
    Ok((Mailbox::from_parts(local_part, read).map_err(|_| LOCAL_PART)?, written))
}

/// `dot-atom-text`.
fn dotted(words: &[Token]) -> Option<String> {
    let mut text = String::new();
    for (index, token) in words.iter().enumerate() {
        match (&token.kind, index % 2) {
            (Kind::Atom(atom), 0) => text.push_str(atom),
            (Kind::Special(b'.'), 1) => text.push('.'),
            _ => return None,
        }
    }
    (words.len() % 2 == 1).then_some(text)
}

#[cfg(test)]
#[path = "author_tests.rs"]
mod tests;
