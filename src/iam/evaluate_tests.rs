use super::*;
use crate::iam::condition::{OPERATORS, Operator};
use crate::iam::document::{DocumentError, DocumentKind};

fn document(json: &str) -> Document {
    Document::parse("test.json", json, DocumentKind::Identity).unwrap()
}

/// One Allow statement with this condition; whether it allows in this context.
fn holds(operator: &str, key: &str, values: &str, context: &Context) -> bool {
    let json = format!(
        r#"{{"Version":"2012-10-17","Statement":{{"Effect":"Allow","Action":"ses:*","Resource":"*",
            "Condition":{{"{operator}":{{"{key}":{values}}}}}}}}}"#
    );
    let document = document(&json);
    let request = Request { action: "ses:SendRawEmail", resource: IDENTITY, principal: None, context };
    evaluate([&document], &request).is_allow()
}

const IDENTITY: &str = "arn:aws:ses:us-east-1:111122223333:identity/example.com";

/// For each kind of operator: a policy value, a request value that fits it, and one that does not.
fn samples(operator: &Operator) -> Vec<(&'static str, &'static str, &'static str)> {
    use crate::iam::condition::{Comparison, Kind};
    match operator.kind {
        Kind::StringEquals => vec![("Ann", "Ann", "ann"), ("a*", "a*", "ab")],
        Kind::StringEqualsIgnoreCase => vec![("Ann", "aNN", "bob"), ("a*", "A*", "ab")],
        Kind::StringLike => vec![("*@a.example", "x@a.example", "x@A.example"), ("a?c", "abc", "ac")],
        Kind::Numeric(Comparison::Equals) => vec![("10", "10", "11"), ("1.50", "1.5", "1.51")],
        Kind::Numeric(Comparison::LessThan) => vec![("10", "9", "10")],
        Kind::Numeric(Comparison::LessThanEquals) => vec![("10", "10", "10.5")],
        Kind::Numeric(Comparison::GreaterThan) => vec![("10", "11", "10")],
        Kind::Numeric(Comparison::GreaterThanEquals) => vec![("10", "10", "9")],
        Kind::Date(Comparison::Equals) => vec![("2026-11-21T00:00:00Z", "1795219200", "1795219201")],
        Kind::Date(Comparison::LessThan) => {
            vec![("2026-11-21T00:00:00Z", "2026-11-20T23:59:59Z", "2026-11-21T00:00:00Z")]
        }
        Kind::Date(Comparison::LessThanEquals) => vec![("2026-11-21", "2026-11-21T00:00:00Z", "2026-11-21T00:00:01Z")],
        Kind::Date(Comparison::GreaterThan) => {
            vec![("2026-11-21T00:00:00Z", "2026-11-21T00:00:01Z", "2026-11-21T00:00:00Z")]
        }
        Kind::Date(Comparison::GreaterThanEquals) => {
            vec![("1795219200", "2026-11-21T00:00:00Z", "2026-11-20T00:00:00Z")]
        }
        Kind::Bool => vec![("true", "true", "false"), ("false", "False", "true")],
        Kind::IpAddress => vec![
            ("10.0.0.0/8", "10.1.2.3", "11.0.0.1"),
            ("192.0.2.7", "192.0.2.7", "192.0.2.8"),
            ("2001:db8::/32", "2001:db8::1", "10.1.2.3"),
        ],
        Kind::Arn => vec![
            ("arn:aws:iam::*:role/relay-*", "arn:aws:iam::1:role/relay-a", "arn:aws:iam::1:user/relay-a"),
            ("arn:aws:*:us-*:1:x/*", "arn:aws:ses:us-east-1:1:x/a:b", "arn:aws:ses:us-east-1:2:x/a"),
        ],
        Kind::Null => vec![],
    }
}

/// The generated table: operator × (match, miss, key missing, IfExists, list, ForAll, ForAny, negated).
/// Pages: "IAM JSON policy elements: Condition operators" for the operators and `IfExists`; "Conditions with multiple
/// context keys or values" for lists; "Single-valued vs. multivalued context keys" for the set qualifiers.
#[test]
fn every_operator_in_every_form_has_the_result_of_aws() {
    let key = "ses:FromAddress";
    let none = Context::new();
    let mut rows = 0;
    for operator in OPERATORS {
        for (policy, fits, misses) in samples(operator) {
            let name = operator.name;
            let one = |value: &str| Context::new().with(key, value);
            let list = |values: &[&str]| Context::new().with_list(key, values.iter().copied());
            let quoted = format!("\"{policy}\"");
            let (yes, no) = (!operator.negated, operator.negated);
            for (form, context, want) in [
                // A value that fits, and one that does not.
                (name.to_owned(), one(fits), yes),
                (name.to_owned(), one(misses), no),
                // A missing key: false for positive operators, true for negated ones, always true with IfExists.
                (name.to_owned(), none.clone(), operator.negated),
                (format!("{name}IfExists"), none.clone(), true),
                (format!("{name}IfExists"), one(fits), yes),
                (format!("{name}IfExists"), one(misses), no),
                // Sets: all of none is true, any of none is false.
                (format!("ForAllValues:{name}"), none.clone(), true),
                (format!("ForAllValues:{name}"), list(&[]), true),
                (format!("ForAllValues:{name}"), list(&[fits, fits]), yes),
                (format!("ForAllValues:{name}"), list(&[fits, misses]), false),
                (format!("ForAllValues:{name}"), list(&[misses, misses]), no),
                (format!("ForAnyValue:{name}"), none.clone(), false),
                (format!("ForAnyValue:{name}"), list(&[]), false),
                (format!("ForAnyValue:{name}"), list(&[fits, misses]), true),
                (format!("ForAnyValue:{name}"), list(&[fits, fits]), yes),
                (format!("ForAnyValue:{name}"), list(&[misses, misses]), no),
                (format!("ForAllValues:{name}IfExists"), none.clone(), true),
                (format!("ForAnyValue:{name}IfExists"), none.clone(), true),
            ] {
                assert_eq!(holds(&form, key, &quoted, &context), want, "{form} {policy} on {context:?}");
                // A list of one is the value by itself.
                assert_eq!(holds(&form, key, &format!("[{quoted}]"), &context), want, "[{form}]");
                // The key's case does not matter.
                assert_eq!(holds(&form, "SES:fromaddress", &quoted, &context), want, "{form}, other case");
                rows += 1;
            }
        }
    }
    assert!(rows > 400, "{rows}");
}

#[test]
fn values_are_alternatives_and_conditions_must_all_hold() {
    let context = Context::new().with("a:x", "2").with("a:y", "z");
    assert!(holds("StringEquals", "a:x", r#"["1","2"]"#, &context));
    assert!(!holds("StringNotEquals", "a:x", r#"["1","2"]"#, &context), "none may fit");
    assert!(holds("StringNotEquals", "a:x", r#"["1","3"]"#, &context));
    let both = document(
        r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*","Condition":
            {"StringEquals":{"a:x":"2","a:y":"z"},"StringLike":{"a:y":"w"}}}]}"#,
    );
    let request = Request { action: "ses:SendEmail", resource: IDENTITY, principal: None, context: &context };
    assert!(!evaluate([&both], &request).is_allow());
}

#[test]
fn null_tests_whether_the_key_is_present() {
    let (with, without) = (Context::new().with("a:x", "1"), Context::new());
    for (value, context, want) in
        [("true", &with, false), ("false", &with, true), ("true", &without, true), ("false", &without, false)]
    {
        assert_eq!(holds("Null", "a:x", &format!("\"{value}\""), context), want, "{value}");
        assert_eq!(holds("Null", "a:x", value, context), want, "{value}, as a boolean");
    }
}

/// Regression: an empty list counted as present, so that `ForAllValues` with the guard `Null: false`, as AWS
/// recommends, allowed a request without values.
#[test]
fn an_empty_list_is_null() {
    let empty = Context::new().with_list::<String>("ses:Recipients", []);
    assert!(holds("ForAllValues:StringLike", "ses:Recipients", r#""*@example.com""#, &empty));
    assert!(!holds("Null", "ses:Recipients", r#""false""#, &empty));
    assert!(holds("Null", "ses:Recipients", r#""true""#, &empty));
}

#[test]
fn deny_wins_then_allow_then_nothing() {
    let allow = document(
        r#"{"Version":"2012-10-17","Statement":{"Sid":"A","Effect":"Allow","Action":"SES:send*","Resource":"*"}}"#,
    );
    let deny = document(
        r#"{"Version":"2012-10-17","Statement":{"Sid":"D","Effect":"Deny","Action":"*","Resource":"*",
            "Condition":{"StringNotEqualsIfExists":{"ses:FromAddress":"ann@example.com"}}}}"#,
    );
    let decide = |documents: &[&Document], action: &str, context: &Context| {
        evaluate(documents.iter().copied(), &Request { action, resource: IDENTITY, principal: None, context }).label()
    };
    let ann = Context::new().with("ses:FromAddress", "ann@example.com");
    let bob = Context::new().with("ses:FromAddress", "bob@example.com");
    assert_eq!(decide(&[&allow], "ses:SendRawEmail", &bob), "allowed");
    assert_eq!(decide(&[&allow], "ses:GetAccount", &bob), "implicitDeny");
    assert_eq!(decide(&[&allow, &deny], "ses:SendRawEmail", &ann), "allowed");
    assert_eq!(decide(&[&allow, &deny], "ses:SendRawEmail", &bob), "explicitDeny");
    assert_eq!(decide(&[&deny, &allow], "ses:SendRawEmail", &bob), "explicitDeny", "in any order");
    assert_eq!(decide(&[&allow, &deny], "ses:SendRawEmail", &Context::new()), "explicitDeny", "Deny with IfExists");
    assert_eq!(decide(&[], "ses:SendRawEmail", &ann), "implicitDeny");
    let each = document(
        r#"{"Version":"2012-10-17","Statement":[
            {"Effect":"Deny","Action":"*","Resource":"*","Condition":{"StringEquals":{"ses:FromAddress":"eve@example.com"}}},
            {"Effect":"Allow","Action":"*","Resource":"*","Condition":{"StringEquals":{"ses:FromAddress":"ann@example.com"}}},
            {"Effect":"Allow","Action":"*","Resource":"*","Condition":{"StringLike":{"ses:FromAddress":"*@example.com"}}}]}"#,
    );
    let eve = Context::new().with("ses:FromAddress", "eve@example.com");
    let dan = Context::new().with("ses:FromAddress", "dan@example.org");
    for (principal, want) in [
        (&ann, "allowed"),
        (&eve, "explicitDeny"),
        (&bob, "allowed"),
        (&eve, "explicitDeny"),
        (&dan, "implicitDeny"),
        (&ann, "allowed"),
    ] {
        assert_eq!(decide(&[&each], "ses:SendRawEmail", principal), want, "{principal:?}");
    }
}

#[test]
fn not_action_not_resource_and_segments() {
    let context = Context::new();
    let rows = [
        (r#""NotAction":"ses:Get*","Resource":"*""#, "ses:SendEmail", IDENTITY, true),
        (r#""NotAction":"ses:Send*","Resource":"*""#, "ses:SendEmail", IDENTITY, false),
        (r#""Action":"*","NotResource":"arn:aws:ses:*:*:identity/other""#, "ses:SendEmail", IDENTITY, true),
        (r#""Action":"*","NotResource":"arn:aws:ses:*:*:identity/example.com""#, "ses:SendEmail", IDENTITY, false),
        (r#""Action":"*","Resource":"arn:aws:ses:*:111122223333:identity/*""#, "ses:SendEmail", IDENTITY, true),
        (r#""Action":"*","Resource":"arn:aws:ses:*:identity/*:x:y""#, "ses:SendEmail", IDENTITY, false),
        (r#""Action":"*","Resource":"arn:aws:ses:us-*-1:*:identity/*.com""#, "ses:SendEmail", IDENTITY, true),
        (r#""Action":["s3:*","ses:Send??ail"],"Resource":["*"]"#, "ses:SendEmail", IDENTITY, true),
        (r#""Action":"*","Resource":"arn:aws:ses:*""#, "ses:SendEmail", IDENTITY, true),
        (r#""Action":"*","Resource":"arn:aws:ses:us-east-1:*""#, "ses:SendEmail", IDENTITY, true),
        (r#""Action":"*","Resource":"arn:aws:ses:eu-*""#, "ses:SendEmail", IDENTITY, false),
    ];
    for (elements, action, resource, want) in rows {
        let document =
            document(&format!(r#"{{"Version":"2012-10-17","Statement":[{{"Effect":"Allow",{elements}}}]}}"#));
        let request = Request { action, resource, principal: None, context: &context };
        assert_eq!(evaluate([&document], &request).is_allow(), want, "{elements}");
    }
}

#[test]
fn principals_are_accounts_roles_and_all() {
    let session = "arn:aws:sts::111122223333:assumed-role/relay/i-0123";
    let role = "arn:aws:iam::111122223333:role/path/relay";
    for (element, principal, want) in [
        (r#""Principal":"*""#, Some(session), true),
        (r#""Principal":{"AWS":"*"}"#, None, true),
        (r#""Principal":{"AWS":"111122223333"}"#, Some(session), true),
        (r#""Principal":{"AWS":"arn:aws:iam::111122223333:root"}"#, Some(session), true),
        (r#""Principal":{"AWS":"arn:aws:iam::111122223333:role/path/relay"}"#, Some(session), true),
        (r#""Principal":{"AWS":"arn:aws:iam::111122223333:role/path/relay"}"#, Some(role), true),
        (r#""Principal":{"AWS":"arn:aws:iam::111122223333:role/other"}"#, Some(session), false),
        (r#""Principal":{"AWS":"444455556666"}"#, Some(session), false),
        (r#""Principal":{"AWS":["444455556666","111122223333"]}"#, Some(session), true),
        (r#""NotPrincipal":{"AWS":"111122223333"}"#, Some(session), false),
        (r#""Principal":{"Service":"ec2.amazonaws.com"}"#, Some("ec2.amazonaws.com"), true),
        (r#""Principal":{"Federated":"arn:aws:iam::1:oidc-provider/x"}"#, Some("arn:aws:iam::1:oidc-provider/x"), true),
        (
            r#""Principal":{"Federated":"arn:aws:iam::1:oidc-provider/x"}"#,
            Some("arn:aws:iam::1:oidc-provider/y"),
            false,
        ),
    ] {
        let json = format!(r#"{{"Statement":[{{"Effect":"Allow",{element},"Action":"*","Resource":"*"}}]}}"#);
        let document = Document::parse("test.json", &json, DocumentKind::Resource).unwrap();
        let request = Request { action: "ses:SendEmail", resource: IDENTITY, principal, context: &Context::new() };
        assert_eq!(evaluate([&document], &request).is_allow(), want, "{element} {principal:?}");
    }
}

#[test]
fn variables_are_enabled_in_the_new_version_only() {
    let context = Context::new().with("aws:username", "ann").with("ses:FromAddress", "ann@example.com");
    for (version, want) in [(r#""Version":"2012-10-17","#, true), (r#""Version":"2008-10-17","#, false), ("", false)] {
        let json = format!(
            r#"{{{version}"Statement":{{"Effect":"Allow","Action":"*","Resource":"*","Condition":
                {{"StringEquals":{{"ses:FromAddress":"${{aws:username}}@example.com"}}}}}}}}"#
        );
        let document = document(&json);
        let request = Request { action: "ses:SendEmail", resource: IDENTITY, principal: None, context: &context };
        assert_eq!(evaluate([&document], &request).is_allow(), want, "{version}");
    }
}

#[test]
fn unsupported_elements_are_errors_with_their_position() {
    let statement = |elements: &str| format!(r#"{{"Version":"2012-10-17","Statement":[{{"Sid":"S",{elements}}}]}}"#);
    let good = r#""Effect":"Allow","Action":"ses:*","Resource":"*""#;
    for (json, want) in [
        ("{".to_owned(), "test.json: EOF"),
        ("{\n \u{201c}Version\u{201d}: 1}".to_owned(), "test.json, line 2: typographic quote"),
        (r#"{"Version":"2012-10-17"}"#.to_owned(), "has no Statement"),
        (r#"{"Version":"2013","Statement":[]}"#.to_owned(), "unknown Version"),
        (r#"{"Statement":[],"Extra":1}"#.to_owned(), "unknown element \"Extra\""),
        (statement(r#""Effect":"allow","Action":"*","Resource":"*""#), "statement 1 (\"S\"): Effect"),
        (statement(r#""Action":"*","Resource":"*""#), "has no Effect"),
        (statement(r#""Effect":"Allow","Resource":"*""#), "has no Action"),
        (statement(r#""Effect":"Allow","Action":"*""#), "has no Resource"),
        (statement(r#""Effect":"Allow","Action":"SendEmail","Resource":"*""#), "must be * or service:action"),
        (statement(r#""Effect":"Allow","Action":"*","Resource":"example.com""#), "must be * or arn:"),
        (statement(r#""Effect":"Allow","Action":[],"Resource":"*""#), "empty list"),
        (statement(r#""Effect":"Allow","Action":"*","NotAction":"*","Resource":"*""#), "exclude each other"),
        (statement(r#""Effect":"Allow","Effect":"Deny","Action":"*","Resource":"*""#), "occurs twice"),
        (statement(&format!(r#"{good},"Principal":"*""#)), "Principal is permitted in resource"),
        (statement(&format!(r#"{good},"Condtion":{{}}"#)), "unknown element \"Condtion\""),
        (statement(&format!(r#"{good},"Condition":{{"StringLikes":{{"a:b":"c"}}}}"#)), "did you mean StringLike?"),
        (statement(&format!(r#"{good},"Condition":{{"BinaryEquals":{{"a:b":"c"}}}}"#)), "unknown condition operator"),
        (statement(&format!(r#"{good},"Condition":{{"StringLike":{{"from":"c"}}}}"#)), "is not a condition key"),
        (statement(&format!(r#"{good},"Condition":{{"NullIfExists":{{"a:b":"true"}}}}"#)), "Null takes neither"),
        (statement(&format!(r#"{good},"Condition":{{"Bool":{{"a:b":"yes"}}}}"#)), "is not true or false"),
        (statement(&format!(r#"{good},"Condition":{{"IpAddress":{{"a:b":"10.0.0/8"}}}}"#)), "is not an IP address"),
        (statement(&format!(r#"{good},"Condition":{{"StringLike":{{"a:b":"${{x"}}}}"#)), "policy variables"),
        (statement(&format!(r#"{good},"Condition":{{"StringLike":{{}}}}"#)), "StringLike has no condition keys"),
        (statement(r#""Effect":"Allow","Principal":{},"Action":"*","Resource":"*""#), "Principal is an empty object"),
        (statement(r#""Effect":"Allow","Action":"*","Resource":"arn:aws:ses:us-east-1""#), "must be * or arn:"),
        (statement(&format!(r#"{good},"Condition":{{"StringLike":{{"a:b":[]}}}}"#)), "empty list"),
    ] {
        let error: DocumentError = Document::parse("test.json", &json, DocumentKind::Identity).unwrap_err();
        assert!(error.to_string().contains(want), "{json}\n  {error}\n  wanted {want}");
    }
}
