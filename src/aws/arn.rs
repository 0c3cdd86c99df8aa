//! Amazon Resource Names: `arn:partition:service:region:account:resource`.
//!
//! IAM User Guide, "Amazon Resource Names (ARNs)"; in policies, "IAM JSON policy elements: Resource".

use super::pattern::Pattern;
use std::fmt;

/// An ARN, split into its six parts. The resource may contain colons and slashes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Arn {
    text: String,
    /// Where the second to sixth part begin.
    starts: [usize; 5],
}

impl Arn {
    /// Splits an ARN. The parts may be empty (S3 has no region), the prefix may not.
    pub fn parse(text: &str) -> Option<Self> {
        let starts = starts(text)?;
        Some(Self { text: text.to_owned(), starts })
    }

    /// `arn`, partition, service, region, account, resource.
    pub fn parts(&self) -> [&str; 6] {
        parts(&self.text, self.starts)
    }

    /// The whole.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl fmt::Display for Arn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

fn starts(text: &str) -> Option<[usize; 5]> {
    let mut starts = [0; 5];
    let mut colons = memchr::memchr_iter(b':', text.as_bytes());
    for start in &mut starts {
        *start = colons.next()? + 1;
    }
    (text.starts_with("arn:") && text.len() > starts[4]).then_some(starts)
}

fn parts(text: &str, [a, b, c, d, e]: [usize; 5]) -> [&str; 6] {
    [&text[..a - 1], &text[a..b - 1], &text[b..c - 1], &text[c..d - 1], &text[d..e - 1], &text[e..]]
}

/// The six parts of an ARN, if it is one.
pub(super) fn split(arn: &str) -> Option<[&str; 6]> {
    starts(arn).map(|starts| parts(arn, starts))
}

/// Whether an ARN fits a pattern of six parts, each matched by itself: `*` in the region does not reach into the account.
/// In the resource part `*` spans slashes and colons.
pub(super) fn parts_match(patterns: &[Pattern; 6], arn: &[&str; 6], context: &super::Context) -> bool {
    patterns.iter().zip(arn).all(|(pattern, part)| pattern.matches(part, context, false))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_arn_has_six_parts() {
        let arn = Arn::parse("arn:aws:ses:us-east-1:111122223333:identity/a:b").unwrap();
        assert_eq!(arn.parts(), ["arn", "aws", "ses", "us-east-1", "111122223333", "identity/a:b"]);
        assert_eq!(Arn::parse("arn:aws:s3:::bucket").unwrap().parts(), ["arn", "aws", "s3", "", "", "bucket"]);
        for text in ["", "arn", "arn:aws:ses:us-east-1:111122223333", "arn:aws:ses:us-east-1:1:", "xrn:a:b:c:d:e"] {
            assert_eq!(Arn::parse(text), None, "{text}");
        }
    }
}
