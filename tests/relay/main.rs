//! A whole relay on loopback: SMTP in, the real SES transport, the SES v2 emulator.
//!
//! One binary for all of it, because each one links the AWS SDK again.
#![allow(missing_docs, unreachable_pub, clippy::print_stdout, clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![cfg(feature = "cli")]

mod admin;
mod admin_api;
mod apps;
mod bounds;
mod causes;
mod configured_relay;
mod dialogues;
mod embedding;
mod explain;
mod faults;
mod handoff;
mod health;
mod lessons_from_other_relays;
mod limits;
mod listeners;
mod pace;
mod readme;
mod reload;
mod shutdown;
mod spoofing;
mod spool;
mod spool_faults;
mod support;
mod tls;
