//! The language in which AWS people write who may do what: ARNs and IAM policy documents, parsed, evaluated, explained.
//!
//! Pure: knows nothing of mail and imports no other room. What is not understood is an error when a document is read,
//! never a statement that silently does not count: fail closed. Evaluation is AWS's: explicit deny, then allow, then
//! implicit deny, per policy type, and the types intersect.
//! IAM User Guide, "IAM JSON policy elements" and "Policy evaluation logic" (the pages are named where each is obeyed).

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
