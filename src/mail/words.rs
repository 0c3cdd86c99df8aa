//! Decodes encoded words (RFC 2047 §2) and percent-encoded values (RFC 2231 §4).
//!
//! Lenient, because mail programs are: an encoded word is decoded in any position, in quotes, without blanks around it,
//! and of any length. Linear in the input. Supports the charsets of mail-parser; text in another charset is decoded as
//! UTF-8.

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use mail_parser::decoders::charsets::map::charset_decoder;
use std::borrow::Cow;

/// Decodes the encoded words of a text, and removes the blanks between two of them (RFC 2047 §6.2).
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
        decoded.push_str(word.as_ref().map_or("", |word| &word.text));
    }
    Cow::Owned(decoded)
}

/// One encoded word.
pub(crate) struct Word {
    pub(crate) text: String,
    /// The decoded text may differ from what other mail programs show: an unknown charset, a control character that the
    /// charset has and the text has not, or an encoded word inside.
    pub(crate) is_doubtful: bool,
    /// Text in the charset cannot be decoded.
    pub(crate) is_opaque: bool,
}

/// The encoded words of a text, decoded.
pub(crate) fn encoded(text: &str) -> impl Iterator<Item = Word> + '_ {
    pieces(text).filter_map(|(_, word)| word)
}

/// The text in pieces: unencoded text, and the encoded word after it.
fn pieces(text: &str) -> impl Iterator<Item = (&str, Option<Word>)> {
    let mut rest = text;
    // Whether the rest contains an end of a word: searched once, not for each start.
    let mut ends = true;
    std::iter::from_fn(move || {
        let start = match rest.find("=?").filter(|_| ends) {
            _ if rest.is_empty() => return None,
            None => return Some((std::mem::take(&mut rest), None)),
            Some(start) => start,
        };
        let (before, word) = rest.split_at(start);
        match encoded_word(word) {
            Ok((decoded, octets)) => {
                rest = &word[octets..];
                Some((before, Some(decoded)))
            }
            // This start is not an encoded word.
            Err(fault) => {
                ends = fault != NotAWord::Unterminated;
                let (before, behind) = rest.split_at(start + 2);
                rest = behind;
                Some((before, None))
            }
        }
    })
}

/// Why there is no encoded word at a position.
#[derive(PartialEq, Eq)]
enum NotAWord {
    UnknownEncoding,
    /// The rest contains no end of an encoded word, for this or any later start.
    Unterminated,
}

/// The encoded word at the start of `text`, and its length. As in Python, it may contain question marks.
fn encoded_word(text: &str) -> Result<(Word, usize), NotAWord> {
    let mut pieces = text.get(2..).unwrap_or_default().splitn(3, '?');
    let (Some(label), Some(encoding), Some(rest)) = (pieces.next(), pieces.next(), pieces.next()) else {
        return Err(NotAWord::Unterminated);
    };
    let decoder: fn(&[u8]) -> Vec<u8> = match encoding {
        "b" | "B" => base64,
        "q" | "Q" => quoted,
        _ => return Err(NotAWord::UnknownEncoding),
    };
    let end = rest.find("?=").ok_or(NotAWord::Unterminated)?;
    // RFC 2231 §5: a language may follow the charset.
    let charset = label.split('*').next().unwrap_or_default().as_bytes();
    let octets = decoder(&rest.as_bytes()[..end]);
    let text = in_charset(charset, &octets);
    // 0x80 to 0x9F are C1 controls in ISO 8859, and letters in windows-1252, which is used instead.
    let latin =
        charset.len() >= 8 && charset[..8].eq_ignore_ascii_case(b"iso-8859") || charset.eq_ignore_ascii_case(b"latin1");
    let hidden = latin && octets.iter().any(|octet| matches!(octet, 0x80..=0x9f));
    let is_doubtful = hidden || !is_known(charset) || text.contains("=?");
    Ok((Word { text, is_doubtful, is_opaque: is_opaque(charset) }, "=????=".len() + label.len() + encoding.len() + end))
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
    // A single remaining character encodes nothing.
    if clean.len() % 4 == 1 {
        clean.pop();
    }
    LENIENT.decode(clean).unwrap_or_default()
}

/// RFC 2047 §4.2.
fn quoted(encoded: &[u8]) -> Vec<u8> {
    escaped(encoded, b'=').into_iter().map(|(octet, plain)| if plain && octet == b'_' { b' ' } else { octet }).collect()
}

/// Decodes `%XX`.
pub(super) fn percent(encoded: &[u8]) -> Vec<u8> {
    escaped(encoded, b'%').into_iter().map(|(octet, _)| octet).collect()
}

/// Each octet, and whether it was unescaped. Invalid escapes are unchanged.
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

/// Decodes octets of a charset. Invalid octets become U+FFFD.
pub(super) fn in_charset(label: &[u8], octets: &[u8]) -> String {
    match charset_decoder(label).filter(|_| !is_utf8(label)) {
        Some(decoder) => decoder(octets),
        None => String::from_utf8_lossy(octets).into_owned(),
    }
}

fn is_utf8(label: &[u8]) -> bool {
    label.is_empty() || [&b"utf-8"[..], b"utf8", b"us-ascii"].iter().any(|own| label.eq_ignore_ascii_case(own))
}

/// Whether an unknown charset may be one in which ASCII is encoded differently (EBCDIC, UTF-32), so that nothing is
/// known about the text.
pub(super) fn is_opaque(label: &[u8]) -> bool {
    const PREFIXES: [&[u8]; 8] = [b"cp", b"ibm", b"csibm", b"ebcdic", b"utf-32", b"utf32", b"ucs", b"iso-10646"];
    let starts = |prefix: &[u8]| label.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix));
    !is_known(label) && PREFIXES.iter().any(|prefix| starts(prefix))
}

/// Whether text in the charset can be decoded.
pub(super) fn is_known(label: &[u8]) -> bool {
    is_utf8(label) || charset_decoder(label).is_some()
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
            ("=?utf-8?b?YS5l?eGU=?=", "a.exe"),
            ("=?utf-8?q?x?y=2Eexe?=", "x?y.exe"),
            ("=?utf-8?q?a?=?=", "a?="),
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

        /// mail-parser decodes well-formed words to the same text.
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
