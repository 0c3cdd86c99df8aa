//! `gatepost hash-password`: from standard input, because a command line is for every user of the machine to read.

use super::exit::{Exit, Failure};
use super::printer::Printer;
use crate::auth::PasswordHash;
use std::io::{self, IsTerminal, Read};

/// A line of AUTH holds 12,288 octets of base64 (RFC 4954 §4), name included.
const PASSWORD_OCTETS_MAX: u64 = 4_096;

pub(super) fn run(printer: &Printer) -> Result<Exit, Failure> {
    if io::stdin().is_terminal() {
        printer.tell("type the password, then Enter and Ctrl-D (it is shown)");
    }
    let mut octets = Vec::new();
    let read = io::stdin().lock().take(PASSWORD_OCTETS_MAX + 3).read_to_end(&mut octets);
    read.map_err(|error| Failure::new(Exit::Io, format!("cannot read the password: {error}")))?;
    let password = password(&octets).map_err(|error| Failure::new(Exit::Data, error))?;
    let hash = PasswordHash::make(password).map_err(|error| Failure::new(Exit::Software, error.to_string()))?;
    printer.line(&hash)
}

/// One line. Its end does not belong to it, everything else does, blanks too.
fn password(octets: &[u8]) -> Result<&str, &'static str> {
    let text = std::str::from_utf8(octets).map_err(|_| "the password is not UTF-8")?;
    let text = text.strip_suffix('\n').map_or(text, |line| line.strip_suffix('\r').unwrap_or(line));
    match text {
        "" => Err("no password on standard input"),
        text if text.len() as u64 > PASSWORD_OCTETS_MAX => Err("the password is longer than 4096 octets"),
        // AUTH PLAIN cannot carry NUL, and a second line is a file that was not meant.
        text if text.contains(['\0', '\n', '\r']) => Err("the password is more than one line"),
        text => Ok(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_password_is_one_line_without_its_end() {
        for (input, want) in [
            (&b"secret"[..], Some("secret")),
            (b"secret\n", Some("secret")),
            (b"secret\r\n", Some("secret")),
            (b" two words \n", Some(" two words ")),
            (b"", None),
            (b"\n", None),
            (b"a\nb\n", None),
            (b"a\0b", None),
            (b"\xff", None),
            (&[b'x'; 4_098], None),
        ] {
            assert_eq!(password(input).ok(), want, "{input:?}");
        }
    }
}
