//! `gatepost policy generate`.

use super::{CANNOT_CREATE, DATA, Failure, OK, USAGE, json};
use crate::cli::{ConfigFile, exit};
use crate::config::{AwsRequirements, Purpose};
use crate::iam::generate::{Generated, Needs, ReadActions, Trust, generate};
use crate::iam::lint::{Finding, NO_CONFIGURATION_SET, lint};
use serde::Serialize;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// aws or aws-us-gov. Default: that of the region
    #[arg(long)]
    partition: Option<String>,
    /// Take identities, configuration sets, From patterns, region and account from this configuration; flags add to it
    #[arg(long, short, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The region, such as us-east-1
    #[arg(long, required_unless_present = "config")]
    region: Option<String>,
    /// The account that the relay runs in, twelve digits
    #[arg(long, required_unless_present = "config")]
    account: Option<String>,
    /// The role's name, with its path if it has one
    #[arg(long, default_value = "gatepost")]
    role_name: String,
    /// An identity to send as: domain or address, or the ARN where another account owns it
    #[arg(long, required_unless_present = "config", value_name = "NAME|ARN")]
    identity: Vec<String>,
    /// A configuration set that messages use, default ones included
    #[arg(long, value_name = "NAME")]
    configuration_set: Vec<String>,
    /// A pattern of From addresses, with * and ?; upper and lower case differ. Default: every address of the identities
    #[arg(long, value_name = "PATTERN")]
    from: Vec<String>,
    /// What the relay may read: account (sending rate, paused), configuration-sets (checks at the start), and so on
    #[arg(long, value_name = "WHAT")]
    read: Vec<Read>,
    /// The VPC endpoint for the SES API: adds its policy, and identity policies that deny sending from elsewhere
    #[arg(long, value_name = "VPCE-ID")]
    vpce: Option<String>,
    /// Another account, or an ARN in it, that may send with these identities
    #[arg(long, value_name = "ACCOUNT|ARN")]
    sending_account: Vec<String>,
    /// Where the relay runs, which decides what may assume the role
    #[arg(long)]
    trust: Vec<RunsOn>,
    /// The cluster, for eks-pod-identity
    #[arg(long, value_name = "NAME")]
    eks_cluster: Option<String>,
    /// The cluster's OpenID Connect provider without https://, for irsa
    #[arg(long, value_name = "HOST/PATH")]
    oidc_provider: Option<String>,
    /// The Kubernetes service account, for eks-pod-identity and irsa
    #[arg(long, value_name = "NAMESPACE:NAME")]
    service_account: Option<String>,
    /// The IAM user, for user
    #[arg(long, value_name = "NAME")]
    user_name: Option<String>,
    /// Write the documents into this directory too; existing files are not overwritten
    #[arg(long, value_name = "DIRECTORY")]
    write: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Read {
    /// ses:GetAccount
    Account,
    /// ses:GetEmailIdentity
    Identities,
    /// ses:GetConfigurationSet
    ConfigurationSets,
    /// ses:GetSuppressedDestination
    Suppression,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum RunsOn {
    /// An EC2 instance
    Ec2,
    /// An ECS task
    Ecs,
    /// A pod, by EKS Pod Identity
    EksPodIdentity,
    /// A pod, by the cluster's OpenID Connect provider
    Irsa,
    /// Elsewhere, with an IAM user's access key
    User,
}

impl Arguments {
    pub(super) fn run(self, out: &mut String) -> Result<u8, Failure> {
        let facts = self.facts()?;
        let needs = self.needs(&facts)?;
        let documents = generate(&needs).map_err(|error| Failure::new(USAGE, error))?;
        let mut findings = Vec::new();
        for document in &documents {
            findings.extend(lint(&document.file, &document.json, document.kind));
        }
        // Where no configuration set is asked for, its absence is meant.
        findings.retain(|finding| finding.rule != NO_CONFIGURATION_SET || !needs.configuration_sets.is_empty());
        if let Some(directory) = &self.write {
            for document in &documents {
                write(directory, document)?;
            }
        }
        if self.json {
            let documents = documents.iter().map(Printed::new).collect();
            out.push_str(&json(&Everything { documents, findings: &findings }));
        } else {
            for document in &documents {
                print(out, document);
            }
            for finding in &findings {
                let _ = writeln!(out, "{finding}");
            }
            for remark in &facts.remarks {
                let _ = writeln!(out, "# {remark}");
            }
        }
        Ok(if findings.is_empty() { OK } else { DATA })
    }

    /// What the configuration says, if one is given.
    fn facts(&self) -> Result<AwsRequirements, Failure> {
        let Some(path) = &self.config else { return Ok(AwsRequirements::default()) };
        let (config, process_environment) = ConfigFile { config: path.clone() }.load()?;
        let plan = config.plan(&process_environment, Purpose::Check).map_err(exit::Failure::from)?;
        Ok(plan.aws_requirements(&config))
    }

    fn needs(&self, facts: &AwsRequirements) -> Result<Needs, Failure> {
        let said = |flag: &Option<String>, known: &Option<String>, name: &str| {
            flag.clone().or_else(|| known.clone()).ok_or_else(|| {
                Failure::new(USAGE, format!("--{name} is needed: neither an option nor the configuration sets it"))
            })
        };
        let both = |known: &[String], flags: &[String]| {
            let new = flags.iter().filter(|flag| !known.contains(flag));
            known.iter().chain(new).cloned().collect::<Vec<String>>()
        };
        let region = said(&self.region, &facts.region, "region")?;
        let gov = region.starts_with("us-gov-");
        let partition = self.partition.clone().or_else(|| facts.partition.clone());
        let partition = partition.unwrap_or_else(|| if gov { "aws-us-gov" } else { "aws" }.to_owned());
        let reads = |what| self.read.contains(&what);
        Ok(Needs {
            partition,
            region,
            account: said(&self.account, &facts.account, "account")?,
            role_name: self.role_name.clone(),
            identities: both(&facts.identities, &self.identity),
            configuration_sets: both(&facts.configuration_sets, &self.configuration_set),
            from_patterns: both(&facts.from_patterns, &self.from),
            read_actions: ReadActions {
                account: reads(Read::Account),
                identities: reads(Read::Identities),
                configuration_sets: reads(Read::ConfigurationSets),
                suppression: reads(Read::Suppression),
            },
            vpc_endpoint: self.vpce.clone(),
            sending_principals: self.sending_account.clone(),
            trust: self.trust.iter().map(|place| self.trust(*place)).collect::<Result<_, _>>()?,
        })
    }

    fn trust(&self, place: RunsOn) -> Result<Trust, Failure> {
        let wanted = |what: &Option<String>, flag: &str| {
            what.clone().ok_or_else(|| Failure::new(USAGE, format!("--trust {place:?} needs {flag}")))
        };
        let pod = || {
            let text = wanted(&self.service_account, "--service-account")?;
            let (namespace, name) = text
                .split_once(':')
                .ok_or_else(|| Failure::new(USAGE, format!("--service-account {text:?} must be namespace:name")))?;
            Ok::<_, Failure>((namespace.to_owned(), name.to_owned()))
        };
        Ok(match place {
            RunsOn::Ec2 => Trust::Ec2,
            RunsOn::Ecs => Trust::EcsTasks,
            RunsOn::EksPodIdentity => {
                let (namespace, service_account) = pod()?;
                Trust::EksPodIdentity {
                    cluster: wanted(&self.eks_cluster, "--eks-cluster")?,
                    namespace,
                    service_account,
                }
            }
            RunsOn::Irsa => {
                let (namespace, service_account) = pod()?;
                let provider = wanted(&self.oidc_provider, "--oidc-provider")?;
                let provider = provider.trim_start_matches("https://").to_owned();
                Trust::Irsa { provider, namespace, service_account }
            }
            RunsOn::User => Trust::User { name: wanted(&self.user_name, "--user-name")? },
        })
    }
}

/// As `--json` prints it.
#[derive(Serialize)]
struct Everything<'a> {
    documents: Vec<Printed<'a>>,
    findings: &'a [Finding],
}

#[derive(Serialize)]
struct Printed<'a> {
    title: &'a str,
    file: &'a str,
    /// The document as text: the order of its elements is part of reading it.
    policy: &'a str,
    commands: &'a [String],
    notes: &'a [String],
}

impl<'a> Printed<'a> {
    fn new(document: &'a Generated) -> Self {
        let Generated { title, file, json, commands, notes, .. } = document;
        Self { title, file, policy: json, commands, notes }
    }
}

fn print(out: &mut String, document: &Generated) {
    let _ = writeln!(out, "# {} ({})\n\n{}\n", document.title, document.file, indented(&document.json));
    for command in &document.commands {
        let _ = writeln!(out, "    {command}");
    }
    for note in &document.notes {
        let _ = writeln!(out, "note: {note}");
    }
    out.push('\n');
}

fn write(directory: &Path, document: &Generated) -> Result<(), Failure> {
    let path = directory.join(&document.file);
    let made = std::fs::File::create_new(&path)
        .and_then(|mut file| file.write_all(format!("{}\n", indented(&document.json)).as_bytes()));
    made.map_err(|error| Failure::new(CANNOT_CREATE, format!("cannot make {}: {error}", path.display())))
}

/// The document for people: one line for each member, lists of texts on one line. `serde_json` would sort the elements.
fn indented(dense: &str) -> String {
    let mut text = String::with_capacity(dense.len() * 2);
    let (mut depth, mut inside, mut escaped, mut flat) = (0_usize, false, false, false);
    let mut rest = dense.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            _ if inside => {
                text.push(c);
                inside = escaped || c != '"';
                escaped = !escaped && c == '\\';
                continue;
            }
            '"' => inside = true,
            '[' if rest.peek() == Some(&'"') => flat = true,
            ']' if flat => {
                flat = false;
                text.push(c);
                continue;
            }
            '{' | '[' => depth += 1,
            '}' | ']' => {
                depth = depth.saturating_sub(1);
                text.push('\n');
                text.push_str(&"  ".repeat(depth));
            }
            _ => {}
        }
        text.push(c);
        match c {
            ':' => text.push(' '),
            ',' if flat => text.push(' '),
            '{' | ',' | '[' if !flat => {
                text.push('\n');
                text.push_str(&"  ".repeat(depth));
            }
            _ => {}
        }
    }
    text
}
