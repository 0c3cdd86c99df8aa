//! `gatepost policy simulate`.

use super::{DATA, DENIED, Failure, OK, USAGE, json, read};
use crate::iam::evaluate::{Mismatch, Trace};
use crate::iam::simulate::{Outcome, Policies, PolicyType, Verdict, simulate};
use crate::iam::{Arn, Context, Effect, Request};
use serde::Serialize;
use std::fmt::Write;
use std::path::PathBuf;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Exit code: 0 every resource is allowed, 77 at least one is denied, 65 a document has an error, 64 usage.

Without an identity-based policy (or a resource-based policy that allows the request alone) nothing is allowed. A type that is
not given counts as not attached.

--principal sets aws:PrincipalArn, aws:PrincipalAccount and, for a user, aws:username; the resource sets
aws:ResourceAccount and aws:RequestedRegion. A --context with the same key replaces them. The ARN of a role session does not
contain the path of its role: if the role has a path, give aws:PrincipalArn.")]
pub(crate) struct Arguments {
    /// The action: ses:SendRawEmail for raw content, although the call is SendEmail
    action: String,
    /// The ARN of each identity and configuration set that the message uses
    #[arg(required = true, value_name = "RESOURCE-ARN")]
    resources: Vec<String>,
    /// A policy of the role or user; may be repeated
    #[arg(long, value_name = "FILE")]
    identity: Vec<PathBuf>,
    /// The permissions boundary of the role or user
    #[arg(long, value_name = "FILE")]
    boundary: Vec<PathBuf>,
    /// The service control policies of one level, separated by commas; once for each level, and each must allow
    #[arg(long, value_name = "FILE[,FILE…]")]
    scp: Vec<String>,
    /// A resource control policy; only its denials count, since RCPFullAWSAccess is always attached
    #[arg(long, value_name = "FILE")]
    rcp: Vec<PathBuf>,
    /// A session policy
    #[arg(long, value_name = "FILE")]
    session: Vec<PathBuf>,
    /// A policy of the resource: the sending authorization policy of an SES identity
    #[arg(long, value_name = "FILE")]
    resource: Vec<PathBuf>,
    /// The policy of the VPC endpoint that the request goes through
    #[arg(long, value_name = "FILE")]
    endpoint: Vec<PathBuf>,
    /// The ARN of the role, role session or user that makes the request
    #[arg(long, value_name = "ARN")]
    principal: Option<String>,
    /// A condition key and its value; several values as key=[a,b], or with the option repeated
    #[arg(long, value_name = "KEY=VALUE")]
    context: Vec<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Arguments {
    pub(super) fn run(self, out: &mut String) -> Result<u8, Failure> {
        let context = context(&self.context)?;
        self.check()?;
        let policies = self.policies()?;
        let mut results = Vec::new();
        for resource in &self.resources {
            let request =
                Request { action: &self.action, resource, principal: self.principal.as_deref(), context: &context };
            results.push((resource.as_str(), simulate(&policies, &request)));
        }
        let allowed = results.iter().all(|(_, outcome)| outcome.verdict == Verdict::Allowed);
        if self.json {
            let results: Vec<Answer<'_>> = results.iter().map(|(arn, outcome)| self.result(arn, outcome)).collect();
            out.push_str(&json(&results));
        } else {
            for (resource, outcome) in &results {
                self.print(out, resource, outcome);
            }
        }
        Ok(if allowed { OK } else { DENIED })
    }

    fn check(&self) -> Result<(), Failure> {
        if self.action.contains(['*', '?']) || !self.action.contains(':') {
            let text = format!("{:?} is not an action such as ses:SendRawEmail, without wildcards", self.action);
            return Err(Failure::new(USAGE, text));
        }
        let arns = self.resources.iter().filter(|text| *text != "*").chain(&self.principal);
        match arns.into_iter().find(|text| Arn::parse(text).is_none()) {
            Some(text) => Err(Failure::new(USAGE, format!("{text:?} is not an ARN"))),
            None => Ok(()),
        }
    }

    fn policies(&self) -> Result<Policies, Failure> {
        let mut policies = Policies::new();
        for (policy_type, paths) in [
            (PolicyType::Identity, &self.identity),
            (PolicyType::Boundary, &self.boundary),
            (PolicyType::Rcp, &self.rcp),
            (PolicyType::Session, &self.session),
            (PolicyType::Resource, &self.resource),
            (PolicyType::Endpoint, &self.endpoint),
        ] {
            attach(&mut policies, policy_type, paths)?;
        }
        for level in &self.scp {
            let paths: Vec<PathBuf> = level.split(',').map(PathBuf::from).collect();
            attach(&mut policies, PolicyType::Scp, &paths)?;
        }
        Ok(policies)
    }

    fn print(&self, out: &mut String, resource: &str, outcome: &Outcome<'_>) {
        let mut line = |text: std::fmt::Arguments<'_>| {
            let _ = writeln!(out, "{text}");
        };
        line(format_args!("{} on {resource}: {}", self.action, outcome.verdict.label()));
        line(format_args!("  decided by: {}", outcome.decided_by.name()));
        if let Some(clause) = outcome.clause(&self.action) {
            line(format_args!("  in AWS's words: {clause}"));
        }
        for said in &outcome.said {
            line(format_args!("  {}: {}", said.policy_type.name(), said.decision.label()));
            for step in &said.statements {
                let (place, effect) = (step.statement.place(), effect(step));
                let name = &step.document.name;
                match &step.mismatch {
                    None => line(format_args!("    {name}, {place}: {effect}, matches")),
                    Some(mismatch) => line(format_args!("    {name}, {place}: {effect}, not for {}", reason(mismatch))),
                }
            }
        }
        if !outcome.missing_keys.is_empty() {
            line(format_args!("  missing context keys: {}", outcome.missing_keys.join(", ")));
        }
        for note in &outcome.notes {
            line(format_args!("  note: {note}"));
        }
    }

    fn result<'a>(&'a self, resource: &'a str, outcome: &'a Outcome<'_>) -> Answer<'a> {
        Answer {
            action: &self.action,
            resource,
            decision: outcome.verdict.label(),
            decided_by: outcome.decided_by.name(),
            aws_clause: outcome.clause(&self.action),
            policy_types: outcome
                .said
                .iter()
                .map(|said| TypeResult {
                    policy_type: said.policy_type.name(),
                    decision: said.decision.label(),
                    statements: said
                        .statements
                        .iter()
                        .map(|step| StatementResult {
                            document: &step.document.name,
                            statement: step.statement.number,
                            sid: step.statement.sid.as_deref(),
                            effect: effect(step),
                            matches: step.mismatch.is_none(),
                            not_for: step.mismatch.as_ref().map(reason),
                        })
                        .collect(),
                })
                .collect(),
            missing_context_keys: &outcome.missing_keys,
            notes: &outcome.notes,
        }
    }
}

/// As `--json` prints it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Answer<'a> {
    action: &'a str,
    resource: &'a str,
    decision: &'static str,
    decided_by: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    aws_clause: Option<String>,
    policy_types: Vec<TypeResult<'a>>,
    missing_context_keys: &'a [String],
    notes: &'a [&'static str],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct TypeResult<'a> {
    policy_type: &'static str,
    decision: &'static str,
    statements: Vec<StatementResult<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct StatementResult<'a> {
    document: &'a str,
    statement: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    sid: Option<&'a str>,
    effect: &'static str,
    matches: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    not_for: Option<String>,
}

fn effect(step: &Trace<'_>) -> &'static str {
    match step.statement.effect {
        Effect::Allow => "Allow",
        Effect::Deny => "Deny",
    }
}

fn reason(mismatch: &Mismatch<'_>) -> String {
    match mismatch {
        Mismatch::Principal => "this principal".to_owned(),
        Mismatch::Action => "this action".to_owned(),
        Mismatch::Resource => "this resource".to_owned(),
        Mismatch::Condition(condition) => {
            format!(
                "this context: {} on {} ({})",
                condition.operator_text(),
                condition.key,
                condition.values.join(", ")
            )
        }
    }
}

fn attach(policies: &mut Policies, policy_type: PolicyType, paths: &[PathBuf]) -> Result<(), Failure> {
    if paths.is_empty() {
        return Ok(());
    }
    let mut documents = Vec::new();
    for path in paths {
        let (name, text) = read(path)?;
        documents.push(policy_type.parse(&name, &text).map_err(|error| Failure::new(DATA, error))?);
    }
    policies.attach(policy_type, documents);
    Ok(())
}

/// `key=value`, `key=[a,b]`, and a key twice, which is a list too. `key=[]` is an empty list.
fn context(given: &[String]) -> Result<Context, Failure> {
    let mut keys: Vec<(&str, Vec<&str>)> = Vec::new();
    for text in given {
        let (key, value) = text.split_once('=').filter(|(key, _)| key.contains(':')).ok_or_else(|| {
            Failure::new(USAGE, format!("--context {text:?} must be key=value, such as ses:FromAddress=a@b.example"))
        })?;
        let values: Vec<&str> = match value.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            Some("") => Vec::new(),
            Some(list) => list.split(',').map(str::trim).collect(),
            None => vec![value],
        };
        match keys.iter_mut().find(|(known, _)| known.eq_ignore_ascii_case(key)) {
            Some((_, before)) => before.extend(values),
            None => keys.push((key, values)),
        }
    }
    Ok(keys.into_iter().fold(Context::new(), |context, (key, values)| context.with_list(key, values)))
}
