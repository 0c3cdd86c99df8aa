//! Text of clients and of the provider, made safe to show.

use std::borrow::Cow;

/// Longest text of a peer or a provider in a line, in characters.
pub(super) const TEXT_MAX: usize = 500;

/// [`printable`] for an owned text.
pub(super) fn printable_text(text: String) -> String {
    match printable(&text) {
        Cow::Owned(printable) => printable,
        Cow::Borrowed(_) => text,
    }
}

/// A text without control characters (a line end above all) and without what a terminal would act on. Those of ASCII
/// become the characters that show them, U+2400 to U+2421; others become U+FFFD.
pub(crate) fn printable(text: &str) -> Cow<'_, str> {
    if text.len() <= TEXT_MAX && text.bytes().all(|octet| matches!(octet, b' '..=b'~')) {
        return Cow::Borrowed(text);
    }
    let shown = |c: char| match c {
        '\0'..='\u{1f}' => char::from_u32(0x2400 + c as u32).unwrap_or(char::REPLACEMENT_CHARACTER),
        '\u{7f}' => '\u{2421}',
        '\u{80}'..='\u{9f}' | '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {
            char::REPLACEMENT_CHARACTER
        }
        c => c,
    };
    text.chars().take(TEXT_MAX).map(shown).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_cannot_write_a_line_of_its_own() {
        assert_eq!(printable("a\r\nb\u{1b}[2J\u{202e}\u{7f}\u{85}é\\"), "a␍␊b␛[2J\u{fffd}␡\u{fffd}é\\");
        assert_eq!(printable(&"é".repeat(600)).chars().count(), TEXT_MAX);
    }
}
