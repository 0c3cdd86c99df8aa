//! A refusal: the reply for the client, and the details for the log.

use super::reply::Reply;
use super::rule_name::RuleName;

/// Why a command or message is refused or deferred.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The reply for the client.
    pub reply: Reply,
    /// The rule or limit that refused, if any: log field and metric label.
    pub rule: Option<RuleName>,
    /// Details for the log only.
    pub detail: String,
}

impl Refusal {
    /// A refusal that is not caused by a configured rule.
    pub fn new(reply: Reply, detail: impl Into<String>) -> Self {
        Self { reply, rule: None, detail: detail.into() }
    }

    /// The name of the rule; empty if no rule refused.
    pub fn rule_name(&self) -> &str {
        self.rule.as_ref().map_or("", RuleName::as_str)
    }

    /// Sets the rule.
    #[must_use]
    pub fn by(self, rule: RuleName) -> Self {
        Self { rule: Some(rule), ..self }
    }
}
