//! Translates messages of the TOML reader into messages and hints for operators: the key that was probably meant, or what a key
//! accepts.
//!
//! What a key accepts is the first sentence of its description in the JSON schema, so error messages and editors agree.

use super::Config;
use serde_json::Value;

/// A message of the reader, translated, with a hint if there is one.
pub(super) struct ReaderMessage {
    pub(super) message: String,
    pub(super) hint: Option<String>,
}

/// Translates the reader's message about the value at a path.
pub(super) fn translate(message: &str, path: &str) -> ReaderMessage {
    let names: Vec<&str> = message.split('`').skip(1).step_by(2).collect();
    match names.split_first() {
        Some((wrong, known)) if message.starts_with("unknown field") => {
            let section = path.rsplit_once('.').map_or("", |(section, _)| section);
            let section = if section.is_empty() { String::new() } else { format!(" in {section}") };
            let message = format!("unknown key {wrong}{section}");
            let hint = match nearest(wrong, known) {
                Some(near) => format!("did you mean {near}?"),
                None => format!("known keys: {}", known.join(", ")),
            };
            ReaderMessage { message, hint: Some(hint) }
        }
        Some((wrong, known)) if message.starts_with("unknown variant") => {
            let message = format!("{wrong:?} is not one of {}", known.join(", "));
            let near = nearest(wrong, known).map(|near| format!("did you mean {near:?}?"));
            ReaderMessage { message, hint: near.or_else(|| accepted(path)) }
        }
        _ => ReaderMessage { message: plain(message), hint: accepted(path) },
    }
}

/// What to do about a text that is not TOML. `before` and `rest` are the line up to the wrong octet and from there on.
pub(super) fn syntax(message: &str, before: &str, rest: &str) -> &'static str {
    let begins_with =
        |sign: &str| before.trim_start().starts_with(sign) || before.trim().is_empty() && rest.starts_with(sign);
    let word = rest.split(|c: char| c.is_whitespace() || c == '#').next().unwrap_or_default();
    match message {
        _ if rest.starts_with(['\u{2018}', '\u{2019}', '\u{201c}', '\u{201d}', '\u{201e}', '\u{201a}']) => {
            "replace typographic quotes by plain ones: \" or '"
        }
        _ if rest.starts_with(|c: char| c != ' ' && c.is_whitespace() && !c.is_ascii()) => {
            "replace the no-break space, which looks like a space, by a plain one"
        }
        _ if begins_with("//") || begins_with(";") => "a comment begins with #",
        _ if ["yes", "no", "on", "off", "true", "false"].iter().any(|known| word.eq_ignore_ascii_case(known)) => {
            "write true or false, in small letters and without quotes"
        }
        _ if word.starts_with(|c: char| c.is_ascii_digit()) && word.ends_with(|c: char| c.is_ascii_alphabetic()) => {
            "a number has no unit: write octets or seconds, as the name of the key says"
        }
        text if text.contains("duplicate key") => "keep one of the two; a second table of a list is written [[…]]",
        text if text.contains("invalid key") || text.contains("key with no value") || text.contains("expected `=`") => {
            "a line is KEY = VALUE; a key with other characters than A-Z a-z 0-9 _ - needs quotes"
        }
        _ => {
            "this is not TOML: a line is KEY = VALUE, texts stand in quotes, lists in [ ], sections begin with [SECTION]"
        }
    }
}

/// Replaces the names of Rust types.
fn plain(message: &str) -> String {
    [
        ("missing field", "missing key"),
        ("wanted string or table", "expected a string"),
        ("expected i64", "expected a whole number"),
        ("expected f64", "expected a number"),
        ("expected a sequence", "expected a list"),
        ("expected a map", "expected a table"),
        ("` as i128", "`"),
        ("` as u128", "`"),
    ]
    .iter()
    .fold(message.replace('\n', "; "), |text, (theirs, ours)| {
        // Also where the type's own name follows: `expected struct Listener`.
        text.replace(theirs, ours)
    })
    .split(", expected struct ")
    .next()
    .map(
        |text| {
            if message.contains(", expected struct ") { format!("{text}, expected a table") } else { text.to_owned() }
        },
    )
    .unwrap_or_default()
}

/// A hint for a name that does not exist: the one that was probably meant, or the names that exist.
pub(crate) fn one_of<'a>(wrong: &str, known: impl IntoIterator<Item = &'a str>, kind: &str) -> String {
    let known: Vec<&str> = known.into_iter().take(NAMES_COMPARED_MAX).collect();
    match (nearest(wrong, &known), known.as_slice()) {
        (Some(near), _) => format!("did you mean {near:?}?"),
        (None, []) => format!("there is no {kind} in this file"),
        (None, known) => {
            let shown: Vec<String> = known.iter().take(NAMES_SHOWN_MAX).map(|name| format!("{name:?}")).collect();
            let more = if known.len() > NAMES_SHOWN_MAX { ", …" } else { "" };
            format!("name the {kind} as the file has it: {}{more}", shown.join(", "))
        }
    }
}

/// Names that are compared: a file may have as many errors as names.
const NAMES_COMPARED_MAX: usize = 1_000;
/// Names that a hint lists.
const NAMES_SHOWN_MAX: usize = 10;

/// The most similar candidate, if it differs by a third of the letters at most.
fn nearest<'a>(wrong: &str, known: &[&'a str]) -> Option<&'a str> {
    let distance = |candidate: &str| edits(&wrong.to_lowercase(), &candidate.to_lowercase());
    let best = known.iter().copied().min_by_key(|candidate| distance(candidate))?;
    let contained = best.len() >= 3 && (wrong.contains(best) || best.contains(wrong)) && wrong.len() >= 3;
    (distance(best) <= wrong.len().max(3) / 3 || contained).then_some(best)
}

/// The Levenshtein distance, with a swap of neighbours as one edit.
fn edits(left: &str, right: &str) -> usize {
    let (left, right): (Vec<char>, Vec<char>) = (left.chars().take(64).collect(), right.chars().take(64).collect());
    let mut before: Vec<usize> = Vec::new();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (i, a) in left.iter().enumerate() {
        let mut next = vec![i + 1];
        for (j, b) in right.iter().enumerate() {
            let mut cost = (row[j] + usize::from(a != b)).min(row[j + 1] + 1).min(next[j] + 1);
            if i > 0 && j > 0 && *a == right[j - 1] && left[i - 1] == *b {
                cost = cost.min(before[j - 1] + 1);
            }
            next.push(cost);
        }
        before = std::mem::replace(&mut row, next);
    }
    row.last().copied().unwrap_or_default()
}

/// What the key at that path accepts, from its description in the schema.
fn accepted(path: &str) -> Option<String> {
    let schema = schemars::schema_for!(Config).to_value();
    let mut node = &schema;
    let mut described: Option<(String, &Value)> = None;
    for step in path.split('.').filter(|step| !step.is_empty()) {
        node = below(&schema, node, step)?;
        // An item of a list has no description of its own; that of the list describes the items.
        if let Some(description) = node.get("description") {
            described = Some((step.to_owned(), description));
        }
    }
    let (key, description) = described?;
    let text = description.as_str()?.replace('\n', " ");
    let sentence = text.split_inclusive(". ").next().unwrap_or_default().trim_end().trim_end_matches('.');
    Some(format!("{key}: {sentence}"))
}

/// The schema of a member or an item.
fn below<'a>(root: &'a Value, node: &'a Value, step: &str) -> Option<&'a Value> {
    let node = resolved(root, node);
    node.pointer(&format!("/properties/{step}"))
        .or_else(|| node.get("items").filter(|_| step.parse::<usize>().is_ok()))
        .or_else(|| node.get("additionalProperties").filter(|value| value.is_object()))
        .or_else(|| {
            let choices = node.get("anyOf").or_else(|| node.get("oneOf"))?.as_array()?;
            choices.iter().find_map(|choice| below(root, choice, step))
        })
}

fn resolved<'a>(root: &'a Value, node: &'a Value) -> &'a Value {
    let target = node.get("$ref").and_then(Value::as_str).and_then(|name| name.strip_prefix('#'));
    target.and_then(|pointer| root.pointer(pointer)).unwrap_or(node)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_keyboard_is_recognised_and_a_guess_is_not_made() {
        let known = ["address", "name", "tls", "certificate", "auth"];
        for (wrong, want) in [
            ("adress", Some("address")),
            ("adderss", Some("address")),
            ("Address", Some("address")),
            ("nmae", Some("name")),
            ("tsl", Some("tls")),
            ("certificate_file", Some("certificate")),
            ("port", None),
            ("x", None),
        ] {
            assert_eq!(nearest(wrong, &known), want, "{wrong}");
        }
    }

    #[test]
    fn every_path_of_the_schema_says_what_it_accepts() {
        for (path, want) in [
            ("listener.3.tls", "tls: none, starttls or implicit"),
            ("smtp.recipients_max", "recipients_max: Recipients of a message, 1 to 1000"),
            ("policy.clients.0", "clients: A list of networks"),
            ("ses.list_management.topic", "topic: The name of a topic"),
            ("auth.users.ann", "users: Names with a password hash each"),
        ] {
            assert!(accepted(path).is_some_and(|hint| hint.starts_with(want)), "{path}: {:?}", accepted(path));
        }
        assert_eq!(accepted("no.such"), None);
    }
}
