//! Prepares SES's text for a rejected message for the client: one line, without details of the operator's account.

use crate::mail::Content;

/// The octets of SES's text in a reply, whose text has 400 together with the reference id.
const TEXT_OCTETS_MAX: usize = 240;

/// The text in one line, truncated to 240 octets. ARNs, account numbers, and addresses that are not in the header section of the
/// message are masked: the client does not know the target of a redirect or the feedback address.
pub(super) fn masked(text: &str, content: &Content) -> String {
    let mut known = String::new();
    for field in content.fields() {
        known.push_str(&String::from_utf8_lossy(field.value).to_ascii_lowercase());
    }
    let mut line = String::new();
    for piece in text.split_inclusive(is_separator) {
        let word = piece.trim_end_matches(is_separator);
        match mask(word, &known) {
            Some((before, mask)) => line.extend([before, mask]),
            None => line.push_str(word),
        }
        match piece[word.len()..].chars().next() {
            Some(c) if c.is_whitespace() && (line.is_empty() || line.ends_with(' ')) => {}
            Some(c) => line.push(if c.is_whitespace() { ' ' } else { c }),
            None => {}
        }
    }
    let line = line.trim_end();
    let end = (0..=TEXT_OCTETS_MAX.min(line.len())).rev().find(|end| line.is_char_boundary(*end)).unwrap_or(0);
    line[..end].to_owned()
}

/// The visible start of a word, and the mask for its rest. `None`: the whole word is visible.
fn mask<'a>(word: &'a str, known: &str) -> Option<(&'a str, &'static str)> {
    let lower = word.to_ascii_lowercase();
    if let Some(at) = lower.find("arn:") {
        return Some((&word[..at], "[ARN]"));
    }
    if lower.contains('@') && !known.contains(lower.trim_matches(['.', ':'])) {
        return Some(("", "[address]"));
    }
    let account = word.split(|c: char| !c.is_ascii_digit()).any(|digits| digits.len() == ACCOUNT_DIGITS);
    account.then_some(("", "[account]"))
}

/// An AWS account number has 12 digits.
const ACCOUNT_DIGITS: usize = 12;

fn is_separator(c: char) -> bool {
    c.is_whitespace() || matches!(c, ',' | ';' | '<' | '>' | '(' | ')' | '[' | ']' | '"' | '\'' | '`')
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    #[test]
    fn a_client_sees_what_is_wrong_and_nothing_of_the_operators() {
        let message = b"From: Ann <ann@a.example>\r\nTo: Bob@B.example\r\n\r\neve@e.example\r\n";
        let content = Content::parse(Bytes::from_static(message), &Default::default(), Default::default()).unwrap();
        for (text, want) in [
            ("Missing final '@domain'", "Missing final '[address]'"),
            ("Illegal address: <bob@b.example>", "Illegal address: <bob@b.example>"),
            ("not verified: ANN@A.EXAMPLE, bob@b.example.", "not verified: ANN@A.EXAMPLE, bob@b.example."),
            ("not verified: staging@inside.example, a@x", "not verified: [address], [address]"),
            // Only the header section is the client's word for who is in it.
            ("eve@e.example", "[address]"),
            ("`arn:aws:ses:eu-central-1:111122223333:identity/a.example' is not", "`[ARN]' is not"),
            ("resource=ARN:aws:iam::1:role/x.", "resource=[ARN]"),
            ("account 111122223333: no", "account [account] no"),
            ("1111222233334 octets", "1111222233334 octets"),
            ("two\r\n250 2.0.0 lines\t\there ", "two 250 2.0.0 lines here"),
            ("", ""),
        ] {
            assert_eq!(masked(text, &content), want, "{text}");
        }
        assert_eq!(masked(&"é".repeat(200), &content), "é".repeat(120));
        assert_eq!(masked(&"x ".repeat(200), &content).len(), 240);
    }
}
