use super::*;

const IDENTITY: &str = "arn:aws:ses:us-east-1:111122223333:identity/example.com";
const ROLE: &str = "arn:aws:iam::111122223333:role/path/relay";
const SESSION: &str = "arn:aws:sts::111122223333:assumed-role/relay/i-1";
const USER: &str = "arn:aws:iam::111122223333:user/ann";
const STRANGER: &str = "arn:aws:iam::444455556666:role/relay";

fn one(policy_type: PolicyType, effect: &str, principal: &str) -> Vec<Document> {
    let principal = if principal.is_empty() { String::new() } else { format!(r#""Principal":{principal},"#) };
    let json = format!(
        r#"{{"Version":"2012-10-17","Statement":[{{"Sid":"S","Effect":"{effect}",{principal}"Action":"ses:Send*","Resource":"*"}}]}}"#
    );
    vec![policy_type.parse("test.json", &json).unwrap()]
}

/// Policies from short words, such as `identity+ boundary-`: `+` allows, `-` has no statement, `!` denies. Resource
/// names `named`.
fn policies(words: &str, named: &str) -> Policies {
    let mut policies = Policies::new();
    for word in words.split_whitespace() {
        let (name, sign) = word.split_at(word.len() - 1);
        let policy_type = match name {
            "rcp" => PolicyType::Rcp,
            "scp" => PolicyType::Scp,
            "resource" => PolicyType::Resource,
            "identity" => PolicyType::Identity,
            "boundary" => PolicyType::Boundary,
            "session" => PolicyType::Session,
            "endpoint" => PolicyType::Endpoint,
            other => panic!("{other}"),
        };
        let principal = match policy_type {
            PolicyType::Resource => named,
            PolicyType::Endpoint | PolicyType::Rcp => r#""*""#,
            _ => "",
        };
        let documents = match sign {
            "+" => one(policy_type, "Allow", principal),
            "!" => one(policy_type, "Deny", principal),
            _ => Vec::new(),
        };
        policies.attach(policy_type, documents);
    }
    policies
}

#[track_caller]
fn check(words: &str, named: &str, principal: &str, wanted: Verdict, by: PolicyType) {
    let policies = policies(words, named);
    let request = Request {
        action: "ses:SendRawEmail",
        resource: IDENTITY,
        principal: Some(principal),
        context: &Context::new(),
    };
    let outcome = simulate(&policies, &request);
    assert_eq!((outcome.verdict, outcome.decided_by), (wanted, by), "{words}, resource for {named}, {principal} asks");
}

/// "Policy evaluation for requests within a single account": each type that is attached must allow, one deny ends it.
#[test]
fn types_intersect_and_a_deny_in_any_wins() {
    use PolicyType::*;
    use Verdict::*;
    for (words, wanted, by) in [
        ("", ImplicitDeny, Identity),
        ("identity+", Allowed, Identity),
        ("identity-", ImplicitDeny, Identity),
        ("boundary+", ImplicitDeny, Identity),
        ("identity+ boundary+ session+ scp+ endpoint+", Allowed, Identity),
        ("identity+ boundary-", ImplicitDeny, Boundary),
        ("identity+ session-", ImplicitDeny, Session),
        ("identity+ endpoint-", ImplicitDeny, Endpoint),
        ("identity+ scp-", ImplicitDeny, Scp),
        ("identity- endpoint-", ImplicitDeny, Identity),
        ("identity! boundary+", ExplicitDeny, Identity),
        ("identity+ boundary!", ExplicitDeny, Boundary),
        ("identity+ session!", ExplicitDeny, Session),
        ("identity+ endpoint!", ExplicitDeny, Endpoint),
        ("identity+ scp!", ExplicitDeny, Scp),
        ("identity+ rcp!", ExplicitDeny, Rcp),
        ("identity+ rcp! scp! endpoint!", ExplicitDeny, Rcp),
        // RCPFullAWSAccess cannot be detached: only a deny counts.
        ("identity+ rcp-", Allowed, Identity),
        // Each level of service control policies must allow.
        ("identity+ scp+ scp+", Allowed, Identity),
        ("identity+ scp+ scp-", ImplicitDeny, Scp),
    ] {
        check(words, "", SESSION, wanted, by);
    }
}

/// The table of "Resource-based policies" under "How AWS enforcement code logic evaluates requests".
#[test]
fn the_effect_of_a_resource_based_policy_depends_on_the_principal_it_names() {
    use PolicyType::*;
    use Verdict::*;
    let role = format!(r#"{{"AWS":"{ROLE}"}}"#);
    let session = format!(r#"{{"AWS":"{SESSION}"}}"#);
    let user = format!(r#"{{"AWS":"{USER}"}}"#);
    let (account, root) = (r#"{"AWS":"111122223333"}"#, r#"{"AWS":"arn:aws:iam::111122223333:root"}"#);
    let (all_principals, other) = (r#""*""#, r#"{"AWS":"444455556666"}"#);
    for (named, asking, words, wanted, by) in [
        // The role: no identity-based policy needed, boundary and session limit.
        (role.as_str(), SESSION, "resource+", Allowed, Resource),
        (&role, ROLE, "resource+", Allowed, Resource),
        (&role, SESSION, "resource+ boundary-", ImplicitDeny, Boundary),
        (&role, SESSION, "resource+ session-", ImplicitDeny, Session),
        (&role, SESSION, "resource+ identity!", ExplicitDeny, Identity),
        (&role, USER, "resource+", ImplicitDeny, Identity),
        // The session, the user, all principals: no other policy is required.
        (&session, SESSION, "resource+ boundary- session- identity-", Allowed, Resource),
        (&user, USER, "resource+ boundary- identity-", Allowed, Resource),
        (all_principals, SESSION, "resource+ boundary- session-", Allowed, Resource),
        (all_principals, SESSION, "resource+ boundary!", ExplicitDeny, Boundary),
        // Organisation and endpoint are never stood in for.
        (&session, SESSION, "resource+ scp-", ImplicitDeny, Scp),
        (&session, SESSION, "resource+ endpoint-", ImplicitDeny, Endpoint),
        // The account: it delegates.
        (account, SESSION, "resource+", ImplicitDeny, Identity),
        (root, SESSION, "resource+", ImplicitDeny, Identity),
        (account, SESSION, "resource+ identity+", Allowed, Identity),
        (other, SESSION, "resource+", ImplicitDeny, Identity),
        (other, SESSION, "resource+ identity+", Allowed, Identity),
        // A deny counts however it names.
        (account, SESSION, "resource! identity+", ExplicitDeny, Resource),
    ] {
        check(words, named, asking, wanted, by);
    }
}

/// "Cross-account policy evaluation logic": the account of the principal and the account of the resource must both
/// allow.
#[test]
fn across_accounts_both_sides_must_allow() {
    use PolicyType::*;
    use Verdict::*;
    let theirs = format!(r#"{{"AWS":"{STRANGER}"}}"#);
    let (account, all_principals) = (r#"{"AWS":"444455556666"}"#, r#""*""#);
    for (named, words, wanted, by) in [
        (theirs.as_str(), "identity+", ImplicitDeny, Resource),
        (&theirs, "resource+", ImplicitDeny, Identity),
        (&theirs, "resource+ identity+", Allowed, Identity),
        (account, "resource+ identity+", Allowed, Identity),
        (all_principals, "resource+ identity+", Allowed, Identity),
        (all_principals, "resource+", ImplicitDeny, Identity),
        (&theirs, "resource+ identity+ boundary-", ImplicitDeny, Boundary),
        (&theirs, "resource+ identity+ session-", ImplicitDeny, Session),
        (&theirs, "resource+ identity+ scp-", ImplicitDeny, Scp),
        (&theirs, "resource+ identity+ rcp!", ExplicitDeny, Rcp),
        (r#"{"AWS":"999988887777"}"#, "resource+ identity+", ImplicitDeny, Resource),
    ] {
        check(words, named, STRANGER, wanted, by);
    }
}

#[test]
fn keys_that_follow_from_the_request_are_filled_in() {
    let json = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*","Condition":{
        "ArnEquals":{"aws:PrincipalArn":"arn:aws:iam::111122223333:role/relay"},
        "StringEquals":{"aws:PrincipalAccount":"111122223333","aws:ResourceAccount":"111122223333","aws:RequestedRegion":"us-east-1"}}}]}"#;
    let mut policies = Policies::new();
    policies.attach(PolicyType::Identity, vec![PolicyType::Identity.parse("a.json", json).unwrap()]);
    let decide = |context: &Context| {
        let request = Request { action: "ses:SendRawEmail", resource: IDENTITY, principal: Some(SESSION), context };
        let outcome = simulate(&policies, &request);
        assert!(outcome.missing_keys.is_empty(), "{:?}", outcome.missing_keys);
        outcome.verdict
    };
    assert_eq!(decide(&Context::new()), Verdict::Allowed);
    let given = Context::new().with("aws:RequestedRegion", "eu-west-1");
    assert_eq!(decide(&given), Verdict::ImplicitDeny, "what is given stays");
}

#[test]
fn missing_keys_are_those_that_could_have_changed_the_verdict() {
    let json = r#"{"Version":"2012-10-17","Statement":[
        {"Effect":"Allow","Action":"ses:Send*","Resource":"arn:aws:ses:*:*:identity/${aws:PrincipalTag/domain}",
         "Condition":{"StringLike":{"ses:FromAddress":"${aws:username}@*"},"Null":{"ses:Recipients":"false"}}},
        {"Effect":"Allow","Action":"ses:Send*","Resource":"arn:aws:ses:*:*:identity/*",
         "Condition":{"StringLike":{"SES:FromAddress":"${aws:username}@*"},"Null":{"ses:Recipients":"false"}}},
        {"Effect":"Allow","Action":"ses:Get*","Resource":"*","Condition":{"StringLike":{"ses:ApiVersion":"2"}}},
        {"Effect":"Allow","Action":"ses:*","Resource":"arn:aws:ses:*:*:configuration-set/x","Condition":{"Bool":{"aws:SecureTransport":"true"}}}]}"#;
    let mut policies = Policies::new();
    policies.attach(PolicyType::Identity, vec![PolicyType::Identity.parse("a.json", json).unwrap()]);
    let context = Context::new().with_list("ses:Recipients", ["a@b.example"]);
    let request =
        Request { action: "ses:SendRawEmail", resource: IDENTITY, principal: Some(SESSION), context: &context };
    let outcome = simulate(&policies, &request);
    assert_eq!(outcome.missing_keys, ["aws:principaltag/domain", "SES:FromAddress", "aws:username"]);
}

/// IAM User Guide, "Troubleshoot access denied error messages".
#[test]
fn denials_have_the_wording_of_aws() {
    let clause = |words: &str| {
        let policies = policies(words, "");
        let request = Request {
            action: "ses:SendRawEmail",
            resource: IDENTITY,
            principal: Some(SESSION),
            context: &Context::new(),
        };
        simulate(&policies, &request).clause("ses:SendRawEmail")
    };
    let some = |text: &str| Some(text.to_owned());
    assert_eq!(clause("identity-"), some("because no identity-based policy allows the ses:SendRawEmail action"));
    assert_eq!(
        clause("identity+ endpoint-"),
        some("because no VPC endpoint policy allows the ses:SendRawEmail action")
    );
    assert_eq!(clause("identity!"), some("with an explicit deny in an identity-based policy"));
    assert_eq!(clause("identity+ scp!"), some("with an explicit deny in a service control policy"));
    assert_eq!(clause("identity+"), None);
}

#[test]
fn each_type_has_its_own_grammar() {
    let statement = |elements: &str| format!(r#"{{"Version":"2012-10-17","Statement":[{{{elements}}}]}}"#);
    let rcp = |elements: &str| format!(r#""Effect":"Deny",{elements},"Resource":"*""#);
    for (policy_type, elements, want) in [
        (
            PolicyType::Scp,
            r#""Effect":"Deny","Principal":"*","Action":"*","Resource":"*""#.to_owned(),
            "Principal is permitted in",
        ),
        (PolicyType::Rcp, rcp(r#""Action":"ses:*""#), "has no Principal"),
        (PolicyType::Rcp, rcp(r#""Principal":{"AWS":"111122223333"},"Action":"ses:*""#), "Principal must be \"*\""),
        (PolicyType::Rcp, rcp(r#""NotPrincipal":"*","Action":"ses:*""#), "Principal must be \"*\""),
        (PolicyType::Rcp, rcp(r#""Principal":"*","NotAction":"ses:*""#), "no NotAction"),
        (PolicyType::Rcp, rcp(r#""Principal":"*","Action":"*""#), "ses:*, not *"),
        (
            PolicyType::Rcp,
            r#""Effect":"Allow","Principal":"*","Action":"ses:*","Resource":"*""#.to_owned(),
            "RCPFullAWSAccess",
        ),
        (PolicyType::Endpoint, r#""Effect":"Allow","Action":"*","Resource":"*""#.to_owned(), "has no Principal"),
        (PolicyType::Endpoint, r#""Effect":"Allow","Principal":"*","Action":"*""#.to_owned(), "has no Resource"),
    ] {
        let error = policy_type.parse("x.json", &statement(&elements)).unwrap_err().to_string();
        assert!(error.contains(want), "{elements}: {error}");
    }
    let full = statement(r#""Effect":"Allow","Principal":"*","Action":"*","Resource":"*""#);
    assert!(PolicyType::Rcp.parse("RCPFullAWSAccess", &full).is_ok());
}

fn attached(documents: &[(PolicyType, &str)]) -> Policies {
    let mut policies = Policies::new();
    for (policy_type, statement) in documents {
        let json = format!(r#"{{"Version":"2012-10-17","Statement":[{statement}]}}"#);
        policies.attach(*policy_type, vec![policy_type.parse("test.json", &json).unwrap()]);
    }
    policies
}

/// "AWS JSON policy elements: NotPrincipal": "will always deny any IAM principal that has a permissions boundary policy
/// attached, regardless of the values specified in the NotPrincipal element".
#[test]
fn a_deny_with_not_principal_denies_every_principal_with_a_boundary() {
    let allow = r#"{"Effect":"Allow","Action":"ses:*","Resource":"*"}"#;
    let spare = format!(r#"{{"Effect":"Deny","NotPrincipal":{{"AWS":"{USER}"}},"Action":"ses:*","Resource":"*"}}"#);
    let other = spare.replace("ses:*", "ses:Get*");
    let context = Context::new();
    let request = Request { action: "ses:SendRawEmail", resource: IDENTITY, principal: Some(USER), context: &context };
    for (documents, wanted, noted) in [
        (vec![(PolicyType::Resource, spare.as_str())], Verdict::Allowed, false),
        (vec![(PolicyType::Resource, &spare), (PolicyType::Boundary, allow)], Verdict::ExplicitDeny, true),
        (vec![(PolicyType::Resource, &other), (PolicyType::Boundary, allow)], Verdict::Allowed, false),
    ] {
        let policies = attached(&[&[(PolicyType::Identity, allow)], &documents[..]].concat());
        let outcome = simulate(&policies, &request);
        assert_eq!(outcome.verdict, wanted, "{documents:?}");
        assert_eq!(
            outcome.notes.iter().any(|note| note.contains("principal with a permissions boundary")),
            noted,
            "{documents:?}"
        );
    }
}

#[test]
fn undocumented_behaviour_is_noted_where_a_statement_depends_on_it() {
    let statement = |rest: &str| format!(r#"{{"Effect":"Allow","Action":"ses:*",{rest}}}"#);
    let when = |condition: &str| statement(&format!(r#""Resource":"*","Condition":{{{condition}}}"#));
    let spare = statement(r#""NotResource":"arn:aws:ses:us-east-1:111122223333:identity/${aws:PrincipalTag/x}""#);
    let default = spare.replace("/x}", "/x, 'other'}");
    for (statement, noted) in [
        (when(r#""StringLike":{"ses:Recipients":"*@a.example"}"#), "several values"),
        (when(r#""ForAnyValue:StringLike":{"ses:Recipients":"*@a.example"}"#), ""),
        (when(r#""StringLike":{"ses:FromAddress":"*@a.example"}"#), ""),
        (when(r#""ForAnyValue:StringLikeIfExists":{"aws:TagKeys":"x"}"#), "a key that is missing"),
        (when(r#""ForAnyValue:StringLikeIfExists":{"ses:Recipients":"*@a.example"}"#), ""),
        (when(r#""StringLikeIfExists":{"aws:TagKeys":"x"}"#), ""),
        (spare, "spares nothing"),
        (default, ""),
        // Of another action, so nothing depends on it.
        (when(r#""StringLike":{"ses:Recipients":"*@a.example"}"#).replace("ses:*", "ses:Get*"), ""),
    ] {
        let policies = attached(&[(PolicyType::Identity, &statement)]);
        let context = Context::new()
            .with_list("ses:Recipients", ["a@a.example", "b@b.example"])
            .with("ses:FromAddress", "ann@a.example");
        let request =
            Request { action: "ses:SendRawEmail", resource: IDENTITY, principal: Some(USER), context: &context };
        let notes = simulate(&policies, &request).notes;
        match noted {
            "" => assert!(notes.is_empty(), "{statement}: {notes:?}"),
            noted => assert!(notes.len() == 1 && notes[0].contains(noted), "{statement}: {notes:?}"),
        }
    }
}
