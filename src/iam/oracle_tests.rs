//! Compares the evaluator with the crate `iam-rs`: same policy, same request, same decision.
//!
//! Neither is AWS. Each difference is a row of [`DIFFERENCES`] with the reason why this evaluator is right. A
//! difference without a row fails the test, and so does a row without a difference.

use super::condition::OPERATORS;
use super::{Context, Document, DocumentKind, Effect, Request, evaluate, trace};
use iam_rs::{ContextValue, Decision as Theirs, IAMPolicy, IAMRequest, Principal, PrincipalId};
use proptest::prelude::*;

const IDENTITY: &str = "arn:aws:ses:us-east-1:111122223333:identity/example.com";
const USER: &str = "arn:aws:iam::111122223333:user/ann";
const KEY: &str = "ses:FromAddress";

/// Key and values; one value is a single-valued key.
type Pairs = Vec<(&'static str, Vec<&'static str>)>;

fn ours(
    policy: &str,
    kind: DocumentKind,
    principal: &str,
    action: &str,
    resource: &str,
    pairs: &Pairs,
) -> &'static str {
    let Ok(document) = Document::parse("policy", policy, kind) else { return "refused" };
    let context = pairs.iter().fold(Context::new(), |context, (key, values)| match &values[..] {
        [value] => context.with(key, *value),
        list => context.with_list(key, list.iter().copied()),
    });
    let request = Request { action, resource, principal: Some(principal), context: &context };
    let decided = evaluate([&document], &request).label();
    let steps = trace([&document], &request);
    let speaks = |effect| steps.iter().any(|step| step.mismatch.is_none() && step.statement.effect == effect);
    let decision = match (speaks(Effect::Deny), speaks(Effect::Allow)) {
        (true, _) => "explicitDeny",
        (false, true) => "allowed",
        (false, false) => "implicitDeny",
    };
    assert_eq!(decision, decided, "{policy}");
    decided
}

fn theirs(policy: &str, principal: &str, action: &str, resource: &str, pairs: &Pairs) -> &'static str {
    let Ok(policy) = serde_json::from_str::<IAMPolicy>(policy) else { return "refused" };
    let mut context = iam_rs::Context::new();
    for (key, values) in pairs {
        let value = match &values[..] {
            // It compares types, where JSON policies and requests have text.
            ["true"] => ContextValue::Boolean(true),
            ["false"] => ContextValue::Boolean(false),
            [value] if value.parse::<f64>().is_ok() => ContextValue::Number(value.parse().unwrap()),
            [value] => ContextValue::String((*value).to_owned()),
            list => ContextValue::StringList(list.iter().map(|value| (*value).to_owned()).collect()),
        };
        context.insert((*key).to_owned(), value);
    }
    let principal = Principal::Aws(PrincipalId::String(principal.to_owned()));
    let resource = iam_rs::Arn::parse(resource).unwrap();
    let request = IAMRequest::new_with_context(principal, action, resource, context);
    match iam_rs::evaluate_policy(&policy, &request) {
        Ok(Theirs::Allow) => "allowed",
        Ok(Theirs::Deny) => "explicitDeny",
        Ok(Theirs::NotApplicable) => "implicitDeny",
        Err(_) => "refused",
    }
}

fn conditional(operator: &str, value: &str) -> String {
    format!(
        r#"{{"Version":"2012-10-17","Statement":[{{"Effect":"Allow","Action":"ses:*","Resource":"*","Condition":{{"{operator}":{{"{KEY}":{value}}}}}}}]}}"#
    )
}

/// For each kind of operator a policy value, one that fits and one that does not.
fn samples(name: &str) -> (&'static str, &'static str, &'static str) {
    match name {
        "Bool" => ("true", "true", "false"),
        name if name.contains("IpAddress") => ("10.0.0.0/8", "10.1.2.3", "11.0.0.1"),
        name if name.starts_with("Arn") => {
            ("arn:aws:iam::*:role/r*", "arn:aws:iam::1:role/relay", "arn:aws:iam::1:user/r")
        }
        name if name.starts_with("Date") => ("2026-11-21T00:00:00Z", "2026-11-21T00:00:00Z", "2027-01-01T00:00:00Z"),
        name if name.starts_with("Numeric") => ("10", "10", "11"),
        name if name.ends_with("Like") => ("*@example.com", "ann@example.com", "ann@Example.com"),
        _ => ("ann@example.com", "ann@example.com", "bob@example.com"),
    }
}

/// One request of the table of operators.
struct OperatorCase<'a> {
    operator: &'a str,
    form: &'a str,
    /// `None`: the key is missing.
    values: Option<&'a [&'static str]>,
}

impl OperatorCase<'_> {
    fn kind(&self, names: &[&str]) -> bool {
        names.iter().any(|name| self.operator.contains(name))
    }

    fn is_set(&self) -> bool {
        self.form.contains(':')
    }
}

/// Where the two differ, and why this evaluator is right.
type Difference = (fn(&OperatorCase<'_>) -> bool, &'static str);

const DIFFERENCES: &[Difference] = &[
    (
        |case| case.is_set() && case.form.ends_with("IfExists"),
        "it has no …IfExists behind a set qualifier; AWS takes it, and policies in use have it",
    ),
    (
        |case| case.is_set() && case.kind(&["Numeric", "Date", "IpAddress", "Bool"]),
        "it has set qualifiers for texts and ARNs only; AWS takes them before every operator but Null",
    ),
    (
        |case| case.kind(&["ArnEquals", "ArnNotEquals"]) && case.values.is_some_and(|values| !values.is_empty()),
        "it compares ArnEquals by the letter; AWS: ArnEquals and ArnLike behave identically",
    ),
    (
        |case| !case.is_set() && case.values.is_some_and(|values| values.len() != 1),
        "a list or an empty one under an operator without set qualifier, which AWS leaves open: it takes any value for a \
         negated operator and none for numbers, dates, addresses and booleans; ours is any and, negated, none. Lint \
         reports such a condition",
    ),
];

#[test]
fn operators_agree_with_the_oracle_or_the_difference_is_listed() {
    let mut met = vec![0; DIFFERENCES.len()];
    let mut agreed = 0;
    for operator in OPERATORS.iter().filter(|operator| operator.name != "Null") {
        let (policy, fits, misses) = samples(operator.name);
        for form in ["{}", "{}IfExists", "ForAllValues:{}", "ForAnyValue:{}", "ForAllValues:{}IfExists"] {
            let lists: [&[&'static str]; 6] =
                [&[fits], &[misses], &[], &[fits, misses], &[misses, misses], &[fits, fits]];
            for values in lists.into_iter().map(Some).chain([None]) {
                let case = OperatorCase { operator: operator.name, form, values };
                let pairs: Pairs = values.map(|values| (KEY, values.to_vec())).into_iter().collect();
                let name = form.replace("{}", operator.name);
                let json = conditional(&name, &format!("\"{policy}\""));
                let ours = ours(&json, DocumentKind::Identity, USER, "ses:SendRawEmail", IDENTITY, &pairs);
                let theirs = theirs(&json, USER, "ses:SendRawEmail", IDENTITY, &pairs);
                if ours == theirs {
                    agreed += 1;
                    continue;
                }
                let known = DIFFERENCES.iter().position(|(applies, _)| applies(&case));
                let Some(known) = known else { panic!("{name} on {pairs:?}: ours {ours}, theirs {theirs}") };
                met[known] += 1;
            }
        }
    }
    for ((_, reason), met) in DIFFERENCES.iter().zip(met) {
        assert!(met > 0, "no longer a difference: {reason}");
    }
    assert!(agreed > 350, "{agreed}");
}

/// Statement elements, principal, requested resource, result of the oracle, and the reason of a difference (none: there
/// is none).
#[test]
fn elements_agree_with_the_oracle_or_the_difference_is_listed() {
    let session = "arn:aws:sts::111122223333:assumed-role/relay/i-1";
    let role = r#""Principal":{"AWS":"arn:aws:iam::111122223333:role/relay"},"Action":"*","Resource":"*""#;
    let account = r#""Principal":{"AWS":"111122223333"},"Action":"*","Resource":"*""#;
    for (elements, principal, resource, difference) in [
        (r#""Action":"SES:send*","Resource":"*""#, USER, IDENTITY, None),
        (r#""Action":"ses:Send??wEmail","Resource":"*""#, USER, IDENTITY, None),
        (r#""NotAction":"ses:Get*","Resource":"*""#, USER, IDENTITY, None),
        (r#""NotAction":["ses:Send*"],"Resource":"*""#, USER, IDENTITY, None),
        (r#""Action":"*","Resource":"arn:aws:ses:*:111122223333:identity/*.com""#, USER, IDENTITY, None),
        (r#""Action":"*","Resource":"arn:aws:ses:us-????-1:*:identity/example.com""#, USER, IDENTITY, None),
        (r#""Action":"*","Resource":"arn:aws:ses:*:*:configuration-set/*""#, USER, IDENTITY, None),
        (r#""Action":"*","NotResource":"arn:aws:ses:*:*:identity/example.com""#, USER, IDENTITY, None),
        (r#""Action":"*","NotResource":"arn:aws:ses:*:*:identity/other""#, USER, IDENTITY, None),
        (r#""Action":"*","Resource":"*","Condition":{"Null":{"ses:FromAddress":"true"}}"#, USER, IDENTITY, None),
        (r#""Action":"*","Resource":"*","Condition":{"Null":{"ses:FromAddress":"false"}}"#, USER, IDENTITY, None),
        (r#""Action":"*","Resource":"*","Condition":{"StringLikes":{"ses:FromAddress":"a"}}"#, USER, IDENTITY, None),
        (r#""Principal":"*","Action":"*","Resource":"*""#, USER, IDENTITY, None),
        (
            r#""Principal":{"AWS":"arn:aws:iam::111122223333:user/ann"},"Action":"*","Resource":"*""#,
            USER,
            IDENTITY,
            None,
        ),
        (
            r#""Principal":{"AWS":"arn:aws:iam::111122223333:user/bob"},"Action":"*","Resource":"*""#,
            USER,
            IDENTITY,
            None,
        ),
        (
            account,
            USER,
            IDENTITY,
            Some(("implicitDeny", "it takes an account for its root user; AWS: for everybody in it")),
        ),
        (role, session, IDENTITY, Some(("implicitDeny", "it does not know that a session belongs to a role"))),
        (
            r#""Action":"*","Resource":"arn:aws:ses:*""#,
            USER,
            IDENTITY,
            Some(("refused", "AWS: a star at the end of an ARN reaches over the colons")),
        ),
        (r#""Action":"*","Resource":"*","Action":"ses:Get*""#, USER, IDENTITY, None),
    ] {
        let json = format!(r#"{{"Version":"2012-10-17","Statement":[{{"Effect":"Allow",{elements}}}]}}"#);
        let kind = if elements.contains("Principal") { DocumentKind::Resource } else { DocumentKind::Identity };
        let ours = ours(&json, kind, principal, "ses:SendRawEmail", resource, &Vec::new());
        let theirs = theirs(&json, principal, "ses:SendRawEmail", resource, &Vec::new());
        match difference {
            None => assert_eq!(ours, theirs, "{elements}"),
            Some((said, reason)) => {
                assert_eq!(theirs, said, "{elements}: {reason}");
                assert!(ours != theirs, "no longer a difference: {elements}");
            }
        }
    }
}

#[test]
fn without_a_version_the_old_one_applies_as_at_aws() {
    let json = r#"{"Statement":[{"Effect":"Allow","Action":"*","Resource":"*"}]}"#;
    assert_eq!(ours(json, DocumentKind::Identity, USER, "ses:SendRawEmail", IDENTITY, &Vec::new()), "allowed");
    assert_eq!(theirs(json, USER, "ses:SendRawEmail", IDENTITY, &Vec::new()), "refused", "it wants one; AWS does not");
}

/// A statement out of parts that both understand.
fn statement() -> impl Strategy<Value = String> {
    let effect = prop::sample::select(vec!["Allow", "Allow", "Deny"]);
    let action = prop::sample::select(vec![
        r#""Action":"ses:*""#,
        r#""Action":["ses:SendEmail","ses:SendRawEmail"]"#,
        r#""Action":"ses:Get*""#,
        r#""Action":"SES:SEND*EMAIL""#,
        r#""NotAction":"ses:Get*""#,
        r#""NotAction":["ses:SendEmail","s3:*"]"#,
    ]);
    let resource = prop::sample::select(vec![
        r#""Resource":"*""#,
        r#""Resource":"arn:aws:ses:us-east-1:111122223333:identity/example.com""#,
        r#""Resource":["arn:aws:ses:*:111122223333:identity/*","arn:aws:ses:*:*:configuration-set/relay"]"#,
        r#""Resource":"arn:aws:ses:us-*-?:111122223333:identity/exam*.com""#,
        r#""NotResource":"arn:aws:ses:*:*:identity/example.com""#,
        r#""NotResource":"arn:aws:ses:eu-*:*:*""#,
    ]);
    let single = (
        prop::sample::select(vec![
            "StringEquals",
            "StringNotEquals",
            "StringEqualsIgnoreCase",
            "StringNotEqualsIgnoreCase",
            "StringLike",
            "StringNotLike",
            "StringEqualsIfExists",
            "StringNotLikeIfExists",
            "StringLikeIfExists",
        ]),
        prop::sample::select(vec!["ses:FromAddress", "SES:fromaddress", "ses:FromDisplayName"]),
        prop::sample::select(vec![
            r#""ann@example.com""#,
            r#""ANN@example.com""#,
            r#""*@example.com""#,
            r#"["*@*.org","ann@*"]"#,
            r#""?nn@*""#,
            r#""*""#,
        ]),
    );
    let set = (
        prop::sample::select(vec!["ForAllValues:", "ForAnyValue:"]),
        prop::sample::select(vec![
            "StringEquals",
            "StringLike",
            "StringNotLike",
            "StringNotEquals",
            "StringEqualsIgnoreCase",
        ]),
        prop::sample::select(vec![r#""a@x.example""#, r#"["*@x.example","b@y.example"]"#, r#""*.example""#]),
    )
        .prop_map(|(qualifier, operator, values)| format!(r#""{qualifier}{operator}":{{"ses:Recipients":{values}}}"#));
    let null =
        prop::sample::select(vec![r#""Null":{"ses:FromAddress":"true"}"#, r#""Null":{"ses:Recipients":"false"}"#])
            .prop_map(str::to_owned);
    let condition = prop_oneof![
        single.prop_map(|(operator, key, values)| format!(r#""{operator}":{{"{key}":{values}}}"#)),
        set,
        null,
    ];
    (effect, action, resource, prop::option::of(condition)).prop_map(|(effect, action, resource, condition)| {
        let condition = condition.map(|text| format!(r#","Condition":{{{text}}}"#)).unwrap_or_default();
        format!(r#"{{"Effect":"{effect}",{action},{resource}{condition}}}"#)
    })
}

fn pairs() -> impl Strategy<Value = Pairs> {
    let from = prop::option::of(prop::sample::select(vec!["ann@example.com", "Ann@Example.com", "bob@x.org", ""]));
    let name = prop::option::of(prop::sample::select(vec!["Ann", "ann@example.com"]));
    let recipients = prop::option::of(prop::sample::select(vec![
        vec!["a@x.example"],
        vec!["a@x.example", "b@y.example"],
        vec!["A@X.example", "c@z.test"],
    ]));
    (from, name, recipients).prop_map(|(from, name, recipients)| {
        let single = [("ses:FromAddress", from), ("ses:FromDisplayName", name)];
        let mut pairs: Pairs =
            single.into_iter().filter_map(|(key, value)| value.map(|value| (key, vec![value]))).collect();
        pairs.extend(recipients.map(|list| ("ses:Recipients", list)));
        pairs
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn simple_policies_have_the_same_result_in_both(
        statements in prop::collection::vec(statement(), 1..4),
        pairs in pairs(),
        action in prop::sample::select(vec!["ses:SendEmail", "ses:SendRawEmail", "ses:GetAccount"]),
        resource in prop::sample::select(vec![
            IDENTITY,
            "arn:aws:ses:eu-west-1:111122223333:identity/example.com",
            "arn:aws:ses:us-east-1:444455556666:identity/exam/ple.com",
            "arn:aws:ses:us-east-1:111122223333:configuration-set/relay",
        ]),
    ) {
        let json = format!(r#"{{"Version":"2012-10-17","Statement":[{}]}}"#, statements.join(","));
        let ours = ours(&json, DocumentKind::Identity, USER, action, resource, &pairs);
        prop_assert_ne!(ours, "refused", "{}", json);
        prop_assert_eq!(ours, theirs(&json, USER, action, resource, &pairs), "{} {:?}", json, pairs);
    }
}
