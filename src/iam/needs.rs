//! The facts that policies are generated from, checked: a wrong name would be a policy that is valid and useless.

use super::lint::arn_syntax::{is_account, is_endpoint, is_region};

/// The permissions that the relay needs, with names and places.
#[derive(Clone, Debug, Default)]
pub(crate) struct Needs {
    /// `aws` or `aws-us-gov`.
    pub partition: String,
    /// `us-east-1`.
    pub region: String,
    /// Twelve digits: the account that the relay runs in.
    pub account: String,
    /// The role's name, with its path if it has one: `service/relay`.
    pub role_name: String,
    /// Names of identities (`example.com`, `ann@example.com`), or ARNs where another account owns them.
    pub identities: Vec<String>,
    /// Names of configuration sets, an account's or identity's default one included.
    pub configuration_sets: Vec<String>,
    /// The patterns of From addresses, for `StringLike`: `*@example.com`. Empty: any address of the identities.
    pub from_patterns: Vec<String>,
    /// The read actions of the relay.
    pub read_actions: ReadActions,
    /// `vpce-…` of the endpoint for the SES API.
    pub vpc_endpoint: Option<String>,
    /// Accounts, or ARNs in them, that may also send as these identities.
    pub sending_principals: Vec<String>,
    /// The principals that may assume the role.
    pub trust: Vec<Trust>,
}

/// Reading actions; each only if it is used.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ReadActions {
    /// `ses:GetAccount`: quota, sandbox, whether sending is paused.
    pub account: bool,
    /// `ses:GetEmailIdentity`, on the identities.
    pub identities: bool,
    /// `ses:GetConfigurationSet`, on the configuration sets.
    pub configuration_sets: bool,
    /// `ses:GetSuppressedDestination`.
    pub suppression: bool,
}

/// An environment in which the relay runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Trust {
    /// On an EC2 instance, by instance profile.
    Ec2,
    /// In an ECS task.
    EcsTasks,
    /// In a pod, by EKS Pod Identity.
    EksPodIdentity {
        /// The cluster's name.
        cluster: String,
        /// The service account's namespace.
        namespace: String,
        /// The service account.
        service_account: String,
    },
    /// In a pod, by the cluster's OpenID Connect provider.
    Irsa {
        /// The provider without scheme: `oidc.eks.us-east-1.amazonaws.com/id/…`.
        provider: String,
        /// The service account's namespace.
        namespace: String,
        /// The service account.
        service_account: String,
    },
    /// Elsewhere, with the access key of an IAM user that may do nothing but assume the role.
    User {
        /// The user's name.
        name: String,
    },
}

/// A value that cannot be written into a policy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} {value:?}: {wanted}")]
pub(crate) struct NeedError {
    /// Which fact.
    pub what: &'static str,
    /// The value.
    pub value: String,
    /// The required form.
    pub wanted: &'static str,
}

impl Needs {
    /// The role's ARN.
    pub(crate) fn role_arn(&self) -> String {
        format!("arn:{}:iam::{}:role/{}", self.partition, self.account, self.role_name)
    }

    pub(super) fn arn(&self, resource_type: &str, name: &str) -> String {
        format!("arn:{}:ses:{}:{}:{resource_type}/{name}", self.partition, self.region, self.account)
    }

    pub(super) fn identity_arn(&self, identity: &str) -> String {
        if identity.starts_with("arn:") { identity.to_owned() } else { self.arn("identity", identity) }
    }

    pub(super) fn identity_arns(&self) -> Vec<String> {
        self.identities.iter().map(|identity| self.identity_arn(identity)).collect()
    }

    pub(super) fn configuration_set_arns(&self) -> Vec<String> {
        self.configuration_sets.iter().map(|name| self.arn("configuration-set", name)).collect()
    }

    pub(super) fn is_foreign(&self, identity: &str) -> bool {
        identity.starts_with("arn:") && identity.split(':').nth(4) != Some(&self.account)
    }

    pub(super) fn own_identities(&self) -> impl Iterator<Item = &str> {
        let own = self.identities.iter().filter(|identity| !self.is_foreign(identity));
        own.map(|identity| identity.rsplit('/').next().unwrap_or(identity))
    }

    pub(super) fn check(&self) -> Result<(), NeedError> {
        let wrong = |what, value: &str, wanted| Err(NeedError { what, value: value.to_owned(), wanted });
        let name = |text: &str, also: &str| {
            !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || also.contains(c))
        };
        if !matches!(self.partition.as_str(), "aws" | "aws-us-gov") {
            return wrong("partition", &self.partition, "SES is in aws and aws-us-gov");
        }
        if !is_region(&self.region) || self.region.starts_with("us-gov-") != (self.partition == "aws-us-gov") {
            return wrong("region", &self.region, "must be a region of the partition, such as us-east-1");
        }
        if !is_account(&self.account) {
            return wrong("account", &self.account, "must be twelve digits");
        }
        // IAM: letters, digits and +=,.@_- in names; a path before.
        if !name(&self.role_name, "+=,.@_-/") || self.role_name.starts_with('/') || self.role_name.ends_with('/') {
            return wrong("role name", &self.role_name, "must be a name, with its path before it: service/relay");
        }
        if self.identities.is_empty() {
            return wrong("identity", "", "at least one is needed: a relay without one sends nothing");
        }
        for identity in &self.identities {
            let start = format!("arn:{}:ses:{}:", self.partition, self.region);
            let bare = match identity.strip_prefix(start.as_str()).and_then(|rest| rest.split_once(":identity/")) {
                Some((account, bare)) if is_account(account) => bare,
                _ => identity.as_str(),
            };
            if !name(bare, ".-_@+=%!#$&'^`{}|~") || !bare.contains('.') || bare.contains("${") {
                return wrong(
                    "identity",
                    identity,
                    "must be a domain, an address, or an identity's ARN in the same region",
                );
            }
        }
        for set in &self.configuration_sets {
            if !name(set, "-_") || set.len() > 64 {
                return wrong("configuration set", set, "has letters, digits, - and _ only, at most 64");
            }
        }
        for pattern in &self.from_patterns {
            if pattern.is_empty() || pattern.contains("${") || pattern.contains(char::is_whitespace) {
                return wrong("from pattern", pattern, "must be an address, * and ? being wildcards");
            }
        }
        if let Some(endpoint) = self.vpc_endpoint.as_ref().filter(|endpoint| !is_endpoint(endpoint)) {
            return wrong("VPC endpoint", endpoint, "must be vpce- and 8 or 17 hexadecimal digits");
        }
        for principal in &self.sending_principals {
            let start = format!("arn:{}:", self.partition);
            let account =
                if principal.starts_with(&start) { principal.split(':').nth(4).unwrap_or("") } else { principal };
            if !is_account(account) || principal.contains(['*', '?']) {
                return wrong("sending account", principal, "must be an account of twelve digits, or an ARN in one");
            }
        }
        self.trust.iter().try_for_each(Trust::check)
    }
}

impl Trust {
    fn check(&self) -> Result<(), NeedError> {
        let word = |what, value: &str, also: &str| {
            let good = !value.is_empty() && value.chars().all(|c| c.is_ascii_alphanumeric() || also.contains(c));
            if good {
                Ok(())
            } else {
                Err(NeedError { what, value: value.to_owned(), wanted: "is needed, without wildcards" })
            }
        };
        match self {
            Self::Ec2 | Self::EcsTasks => Ok(()),
            Self::EksPodIdentity { cluster, namespace, service_account } => {
                word("cluster", cluster, "-_")?;
                word("namespace", namespace, "-")?;
                word("service account", service_account, "-.")
            }
            Self::Irsa { provider, namespace, service_account } => {
                word("OpenID Connect provider", provider, "-._/")?;
                word("namespace", namespace, "-")?;
                word("service account", service_account, "-.")
            }
            Self::User { name } => word("user", name, "+=,.@_-/"),
        }
    }
}
