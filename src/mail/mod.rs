//! The value types that all modules share.
//!
//! The module has no socket, file or task, and reads no clock except in [`clock`]. A value of one of these types is
//! proof that it is well formed; no other code validates it again.

pub mod abandonment;
pub mod address;
pub mod address_list;
pub mod author;
pub(crate) mod boxed;
pub mod client;
pub mod clock;
pub(crate) mod connection_counter;
pub mod content;
pub mod credentials;
pub mod envelope;
pub mod headers;
pub mod id;
pub mod mime;
pub mod outcome;
pub mod parameter_error;
pub mod parameters;
pub mod path;
pub mod permitted;
pub mod quota;
pub(crate) mod quoted_printable;
pub mod refusal;
pub mod replies;
pub mod reply;
pub mod rule_name;
pub mod trace;
pub(crate) mod words;

pub use abandonment::Abandonment;
pub use address::{AddressError, MailDomain, Mailbox};
pub use author::{Author, AuthorError};
pub(crate) use boxed::boxed;
pub use client::{Client, ClientAddress, ClientCertificate, Identity, TlsInfo};
pub use clock::{Clock, ManualClock, SystemClock};
pub(crate) use connection_counter::{ConnectionCounter, CountedConnection};
pub use content::{Content, ContentError};
pub use credentials::{Credentials, Password};
pub use envelope::{BodyType, Envelope, MailParameters, UnreadablePath};
pub use headers::{Field, HeaderError, HeaderSection};
pub use id::{QueueId, SessionId, TransactionId};
pub use outcome::{Certainty, Fault, MessageId, Outcome, OutcomeKind, Receipt};
pub use parameters::{Granted, Requested, SendParameters};
pub use path::{ForwardPath, ReversePath};
pub use permitted::Permitted;
pub use quota::{AccountQuota, ReadError, SENDING_PAUSED};
pub use refusal::Refusal;
pub use reply::{EnhancedStatus, Reply};
pub use rule_name::RuleName;

/// The user agent in calls to the provider. IAM documents can test it as `aws:UserAgent`, both in the relay and at AWS.
pub const USER_AGENT: &str = concat!("gatepost/", env!("CARGO_PKG_VERSION"));
