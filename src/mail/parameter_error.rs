//! The error for a name or parameter with an invalid value.

/// Why a value is not a valid parameter.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what}: {rule}")]
pub struct ParameterError {
    what: &'static str,
    rule: &'static str,
}

impl ParameterError {
    /// The value of `what` violates `rule`.
    pub(crate) const fn new(what: &'static str, rule: &'static str) -> Self {
        Self { what, rule }
    }
}
