//! Text with wildcards and policy variables, compiled once.
//!
//! `*` matches any run of characters, `?` one character. `${key}` is replaced by the value of a condition key,
//! literally: a `*` in the value is not a wildcard. `${key, 'text'}` has a default; `${*}`, `${?}` and `${$}` are the
//! literal characters. Variables are enabled in documents of version 2012-10-17 only; in older ones they are text. IAM
//! User Guide, "IAM policy elements: Variables and tags".

use super::context::Context;

/// A compiled pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern(Form);

/// Most patterns are one of the first three variants, which compare one text without further allocations.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Form {
    /// `*`.
    Anything,
    /// No wildcard and no variable.
    Text(Box<str>),
    /// A star, and how it ends: `*@example.com`.
    Ending(Box<str>),
    Pieces(Box<[Piece]>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(Box<str>),
    AnyRun,
    AnyOne,
    /// Lower-case key, default.
    Variable(String, Option<String>),
}

/// Why a text is not a pattern.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// `${` without `}`.
    #[error("policy variable is not closed in {0:?}")]
    Open(String),
    /// No key between `${` and `}`.
    #[error("policy variable names no condition key in {0:?}")]
    NoKey(String),
    /// The default is not in single quotes.
    #[error("the default of a policy variable must be in single quotes in {0:?}")]
    Default(String),
}

impl Pattern {
    /// Compiles a pattern. `wildcards`: whether `*` and `?` are wildcards; `variables`: whether `${…}` is a policy variable.
    ///
    /// # Errors
    /// [`PatternError`].
    pub fn compile(text: &str, wildcards: bool, variables: bool) -> Result<Self, PatternError> {
        let mut pieces = Vec::new();
        let mut literal = String::new();
        let mut rest = text;
        while let Some(c) = rest.chars().next() {
            if variables && rest.starts_with("${") {
                let (inside, after) = rest[2..].split_once('}').ok_or_else(|| PatternError::Open(text.to_owned()))?;
                rest = after;
                match inside.trim() {
                    special @ ("*" | "?" | "$") => literal.push_str(special),
                    inside => {
                        flush(&mut literal, &mut pieces);
                        pieces.push(variable(inside, text)?);
                    }
                }
                continue;
            }
            rest = &rest[c.len_utf8()..];
            match c {
                '*' if wildcards => {
                    flush(&mut literal, &mut pieces);
                    if pieces.last() != Some(&Piece::AnyRun) {
                        pieces.push(Piece::AnyRun);
                    }
                }
                '?' if wildcards => {
                    flush(&mut literal, &mut pieces);
                    pieces.push(Piece::AnyOne);
                }
                other => literal.push(other),
            }
        }
        flush(&mut literal, &mut pieces);
        Ok(Self(Form::of(pieces)))
    }

    /// Whether a value fits. A variable without value and default fits nothing. Allocates nothing.
    pub fn matches(&self, value: &str, context: &Context, ignore_case: bool) -> bool {
        match &self.0 {
            Form::Anything => true,
            Form::Text(text) => **text == *value || (ignore_case && strip(value, text, true) == Some("")),
            Form::Ending(text) => value.ends_with(&**text) || (ignore_case && ends_with(value, text)),
            Form::Pieces(pieces) => pieces_match(pieces, value, context, ignore_case),
        }
    }

    /// The text with variables replaced, if it has no wildcards and every variable has a value.
    pub fn literal(&self, context: &Context) -> Option<String> {
        let pieces = match &self.0 {
            Form::Text(text) => return Some(text.to_string()),
            Form::Anything | Form::Ending(_) => return None,
            Form::Pieces(pieces) => pieces,
        };
        pieces
            .iter()
            .map(|piece| match piece {
                Piece::Text(text) => Some(&**text),
                Piece::Variable(key, default) => context.single(key).or(default.as_deref()),
                Piece::AnyRun | Piece::AnyOne => None,
            })
            .collect()
    }

    /// Whether it has neither wildcard nor variable.
    pub fn is_literal(&self) -> bool {
        matches!(self.0, Form::Text(_))
    }

    /// Whether it is `*`.
    pub fn is_anything(&self) -> bool {
        self.0 == Form::Anything
    }

    /// Whether one of its variables has neither value nor default in this context, so that it fits nothing.
    #[cfg(feature = "cli")]
    pub(super) fn is_unset(&self, context: &Context) -> bool {
        let pieces: &[Piece] = if let Form::Pieces(pieces) = &self.0 { pieces } else { &[] };
        pieces.iter().any(|piece| matches!(piece, Piece::Variable(key, None) if context.single(key).is_none()))
    }

    /// The keys of its variables, lower case.
    pub fn variables(&self) -> impl Iterator<Item = &str> {
        let pieces: &[Piece] = if let Form::Pieces(pieces) = &self.0 { pieces } else { &[] };
        pieces.iter().filter_map(|piece| match piece {
            Piece::Variable(key, _) => Some(key.as_str()),
            _ => None,
        })
    }
}

impl Form {
    fn of(pieces: Vec<Piece>) -> Self {
        match &pieces[..] {
            [] => Self::Text("".into()),
            [Piece::AnyRun] => Self::Anything,
            [Piece::Text(text)] => Self::Text(text.clone()),
            [Piece::AnyRun, Piece::Text(text)] => Self::Ending(text.clone()),
            _ => Self::Pieces(pieces.into()),
        }
    }
}

/// Matches from the left, and backtracks to the last star only.
fn pieces_match(pieces: &[Piece], value: &str, context: &Context, ignore_case: bool) -> bool {
    // Fast rejection: compare the end of the text first.
    if let [.., Piece::Text(text)] = pieces
        && !ignore_case
        && !value.ends_with(&**text)
    {
        return false;
    }
    let (mut piece, mut rest) = (0, value);
    let mut star: Option<(usize, &str)> = None;
    loop {
        let after = match pieces.get(piece) {
            None if rest.is_empty() => return true,
            None => None,
            Some(Piece::AnyRun) if piece + 1 == pieces.len() => return true,
            Some(Piece::AnyRun) => match seek(&pieces[piece + 1..], rest, ignore_case) {
                Some(found) => {
                    star = Some((piece + 1, found));
                    Some(found)
                }
                None => return false,
            },
            Some(Piece::AnyOne) => without_first(rest),
            Some(Piece::Text(text)) => strip(rest, text, ignore_case),
            Some(Piece::Variable(key, default)) => match context.single(key).or(default.as_deref()) {
                Some(text) => strip(rest, text, ignore_case),
                None => return false,
            },
        };
        if let Some(after) = after {
            (piece, rest) = (piece + 1, after);
            continue;
        }
        // Extend the last star by one character, or up to the next occurrence of the text after it.
        let more = |(next, from)| Some((next, seek(&pieces[next..], without_first(from)?, ignore_case)?));
        let Some((next, found)) = star.and_then(more) else { return false };
        star = Some((next, found));
        (piece, rest) = (next, found);
    }
}

/// The position where the pieces after a star can begin: the next occurrence of the first text piece; at the end if it
/// is the only piece.
fn seek<'a>(pieces: &[Piece], from: &'a str, ignore_case: bool) -> Option<&'a str> {
    match pieces {
        [Piece::Text(text)] if !ignore_case => from.ends_with(&**text).then(|| &from[from.len() - text.len()..]),
        [Piece::Text(text), ..] if !ignore_case => from.find(&**text).map(|at| &from[at..]),
        _ => Some(from),
    }
}

/// Whether a value ends with a text, without regard to case.
fn ends_with(value: &str, text: &str) -> bool {
    value.char_indices().any(|(at, _)| strip(&value[at..], text, true) == Some(""))
}

fn without_first(text: &str) -> Option<&str> {
    text.chars().next().map(|c| &text[c.len_utf8()..])
}

/// `text` without `prefix`, if it begins with it.
fn strip<'a>(text: &'a str, prefix: &str, ignore_case: bool) -> Option<&'a str> {
    if !ignore_case {
        return text.strip_prefix(prefix);
    }
    if let Some(start) = text.get(..prefix.len()).filter(|start| start.eq_ignore_ascii_case(prefix)) {
        return Some(&text[start.len()..]);
    }
    let mut rest = text.chars();
    for wanted in prefix.chars() {
        let got = rest.next()?;
        if got != wanted && !got.to_lowercase().eq(wanted.to_lowercase()) {
            return None;
        }
    }
    Some(rest.as_str())
}

fn flush(literal: &mut String, pieces: &mut Vec<Piece>) {
    if !literal.is_empty() {
        pieces.push(Piece::Text(std::mem::take(literal).into()));
    }
}

fn variable(inside: &str, text: &str) -> Result<Piece, PatternError> {
    let (key, default) = match inside.split_once(',') {
        None => (inside, None),
        Some((key, default)) => {
            let quoted = default.trim().strip_prefix('\'').and_then(|rest| rest.strip_suffix('\''));
            (key, Some(quoted.ok_or_else(|| PatternError::Default(text.to_owned()))?.to_owned()))
        }
    };
    let key = key.trim();
    if !key.contains(':') {
        return Err(PatternError::NoKey(text.to_owned()));
    }
    Ok(Piece::Variable(key.to_ascii_lowercase(), default))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wildcards_match_as_aws_says() {
        let none = Context::new();
        for (pattern, value, want) in [
            ("*", "", true),
            ("*@example.com", "ann@example.com", true),
            ("*@example.com", "ann@example.com.evil", false),
            ("a*b*c", "aXbYbZc", true),
            ("a*b*c", "aXbYbZ", false),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("a?c", "aéc", true),
            ("?*", "", false),
            ("**", "x", true),
            ("Ann", "ann", false),
        ] {
            assert_eq!(
                Pattern::compile(pattern, true, true).unwrap().matches(value, &none, false),
                want,
                "{pattern} {value}"
            );
        }
        assert!(!Pattern::compile("a*", false, true).unwrap().matches("ab", &none, false), "a star is a star here");
        for (pattern, value, want) in [
            ("ANN*", "annette", true),
            ("*EMAIL", "ses:SendEmail", true),
            ("*EMAIL", "ses:SendEmails", false),
            ("*É", "café", true),
            ("*EMAIL", "", false),
            ("s*:SEND*l", "ses:SendRawEmail", true),
        ] {
            let pattern = Pattern::compile(pattern, true, true).unwrap();
            assert_eq!(pattern.matches(value, &none, true), want, "{pattern:?} {value}");
            assert!(!pattern.matches(value, &none, false), "{pattern:?} {value}");
        }
    }

    #[test]
    fn variables_are_taken_literally() {
        let context = Context::new().with("aws:username", "a*b");
        let pattern = Pattern::compile("${AWS:username}@example.com", true, true).unwrap();
        assert!(pattern.matches("a*b@example.com", &context, false));
        assert!(!pattern.matches("axb@example.com", &context, false), "a star in a value is no wildcard");
        assert!(!pattern.matches("@example.com", &Context::new(), false), "no value fits nothing");
        let default = Pattern::compile("${aws:username, 'nobody'}@x", true, true).unwrap();
        assert!(default.matches("nobody@x", &Context::new(), false));
        assert!(Pattern::compile("${*}", true, true).unwrap().matches("*", &Context::new(), false));
        assert!(!Pattern::compile("${*}", true, true).unwrap().matches("x", &Context::new(), false));
        assert!(Pattern::compile("${aws:username}", true, false).unwrap().matches("${aws:username}", &context, false));
        for text in ["${aws:username", "${}", "${name}", "${aws:username, nobody}"] {
            assert!(Pattern::compile(text, true, true).is_err(), "{text}");
        }
    }

    #[test]
    fn many_stars_do_not_explode() {
        let pattern = Pattern::compile(&"a*".repeat(50), true, true).unwrap();
        assert!(!pattern.matches(&"a".repeat(49), &Context::new(), false));
        assert!(pattern.matches(&"ab".repeat(2_500), &Context::new(), false));
    }
}
