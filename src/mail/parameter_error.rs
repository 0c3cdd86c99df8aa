//! Why a text is not the name or parameter that it should be.

/// Why a value cannot be a parameter.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what}: {rule}")]
pub struct ParameterError {
    what: &'static str,
    rule: &'static str,
}

impl ParameterError {
    /// `what` breaks `rule`.
    pub(crate) const fn new(what: &'static str, rule: &'static str) -> Self {
        Self { what, rule }
    }
}
