//! Quoted-printable (RFC 2045 §6.7), for text bodies with long lines. Linear, without a copy except the result.

/// RFC 2045 §6.7 (5): octets of a line, without the `=` of a soft line break.
const LINE_OCTETS_MAX: usize = 75;

/// Appends one line of text, without its line end. After a soft line break, a line never begins with a hyphen or a dot,
/// so that it cannot be taken for a boundary delimiter or for the end of data.
pub(crate) fn encode_line(out: &mut Vec<u8>, line: &[u8]) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    let (mut column, mut rest) = (0, line);
    let mut broken = false;
    while let Some((&first, after)) = rest.split_first() {
        let available = rest.len().min(LINE_OCTETS_MAX - column);
        // Blanks are unchanged, except at the end of the line; before a soft line break, an `=` follows the blank.
        let plain = rest[..available].iter().position(|octet| !is_plain(*octet)).unwrap_or(available);
        let plain = if plain == rest.len() && matches!(rest[plain - 1], b' ' | b'\t') { plain - 1 } else { plain };
        if broken && matches!(first, b'-' | b'.') || plain == 0 {
            if column + 3 <= LINE_OCTETS_MAX {
                out.extend_from_slice(&[b'=', DIGITS[usize::from(first >> 4)], DIGITS[usize::from(first & 15)]]);
                (column, rest, broken) = (column + 3, after, false);
                continue;
            }
        } else {
            out.extend_from_slice(&rest[..plain]);
            (column, rest, broken) = (column + plain, &rest[plain..], false);
            if column < LINE_OCTETS_MAX {
                continue;
            }
        }
        if !rest.is_empty() {
            out.extend_from_slice(b"=\r\n");
            (column, broken) = (0, true);
        }
    }
}

/// Whether an octet is unchanged by the encoding.
pub(crate) fn is_plain(octet: u8) -> bool {
    matches!(octet, b' '..=b'<' | b'>'..=b'~' | b'\t')
}

/// Decodes the text of a body. Invalid escapes are unchanged.
pub(crate) fn decode(body: &[u8]) -> Vec<u8> {
    let hex = |octet: &u8| char::from(*octet).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let mut text = Vec::with_capacity(body.len());
    for line in body.split_inclusive(|octet| *octet == b'\n') {
        // Blanks at the end of a line were added in transport (RFC 2045 §6.7 (3)).
        let inside = line.strip_suffix(b"\n").unwrap_or(line);
        let inside = inside.strip_suffix(b"\r").unwrap_or(inside);
        let end = inside.iter().rposition(|octet| !matches!(octet, b' ' | b'\t')).map_or(0, |last| last + 1);
        let inside = &inside[..end];
        let soft = inside.ends_with(b"=");
        let mut rest = inside.strip_suffix(b"=").unwrap_or(inside);
        while let Some(at) = memchr::memchr(b'=', rest) {
            text.extend_from_slice(&rest[..at]);
            let pair = rest.get(at + 1).and_then(hex).zip(rest.get(at + 2).and_then(hex));
            match pair {
                Some((high, low)) => text.push(high << 4 | low),
                None => text.push(b'='),
            }
            rest = &rest[at + if pair.is_some() { 3 } else { 1 }..];
        }
        text.extend_from_slice(rest);
        if !soft && line.ends_with(b"\n") {
            text.extend_from_slice(b"\r\n");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn encoded(line: &[u8]) -> String {
        let mut out = Vec::new();
        encode_line(&mut out, line);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn lines_are_encoded_and_broken() {
        for (line, want) in [
            ("", String::new()),
            ("a=b", "a=3Db".to_owned()),
            ("Gr\u{fc}\u{df}e", "Gr=C3=BC=C3=9Fe".to_owned()),
            ("a b ", "a b=20".to_owned()),
            ("\t", "=09".to_owned()),
            (".a", ".a".to_owned()),
            (&"x".repeat(75), "x".repeat(75)),
            (&"x".repeat(76), format!("{}=\r\nx", "x".repeat(75))),
            (&format!("{}--b", "x".repeat(75)), format!("{}=\r\n=2D-b", "x".repeat(75))),
            (&format!("{}=", "x".repeat(73)), format!("{}=\r\n=3D", "x".repeat(73))),
            (&format!("{} ", "x".repeat(75)), format!("{}=\r\n=20", "x".repeat(75))),
        ] {
            assert_eq!(encoded(line.as_bytes()), want, "{line}");
        }
    }

    proptest! {
        #[test]
        fn a_library_decodes_what_was_encoded(line in proptest::collection::vec(prop_oneof![Just(b' '), Just(b'-'), Just(b'.'), any::<u8>()], 0..400)) {
            let text = encoded(&line);
            prop_assert!(text.split("\r\n").all(|line| line.len() <= 76), "{text}");
            prop_assert!(text.split("\r\n").skip(1).all(|line| !line.starts_with(['-', '.'])), "{text}");
            let theirs = quoted_printable::decode(text.as_bytes(), quoted_printable::ParseMode::Strict).unwrap();
            prop_assert_eq!(&theirs, &line);
            prop_assert_eq!(decode(text.as_bytes()), line);
        }

        #[test]
        fn what_a_library_encodes_is_decoded(text in proptest::collection::vec(any::<u8>(), 0..400)) {
            prop_assert_eq!(decode(quoted_printable::encode(&text).as_slice()), text);
        }

        #[test]
        fn no_body_is_too_strange(body in "(=|=\r\n|\r\n|[0-9A-F]|[a-z ]){0,60}") {
            prop_assert!(decode(body.as_bytes()).len() <= body.len());
        }
    }
}
