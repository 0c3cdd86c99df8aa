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
    /// Splits an ARN. Parts may be empty (S3 ARNs have no region), the prefix may not.
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

/// An ARN pattern by parts. A pattern with fewer parts than six is none, except for `*`, which is any ARN.
pub(super) fn compile(text: &str, variables: bool) -> Option<Box<[Pattern; 6]>> {
    let parts: Vec<String> = if text == "*" { vec!["*".to_owned(); 6] } else { split_outside_variables(text) };
    if parts.len() != 6 || !matches!(parts[0].as_str(), "arn" | "*") {
        return None;
    }
    let patterns: Vec<Pattern> =
        parts.iter().map(|part| Pattern::compile(part, true, variables)).collect::<Result<_, _>>().ok()?;
    patterns.try_into().ok().map(Box::new)
}

/// The pattern of a `Resource` or `NotResource`. As [`compile`], and a star at the end reaches over the colons that are not
/// written: `arn:aws:ses:*`. One that AWS does not allow is compiled to fit nothing.
/// "IAM JSON policy elements: Resource", "Using wildcards in resource ARNs".
pub(super) fn compile_resource(text: &str, variables: bool) -> Option<Box<[Pattern; 6]>> {
    let written = split_outside_variables(text).len();
    let mut patterns = if (3..6).contains(&written) && text.ends_with('*') {
        compile(&format!("{text}{}", ":*".repeat(6 - written)), variables)?
    } else {
        compile(text, variables)?
    };
    if not_allowed(text, variables).is_some() {
        // Every ARN begins with `arn`.
        patterns[0] = Pattern::compile("", false, false).ok()?;
    }
    Some(patterns)
}

/// Why AWS does not allow this pattern as `Resource` or `NotResource`, if it does not: a wildcard in the service or in the
/// type of the resource, a policy variable before the resource. `*` alone, and as the whole resource, is allowed.
/// "IAM JSON policy elements: Resource", "Using wildcards in resource ARNs"; "IAM policy elements: Variables and tags".
pub(super) fn not_allowed(text: &str, variables: bool) -> Option<&'static str> {
    let parts = split_outside_variables(text);
    let wild = |part: &str| part.contains(['*', '?']);
    if parts.len() < 3 {
        return None;
    }
    let before_resource = &parts[1..parts.len().min(5)];
    if variables && before_resource.iter().any(|part| part.contains("${")) {
        return Some("AWS takes no policy variable for the partition, service, region or account");
    }
    if wild(&parts[2]) {
        return Some("AWS takes no wildcard for the service");
    }
    let resource = parts.get(5).map_or("*", String::as_str);
    let is_whole = resource.chars().all(|c| c == '*');
    let kind = resource.split(['/', ':']).next().unwrap_or_default();
    if TYPED_SERVICES.contains(&parts[2].as_str()) && !is_whole && wild(without_variables(kind).as_str()) {
        return Some("AWS takes no wildcard for the type of the resource, as in identity/ or configuration-set/");
    }
    None
}

/// Services whose resources all have the form `type/name`. Other services have resources without a type, such as the
/// buckets of S3, whose names may contain wildcards.
const TYPED_SERVICES: &[&str] = &["iam", "ses"];

/// A text with each `${…}` left out.
fn without_variables(text: &str) -> String {
    let mut rest = text;
    let mut kept = String::new();
    while let Some((before, after)) = rest.split_once("${") {
        kept.push_str(before);
        rest = after.split_once('}').map_or("", |(_, after)| after);
    }
    kept + rest
}

/// Six parts at the first five colons that are not inside `${…}`.
fn split_outside_variables(text: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut depth = false;
    for c in text.chars() {
        match c {
            '{' if parts.last().is_some_and(|part| part.ends_with('$')) => depth = true,
            '}' => depth = false,
            ':' if !depth && parts.len() < 6 => {
                parts.push(String::new());
                continue;
            }
            _ => {}
        }
        if let Some(part) = parts.last_mut() {
            part.push(c);
        }
    }
    parts
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

    #[test]
    fn a_resource_pattern_that_aws_does_not_allow_fits_nothing() {
        let arn = "arn:aws:ses:us-east-1:111122223333:identity/example.com";
        let context = super::super::Context::new().with("aws:PrincipalTag/region", "us-east-1");
        for (text, allowed) in [
            (arn, true),
            ("arn:aws:ses:*", true),
            ("arn:aws:ses:us-east-1:111122223333:*", true),
            ("arn:aws:ses:us-*:1111*:identity/ex*", true),
            ("arn:aws:ses:us-east-?:*:identity/*.com", true),
            ("arn:*:ses:us-east-1:111122223333:identity/*", true),
            ("arn:aws:*:us-east-1:111122223333:identity/example.com", false),
            ("arn:aws:s?s:us-east-1:111122223333:identity/example.com", false),
            ("arn:aws:s*", false),
            ("arn:aws:ses:us-east-1:111122223333:ident*", false),
            ("arn:aws:ses:us-east-1:111122223333:i*/example.com", false),
            ("arn:aws:ses:us-east-1:111122223333:*/example.com", false),
            ("arn:aws:ses:us-east-1:111122223333:?dentity/example.com", false),
            ("arn:aws:ses:${aws:PrincipalTag/region}:111122223333:identity/example.com", false),
            ("arn:aws:ses:us-east-1:${aws:PrincipalAccount, '111122223333'}:identity/example.com", false),
        ] {
            let patterns = compile_resource(text, true).unwrap();
            assert_eq!(parts_match(&patterns, &split(arn).unwrap(), &context), allowed, "{text}");
            assert_eq!(not_allowed(text, true).is_none(), allowed, "{text}");
        }
        // Resources without a type, and a variable for the type.
        for text in
            ["*", "arn:aws:s3:::my-*/x", "arn:aws:sqs:us-east-1:1:q*", "arn:aws:ses:us-east-1:1:${aws:a, '*'}/x"]
        {
            assert_eq!(not_allowed(text, true), None, "{text}");
        }
    }
}
