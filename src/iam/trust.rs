//! The trust policy of the relay's role, with one statement for each environment in which the relay runs.
//!
//! It has the conditions that AWS documents against the confused deputy problem, and no others: a condition on a key
//! that the service does not send would deny the relay its role. IAM User Guide, "The confused deputy problem"; ECS
//! Developer Guide, "Task IAM role"; EKS User Guide, "Create IAM role with trust policy required by EKS Pod Identity",
//! "Assign IAM roles to Kubernetes service accounts".

use super::lint::Kind;
use super::needs::{Needs, Trust};
use super::statement_writer::{Generated, Line, Who, document as write_out};

impl Trust {
    fn line(&self, needs: &Needs) -> Line {
        let Needs { partition, region, account, .. } = needs;
        let assume = |sid, principal, action: &[&'static str]| Line {
            sid,
            effect: "Allow",
            principal,
            action: action.to_vec(),
            ..Line::default()
        };
        let service = |name: &str| Who::named("Service", vec![name.to_owned()]);
        match self {
            Self::Ec2 => assume("Ec2", service("ec2.amazonaws.com"), &["sts:AssumeRole"]),
            Self::EcsTasks => assume("EcsTasks", service("ecs-tasks.amazonaws.com"), &["sts:AssumeRole"])
                .when("ArnLike", "aws:SourceArn", vec![format!("arn:{partition}:ecs:{region}:{account}:*")])
                .when("StringEquals", "aws:SourceAccount", vec![account.clone()]),
            Self::EksPodIdentity { cluster, namespace, service_account } => {
                let cluster = format!("arn:{partition}:eks:{region}:{account}:cluster/{cluster}");
                assume("EksPodIdentity", service("pods.eks.amazonaws.com"), &["sts:AssumeRole", "sts:TagSession"])
                    .when("StringEquals", "aws:RequestTag/eks-cluster-arn", vec![cluster])
                    .when("StringEquals", "aws:RequestTag/kubernetes-namespace", vec![namespace.clone()])
                    .when("StringEquals", "aws:RequestTag/kubernetes-service-account", vec![service_account.clone()])
            }
            Self::Irsa { provider, namespace, service_account } => {
                let arn = format!("arn:{partition}:iam::{account}:oidc-provider/{provider}");
                assume("Irsa", Who::named("Federated", vec![arn]), &["sts:AssumeRoleWithWebIdentity"])
                    .when("StringEquals", format!("{provider}:aud"), vec!["sts.amazonaws.com".to_owned()])
                    .when(
                        "StringEquals",
                        format!("{provider}:sub"),
                        vec![format!("system:serviceaccount:{namespace}:{service_account}")],
                    )
            }
            Self::User { name } => {
                let arn = format!("arn:{partition}:iam::{account}:user/{name}");
                assume("User", Who::named("AWS", vec![arn]), &["sts:AssumeRole"])
            }
        }
    }

    /// The commands besides creating the role.
    fn commands(&self, needs: &Needs) -> Vec<String> {
        let (role, region) = (bare_name(&needs.role_name), &needs.region);
        match self {
            Self::Ec2 => vec![
                format!("aws iam create-instance-profile --instance-profile-name {role}"),
                format!("aws iam add-role-to-instance-profile --instance-profile-name {role} --role-name {role}"),
            ],
            Self::EksPodIdentity { cluster, namespace, service_account } => vec![format!(
                "aws eks create-pod-identity-association --region {region} --cluster-name {cluster} --namespace {namespace} \
                 --service-account {service_account} --role-arn {}",
                needs.role_arn()
            )],
            Self::Irsa { namespace, service_account, .. } => vec![format!(
                "kubectl annotate serviceaccount --namespace {namespace} {service_account} eks.amazonaws.com/role-arn={}",
                needs.role_arn()
            )],
            Self::EcsTasks | Self::User { .. } => Vec::new(),
        }
    }

    fn notes(&self) -> &'static [&'static str] {
        match self {
            Self::Ec2 => {
                &["EC2: AWS documents no aws:SourceArn or aws:SourceAccount for instance profiles; who may attach the \
                 role is limited by iam:PassRole."]
            }
            Self::EcsTasks => {
                &["ECS: AWS documents aws:SourceArn and aws:SourceAccount here, and no pattern for a single \
                 cluster."]
            }
            Self::EksPodIdentity { .. } => {
                &["EKS Pod Identity: the conditions need its session tags, which are on unless the \
                 association turns them off."]
            }
            Self::Irsa { .. } => &["IRSA: without :sub every service account of the cluster could assume the role."],
            Self::User { .. } => {
                &["IAM user: in the same account this document suffices, the user needs no policy. Its key \
                 does not expire: rotate it, or use one of the others."]
            }
        }
    }
}

/// The trust policy, if the needs name an environment.
pub(super) fn document(needs: &Needs) -> Option<Generated> {
    if needs.trust.is_empty() {
        return None;
    }
    let file = "trust-policy.json";
    let lines = needs.trust.iter().map(|trust| trust.line(needs)).collect();
    let path = needs.role_name.rsplit_once('/').map(|(path, _)| format!(" --path /{path}/")).unwrap_or_default();
    let create = format!(
        "aws iam create-role --role-name {}{path} --assume-role-policy-document file://{file}",
        bare_name(&needs.role_name)
    );
    let mut generated = write_out("The role's trust policy", file, Kind::Trust, lines).command(create);
    for trust in &needs.trust {
        generated.commands.extend(trust.commands(needs));
        generated.notes.extend(trust.notes().iter().map(|note| (*note).to_owned()));
    }
    Some(generated)
}

/// A role's name without its path.
pub(super) fn bare_name(role_name: &str) -> &str {
    role_name.rsplit('/').next().unwrap_or(role_name)
}

/// Quotes a text for a shell: a local part may contain characters that a shell interprets.
pub(super) fn quoted(text: &str) -> String {
    if text.chars().all(|c| c.is_ascii_alphanumeric() || "@.-_+=".contains(c)) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', "'\\''"))
}
