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
        let mut starts = [0; 5];
        let mut colons = text.match_indices(':').map(|(at, _)| at + 1);
        for start in &mut starts {
            *start = colons.next()?;
        }
        (text.starts_with("arn:") && text.len() > starts[4]).then(|| Self { text: text.to_owned(), starts })
    }

    /// `arn`, partition, service, region, account, resource.
    pub fn parts(&self) -> [&str; 6] {
        let [a, b, c, d, e] = self.starts;
        let text = &self.text;
        [&text[..a - 1], &text[a..b - 1], &text[b..c - 1], &text[c..d - 1], &text[d..e - 1], &text[e..]]
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

/// Whether an ARN fits a pattern of six parts, each matched by itself: `*` in the region does not reach into the account.
/// In the resource part `*` spans slashes and colons.
pub(super) fn parts_match(patterns: &[Pattern; 6], arn: &str, context: &super::Context) -> bool {
    Arn::parse(arn).is_some_and(|arn| {
        patterns.iter().zip(arn.parts()).all(|(pattern, part)| pattern.matches(part, context, false))
    })
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
