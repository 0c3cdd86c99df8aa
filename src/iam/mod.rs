//! IAM: ARNs and policy documents, parsed, evaluated, explained and generated.
//!
//! The module knows nothing of mail and imports no other module. Unsupported elements are an error when a document is
//! parsed, and never a statement that is ignored: fail closed. Evaluation follows AWS: explicit deny, then allow, then
//! implicit deny for each policy type, and the intersection of the types. IAM User Guide, "IAM JSON policy elements"
//! and "Policy evaluation logic" (the code names the pages where it implements them).

pub mod arn;
pub mod condition;
pub mod context;
pub mod document;
pub mod evaluate;
pub mod generate;
mod json;
pub mod lint;
mod needs;
pub mod pattern;
pub mod region;
pub mod service;
pub mod simulate;
mod statement_writer;
mod trust;

pub use arn::Arn;
pub use condition::{Condition, Operator, SetQualifier};
pub use context::Context;
pub use document::{Document, DocumentError, DocumentKind, Effect, Statement};
pub use evaluate::{Decision, Mismatch, Request, Trace, evaluate, trace};

#[cfg(test)]
mod oracle_tests;
