//! What differs between two configurations, in words.

use super::Config;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use toml::{Table, Value};

/// A configuration as its files are, to compare another one with.
#[derive(Clone, Default)]
pub(crate) struct FilesRead {
    text: Arc<str>,
    /// Variables of the environment that override keys.
    variables: Vec<String>,
    /// A digest of each file that the configuration names and that was read.
    files: BTreeMap<PathBuf, u64>,
}

/// The text may hold secrets.
impl std::fmt::Debug for FilesRead {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FilesRead").field("files", &self.files).finish_non_exhaustive()
    }
}

/// Differences that are listed.
const LISTED_MAX: usize = 100;
/// The longest value that is shown, in characters.
const VALUE_MAX: usize = 200;
/// Lists of tables, the key that names a table in them, and what one is called.
const LISTS: [(&str, &str, &str); 3] =
    [("app", "name", "application"), ("listener", "name", "listener"), ("limit", "name", "limit")];
/// Keys whose text is a secret if it stands in the file.
const SECRETS: [&str; 6] = ["token", "operator_token", "key", "user_list", "url", "password"];

impl FilesRead {
    pub(super) fn new(config: &Config, files: BTreeMap<PathBuf, u64>) -> Self {
        Self { text: config.source_map.text().into(), variables: config.source_map.variables(), files }
    }

    /// The file as TOML without comments and without secrets, and after it the names of the variables that override keys.
    pub(crate) fn shown(&self) -> String {
        let table: Table = toml::from_str(&self.text).unwrap_or_default();
        let mut text = toml::to_string(&masked("", Value::Table(table))).unwrap_or_default();
        for name in &self.variables {
            text.push_str(&format!("# overridden by {name}\n"));
        }
        text
    }

    /// A digest of everything that was read.
    pub(crate) fn digest(&self) -> String {
        let mut text = self.text.to_string();
        for (path, digest) in &self.files {
            text.push_str(&format!("\n{}={digest}", path.display()));
        }
        format!("{:016x}", digest(text.as_bytes()))
    }

    /// The same as the files are now; one that cannot be read is empty. Blocks.
    pub(crate) fn digest_now(&self, config: &Path) -> String {
        let files = self.files.keys().map(|path| (path.clone(), digest(&std::fs::read(path).unwrap_or_default())));
        let text = std::fs::read(config).unwrap_or_default();
        Self { text: String::from_utf8_lossy(&text).into(), files: files.collect(), variables: Vec::new() }.digest()
    }

    /// What `next` changes. Secrets are not shown.
    pub(crate) fn changes(&self, next: &Self) -> Vec<String> {
        let mut changes = Vec::new();
        let (before, after) = (entries(&self.text), entries(&next.text));
        let keys: std::collections::BTreeSet<&Entry> = before.keys().chain(after.keys()).collect();
        for entry in keys {
            match (before.get(entry), after.get(entry)) {
                (Some(_), None) if !entry.thing.is_empty() => changes.push(format!("{} is removed", entry.thing)),
                (None, Some(_)) if !entry.thing.is_empty() => changes.push(format!("{} is added", entry.thing)),
                (before, after) => {
                    let empty = BTreeMap::new();
                    values(&entry.thing, before.unwrap_or(&empty), after.unwrap_or(&empty), &mut changes);
                }
            }
        }
        for (path, digest) in &next.files {
            if self.files.get(path).is_some_and(|before| before != digest) {
                changes.push(format!("{} has other content", path.display()));
            }
        }
        let more = changes.len().saturating_sub(LISTED_MAX);
        if more > 0 {
            changes.truncate(LISTED_MAX);
            changes.push(format!("and {more} more"));
        }
        changes
    }
}

/// FNV-1a, to find out whether a text is another one. It protects against no attack: who can write the files can change the configuration anyway.
pub(super) fn digest(octets: &[u8]) -> u64 {
    octets.iter().fold(0xcbf2_9ce4_8422_2325, |hash, octet| (hash ^ u64::from(*octet)).wrapping_mul(0x0100_0000_01b3))
}

/// An application, a listener, a limit; or, without a name, all other keys.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Entry {
    thing: String,
}

fn entries(text: &str) -> BTreeMap<Entry, BTreeMap<String, Value>> {
    // A configuration in force could be parsed.
    let table: Table = toml::from_str(text).unwrap_or_default();
    let mut entries = BTreeMap::from([(Entry::default(), BTreeMap::new())]);
    for (key, value) in table {
        match (LISTS.iter().find(|(list, ..)| *list == key), value) {
            (Some((_, name, thing)), Value::Array(items)) => {
                for (index, item) in items.into_iter().enumerate() {
                    let Value::Table(item) = item else { continue };
                    let called = item.get(*name).or_else(|| item.get("address"));
                    let called = called.map_or_else(|| format!("{}", index + 1), plain);
                    let mut flat = BTreeMap::new();
                    flatten("", Value::Table(item), &mut flat);
                    entries.insert(Entry { thing: format!("{thing} {called}") }, flat);
                }
            }
            (_, value) => flatten(&key, value, entries.entry(Entry::default()).or_default()),
        }
    }
    entries
}

fn flatten(path: &str, value: Value, into: &mut BTreeMap<String, Value>) {
    match value {
        // A source, such as { file = "…" }, is one value.
        Value::Table(table) if !is_source(&table) => {
            for (key, value) in table {
                let path = if path.is_empty() { key } else { format!("{path}.{key}") };
                flatten(&path, value, into);
            }
        }
        value => {
            into.insert(path.to_owned(), value);
        }
    }
}

fn is_source(table: &Table) -> bool {
    table.len() == 1 && ["file", "env", "credential"].iter().any(|key| table.contains_key(*key))
}

fn values(thing: &str, before: &BTreeMap<String, Value>, after: &BTreeMap<String, Value>, changes: &mut Vec<String>) {
    let keys: std::collections::BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    for key in keys {
        let name = if thing.is_empty() { key.clone() } else { format!("{thing}: {key}") };
        let shown = |value: &Value| show(key, value);
        match (before.get(key), after.get(key)) {
            (Some(one), Some(other)) if one == other => {}
            (Some(one), Some(other)) => changes.push(format!("{name} changes from {} to {}", shown(one), shown(other))),
            (Some(one), None) => changes.push(format!("{name} is removed; it was {}", shown(one))),
            (None, Some(other)) => changes.push(format!("{name} is set to {}", shown(other))),
            (None, None) => {}
        }
    }
}

/// Whether the text of that key is a secret.
fn is_secret(key: &str, value: &Value) -> bool {
    let last = key.rsplit('.').next().unwrap_or(key);
    value.is_str() && (SECRETS.contains(&last) || key.contains("users.") || key.contains("operator_tokens."))
}

/// The value with a mask in place of each secret, also of those in lists of tables.
fn masked(path: &str, value: Value) -> Value {
    match value {
        value if is_secret(path, &value) => Value::String(MASK.to_owned()),
        Value::Table(table) if is_source(&table) => Value::Table(table),
        Value::Table(table) => {
            let below = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
            Value::Table(table.into_iter().map(|(key, value)| (key.clone(), masked(&below(&key), value))).collect())
        }
        Value::Array(items) => Value::Array(items.into_iter().map(|item| masked(path, item)).collect()),
        value => value,
    }
}

/// What stands in place of a secret.
const MASK: &str = "(a secret)";

fn show(key: &str, value: &Value) -> String {
    let masked = masked(key, value.clone());
    if masked.as_str() == Some(MASK) {
        return MASK.to_owned();
    }
    let text = masked.to_string();
    match text.char_indices().nth(VALUE_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, file: u64) -> FilesRead {
        FilesRead { text: text.into(), variables: Vec::new(), files: BTreeMap::from([("/etc/role.json".into(), file)]) }
    }

    #[test]
    fn differences_are_told_in_words_and_secrets_are_not_shown() {
        let before = r#"
            hostname = "relay.example"
            [pace]
            percent = 98
            [auth]
            users.ann = "hash one"
            [admin]
            token = { file = "/a" }
            [[app]]
            name = "billing"
            from = ["*@a.example"]
            [[app]]
            name = "old"
            [[listener]]
            address = "127.0.0.1:25"
        "#;
        let after = r#"
            [pace]
            percent = 90
            [auth]
            users.ann = "hash two"
            [admin]
            token = { file = "/b" }
            [[app]]
            name = "new"
            [[app]]
            name = "billing"
            from = ["*@b.example"]
            [[listener]]
            address = "127.0.0.1:25"
            auth = "required"
        "#;
        assert_eq!(
            read(before, 1).changes(&read(after, 2)),
            [
                "admin.token changes from { file = \"/a\" } to { file = \"/b\" }",
                "auth.users.ann changes from (a secret) to (a secret)",
                "hostname is removed; it was \"relay.example\"",
                "pace.percent changes from 98 to 90",
                "application billing: from changes from [\"*@a.example\"] to [\"*@b.example\"]",
                "application new is added",
                "application old is removed",
                "listener 127.0.0.1:25: auth is set to \"required\"",
                "/etc/role.json has other content",
            ]
        );
        // A private key in a list of tables.
        let pairs =
            |key: &str| format!("[tls]\nfurther_pairs = [{{ certificate = {{ file = \"/c\" }}, key = \"{key}\" }}]");
        let changes = read(&pairs("PRIVATE one"), 1).changes(&read(&pairs("PRIVATE two"), 1));
        assert!(changes.len() == 1 && changes[0].contains("/c") && !changes[0].contains("PRIVATE"), "{changes:?}");
        let shown = read(before, 1).shown();
        assert!(shown.contains("file = \"/a\""), "a source is no secret: {shown}");
        assert!(shown.contains("ann = \"(a secret)\"") && !shown.contains("hash one"), "{shown}");
        assert!(shown.contains("[[app]]\nfrom = [\"*@a.example\"]\nname = \"billing\"\n"), "{shown}");
        assert!(read(before, 1).changes(&read(before, 1)).is_empty());
        assert_ne!(read(before, 1).digest(), read(before, 2).digest());
    }
}
