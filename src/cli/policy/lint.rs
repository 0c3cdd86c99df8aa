//! `gatepost policy lint`.

use super::{DATA, Failure, OK, json, read};
use crate::iam::lint::{Finding, Kind, lint};
use std::fmt::Write;
use std::path::PathBuf;

#[derive(Debug, clap::Args)]
#[command(after_help = "Exit code: 0 no finding, 65 at least one. A document that cannot be parsed is a finding too.")]
pub(crate) struct Arguments {
    /// What the documents are attached to
    #[arg(long)]
    kind: Attached,
    /// Ignore findings of this rule, the name in brackets; may be repeated
    #[arg(long, value_name = "RULE")]
    allow: Vec<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// The documents
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Attached {
    /// User, group or role; also permissions boundary and session policy
    Identity,
    /// VPC endpoint
    Endpoint,
    /// SES identity: sending authorization
    Resource,
    /// Trust policy of a role
    Trust,
    /// Organisation, unit or account: service control policy
    Scp,
    /// Organisation, unit or account: resource control policy
    Rcp,
}

impl From<Attached> for Kind {
    fn from(attached: Attached) -> Self {
        match attached {
            Attached::Identity => Self::Identity,
            Attached::Endpoint => Self::Endpoint,
            Attached::Resource => Self::Resource,
            Attached::Trust => Self::Trust,
            Attached::Scp => Self::Scp,
            Attached::Rcp => Self::Rcp,
        }
    }
}

impl Arguments {
    pub(super) fn run(self, out: &mut String) -> Result<u8, Failure> {
        let mut findings: Vec<Finding> = Vec::new();
        for path in &self.files {
            let (name, text) = read(path)?;
            findings.extend(lint(&name, &text, self.kind.into()));
        }
        findings.retain(|finding| !self.allow.iter().any(|rule| rule == finding.rule));
        if self.json {
            out.push_str(&json(&findings));
        } else {
            for finding in &findings {
                let _ = writeln!(out, "{finding}");
            }
        }
        Ok(if findings.is_empty() { OK } else { DATA })
    }
}
