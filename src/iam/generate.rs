//! Generates the IAM documents that a relay needs, with least privilege: the policy and the trust policy of its role,
//! the endpoint policy, and the policies of the identities that it sends as.
//!
//! The input is [`Needs`]; the module knows no configuration. The input is checked first, because a wrong name would
//! produce a valid but useless policy. Each document has the commands that apply it, and notes about behaviour that AWS
//! does not document. Partitions aws and aws-us-gov; SES is not available in others. SES Developer Guide, "Controlling
//! access", "Sending authorization policy examples"; AWS PrivateLink Guide.

use super::lint::Kind;
pub(crate) use super::needs::{NeedError, Needs, ReadActions, Trust};
pub(crate) use super::statement_writer::Generated;
use super::statement_writer::{Line, Who, document};
use super::trust;

/// Generates every document that the needs require.
///
/// # Errors
/// [`NeedError`]: a value that no policy can contain.
pub(crate) fn generate(needs: &Needs) -> Result<Vec<Generated>, NeedError> {
    needs.check()?;
    // In the order in which the commands must be run: first the role, then its policy.
    let mut documents: Vec<Generated> = trust::document(needs).into_iter().collect();
    documents.push(role_policy(needs));
    if let Some(endpoint) = &needs.vpc_endpoint {
        documents.push(endpoint_policy(needs, endpoint));
        documents.extend(needs.own_identities().map(|identity| outside_denied(needs, identity, endpoint)));
    }
    if !needs.sending_principals.is_empty() {
        documents.extend(needs.own_identities().map(|identity| others_may_send(needs, identity)));
    }
    documents.extend(needs.identities.iter().filter(|identity| needs.is_foreign(identity)).map(|arn| {
        let name = arn.rsplit('/').next().unwrap_or(arn);
        may_send_as_foreign(needs, arn, name)
    }));
    Ok(documents)
}

/// Raw content is authorised as `ses:SendRawEmail`; SES's own texts name the operation, `ses:SendEmail`. Grant both.
const SEND: [&str; 2] = ["ses:SendEmail", "ses:SendRawEmail"];

fn role_policy(needs: &Needs) -> Generated {
    let mut send = Line { sid: "Send", effect: "Allow", action: SEND.to_vec(), ..Line::default() };
    // SES checks each resource of a message separately, with the same keys.
    send.resource = [needs.identity_arns(), needs.configuration_set_arns()].concat();
    let mut statement = vec![with_from(send, needs)];
    let reads = needs.read_actions;
    let mut read = |sid, action: Vec<&'static str>, resource: Vec<String>| {
        if !action.is_empty() && !resource.is_empty() {
            statement.push(Line { sid, effect: "Allow", action, resource, ..Line::default() });
        }
    };
    let some = |wanted: bool, action| if wanted { vec![action] } else { vec![] };
    // These two actions support only "*".
    let whole =
        [some(reads.account, "ses:GetAccount"), some(reads.suppression, "ses:GetSuppressedDestination")].concat();
    read("ReadAccount", whole, vec!["*".to_owned()]);
    read("ReadIdentities", some(reads.identities, "ses:GetEmailIdentity"), needs.identity_arns());
    read("ReadSets", some(reads.configuration_sets, "ses:GetConfigurationSet"), needs.configuration_set_arns());

    let name = trust::bare_name(&needs.role_name);
    let file = "role-policy.json";
    let mut notes = Vec::new();
    if !needs.from_patterns.is_empty() {
        notes.push("StringLike compares ses:FromAddress with case, and IAM has no StringLike without it.".to_owned());
    }
    notes.push(
        "In the sandbox SES checks the identity of each recipient too: list those as identities until the account has left it."
            .to_owned(),
    );
    notes.push(
        "A default configuration set of the account or of an identity is checked like a named one: it belongs in the list."
            .to_owned(),
    );
    document("The role's policy", file, Kind::Identity, statement)
        .command(format!(
            "aws iam put-role-policy --role-name {name} --policy-name gatepost --policy-document file://{file}"
        ))
        .noted(notes)
}

fn with_from(line: Line, needs: &Needs) -> Line {
    if needs.from_patterns.is_empty() {
        return line;
    }
    line.when("StringLike", "ses:FromAddress", needs.from_patterns.clone())
}

fn endpoint_policy(needs: &Needs, endpoint: &str) -> Generated {
    let mut action = SEND.to_vec();
    let reads = needs.read_actions;
    for (wanted, name) in [
        (reads.account, "ses:GetAccount"),
        (reads.identities, "ses:GetEmailIdentity"),
        (reads.configuration_sets, "ses:GetConfigurationSet"),
        (reads.suppression, "ses:GetSuppressedDestination"),
    ] {
        if wanted {
            action.push(name);
        }
    }
    let line = Line {
        sid: "RelayOnly",
        effect: "Allow",
        principal: Some(Who::Everybody("*")),
        action,
        resource: vec!["*".to_owned()],
        ..Line::default()
    }
    .when("StringEquals", "aws:PrincipalArn", vec![needs.role_arn()]);
    let file = "endpoint-policy.json";
    let (region, service) = (&needs.region, format!("com.amazonaws.{}.email", needs.region));
    document("The endpoint's policy", file, Kind::Endpoint, vec![line])
        .command(format!(
            "aws ec2 describe-vpc-endpoint-services --region {region} --service-names {service} \
             --query 'ServiceDetails[].[VpcEndpointPolicySupported,PrivateDnsName]'"
        ))
        .command(format!(
            "aws ec2 modify-vpc-endpoint --region {region} --vpc-endpoint-id {endpoint} --policy-document file://{file}"
        ))
        .noted(vec![
            "AWS has not documented whether an SES endpoint policy knows ses:FromAddress, ses:Recipients or resources other \
             than \"*\". This document therefore says only who may come through; From, identities and configuration sets \
             are limited by the role's policy, which must allow as well."
                .to_owned(),
            "The endpoint for SMTP (email-smtp) takes no policy. Ask with the first command what your region's takes.".to_owned(),
            "It takes minutes until a changed policy counts.".to_owned(),
        ])
}

fn outside_denied(needs: &Needs, identity: &str, endpoint: &str) -> Generated {
    let line = Line {
        sid: "DenyOutsideTheEndpoint",
        effect: "Deny",
        principal: Some(Who::Everybody("*")),
        action: vec!["ses:Send*"],
        resource: vec![needs.arn("identity", identity)],
        ..Line::default()
    }
    // Also true for a request without an endpoint, which lacks the key.
    .when("StringNotEquals", "aws:SourceVpce", vec![endpoint.to_owned()]);
    let title = format!("The policy of identity {identity}: no sends from outside the endpoint");
    identity_document(needs, title, identity, "deny-outside", line).noted(vec![
        "It denies the console, other programs and the SES SMTP interface too, unless they come through this endpoint."
            .to_owned(),
    ])
}

fn others_may_send(needs: &Needs, identity: &str) -> Generated {
    let line = Line {
        sid: "OthersMaySend",
        effect: "Allow",
        principal: Who::named("AWS", needs.sending_principals.clone()),
        action: SEND.to_vec(),
        resource: vec![needs.arn("identity", identity)],
        ..Line::default()
    };
    let title = format!("The policy of identity {identity}: other accounts may send as it");
    identity_document(needs, title, identity, "others-may-send", with_from(line, needs))
        .noted(vec!["The other account's own identity-based policy must allow the same action on this ARN.".to_owned()])
}

/// Sending authorization: the policy of another account's identity, which its owner must apply.
fn may_send_as_foreign(needs: &Needs, arn: &str, identity: &str) -> Generated {
    let line = Line {
        sid: "RelayMaySend",
        effect: "Allow",
        principal: Who::named("AWS", vec![needs.role_arn()]),
        action: SEND.to_vec(),
        resource: vec![arn.to_owned()],
        ..Line::default()
    };
    let owner = arn.split(':').nth(4).unwrap_or_default();
    let title = format!("For account {owner}, the policy of identity {identity}: the relay may send as it");
    identity_document(needs, title, identity, "relay-may-send", with_from(line, needs)).noted(vec![
        format!("To be put in place by account {owner}. The relay names {arn} as identity ARN when it sends."),
        "The role must exist before: AWS refuses a principal that it does not find.".to_owned(),
    ])
}

fn identity_document(needs: &Needs, title: String, identity: &str, policy: &str, line: Line) -> Generated {
    let file = format!("identity-{}-{policy}.json", identity.replace(|c: char| !c.is_ascii_alphanumeric(), "-"));
    let command = format!(
        "aws sesv2 create-email-identity-policy --region {} --email-identity {} --policy-name gatepost-{policy} --policy file://{file}",
        needs.region,
        trust::quoted(identity),
    );
    document(title, &file, Kind::Resource, vec![line]).command(command)
}

#[cfg(test)]
#[path = "generate_tests.rs"]
mod tests;
