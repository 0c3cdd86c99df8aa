//! gatepost: an embeddable SMTP relay with policy enforcement. It receives mail over SMTP, decides which From addresses a client may
//! use and how fast it may send, and sends what passes as raw email through the Amazon SES v2 API.
//!
//! # Layers
//!
//! ```text
//! 6  cli        one file per command of the binary
//! 5  config     TOML file and environment → settings of each module
//! 4  builder    components + settings → a running relay; explain
//! 3  server     sockets, TLS, timers          admin   health, metrics, API of operators
//! 2  relay      admission, content, send queue, delivery, queue worker
//! 1  smtp       the SMTP server protocol without I/O
//!    policy     is it allowed?                limit   how often, how fast?
//!    auth       who is it?                    observe events → log lines, metrics, last decisions
//!    transport  sending to a provider: SES    spool   the durable queue
//! 0  mail       value types: address, author, envelope, content, reply, outcome
//!    iam        ARNs and IAM documents: parse, evaluate, lint, generate
//! -  emulator   SES as its clients see it; shares no parser with the relay
//! ```
//!
//! Imports go down only; modules of one layer do not import each other; files of a module do not import each other in a circle.
//! `tests/architecture.rs` checks this.
//!
//! # The path of one message
//!
//! 1. [`server`] accepts the connection and passes octets to [`smtp::Session`], which answers syntax and order by itself.
//! 2. AUTH, MAIL and RCPT are questions to [`relay`]: [`policy`] decides, then [`limit`].
//! 3. Content is scanned and stored in memory or an unlinked file (`relay/reception.rs`).
//! 4. At the end of data the message waits for a slot in the send queue (`relay/send_queue.rs`).
//! 5. `relay/admission.rs` decides about the whole message and makes a [`mail::Permitted`], the only thing that a
//!    [`transport::Transport`] or a [`spool::Spool`] takes.
//! 6. [`transport::ses`] makes one `SendEmail` call, with one [`mail::Outcome`]. Where the application's mail is kept, the message is
//!    committed to the spool instead, or if it cannot be sent now (`relay/kept_mail.rs`).
//! 7. The client receives 250 with the message id of SES or the queue id, or a refusal from the table [`mail::replies`].
//! 8. `relay/queue_worker.rs` sends what is in the spool: `relay/due_queue.rs` says what is next, `relay/retry_schedule.rs` what follows
//!    an attempt.
//! 9. [`observe`] writes one log line and counts.
//!
//! The chapters of the handbook are in [`manual`]. To embed the relay, start with [`builder::Builder`] and [`manual::embedding`]; the
//! extension points are [`policy::Policy`], [`limit::Limiter`], [`transport::Transport`], [`auth::Authenticator`],
//! [`spool::Spool`] and [`observe::Observer`].
#![forbid(unsafe_code)]
#![cfg_attr(docsrs, feature(doc_cfg))]

#[cfg(feature = "admin")]
pub mod admin;
pub mod auth;
pub mod builder;
#[cfg(feature = "cli")]
pub mod cli;
#[cfg(feature = "cli")]
pub mod config;
#[cfg(feature = "emulator")]
pub mod emulator;
pub mod iam;
pub mod limit;
pub mod mail;
pub mod manual;
pub mod observe;
pub mod policy;
pub mod relay;
pub mod server;
pub mod smtp;
pub mod spool;
pub mod transport;
