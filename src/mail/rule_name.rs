//! The name of a rule or limit, for operators: log field and metric label.

use super::parameter_error::ParameterError;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

/// The rule that decided: 1 to 128 printable ASCII characters without a space.
#[derive(Clone)]
pub struct RuleName(Text);

#[derive(Clone)]
enum Text {
    Static(&'static str),
    Shared(Arc<str>),
}

const OCTETS_MAX: usize = 128;

impl RuleName {
    /// The pace of all sending.
    pub const PACE: Self = Self::from_static("pace");
    /// The limit of concurrent calls to the provider.
    pub const CALLS: Self = Self::from_static("calls");
    /// The limit of concurrent connections of an application.
    pub const CONNECTIONS: Self = Self::from_static("connections");

    /// A literal name. Panics if it is invalid, so use it in a `const`, where that is a compile error.
    pub const fn from_static(name: &'static str) -> Self {
        assert!(is_name(name.as_bytes()), "a rule's name is 1 to 128 printable characters without a space");
        Self(Text::Static(name))
    }

    /// Checks length and alphabet.
    ///
    /// # Errors
    /// [`ParameterError`] with the violated rule.
    pub fn parse(text: &str) -> Result<Self, ParameterError> {
        match is_name(text.as_bytes()) {
            true => Ok(Self(Text::Shared(text.into()))),
            false => Err(ParameterError::new("rule", "1 to 128 printable characters without space")),
        }
    }

    /// The text as given.
    pub fn as_str(&self) -> &str {
        match &self.0 {
            Text::Static(text) => text,
            Text::Shared(text) => text,
        }
    }
}

const fn is_name(octets: &[u8]) -> bool {
    let mut index = 0;
    while index < octets.len() {
        if !matches!(octets[index], b'!'..=b'~') {
            return false;
        }
        index += 1;
    }
    !octets.is_empty() && octets.len() <= OCTETS_MAX
}

impl PartialEq for RuleName {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for RuleName {}

impl Hash for RuleName {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_str().hash(state);
    }
}

impl fmt::Debug for RuleName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RuleName").field(&self.as_str()).finish()
    }
}

impl fmt::Display for RuleName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_literal_and_a_text_are_the_same_name() {
        assert_eq!(RuleName::parse("pace"), Ok(RuleName::PACE));
        assert!(RuleName::parse("").is_err() && RuleName::parse("a b").is_err());
        assert!(RuleName::parse(&"x".repeat(128)).is_ok() && RuleName::parse(&"x".repeat(129)).is_err());
    }
}
