//! IAM: ARNs and policy documents, parsed, evaluated, explained and generated.
//!
//! The module knows nothing of mail and imports no other module. Unsupported elements are an error when a document is
//! parsed, and never a statement that is ignored: fail closed. Evaluation follows AWS: explicit deny, then allow, then
//! implicit deny for each policy type, and the intersection of the types. IAM User Guide, "IAM JSON policy elements"
//! and "Policy evaluation logic" (the code names the pages where it implements them).

pub(crate) mod arn;
pub(crate) mod condition;
pub(crate) mod context;
pub mod document;
pub mod evaluate;
#[cfg(feature = "cli")]
pub(crate) mod generate;
mod json;
#[cfg(feature = "cli")]
pub(crate) mod lint;
#[cfg(feature = "cli")]
mod needs;
pub(crate) mod pattern;
#[cfg(feature = "cli")]
pub(crate) mod region;
#[cfg(feature = "cli")]
pub(crate) mod service;
#[cfg(feature = "cli")]
pub(crate) mod simulate;
#[cfg(feature = "cli")]
mod statement_writer;
#[cfg(feature = "cli")]
mod trust;

pub use arn::Arn;
pub use context::Context;
pub use document::{Document, DocumentError, DocumentKind, Effect, Statement};
pub use evaluate::{Decision, Mismatch, Request, Trace, evaluate, trace};

#[cfg(test)]
mod oracle_tests;
