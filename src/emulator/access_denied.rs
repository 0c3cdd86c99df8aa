//! The texts of an "access denied" error.
//!
//! SES uses two forms, and a client has to recognise both: its own, with a back-tick, an apostrophe and no reason; and
//! the general IAM form, which names the type of the policy that decided. IAM User Guide, "Troubleshoot access denied
//! error messages"; field captures 2016 to 2026.

/// Which text an `AccessDeniedException` carries.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Denial {
    /// ``User `…' is not authorized to perform `…' on resource `…'``.
    Bare,
    /// `… because no … allows the … action`. The string is the type of policy, such as `identity-based policy` or
    /// `VPC endpoint policy`.
    Implicit(String),
    /// `… with an explicit deny in a …`. The string is the type of policy.
    Explicit(String),
}

impl Denial {
    pub(super) fn text(&self, principal: &str, action: &str, resource: &str) -> String {
        let general = format!("User: {principal} is not authorized to perform: {action} on resource: {resource}");
        match self {
            Denial::Bare => {
                format!("User `{principal}' is not authorized to perform `{action}' on resource `{resource}'")
            }
            Denial::Implicit(policy) => format!("{general} because no {policy} allows the {action} action"),
            Denial::Explicit(policy) => {
                let article = if policy.starts_with(['a', 'e', 'i', 'o', 'u']) { "an" } else { "a" };
                format!("{general} with an explicit deny in {article} {policy}")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_of_the_text_are_spoken() {
        let text = |denial: Denial| denial.text("arn:p", "ses:SendRawEmail", "arn:r");
        assert_eq!(
            text(Denial::Bare),
            "User `arn:p' is not authorized to perform `ses:SendRawEmail' on resource `arn:r'"
        );
        assert_eq!(
            text(Denial::Implicit("VPC endpoint policy".into())),
            "User: arn:p is not authorized to perform: ses:SendRawEmail on resource: arn:r \
             because no VPC endpoint policy allows the ses:SendRawEmail action"
        );
        assert_eq!(
            text(Denial::Explicit("identity-based policy".into())),
            "User: arn:p is not authorized to perform: ses:SendRawEmail on resource: arn:r \
             with an explicit deny in an identity-based policy"
        );
    }
}
