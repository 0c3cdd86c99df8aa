use super::super::lint::{NO_CONFIGURATION_SET, lint};
use super::super::simulate::{Policies, PolicyType, Verdict, simulate};
use super::super::{Context, Document, DocumentKind, Request, evaluate};
use super::*;

const VPCE: &str = "vpce-0123456789abcdef0";

/// All needs at once, in one partition.
fn everything(partition: &str, region: &str) -> Needs {
    Needs {
        partition: partition.into(),
        region: region.into(),
        account: "111122223333".into(),
        role_name: "service/relay".into(),
        identities: vec![
            "example.com".into(),
            "ann@example.org".into(),
            format!("arn:{partition}:ses:{region}:444455556666:identity/partner.example"),
        ],
        configuration_sets: vec!["relay".into(), "bulk".into()],
        from_patterns: vec!["*@example.com".into(), "ann@example.org".into(), "*@partner.example".into()],
        read_actions: ReadActions { account: true, identities: true, configuration_sets: true, suppression: true },
        vpc_endpoint: Some(VPCE.into()),
        sending_principals: vec!["777788889999".into()],
        trust: vec![
            Trust::Ec2,
            Trust::EcsTasks,
            Trust::EksPodIdentity {
                cluster: "prod".into(),
                namespace: "mail".into(),
                service_account: "gatepost".into(),
            },
            Trust::Irsa { provider: OIDC.into(), namespace: "mail".into(), service_account: "gatepost".into() },
            Trust::User { name: "gatepost".into() },
        ],
    }
}

const OIDC: &str = "oidc.eks.us-east-1.amazonaws.com/id/0123456789ABCDEF";

macro_rules! must {
    ($fits:expr, $($why:tt)+) => {
        if !$fits {
            return Err(format!($($why)+));
        }
    };
}

/// Checks with the evaluator that each document serves its purpose.
fn proof(needs: &Needs, documents: &[Generated]) -> Result<(), String> {
    for document in documents {
        let mut findings = lint(&document.file, &document.json, document.kind);
        // Where messages have no configuration set.
        findings.retain(|finding| finding.rule != NO_CONFIGURATION_SET || !needs.configuration_sets.is_empty());
        must!(findings.is_empty(), "{}: {}", document.file, findings[0]);
    }
    let named = |file: &'static str| documents.iter().filter(move |document| document.file.contains(file));
    let parse = |policy_type: PolicyType, file: &'static str| -> Result<Vec<Document>, String> {
        let read = named(file).map(|document| policy_type.parse(&document.file, &document.json));
        read.collect::<Result<_, _>>().map_err(|error| error.to_string())
    };
    role(needs, parse(PolicyType::Identity, "role-policy")?)?;
    together(needs, &parse)?;
    foreign(needs, &parse)?;
    let read =
        named("trust-policy").map(|document| Document::parse(&document.file, &document.json, DocumentKind::Resource));
    trust(needs, &read.collect::<Result<Vec<_>, _>>().map_err(|error| error.to_string())?)
}

/// The role's policy by itself: each permitted message, and each foreign one.
fn role(needs: &Needs, documents: Vec<Document>) -> Result<(), String> {
    let allows = |action: &str, resource: &str, from: &str| {
        let context = Context::new().with("ses:FromAddress", from);
        evaluate(&documents, &Request { action, resource, principal: None, context: &context }).is_allow()
    };
    let resources = [needs.identity_arns(), needs.configuration_set_arns()].concat();
    for action in SEND {
        for resource in &resources {
            for pattern in &needs.from_patterns {
                must!(allows(action, resource, &pattern.replace('*', "bob")), "{action} {resource} {pattern}");
            }
            must!(!allows(action, resource, "bob@evil.example"), "foreign From on {resource}");
            let elsewhere = resource.replace(&needs.region, "eu-west-9");
            must!(!allows(action, &elsewhere, "bob@example.com"), "foreign region {elsewhere}");
        }
        for (resource_type, name) in
            [("configuration-set", "other"), ("identity", "evil.example"), ("identity", "xample.com")]
        {
            must!(
                !allows(action, &needs.arn(resource_type, name), "bob@example.com"),
                "foreign {resource_type} {name}"
            );
        }
    }
    let reads = needs.read_actions;
    for (wanted, action, resources) in [
        (reads.account, "ses:GetAccount", vec!["*".to_owned()]),
        (reads.suppression, "ses:GetSuppressedDestination", vec!["*".to_owned()]),
        (reads.identities, "ses:GetEmailIdentity", needs.identity_arns()),
        (reads.configuration_sets, "ses:GetConfigurationSet", needs.configuration_set_arns()),
        (false, "ses:DeleteEmailIdentity", needs.identity_arns()),
    ] {
        for resource in resources {
            must!(allows(action, &resource, "") == wanted, "{action} {resource}");
        }
    }
    Ok(())
}

type Parse<'a> = dyn Fn(PolicyType, &'static str) -> Result<Vec<Document>, String> + 'a;

/// Role, endpoint and identities together, within the account.
fn together(needs: &Needs, parse: &Parse<'_>) -> Result<(), String> {
    let mut policies = Policies::new();
    policies.attach(PolicyType::Identity, parse(PolicyType::Identity, "role-policy")?);
    policies.attach(PolicyType::Endpoint, parse(PolicyType::Endpoint, "endpoint-policy")?);
    policies.attach(PolicyType::Resource, parse(PolicyType::Resource, "deny-outside")?);
    let role = needs.role_arn();
    let inside = |arn: &str| {
        Context::new()
            .with("ses:FromAddress", "bob@example.com")
            .with("aws:SourceVpce", VPCE)
            .with("aws:PrincipalArn", arn)
    };
    let decide = |policies: &Policies, action: &str, resource: &str, context: &Context| {
        simulate(policies, &Request { action, resource, principal: Some(&role), context }).verdict
    };
    for resource in
        needs.configuration_set_arns().into_iter().chain(needs.own_identities().map(|name| needs.arn("identity", name)))
    {
        must!(decide(&policies, SEND[1], &resource, &inside(&role)) == Verdict::Allowed, "inside, {resource}");
        let other = format!("arn:{}:iam::111122223333:role/other", needs.partition);
        must!(
            decide(&policies, SEND[1], &resource, &inside(&other)) == Verdict::ImplicitDeny,
            "other role through the endpoint"
        );
        if resource.contains(":identity/") {
            for outside in [Context::new(), Context::new().with("aws:SourceVpce", "vpce-0fedcba9876543210")] {
                must!(decide(&policies, SEND[1], &resource, &outside) == Verdict::ExplicitDeny, "outside, {resource}");
            }
        }
    }
    let endpoint = parse(PolicyType::Endpoint, "endpoint-policy")?;
    let through = |action: &str| {
        let request = Request { action, resource: "*", principal: Some(&role), context: &inside(&role) };
        evaluate(&endpoint, &request).is_allow()
    };
    must!(through("ses:GetAccount") == needs.read_actions.account, "GetAccount through the endpoint");
    must!(!through("ses:DeleteEmailIdentity"), "anything through the endpoint");

    // Other principals that may send as these identities.
    let full = r#"{"Statement":{"Effect":"Allow","Action":"ses:*","Resource":"*"}}"#;
    let mut others = Policies::new();
    others.attach(
        PolicyType::Identity,
        vec![PolicyType::Identity.parse("full", full).map_err(|error| error.to_string())?],
    );
    others.attach(PolicyType::Resource, parse(PolicyType::Resource, "others-may-send")?);
    for name in needs.own_identities() {
        for (account, from, wanted) in [
            ("777788889999", "bob@example.com", Verdict::Allowed),
            ("777788889999", "bob@evil.example", Verdict::ImplicitDeny),
            ("999988887777", "bob@example.com", Verdict::ImplicitDeny),
        ] {
            let principal = format!("arn:{}:iam::{account}:role/theirs", needs.partition);
            let context = Context::new().with("ses:FromAddress", from);
            let resource = needs.arn("identity", name);
            let request =
                Request { action: SEND[1], resource: &resource, principal: Some(&principal), context: &context };
            must!(simulate(&others, &request).verdict == wanted, "{account} as {name} from {from}");
        }
    }
    Ok(())
}

/// An identity of another account.
fn foreign(needs: &Needs, parse: &Parse<'_>) -> Result<(), String> {
    let mut policies = Policies::new();
    policies.attach(PolicyType::Identity, parse(PolicyType::Identity, "role-policy")?);
    policies.attach(PolicyType::Resource, parse(PolicyType::Resource, "relay-may-send")?);
    for resource in needs.identities.iter().filter(|identity| needs.is_foreign(identity)) {
        let other = format!("arn:{}:iam::111122223333:role/other", needs.partition);
        let session = format!("arn:{}:sts::111122223333:assumed-role/relay/i-1", needs.partition);
        for (principal, from, wanted) in [
            (needs.role_arn(), "bob@partner.example", Verdict::Allowed),
            (session, "bob@partner.example", Verdict::Allowed),
            (needs.role_arn(), "bob@evil.example", Verdict::ImplicitDeny),
            (other, "bob@partner.example", Verdict::ImplicitDeny),
        ] {
            let context = Context::new().with("ses:FromAddress", from);
            let request = Request { action: SEND[1], resource, principal: Some(&principal), context: &context };
            must!(simulate(&policies, &request).verdict == wanted, "{principal} as {resource} from {from}");
        }
    }
    Ok(())
}

/// Principals that may assume the role, and the same with one fact missing, which may not.
fn trust(needs: &Needs, documents: &[Document]) -> Result<(), String> {
    let Needs { partition, region, account, .. } = needs;
    let provider = format!("arn:{partition}:iam::{account}:oidc-provider/{OIDC}");
    let user = format!("arn:{partition}:iam::{account}:user/gatepost");
    let ecs = Context::new()
        .with("aws:SourceArn", format!("arn:{partition}:ecs:{region}:{account}:task/prod/1"))
        .with("aws:SourceAccount", account);
    let pod = Context::new()
        .with("aws:RequestTag/eks-cluster-arn", format!("arn:{partition}:eks:{region}:{account}:cluster/prod"))
        .with("aws:RequestTag/kubernetes-namespace", "mail")
        .with("aws:RequestTag/kubernetes-service-account", "gatepost");
    let (aud, sub) = (format!("{OIDC}:aud"), format!("{OIDC}:sub"));
    let web = Context::new().with(&aud, "sts.amazonaws.com").with(&sub, "system:serviceaccount:mail:gatepost");
    let deputy = ecs.clone().with("aws:SourceArn", format!("arn:{partition}:ecs:{region}:999988887777:task/x/1"));
    for (principal, action, context, wanted) in [
        ("ec2.amazonaws.com", "sts:AssumeRole", Context::new(), true),
        ("lambda.amazonaws.com", "sts:AssumeRole", Context::new(), false),
        ("ecs-tasks.amazonaws.com", "sts:AssumeRole", ecs.clone(), true),
        ("ecs-tasks.amazonaws.com", "sts:AssumeRole", Context::new(), false),
        ("ecs-tasks.amazonaws.com", "sts:AssumeRole", ecs.with("aws:SourceAccount", "999988887777"), false),
        ("ecs-tasks.amazonaws.com", "sts:AssumeRole", deputy, false),
        ("pods.eks.amazonaws.com", "sts:AssumeRole", pod.clone(), true),
        ("pods.eks.amazonaws.com", "sts:TagSession", pod.clone(), true),
        ("pods.eks.amazonaws.com", "sts:AssumeRole", pod.with("aws:RequestTag/kubernetes-namespace", "web"), false),
        (&provider, "sts:AssumeRoleWithWebIdentity", web.clone(), true),
        (&provider, "sts:AssumeRoleWithWebIdentity", web.with(&sub, "system:serviceaccount:web:x"), false),
        (&user, "sts:AssumeRole", Context::new(), true),
        ("arn:aws:iam::111122223333:user/other", "sts:AssumeRole", Context::new(), false),
    ] {
        let request = Request { action, resource: "*", principal: Some(principal), context: &context };
        must!(evaluate(documents, &request).is_allow() == wanted, "{principal} {action} {context:?}");
    }
    Ok(())
}

#[test]
fn every_document_serves_its_purpose_without_findings() {
    for (partition, region) in [("aws", "us-east-1"), ("aws", "ap-southeast-2"), ("aws-us-gov", "us-gov-west-1")] {
        let needs = everything(partition, region);
        let documents = generate(&needs).unwrap();
        assert_eq!(documents.len(), 8, "{:?}", documents.iter().map(|document| &document.file).collect::<Vec<_>>());
        proof(&needs, &documents).unwrap();
        for document in &documents {
            assert!(document.commands.iter().any(|command| command.contains(&document.file)), "{}", document.file);
            assert!(partition == "aws" || !document.json.contains("arn:aws:"), "{}", document.json);
        }
    }
}

/// The proof must detect errors.
#[test]
fn one_character_removed_from_any_arn_is_detected() {
    let needs = everything("aws", "us-east-1");
    let documents = generate(&needs).unwrap();
    let mut removed = 0;
    for (index, document) in documents.iter().enumerate() {
        let arns: Vec<_> = document.json.match_indices("\"arn:").map(|(at, _)| at + 1).collect();
        for start in arns {
            let end = start + document.json[start..].find('"').unwrap();
            for at in start..end {
                let mut changed = documents.clone();
                changed[index].json.remove(at);
                // Lint alone sees most of it, and is quicker than the whole proof, which begins with it.
                let seen = !lint(&document.file, &changed[index].json, document.kind).is_empty();
                assert!(seen || proof(&needs, &changed).is_err(), "{}", changed[index].json);
                removed += 1;
            }
        }
    }
    assert!(removed > 700, "{removed}");
}

#[test]
fn unused_permissions_are_not_granted() {
    let needs = Needs {
        partition: "aws".into(),
        region: "us-east-1".into(),
        account: "111122223333".into(),
        role_name: "relay".into(),
        identities: vec!["example.com".into()],
        ..Needs::default()
    };
    let documents = generate(&needs).unwrap();
    assert_eq!(documents.len(), 1);
    assert_eq!(
        documents[0].json,
        r#"{"Version":"2012-10-17","Statement":[{"Sid":"Send","Effect":"Allow","Action":["ses:SendEmail","ses:SendRawEmail"],"Resource":["arn:aws:ses:us-east-1:111122223333:identity/example.com"]}]}"#
    );
}

#[test]
fn undocumented_behaviour_has_a_note() {
    let documents = generate(&everything("aws", "us-east-1")).unwrap();
    let endpoint = documents.iter().find(|document| document.file == "endpoint-policy.json").unwrap();
    assert!(endpoint.notes[0].starts_with("AWS has not documented"), "{:?}", endpoint.notes);
    assert!(!endpoint.json.contains("ses:FromAddress"));
}

#[test]
fn a_value_that_no_policy_can_contain_is_an_error() {
    /// Makes one value invalid; the name of the value.
    type Row = (fn(&mut Needs), &'static str);
    let rows: [Row; 14] = [
        (|needs| needs.partition = "aws-cn".into(), "partition"),
        (|needs| needs.region = "us-gov-west-1".into(), "region"),
        (|needs| needs.region = "us-east".into(), "region"),
        (|needs| needs.account = "accountId".into(), "account"),
        (|needs| needs.role_name = String::new(), "role name"),
        (|needs| needs.role_name = "a b".into(), "role name"),
        (|needs| needs.identities.clear(), "identity"),
        (|needs| needs.identities.push("*".into()), "identity"),
        (|needs| needs.identities.push("arn:aws:ses:eu-west-1:444455556666:identity/x.example".into()), "identity"),
        (|needs| needs.configuration_sets.push("a/b".into()), "configuration set"),
        (|needs| needs.from_patterns.push(String::new()), "from pattern"),
        (|needs| needs.vpc_endpoint = Some("vpce-1".into()), "VPC endpoint"),
        (|needs| needs.sending_principals.push("*".into()), "sending account"),
        (|needs| needs.trust.push(Trust::User { name: "*".into() }), "user"),
    ];
    for (spoil, what) in rows {
        let mut needs = everything("aws", "us-east-1");
        spoil(&mut needs);
        assert_eq!(generate(&needs).unwrap_err().what, what);
    }
}
