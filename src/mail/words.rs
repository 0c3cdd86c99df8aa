//! Encoded words (RFC 2047 §2) and percent-encoded values (RFC 2231 §4) as text.
//!
//! Lenient, because the readers at the other end are: an encoded word counts wherever it stands, in quotes and without
//! blanks around it, however long. Linear in the input. Charsets are those that mail-parser knows; text in another one is
//! read as UTF-8.

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use mail_parser::decoders::charsets::map::charset_decoder;
use std::borrow::Cow;

/// The text with its encoded words decoded, and without the blanks between two of them (RFC 2047 §6.2).
pub(crate) fn decode(text: &str) -> Cow<'_, str> {
    if !text.contains("=?") {
        return Cow::Borrowed(text);
    }
    let mut decoded = String::with_capacity(text.len());
    let mut after_word = false;
    for (before, word) in pieces(text) {
        if !(after_word && word.is_some() && before.bytes().all(|octet| octet.is_ascii_whitespace())) {
            decoded.push_str(before);
        }
        after_word = word.is_some();
        decoded.push_str(&word.unwrap_or_default());
    }
    Cow::Owned(decoded)
}

/// The encoded words of a text, each of them decoded.
pub(crate) fn encoded(text: &str) -> impl Iterator<Item = String> + '_ {
    pieces(text).filter_map(|(_, word)| word)
}

/// The text in pieces: what stands as it is, and the encoded word behind it.
fn pieces(text: &str) -> impl Iterator<Item = (&str, Option<String>)> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let start = match rest.find("=?") {
            _ if rest.is_empty() => return None,
            None => {
                return Some((std::mem::take(&mut rest), None));
            }
            Some(start) => start,
        };
        let (before, word) = rest.split_at(start);
        match encoded_word(word) {
            Some((plain, octets)) => {
                rest = &word[octets..];
                Some((before, Some(plain)))
            }
            // A false start is text.
            None => {
                let (before, behind) = rest.split_at(start + 2);
                rest = behind;
                Some((before, None))
            }
        }
    })
}

/// The encoded word at the start of `text`, and its length. Looks no further than three question marks behind its start,
/// so that many false starts cost no more than their length.
fn encoded_word(text: &str) -> Option<(String, usize)> {
    let mut pieces = text.get(2..)?.splitn(4, '?');
    let (label, encoding, encoded) = (pieces.next()?, pieces.next()?, pieces.next()?);
    pieces.next()?.strip_prefix('=')?;
    // RFC 2231 §5: a language may follow the charset.
    let charset = label.split('*').next().unwrap_or_default();
    let octets = match encoding {
        "b" | "B" => base64(encoded.as_bytes()),
        "q" | "Q" => quoted(encoded.as_bytes()),
        _ => return None,
    };
    let marks = "=????=".len();
    Some((in_charset(charset.as_bytes(), &octets), label.len() + encoding.len() + encoded.len() + marks))
}

fn base64(encoded: &[u8]) -> Vec<u8> {
    const LENIENT: GeneralPurpose = GeneralPurpose::new(
        &STANDARD,
        GeneralPurposeConfig::new()
            .with_decode_padding_mode(DecodePaddingMode::Indifferent)
            .with_decode_allow_trailing_bits(true),
    );
    let known = |octet: &u8| octet.is_ascii_alphanumeric() || matches!(octet, b'+' | b'/');
    let mut clean: Vec<u8> = encoded.iter().copied().filter(known).collect();
    // One character alone encodes nothing.
    if clean.len() % 4 == 1 {
        clean.pop();
    }
    LENIENT.decode(clean).unwrap_or_default()
}

/// RFC 2047 §4.2.
fn quoted(encoded: &[u8]) -> Vec<u8> {
    escaped(encoded, b'=').into_iter().map(|(octet, plain)| if plain && octet == b'_' { b' ' } else { octet }).collect()
}

/// The octets of a value with `%XX` in it.
pub(super) fn percent(encoded: &[u8]) -> Vec<u8> {
    escaped(encoded, b'%').into_iter().map(|(octet, _)| octet).collect()
}

/// Each octet, and whether it stood for itself. What is no escape stays as it is.
fn escaped(encoded: &[u8], mark: u8) -> Vec<(u8, bool)> {
    let hex = |octet: &u8| char::from(*octet).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let mut octets = Vec::with_capacity(encoded.len());
    let mut rest = encoded;
    while let Some((&first, after)) = rest.split_first() {
        let pair = (first == mark).then(|| Some((hex(after.first()?)?, hex(after.get(1)?)?))).flatten();
        match pair {
            Some((high, low)) => {
                octets.push((high << 4 | low, false));
                rest = &after[2..];
            }
            None => {
                octets.push((first, true));
                rest = after;
            }
        }
    }
    octets
}

/// Octets of a charset as text. What has no meaning in it becomes U+FFFD.
pub(super) fn in_charset(label: &[u8], octets: &[u8]) -> String {
    let utf8 =
        label.is_empty() || [&b"utf-8"[..], b"utf8", b"us-ascii"].iter().any(|own| label.eq_ignore_ascii_case(own));
    match charset_decoder(label).filter(|_| !utf8) {
        Some(decoder) => decoder(octets),
        None => String::from_utf8_lossy(octets).into_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn encoded_words_are_decoded_wherever_they_stand() {
        for (text, want) in [
            ("plain", "plain"),
            ("=?utf-8?q?a=2Eexe?=", "a.exe"),
            ("=?UTF-8*de?Q?Gr=C3=BC=C3=9Fe_x?= y", "Grüße x y"),
            ("=?iso-8859-1?B?R3L832U?=", "Grüße"),
            ("=?utf-8?b?YQ==?= \t=?utf-8?b?LmV4ZQ==?=", "a.exe"),
            ("x=?utf-8?q?a?=y=?utf-8?q?b?=", "xayb"),
            ("=?utf-8?q?a?= b =?utf-8?q?c?=", "a b c"),
            ("=?utf-8?x?a?=", "=?utf-8?x?a?="),
            ("=?utf-8?q?a", "=?utf-8?q?a"),
            ("=?=?utf-8?q?a?=", "=?a"),
            ("=??q?a?=", "a"),
            ("=?utf-8?q?=zz=4?=", "=zz=4"),
            ("=?utf-8?b?Y?=", ""),
            ("=?utf-16be?b?AC4AZQB4AGU=?=", ".exe"),
        ] {
            assert_eq!(decode(text), want, "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_is_too_strange(text in "(=\\?|\\?=|\\?|utf-8|q|b|[a=_%é ]){0,40}") {
            let decoded = decode(&text);
            prop_assert!(decoded.len() <= text.len() * 3);
        }

        /// mail-parser reads the same from what is encoded well.
        #[test]
        fn a_well_formed_word_is_read_as_mail_parser_reads_it(words in proptest::collection::vec("[a-zA-Z0-9.@ü€]{1,12}", 1..5)) {
            let encode = |word: &String| format!("=?utf-8?q?{}?=", word.bytes().map(|octet| format!("={octet:02X}")).collect::<String>());
            let text = words.iter().map(encode).collect::<Vec<_>>().join(" ");
            let field = format!("Subject: {text}\r\n\r\n");
            let message = mail_parser::MessageParser::new().parse(field.as_bytes());
            prop_assert_eq!(Some(&*decode(&text)), message.as_ref().and_then(|message| message.subject()));
        }
    }
}
