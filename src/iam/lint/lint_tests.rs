use super::*;

fn statement(elements: &str) -> String {
    format!(r#"{{"Version":"2012-10-17","Statement":[{{"Sid":"S",{elements}}}]}}"#)
}

/// The rules that speak, each once, and everything they say.
fn rules(kind: Kind, json: &str) -> (Vec<&'static str>, String) {
    let findings = lint("x.json", json, kind);
    let mut rules: Vec<&str> = findings.iter().map(|finding| finding.rule).collect();
    rules.dedup();
    (rules, findings.iter().map(|finding| format!("{finding}\n")).collect())
}

const SEND: &str = r#""Effect":"Allow","Action":["ses:SendEmail","ses:SendRawEmail"]"#;
const IDENTITY: &str = r#""Resource":"arn:aws:ses:us-east-1:111122223333:identity/example.com""#;
/// With the configuration set, which is authorised too.
const BOTH: &str = r#""Resource":["arn:aws:ses:us-east-1:111122223333:identity/example.com","arn:aws:ses:us-east-1:111122223333:configuration-set/relay"]"#;

#[test]
fn each_rule_speaks_of_what_it_is_for() {
    let allow = |rest: &str| format!("{SEND},{rest}");
    let deny = |rest: &str| format!(r#""Effect":"Deny","Action":["ses:SendEmail","ses:SendRawEmail"],{rest}"#);
    let set = "arn:aws:ses:us-east-1:111122223333:configuration-set/relay";
    let arn = |text: &str| format!(r#""Resource":["{text}","{set}"]"#);
    let when = |condition: &str| format!(r#"{BOTH},"Condition":{condition}"#);
    for (elements, rule, says) in [
        // Actions.
        (
            format!(r#""Effect":"Allow","Action":"ses:SendMail",{IDENTITY}"#),
            "unknown-action",
            "did you mean \"ses:SendEmail\"?",
        ),
        (
            format!(r#""Effect":"Allow","Action":"sesv2:SendRawEmail",{IDENTITY}"#),
            "unknown-action",
            "the prefix is ses",
        ),
        (format!(r#""Effect":"Allow","Action":"ses:Snd*",{IDENTITY}"#), "unknown-action", "SES has no action"),
        (
            format!(r#""Effect":"Allow","Action":"ses:SendEmail",{IDENTITY}"#),
            "send-raw-email",
            "authorised as ses:SendRawEmail",
        ),
        (format!(r#""Effect":"Deny","Action":"ses:SendEmail",{IDENTITY}"#), "send-raw-email", "passes"),
        (
            format!(r#""Effect":"Allow","Action":"ses:GetAccount",{IDENTITY}"#),
            "star-only",
            "so nothing is allowed by it",
        ),
        (
            format!(r#""Effect":"Allow","Action":["ses:GetAccount","ses:GetEmailIdentity"],{IDENTITY}"#),
            "star-only",
            "ses:GetAccount takes only Resource \"*\"",
        ),
        // Resources.
        (allow(&arn("example.com")), "invalid-resource", "nothing is allowed by it"),
        (
            deny(&arn("arn:aws:ses:us-east-1:identity/example.com")),
            "invalid-resource",
            "this Deny denies nothing there",
        ),
        (deny(r#""NotResource":"identity/x""#), "invalid-resource", "does not spare it"),
        (
            allow(&arn("arn:aws:*:us-east-1:111122223333:identity/x.example")),
            "invalid-resource",
            "no wildcard for the service",
        ),
        (
            deny(&arn("arn:aws:ses:us-east-1:111122223333:ident*")),
            "invalid-resource",
            "no wildcard for the type of the resource, as in identity/ or configuration-set/: this Deny denies nothing there",
        ),
        (
            allow(&arn("arn:aws:ses:us-east-1:111122223333:*/x.example")),
            "invalid-resource",
            "no wildcard for the type of the resource",
        ),
        (
            allow(&arn("arn:aws:ses:${aws:RequestedRegion}:111122223333:identity/x.example")),
            "invalid-resource",
            "no policy variable for the partition, service, region or account: nothing is allowed by it",
        ),
        (allow(IDENTITY), "no-configuration-set", "the account has by default; add arn:"),
        (
            deny(&arn("arn:aws:ses:us-east-1:111122223333:contact-list/x")),
            "resource-type",
            "so this Deny never applies",
        ),
        (deny(&arn("arn:aws:ses:us-east-1:111122223333:identities/x")), "resource-type", "did you mean identity?"),
        (deny(&arn("arn:aws:sns:us-east-1:111122223333:topic")), "resource-type", "not a resource of SES"),
        (allow(&arn("arn:aws:ses:us-east-1:111122223333:identity/")), "placeholder", "the name is missing"),
        (
            allow(&arn("arn:aws:ses:us-east-1:accountId:identity/x.example")),
            "placeholder",
            "not an account of twelve digits",
        ),
        (allow(&arn("arn:aws:ses:REGION:111122223333:identity/x.example")), "placeholder", "not a region"),
        (allow(&arn("arn:aws:ses::111122223333:identity/x.example")), "placeholder", "have a region"),
        (allow(&arn("arn:aws:ses:us-east-1:<account>:identity/x.example")), "placeholder", "not filled in"),
        (
            allow(&arn("arn:${AWS::Partition}:ses:us-east-1:111122223333:identity/x.example")),
            "placeholder",
            "not filled in",
        ),
        (allow(&arn("arn:aws:ses:us-gov-west-1:111122223333:identity/x.example")), "placeholder", "not in partition"),
        // Conditions.
        (
            allow(&when(r#"{"StringLike":{"ses:FromAdress":"*@x.example"}}"#)),
            "condition-key",
            "did you mean ses:FromAddress?",
        ),
        (
            allow(&when(r#"{"StringEquals":{"ses:TenantName":"a"}}"#)),
            "condition-key",
            "for ses:SendRawEmail, so the condition never",
        ),
        (
            allow(&when(r#"{"StringNotEquals":{"ses:TenantName":"a"}}"#)),
            "condition-key",
            "always holds and limits nothing",
        ),
        (deny(&when(r#"{"StringEquals":{"aws:SourceVpcEndpoint":"a"}}"#)), "condition-key", "the Deny hits no request"),
        (
            allow(&when(r#"{"ForAllValues:StringLike":{"ses:Recipients":"*@x.example"}}"#)),
            "for-all-values",
            "add \"Null\"",
        ),
        (
            allow(&when(r#"{"StringLike":{"ses:Recipients":"*@x.example"}}"#)),
            "multivalued",
            "ForAllValues: or ForAnyValue:",
        ),
        (
            allow(&when(r#"{"StringEquals":{"ses:FromAddress":"*@x.example"}}"#)),
            "literal-star",
            "StringLike has wildcards",
        ),
        (
            allow(&when(r#"{"StringLike":{"ses:FromAddress":".*@x.example"}}"#)),
            "regular-expression",
            "StringLike has no regular expressions",
        ),
        (
            allow(&when(r#"{"StringEquals":{"ses:FromAddress":"Shop <shop@x.example>"}}"#)),
            "display-name",
            "ses:FromDisplayName has the name",
        ),
        (allow(&when(r#"{"StringEquals":{"aws:SourceVpce":"vpce-xxxx"}}"#)), "placeholder", "not a VPC endpoint id"),
        (
            allow(&when(r#"{"ArnEquals":{"aws:PrincipalArn":"arn:aws:iam::ACCOUNT:role/x"}}"#)),
            "placeholder",
            "twelve digits",
        ),
        // What cannot be read.
        (allow(&when(r#"{"StringLikes":{"ses:FromAddress":"a"}}"#)), "not-understood", "did you mean StringLike?"),
        (allow(&format!(r#"{BOTH},"Principal":"*""#)), "not-understood", "Principal is permitted in"),
        (allow(r#""Condition":{}"#), "not-understood", "has no Resource"),
    ] {
        let (rules, text) = rules(Kind::Identity, &statement(&elements));
        assert_eq!(rules, [rule], "{elements}\n{text}");
        assert!(text.contains(says), "{elements}\n{text}");
        assert!(text.starts_with("x.json, statement 1 (\"S\"), ") || rule == "not-understood", "{text}");
    }
}

#[test]
fn good_documents_meet_silence() {
    for elements in [
        format!(r#"{SEND},{BOTH},"Condition":{{"StringLike":{{"ses:FromAddress":"*@example.com"}}}}"#),
        format!(
            r#"{SEND},"Resource":"*","Condition":{{"ForAllValues:StringLike":{{"ses:Recipients":"*@x.example"}},"Null":{{"ses:Recipients":"false"}}}}"#
        ),
        r#""Effect":"Deny","Action":"ses:Send*","Resource":"*","Condition":{"ForAllValues:StringLike":{"ses:Recipients":"*@x.example"}}"#.to_owned(),
        r#""Effect":"Allow","Action":"ses:*","Resource":"arn:aws:ses:*:111122223333:*","Condition":{"StringEquals":{"ses:FromAddress":"a@x.example","aws:PrincipalTag/team":"mail"}}"#.to_owned(),
        r#""Effect":"Allow","Action":"s3:GetObject","Resource":"arn:aws:s3:::bucket/*""#.to_owned(),
        r#""Effect":"Allow","Action":"*","Resource":"*""#.to_owned(),
        format!(
            r#"{SEND},"Resource":["arn:aws:ses:us-east-1:111122223333:identity/${{aws:PrincipalTag/domain}}","arn:aws:ses:*:111122223333:configuration-set/*"]"#
        ),
        r#""Effect":"Deny","Action":"ses:Send*","Resource":"arn:aws:ses:us-east-1:111122223333:identity/example.com""#.to_owned(),
    ] {
        let (rules, text) = rules(Kind::Identity, &statement(&elements));
        assert!(rules.is_empty(), "{elements}\n{text}");
    }
    let two = r#"{"Version":"2012-10-17","Statement":[
        {"Effect":"Allow","Action":"ses:SendEmail","Resource":"*"},{"Effect":"Allow","Action":"ses:SendRaw*","Resource":"*"}]}"#;
    assert_eq!(rules(Kind::Identity, two).0, [""; 0], "another statement has ses:SendRawEmail");
}

/// AWS PrivateLink Guide, "Control access to VPC endpoints using endpoint policies".
#[test]
fn endpoint_policies_have_rules_of_their_own() {
    let base = format!(r#"{SEND},"Principal":"*","Resource":"*""#);
    let when = |condition: &str| format!(r#"{base},"Condition":{condition}"#);
    for (elements, wanted) in [
        (base.clone(), None),
        (when(r#"{"StringEquals":{"aws:PrincipalArn":"arn:aws:iam::111122223333:role/relay"}}"#), None),
        (when(r#"{"StringLike":{"aws:PrincipalArn":"arn:aws:iam::111122223333:role/*"}}"#), None),
        (when(r#"{"StringLike":{"aws:PrincipalTag/x":"*abcde"}}"#), Some("endpoint-wildcard")),
        (when(r#"{"StringLike":{"aws:PrincipalTag/x":"*abcdef"}}"#), None),
        (when(r#"{"StringLike":{"aws:PrincipalTag/x":"abcdef*x?"}}"#), Some("endpoint-wildcard")),
        (when(r#"{"StringLike":{"aws:PrincipalTag/x":"abcdef*?bcdefg"}}"#), None),
        (when(r#"{"StringLike":{"aws:PrincipalTag/x":"*"}}"#), Some("endpoint-wildcard")),
        (when(r#"{"StringLike":{"aws:PrincipalOrgID":"o-abcdef*"}}"#), Some("endpoint-system-key")),
        (when(r#"{"NumericEquals":{"aws:PrincipalAccount":"111122223333"}}"#), Some("endpoint-system-key")),
        (when(r#"{"StringLike":{"ses:FromAddress":"*@example.com"}}"#), Some("endpoint-unproven")),
        (when(r#"{"IpAddress":{"aws:SourceIp":"10.0.0.0/8"}}"#), Some("endpoint-source-ip")),
        (when(r#"{"ArnLike":{"aws:PrincipalArn":"arn:aws:iam::1111*:role/x"}}"#), Some("endpoint-account")),
        (format!(r#"{SEND},"Resource":"*""#), Some("not-understood")),
        (format!(r#"{SEND},"Principal":"*""#), Some("not-understood")),
    ] {
        let (rules, text) = rules(Kind::Endpoint, &statement(&elements));
        assert_eq!(rules, wanted.into_iter().collect::<Vec<_>>(), "{elements}\n{text}");
    }
    let long = statement(&base).replace("\"Version\"", &format!("{}\"Version\"", " ".repeat(20_480)));
    assert_eq!(rules(Kind::Endpoint, &long).0, ["endpoint-size"]);
    assert_eq!(
        rules(
            Kind::Identity,
            &statement(&format!(r#"{SEND},"Resource":"*""#)).replace('{', &format!("{{{}", " ".repeat(9_000)))
        )
        .0,
        [""; 0]
    );
}

#[test]
fn principals_that_open_to_everybody_or_to_nobody_are_reported() {
    let principal = |element: &str| format!(r#"{SEND},{element},{IDENTITY}"#);
    for (elements, wanted) in [
        (principal(r#""Principal":{"AWS":"444455556666"}"#), None),
        (principal(r#""Principal":{"AWS":["arn:aws:iam::444455556666:root"]}"#), None),
        (principal(r#""Principal":"*","Condition":{"StringEquals":{"aws:PrincipalOrgID":"o-abcdefghij"}}"#), None),
        (principal(r#""Principal":"*""#), Some("open")),
        (principal(r#""Principal":{"AWS":"*"}"#), Some("open")),
        (principal(r#""NotPrincipal":{"AWS":"444455556666"}"#), Some("not-principal")),
        (principal(r#""Principal":{"AWS":"arn:aws:iam::444455556666:role/*"}"#), Some("principal")),
        (principal(r#""Principal":{"AWS":"AROAEXAMPLEID"}"#), Some("principal")),
        (principal(r#""Principal":{"AWS":"4444"}"#), Some("principal")),
        (principal(r#""Principal":{"AWS":"arn:aws:iam::accountId:root"}"#), Some("placeholder")),
    ] {
        let (rules, text) = rules(Kind::Resource, &statement(&elements));
        assert_eq!(rules, wanted.into_iter().collect::<Vec<_>>(), "{elements}\n{text}");
    }
}

#[test]
fn what_cannot_be_read_is_a_finding_and_the_other_statements_are_read_on() {
    assert_eq!(rules(Kind::Identity, "{").0, ["not-understood"]);
    assert_eq!(rules(Kind::Identity, "{\u{201c}Version\u{201d}:1}").0, ["not-understood"]);
    let json = r#"{"Version":"2012-10-17","Statement":[
        {"Sid":"A","Effect":"allow","Action":"ses:SendRawEmail","Resource":"*"},
        {"Sid":"B","Effect":"Allow","Action":"ses:SendMail","Resource":["nothing","nothing2"],"Extra":1},
        {"Sid":"B","Effect":"Allow","Action":"ses:SendRawEmail","Resource":"*"}]}"#;
    let findings = lint("x.json", json, Kind::Identity);
    let seen: Vec<_> = findings.iter().map(|finding| (finding.statement.unwrap(), finding.rule)).collect();
    assert_eq!(
        seen,
        [(1, "not-understood"), (2, "invalid-resource"), (2, "invalid-resource"), (2, "unknown-action"), (3, "sid")]
    );
}

#[test]
fn variables_in_an_old_document_are_text() {
    let json = r#"{"Statement":[{"Effect":"Allow","Action":"ses:SendRawEmail","Resource":"*",
        "Condition":{"StringEquals":{"ses:FromAddress":"${aws:username}@example.com"}}}]}"#;
    assert_eq!(rules(Kind::Identity, json).0, ["version"]);
}

#[test]
fn organisation_policies_are_held_to_their_grammar() {
    let rcp = statement(r#""Effect":"Deny","Principal":{"AWS":"111122223333"},"Action":"ses:Send*","Resource":"*""#);
    let (rules, text) = rules(Kind::Rcp, &rcp);
    assert_eq!(rules, ["not-understood"], "{text}");
    assert!(text.contains("Principal must be \"*\""), "{text}");
}

#[test]
fn the_nearest_word_is_offered_if_it_is_near() {
    assert_eq!(did_you_mean("SendMail", ["SendEmail", "SendBounce"]), Some("SendEmail"));
    assert_eq!(did_you_mean("Frobnicate", ["SendEmail", "SendBounce"]), None);
    assert_eq!(distance("kitten", "sitting"), 3);
}

proptest::proptest! {
    /// Lint is for documents that are wrong: nothing stops it, and what the evaluator refuses it reports.
    #[test]
    fn whatever_the_evaluator_refuses_is_a_finding(at in 0_usize..400, length in 0_usize..40, put in "[\"{}:,*$a-z]{0,3}") {
        let good = format!(
            r#"{{"Version":"2012-10-17","Statement":[{{"Sid":"A",{SEND},"Principal":{{"AWS":"111122223333"}},{IDENTITY},
                "Condition":{{"ForAllValues:StringLike":{{"ses:Recipients":["*@example.com"]}},"Null":{{"ses:Recipients":"false"}}}}}}]}}"#
        );
        let from = at.min(good.len());
        let spoiled = format!("{}{put}{}", &good[..from], &good[(from + length).min(good.len())..]);
        for kind in [Kind::Identity, Kind::Endpoint, Kind::Resource, Kind::Trust, Kind::Scp, Kind::Rcp] {
            let findings = lint("x.json", &spoiled, kind);
            let refused = kind.policy_type().parse("x.json", &spoiled).is_err();
            proptest::prop_assert!(!refused || !findings.is_empty(), "{:?} {}", kind, spoiled);
        }
    }
}
