//! A refusal: what the client receives, and what the log has beside it.

use super::reply::Reply;
use super::rule_name::RuleName;

/// Why something is refused or deferred.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// What the client receives.
    pub reply: Reply,
    /// The rule or limit that refused, if one did: log field and metric label.
    pub rule: Option<RuleName>,
    /// More, for the log only.
    pub detail: String,
}

impl Refusal {
    /// A refusal that no rule of the operator's made.
    pub fn new(reply: Reply, detail: impl Into<String>) -> Self {
        Self { reply, rule: None, detail: detail.into() }
    }

    /// The name of the rule; empty if no rule refused.
    pub fn rule_name(&self) -> &str {
        self.rule.as_ref().map_or("", RuleName::as_str)
    }

    /// The same, by that rule.
    #[must_use]
    pub fn by(self, rule: RuleName) -> Self {
        Self { rule: Some(rule), ..self }
    }
}
