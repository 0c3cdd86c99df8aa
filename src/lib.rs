//! gatepost: an embeddable SMTP relay with policy enforcement. SMTP in, policy, Amazon SES v2 API out.
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
pub mod transport;
