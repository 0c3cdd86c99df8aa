//! The place of every key: line and column in the file, or the environment variable that sets it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use toml::de::{DeTable, DeValue};

/// A place that an operator can look at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Location {
    /// In the file, counted from 1; columns in characters.
    Line {
        /// The file.
        file: PathBuf,
        /// The line.
        line: usize,
        /// The column.
        column: usize,
    },
    /// The file as a whole: for a key that is missing.
    File(PathBuf),
    /// An environment variable.
    Variable(String),
}

impl Location {
    /// The line, or 0.
    pub fn line(&self) -> usize {
        if let Self::Line { line, .. } = self { *line } else { 0 }
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Line { file, line, column } => write!(f, "{}:{line}:{column}", file.display()),
            Self::File(file) => file.display().fmt(f),
            Self::Variable(name) => write!(f, "environment variable {name}"),
        }
    }
}

/// The places of all keys and values. A path has dots, and indexes of lists counted from 0: `listener.0.address`.
///
/// A thousand applications have ten thousand paths, and only errors and warnings need them. So only the keys of sections are
/// recorded at first; the other places are computed from the text at the first use.
#[derive(Clone, Default)]
pub(crate) struct SourceMap {
    file: PathBuf,
    text: Arc<str>,
    /// The top-level keys, and those right below them.
    keys: BTreeSet<String>,
    positions: OnceLock<BTreeMap<String, KeyPosition>>,
    /// The byte that each line begins at.
    line_starts: OnceLock<Vec<usize>>,
    variables: BTreeMap<String, String>,
}

impl fmt::Debug for SourceMap {
    /// The text may hold secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SourceMap({})", self.file.display())
    }
}

#[derive(Clone, Debug)]
struct KeyPosition {
    /// The byte that errors name: of the value, or of the key of a table or list.
    shown: usize,
    key: Range<usize>,
    value: Range<usize>,
}

impl SourceMap {
    /// Of the text of a file. A text that is not TOML has no places.
    #[cfg(test)]
    fn new(file: &Path, text: &str) -> Self {
        let document = DeTable::parse(text);
        Self::of_document(file, text, document.as_ref().ok().map(toml::Spanned::get_ref))
    }

    /// Of the text of a file and the document in it, if the text is TOML.
    pub(super) fn of_document(file: &Path, text: &str, document: Option<&DeTable<'_>>) -> Self {
        let mut keys = BTreeSet::new();
        for (top, value) in document.into_iter().flatten() {
            keys.insert(top.get_ref().to_string());
            if let DeValue::Table(section) = value.get_ref() {
                keys.extend(section.keys().map(|key| join(top.get_ref(), key.get_ref())));
            }
        }
        Self { file: file.to_owned(), text: text.into(), keys, ..Self::default() }
    }

    fn all(&self) -> &BTreeMap<String, KeyPosition> {
        self.positions.get_or_init(|| {
            let mut positions = BTreeMap::new();
            if let Ok(document) = DeTable::parse(&self.text) {
                enter_table(&mut positions, "", document.get_ref());
            }
            positions
        })
    }

    /// Records that a variable set the value of that path.
    pub(super) fn overridden(&mut self, path: &str, variable: &str) {
        self.variables.insert(path.to_owned(), variable.to_owned());
    }

    /// The variables that override keys.
    pub(super) fn variables(&self) -> Vec<String> {
        self.variables.values().cloned().collect()
    }

    /// The place of a path, or of the nearest table around it that has one; for the empty path, the file.
    pub(crate) fn of(&self, path: &str) -> Location {
        let mut path = path;
        // A variable for a whole section replaces what the file has below it.
        let above = |known: &&String| path.strip_prefix(known.as_str()).is_some_and(|rest| rest.starts_with('.'));
        if let Some(known) = self.variables.keys().filter(above).max_by_key(|known| known.len())
            && !self.variables.contains_key(path)
        {
            return Location::Variable(self.variables[known].clone());
        }
        while !path.is_empty() {
            if let Some(variable) = self.variables.get(path) {
                return Location::Variable(variable.clone());
            }
            if let Some(stand) = self.all().get(path) {
                return self.at(stand.shown);
            }
            path = path.rsplit_once('.').map_or("", |(around, _)| around);
        }
        Location::File(self.file.clone())
    }

    /// The place of a byte of the file. Lines are computed once: a file may have as many errors as lines.
    pub(super) fn at(&self, octet: usize) -> Location {
        let starts = self
            .line_starts
            .get_or_init(|| std::iter::once(0).chain(self.text.match_indices('\n').map(|(end, _)| end + 1)).collect());
        let line = starts.partition_point(|start| *start <= octet);
        let line_start = starts.get(line.saturating_sub(1)).copied().unwrap_or_default();
        let before = self.text.get(line_start..octet).or_else(|| self.text.get(line_start..)).unwrap_or_default();
        Location::Line { file: self.file.clone(), line, column: before.chars().count() + 1 }
    }

    /// The path of the innermost key or value around a byte.
    pub(super) fn path_at(&self, octet: usize) -> Option<&str> {
        let around = |stand: &KeyPosition| stand.key.contains(&octet) || stand.value.contains(&octet);
        let innermost = self.all().iter().filter(|(_, stand)| around(stand)).max_by_key(|(path, _)| path.len());
        innermost.map(|(path, _)| path.as_str())
    }

    /// Whether the file or a variable has that section, or that key of a section.
    pub(super) fn contains(&self, path: &str) -> bool {
        let below =
            |known: &String| known.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
        self.keys.iter().chain(self.variables.keys()).any(below)
    }

    /// The keys of a section that the file or a variable has.
    pub(super) fn below(&self, path: &str) -> Vec<String> {
        let rest = |known: &String| Some(known.strip_prefix(path)?.strip_prefix('.')?.to_owned());
        let keys: Vec<String> = self.keys.iter().chain(self.variables.keys()).filter_map(rest).collect();
        let direct = keys.iter().filter_map(|key| key.split('.').next()).map(str::to_owned);
        direct.collect::<BTreeSet<_>>().into_iter().collect()
    }

    /// The text of the file.
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// The file.
    pub(super) fn file(&self) -> &Path {
        &self.file
    }
}

fn enter_table(positions: &mut BTreeMap<String, KeyPosition>, path: &str, table: &DeTable<'_>) {
    for (key, value) in table {
        enter(positions, join(path, key.get_ref()), key.span(), value.span(), value.get_ref());
    }
}

fn enter(
    positions: &mut BTreeMap<String, KeyPosition>,
    path: String,
    key: Range<usize>,
    span: Range<usize>,
    value: &DeValue<'_>,
) {
    match value {
        DeValue::Table(table) => enter_table(positions, &path, table),
        DeValue::Array(list) => {
            for (index, item) in list.iter().enumerate() {
                enter(positions, join(&path, &index.to_string()), item.span(), item.span(), item.get_ref());
            }
        }
        _ => {}
    }
    let shown = if matches!(value, DeValue::Table(_) | DeValue::Array(_)) { key.start } else { span.start };
    positions.insert(path, KeyPosition { shown, key, value: span });
}

fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_leads_to_its_value_or_to_what_is_around_it() {
        let text = "hostname = 'é'\n\n[policy]\nfrom = ['a@b.c', 'd']\n[[listener]]\n[[listener]]\nname = 'x'\n";
        let mut source_map = SourceMap::new(Path::new("f"), text);
        source_map.overridden("policy.clients", "GATEPOST_POLICY__CLIENTS");
        for (path, want) in [
            ("hostname", "f:1:12"),
            ("policy", "f:3:2"),
            ("policy.from", "f:4:1"),
            ("policy.from.1", "f:4:18"),
            ("policy.missing", "f:3:2"),
            ("listener.1.name", "f:7:8"),
            ("listener.1.address", "f:6:1"),
            ("policy.clients", "environment variable GATEPOST_POLICY__CLIENTS"),
            ("policy.clients.0", "environment variable GATEPOST_POLICY__CLIENTS"),
            ("nothing", "f"),
        ] {
            assert_eq!(source_map.of(path).to_string(), want, "{path}");
        }
        assert_eq!(source_map.path_at(text.find("'d'").unwrap()), Some("policy.from.1"));
    }

    #[test]
    fn what_a_good_start_asks_looks_nothing_up() {
        let source_map = SourceMap::new(Path::new("f"), "[policy]\nfrom = ['a@b.c']\n[[listener]]\nname = 'x'\n");
        assert!(source_map.contains("policy") && source_map.contains("policy.from") && source_map.contains("listener"));
        assert!(!source_map.contains("redis"));
        assert_eq!(source_map.below("policy"), ["from"]);
        assert_eq!(source_map.of("").to_string(), "f");
        assert!(source_map.positions.get().is_none());
        assert_eq!(source_map.of("policy.from.0").to_string(), "f:2:9");
    }
}
