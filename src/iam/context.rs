//! The request context: condition keys and their values.
//!
//! Keys are compared without case, values as the operator defines. A key is missing, has one value, or has several. An
//! empty list counts as missing for `Null`, and as "all of none" for the set operators. IAM User Guide, "Condition",
//! "The request context".

/// Condition keys of one request.
// Sorted by key. There are few keys, so a linear search is faster than a tree.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Context(Vec<(String, Vec<String>)>);

impl Context {
    /// A context without keys.
    pub fn new() -> Self {
        Self::default()
    }

    /// With a key that has one value.
    #[must_use]
    pub fn with(self, key: &str, value: impl Into<String>) -> Self {
        self.with_list(key, [value])
    }

    /// With a key that has a list of values.
    #[must_use]
    pub fn with_list<T: Into<String>>(mut self, key: &str, values: impl IntoIterator<Item = T>) -> Self {
        let key = key.to_ascii_lowercase();
        let values = values.into_iter().map(Into::into).collect();
        match self.0.binary_search_by(|(known, _)| known.cmp(&key)) {
            Ok(at) => self.0[at].1 = values,
            Err(at) => self.0.insert(at, (key, values)),
        }
        self
    }

    /// Adds a key. An existing value is not replaced.
    #[must_use]
    pub fn or(self, key: &str, value: impl Into<String>) -> Self {
        if self.get(&key.to_ascii_lowercase()).is_some() { self } else { self.with(key, value) }
    }

    /// The values of a key, or `None` if it is missing. `key` must be lower case.
    pub fn get(&self, key: &str) -> Option<&[String]> {
        self.0.iter().find(|(known, _)| known == key).map(|(_, values)| values.as_slice())
    }

    /// The value of a key that has exactly one. `key` must be lower case.
    pub fn single(&self, key: &str) -> Option<&str> {
        match self.get(key) {
            Some([value]) => Some(value),
            _ => None,
        }
    }

    /// All keys, lower case, with their values.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[String])> {
        self.0.iter().map(|(key, values)| (key.as_str(), values.as_slice()))
    }
}
