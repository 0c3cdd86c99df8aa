//! The emulated account, and the limits of the emulator.
//!
//! The default is an account with production access, without rate or quota, with the verified domain `example.com`, the
//! configuration set `gatepost-dev`, and one credential pair; it listens on a free port of 127.0.0.1. Every restriction
//! of the account is opt-in.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use super::access_denied::Denial;

/// Settings of one [`Emulator`](super::Emulator).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct EmulatorSettings {
    /// Where to listen. Must be loopback.
    pub listen: SocketAddr,
    /// The region that signatures must be scoped to.
    pub region: String,
    /// The twelve digits that appear in ARNs.
    pub account_id: String,
    /// The accepted credentials. At least one.
    pub credentials: Vec<Credential>,
    /// The offset of the emulator's clock in seconds; positive: ahead of the machine's.
    pub clock_ahead_seconds: i64,
    /// Identities of the account.
    pub identities: Vec<Identity>,
    /// Identity ARNs of other accounts that authorised this one to send.
    pub delegated_identity_arns: Vec<String>,
    /// Configuration sets by name.
    pub configuration_sets: BTreeMap<String, ConfigurationSet>,
    /// Tenants by name.
    pub tenants: BTreeMap<String, Tenant>,
    /// Addresses on the account's suppression list.
    pub suppressed: BTreeMap<String, SuppressionReason>,
    /// Access, quota and standing of the account.
    pub account: AccountSettings,
    /// Actions that IAM denies, such as `ses:GetAccount` or `ses:SendRawEmail`, each with its error text.
    pub denied_actions: BTreeMap<String, Denial>,
    /// Which accepted messages are stored.
    pub retention: Retention,
    /// Where accepted messages are written, as `<MessageId>.eml` and `<MessageId>.json`. Created if missing.
    pub directory: Option<PathBuf>,
    /// The time that every SendEmail request waits before it is checked.
    pub latency: Duration,
    /// Bounds of the emulator itself.
    pub bounds: Bounds,
}

impl Default for EmulatorSettings {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            region: "us-east-1".to_owned(),
            account_id: "111122223333".to_owned(),
            credentials: vec![Credential::default()],
            clock_ahead_seconds: 0,
            identities: vec![Identity::verified("example.com")],
            delegated_identity_arns: Vec::new(),
            configuration_sets: BTreeMap::from([("gatepost-dev".to_owned(), ConfigurationSet::default())]),
            tenants: BTreeMap::new(),
            suppressed: BTreeMap::new(),
            account: AccountSettings::default(),
            denied_actions: BTreeMap::new(),
            retention: Retention::default(),
            directory: None,
            latency: Duration::ZERO,
            bounds: Bounds::default(),
        }
    }
}

/// An access key that the emulator accepts.
#[derive(Clone, PartialEq, Eq)]
pub struct Credential {
    /// The key's public half.
    pub access_key_id: String,
    /// The key's secret half.
    pub secret_access_key: String,
    /// Set for temporary credentials: requests must then carry and sign it.
    pub session_token: Option<String>,
}

impl Default for Credential {
    /// The pair in the documentation of AWS, which secret scanners accept as harmless.
    fn default() -> Self {
        Self {
            access_key_id: "AKIAIOSFODNN7EXAMPLE".to_owned(),
            secret_access_key: "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY".to_owned(),
            session_token: None,
        }
    }
}

impl std::fmt::Debug for Credential {
    /// Omits the secret, also of the emulator: an operator may have entered a real pair.
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Credential").field("access_key_id", &self.access_key_id).finish_non_exhaustive()
    }
}

/// A domain or an address that the account may send from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// `example.com` or `ann@example.com`. A domain covers its subdomains.
    pub name: String,
    /// Whether verification succeeded.
    pub verified: bool,
    /// The configuration set used when a request names none.
    pub configuration_set: Option<String>,
}

impl Identity {
    /// A verified identity without a default configuration set.
    pub fn verified(name: impl Into<String>) -> Self {
        Self { name: name.into(), verified: true, configuration_set: None }
    }
}

/// A configuration set that exists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigurationSet {
    /// Whether sending through it is on.
    pub sending_enabled: bool,
}

impl Default for ConfigurationSet {
    fn default() -> Self {
        Self { sending_enabled: true }
    }
}

/// A tenant and the resources associated with it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tenant {
    /// Names of its identities.
    pub identities: Vec<String>,
    /// Names of its configuration sets.
    pub configuration_sets: Vec<String>,
}

/// Why an address is on the suppression list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SuppressionReason {
    /// It bounced.
    Bounce,
    /// Its owner complained.
    Complaint,
}

/// Access, quota and standing of the account.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct AccountSettings {
    /// Off: the sandbox, where every forward-path must be verified as well.
    pub production_access: bool,
    /// Off: every message is refused with `SendingPausedException`.
    pub sending_enabled: bool,
    /// `Shutdown`: every message is refused with `AccountSuspendedException`.
    pub enforcement: Enforcement,
    /// Recipients in a rolling window of 24 hours. Absent: no quota.
    pub recipients_per_day_max: Option<u32>,
    /// Recipients per second. Absent: no rate.
    pub recipients_per_second_max: Option<f64>,
    /// Recipients at once: the capacity of the bucket, which is full at the start. Absent: one second of the rate.
    pub recipients_at_once_max: Option<u32>,
    /// The rate that GetAccount reports. Absent: the one that holds.
    pub recipients_per_second_reported: Option<f64>,
}

impl Default for AccountSettings {
    fn default() -> Self {
        Self {
            production_access: true,
            sending_enabled: true,
            enforcement: Enforcement::Healthy,
            recipients_per_day_max: None,
            recipients_per_second_max: None,
            recipients_at_once_max: None,
            recipients_per_second_reported: None,
        }
    }
}

impl AccountSettings {
    /// The limits of a new account: 200 recipients per day, one per second, verified recipients only. SES Developer
    /// Guide, quotas.
    pub fn sandbox() -> Self {
        Self {
            production_access: false,
            recipients_per_day_max: Some(200),
            recipients_per_second_max: Some(1.0),
            ..Self::default()
        }
    }
}

/// The account's standing, `EnforcementStatus`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Enforcement {
    /// Nothing is the matter.
    Healthy,
    /// Under review, still sending.
    Probation,
    /// Ended.
    Shutdown,
}

impl Enforcement {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Enforcement::Healthy => "HEALTHY",
            Enforcement::Probation => "PROBATION",
            Enforcement::Shutdown => "SHUTDOWN",
        }
    }
}

/// What is stored in memory of accepted messages. Files, if a directory is set, are never deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retention {
    /// The newest messages, within both bounds; older ones are counted and forgotten.
    Newest {
        /// The maximum number of messages.
        messages_max: usize,
        /// The maximum octets of content of all messages.
        octets_max: usize,
    },
    /// Only the number of messages: for load tests.
    CountsOnly,
}

impl Default for Retention {
    fn default() -> Self {
        Retention::Newest { messages_max: 10_000, octets_max: 256 * 1024 * 1024 }
    }
}

/// Bounds of the emulator itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Octets of a message after base64. SES Developer Guide, quotas: 40 MB; interpreted as 40 × 1024 × 1024, because
    /// the guide does not define MB.
    pub message_octets_max: usize,
    /// Open connections; further ones wait in the listen queue.
    pub connections_max: usize,
    /// Octets of request bodies in memory, over all connections; further requests wait.
    pub body_octets_in_flight_max: usize,
    /// Time for a request's head to arrive. Also the longest time a connection may idle between two requests.
    pub head_time_max: Duration,
    /// Time for a request's body to arrive.
    pub body_time_max: Duration,
    /// How long a hang or a slow response lasts if the client does not close the connection.
    pub fault_time_max: Duration,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            message_octets_max: 40 * 1024 * 1024,
            connections_max: 1024,
            body_octets_in_flight_max: 512 * 1024 * 1024,
            head_time_max: Duration::from_secs(120),
            body_time_max: Duration::from_secs(60),
            fault_time_max: Duration::from_secs(300),
        }
    }
}
