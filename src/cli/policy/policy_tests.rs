use super::*;
use clap::Parser;

#[derive(Debug, Parser)]
struct Cli {
    #[command(flatten)]
    policy: PolicyArguments,
}

/// Exit code, output, complaints. The paths are those of the repository, where tests run.
fn run(arguments: &[&str]) -> (u8, String, String) {
    let cli = match Cli::try_parse_from(["gatepost policy"].iter().chain(arguments)) {
        Ok(cli) => cli,
        Err(error) => return (USAGE, String::new(), error.to_string()),
    };
    let (mut out, mut complaints) = (Vec::new(), Vec::new());
    let code = cli.policy.run(&mut out, &mut complaints);
    (code, String::from_utf8(out).unwrap(), String::from_utf8(complaints).unwrap())
}

const CHAPTER: &str = include_str!("../../manual/unauthorized.md");

/// Command and the output below it, for each pair of blocks.
fn blocks() -> Vec<(&'static str, &'static str)> {
    CHAPTER
        .split("```sh\n")
        .skip(1)
        .map(|block| {
            let (command, rest) = block.split_once("```\n```text\n").unwrap();
            (command, rest.split_once("```\n").unwrap().0)
        })
        .collect()
}

/// Words as a shell has them: lines joined, single quotes taken off.
fn words(command: &str) -> Vec<String> {
    command.replace("\\\n", " ").split_whitespace().map(|word| word.trim_matches('\'').to_owned()).collect()
}

/// Every command of the chapter is run, and prints what the chapter shows. Refresh the outputs with
/// `GATEPOST_REFRESH=1 cargo test --lib policy`.
#[test]
fn the_chapter_on_denials_shows_what_its_commands_print() {
    let mut chapter = CHAPTER.to_owned();
    for (command, shown) in blocks() {
        let words = words(command);
        assert_eq!(words[..2], ["gatepost", "policy"]);
        let arguments: Vec<&str> = words[2..].iter().map(String::as_str).collect();
        let (code, out, complaints) = run(&arguments);
        assert_eq!(complaints, "", "{command}");
        if arguments[0] == "simulate" {
            assert_eq!(code, DENIED, "{command}");
            assert!(out.contains("implicitDeny") || out.contains("explicitDeny"), "{out}");
        } else {
            assert_eq!(code, if arguments[0] == "lint" { DATA } else { OK }, "{command}");
        }
        if std::env::var_os("GATEPOST_REFRESH").is_some() {
            chapter = chapter.replace(
                &format!("{command}```\n```text\n{shown}```\n"),
                &format!("{command}```\n```text\n{out}```\n"),
            );
        } else {
            assert_eq!(shown, out, "refresh src/manual/unauthorized.md: {command}");
        }
    }
    if std::env::var_os("GATEPOST_REFRESH").is_some() {
        std::fs::write(concat!(env!("CARGO_MANIFEST_DIR"), "/src/manual/unauthorized.md"), chapter).unwrap();
    }
}

/// Each cause has both texts of AWS's and a command that shows it.
#[test]
fn the_chapter_has_six_causes_each_with_both_texts_and_a_command() {
    let causes: Vec<&str> = CHAPTER.split("\n## ").skip(1).take(6).collect();
    for (place, cause) in causes.iter().enumerate() {
        assert!(cause.starts_with(&format!("{}. ", place + 1)), "{cause}");
        assert!(cause.contains("``User `…' is not authorized to perform `ses:SendRawEmail' on resource `"), "{cause}");
        assert!(cause.contains("because no ") || cause.contains("with an explicit deny in"), "{cause}");
        assert!(cause.contains("gatepost policy simulate"), "{cause}");
    }
    assert_eq!(causes.len(), 6);
}

/// Each cause, and the denial's type and clause as SES's second form has it.
#[test]
fn each_cause_is_decided_by_the_type_that_aws_would_name() {
    let clauses: Vec<String> = blocks()
        .into_iter()
        .filter(|(command, _)| command.contains(" simulate "))
        .map(|(_, shown)| {
            let clause = shown.lines().find_map(|line| line.strip_prefix("  in AWS's words: ")).unwrap();
            clause.replace(" allows the ses:SendRawEmail action", "")
        })
        .collect();
    assert_eq!(
        clauses,
        [
            "because no identity-based policy",
            "because no identity-based policy",
            "because no identity-based policy",
            "because no identity-based policy",
            "because no VPC endpoint policy",
            "with an explicit deny in a service control policy",
            "because no permissions boundary",
            "with an explicit deny in a resource control policy",
            "with an explicit deny in a resource-based policy",
            "because no resource-based policy",
            "because no identity-based policy",
        ]
    );
}

const IDENTITY: &str = "arn:aws:ses:us-east-1:111122223333:identity/example.com";
const SET: &str = "arn:aws:ses:us-east-1:111122223333:configuration-set/relay";

#[test]
fn simulate_ends_with_a_code_for_scripts() {
    let role = "tests/policies/role.json";
    let from = "ses:FromAddress=ann@example.com";
    for (arguments, wanted) in [
        (vec!["--identity", role, "--context", from, "ses:SendRawEmail", IDENTITY, SET], OK),
        (
            vec![
                "--identity",
                role,
                "--context",
                from,
                "ses:SendRawEmail",
                IDENTITY,
                "arn:aws:ses:us-east-1:111122223333:configuration-set/x",
            ],
            DENIED,
        ),
        (vec!["--identity", role, "ses:SendRawEmail", IDENTITY], DENIED),
        (vec!["ses:SendRawEmail", IDENTITY], DENIED),
        (vec!["--identity", "tests/policies/typos.json", "ses:SendRawEmail", IDENTITY], DATA),
        (vec!["--scp", "tests/policies/identity-deny-outside.json", "ses:SendRawEmail", IDENTITY], DATA),
        (vec!["--identity", "tests/policies/none.json", "ses:SendRawEmail", IDENTITY], NO_INPUT),
        (vec!["--identity", role, "--context", "from", "ses:SendRawEmail", IDENTITY], USAGE),
        (vec!["--identity", role, "ses:Send*", IDENTITY], USAGE),
        (vec!["--identity", role, "ses:SendRawEmail", "example.com"], USAGE),
        (vec!["--identity", role, "--principal", "relay", "ses:SendRawEmail", IDENTITY], USAGE),
        (vec!["--identity", role, "ses:SendRawEmail"], USAGE),
    ] {
        let arguments: Vec<&str> = ["simulate"].into_iter().chain(arguments).collect();
        let (code, out, complaints) = run(&arguments);
        assert_eq!(code, wanted, "{arguments:?}\n{out}{complaints}");
        assert_eq!(complaints.is_empty(), matches!(wanted, OK | DENIED), "{complaints}");
    }
}

#[test]
fn a_key_twice_and_a_key_with_brackets_are_lists() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("recipients.json");
    std::fs::write(
        &path,
        r#"{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"ses:*","Resource":"*","Condition":{
            "ForAllValues:StringLike":{"ses:Recipients":"*@example.com"},"Null":{"ses:Recipients":"false"}}}}"#,
    )
    .unwrap();
    let path = path.to_str().unwrap();
    let code = |contexts: &[&str]| {
        let given = contexts.iter().flat_map(|context| ["--context", context]);
        let arguments: Vec<&str> =
            ["simulate", "--identity", path].into_iter().chain(given).chain(["ses:SendRawEmail", IDENTITY]).collect();
        run(&arguments).0
    };
    assert_eq!(code(&["ses:Recipients=[a@example.com, b@example.com]"]), OK);
    assert_eq!(code(&["ses:Recipients=a@example.com", "SES:recipients=b@example.com"]), OK);
    assert_eq!(code(&["ses:Recipients=[a@example.com,b@evil.example]"]), DENIED);
    assert_eq!(code(&["ses:Recipients=[]"]), DENIED, "an empty list is null");
    assert_eq!(code(&[]), DENIED);
}

#[test]
fn each_level_of_service_control_policies_must_allow() {
    let (one, other) = ("tests/policies/boundary-without-ses.json", "tests/policies/role.json");
    let base = ["simulate", "--identity", other, "--context", "ses:FromAddress=ann@example.com"];
    let both = format!("{one},{other}");
    for (levels, wanted) in [(vec![both.as_str()], OK), (vec![one, other], DENIED), (vec![other, other], OK)] {
        let levels = levels.iter().flat_map(|level| ["--scp", level]);
        let arguments: Vec<&str> = base.into_iter().chain(levels).chain(["ses:SendRawEmail", IDENTITY]).collect();
        assert_eq!(run(&arguments).0, wanted, "{arguments:?}");
    }
}

#[test]
fn json_is_json_and_says_the_same() {
    let (_, out, _) =
        run(&["simulate", "--json", "--identity", "tests/policies/role.json", "ses:SendRawEmail", IDENTITY, SET]);
    let value: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(value[0]["decision"], "implicitDeny");
    assert_eq!(value[0]["decidedBy"], "identity-based policy");
    assert_eq!(value[0]["missingContextKeys"][0], "ses:FromAddress");
    assert_eq!(value[0]["policyTypes"][0]["statements"][0]["sid"], "Send");
    assert_eq!(value[1]["resource"], SET);

    let (code, out, _) = run(&["lint", "--json", "--kind", "identity", "tests/policies/typos.json"]);
    let value: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(code, DATA);
    assert_eq!(value[0]["document"], "tests/policies/typos.json");
    assert_eq!(value[0]["statement"], 1);
    assert!(value[0]["key"].is_string() && value[0]["rule"].is_string(), "{value}");
}

#[test]
fn lint_is_silent_on_good_documents_and_a_rule_can_be_left_out() {
    for (kind, file) in [
        ("identity", "role.json"),
        ("identity", "boundary-without-ses.json"),
        ("endpoint", "endpoint-other-role.json"),
        ("resource", "identity-deny-outside.json"),
        ("resource", "identity-of-partner.json"),
        ("scp", "scp-one-region.json"),
        ("rcp", "rcp-own-organisation.json"),
    ] {
        let path = format!("tests/policies/{file}");
        assert_eq!(run(&["lint", "--kind", kind, &path]), (OK, String::new(), String::new()), "{file}");
    }
    let (code, out, _) = run(&["lint", "--kind", "identity", "tests/policies/role-without-set.json"]);
    assert!(code == DATA && out.contains("[no-configuration-set]"), "{out}");
    let raw = "tests/policies/role-without-raw.json";
    assert_eq!(run(&["lint", "--kind", "identity", raw]).0, DATA);
    assert_eq!(run(&["lint", "--kind", "identity", "--allow", "send-raw-email", raw]).0, OK);
    assert_eq!(run(&["lint", "--kind", "identity", "tests/policies/none.json"]).0, NO_INPUT);
}

const RELAY: [&str; 9] = [
    "generate",
    "--region",
    "us-east-1",
    "--account",
    "111122223333",
    "--identity",
    "example.com",
    "--from",
    "*@example.com",
];

#[test]
fn what_generate_writes_lint_and_simulate_read() {
    let directory = tempfile::tempdir().unwrap();
    let at = |file: &str| directory.path().join(file).to_str().unwrap().to_owned();
    let folder = at("");
    let more = [
        "--configuration-set",
        "relay",
        "--read",
        "account",
        "--vpce",
        "vpce-0123456789abcdef0",
        "--sending-account",
        "444455556666",
        "--trust",
        "ec2",
        "--trust",
        "ecs",
        "--trust",
        "eks-pod-identity",
        "--trust",
        "irsa",
        "--trust",
        "user",
        "--eks-cluster",
        "prod",
        "--service-account",
        "mail:gatepost",
        "--user-name",
        "relay",
        "--oidc-provider",
        "https://oidc.eks.us-east-1.amazonaws.com/id/0123456789ABCDEF",
        "--write",
        &folder,
    ];
    let arguments: Vec<&str> = RELAY.into_iter().chain(more).collect();
    let (code, out, complaints) = run(&arguments);
    assert_eq!((code, complaints.as_str()), (OK, ""));
    for text in
        ["aws iam create-role", "aws iam put-role-policy", "aws ec2 modify-vpc-endpoint", "AWS has not documented"]
    {
        assert!(out.contains(text), "{text}\n{out}");
    }
    for (kind, file) in [
        ("identity", "role-policy.json"),
        ("trust", "trust-policy.json"),
        ("endpoint", "endpoint-policy.json"),
        ("resource", "identity-example-com-deny-outside.json"),
        ("resource", "identity-example-com-others-may-send.json"),
    ] {
        assert_eq!(run(&["lint", "--kind", kind, &at(file)]), (OK, String::new(), String::new()), "{file}");
        let written = std::fs::read_to_string(at(file)).unwrap();
        assert!(written.lines().count() > 10, "one element a line: {written}");
        assert!(out.contains(written.trim_end()), "what is printed is what is written");
    }
    let (role, endpoint) = (at("role-policy.json"), at("endpoint-policy.json"));
    let (code, out, _) = run(&[
        "simulate",
        "--identity",
        &role,
        "--endpoint",
        &endpoint,
        "--resource",
        &at("identity-example-com-deny-outside.json"),
        "--principal",
        "arn:aws:sts::111122223333:assumed-role/gatepost/1",
        "--context",
        "ses:FromAddress=ann@example.com",
        "--context",
        "aws:SourceVpce=vpce-0123456789abcdef0",
        "ses:SendRawEmail",
        IDENTITY,
        SET,
    ]);
    assert_eq!(code, OK, "{out}");
    assert_eq!(run(&arguments).0, CANNOT_CREATE, "what is there stays");
}

#[test]
fn generate_says_what_it_needs() {
    for (more, says) in [
        (vec!["--trust", "irsa"], "--service-account"),
        (vec!["--trust", "irsa", "--service-account", "a:b"], "--oidc-provider"),
        (vec!["--trust", "eks-pod-identity", "--service-account", "a"], "namespace:name"),
        (vec!["--trust", "user"], "--user-name"),
        (vec!["--partition", "aws-cn"], "aws-us-gov"),
        (vec!["--vpce", "vpce-1"], "VPC endpoint"),
        (vec!["--identity", "*"], "identity"),
    ] {
        let arguments: Vec<&str> = RELAY.into_iter().chain(more).collect();
        let (code, _, complaints) = run(&arguments);
        assert_eq!(code, USAGE, "{arguments:?}");
        assert!(complaints.contains(says), "{complaints}");
    }
    let (code, out, _) = run(&[
        "generate",
        "--json",
        "--region",
        "us-gov-west-1",
        "--account",
        "111122223333",
        "--identity",
        "example.com",
    ]);
    let value: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(code, OK);
    assert!(value["documents"][0]["policy"].as_str().unwrap().contains("arn:aws-us-gov:ses:us-gov-west-1:"), "{value}");
}

/// The configuration is what the documents are made from: each message that it permits is allowed by the role's document,
/// and what it does not permit is denied.
#[test]
fn generate_reads_the_configuration() {
    use crate::iam::{Context, Document, DocumentKind, Request, evaluate};
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("gatepost.toml");
    let text = r#"
hostname = "relay.example"
[[listener]]
address = "127.0.0.1:2525"
[policy]
from = ["*@example.com"]
[[app]]
name = "billing"
networks = ["10.1.0.0/16"]
from = ["billing+*@shop.example.org", "*@*.example.org"]
configuration_set = "billing"
requested_fields = ["configuration-set"]
[ses]
region = "eu-west-1"
configuration_set = "main"
[aws]
account = "111122223333"
identities = ["example.com", "example.org", "unused.example"]
"#;
    // Nothing here needs IAM documents, so `check` would warn that [aws] is not used; it is, here.
    std::fs::write(&file, text).unwrap();
    let written = directory.path().join("out");
    std::fs::create_dir(&written).unwrap();
    let (code, out, complaints) =
        run(&["generate", "--config", file.to_str().unwrap(), "--write", written.to_str().unwrap()]);
    assert_eq!(code, OK, "{out}{complaints}");
    assert!(out.contains("# billing may choose its configuration set"), "{out}");
    assert!(!out.contains("unused.example"), "an identity that nobody sends as");
    let role = std::fs::read_dir(&written)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| std::fs::read_to_string(path).unwrap())
        .filter_map(|json| Document::parse("role.json", &json, DocumentKind::Identity).ok())
        .next()
        .expect("a document for the role");
    let allowed = |identity: &str, set: &str, from: &str, region: &str| {
        let context = Context::new().with("ses:FromAddress", from);
        [format!("identity/{identity}"), format!("configuration-set/{set}")].iter().all(|resource| {
            let resource = &format!("arn:aws:ses:{region}:111122223333:{resource}");
            let request = Request { action: "ses:SendRawEmail", resource, principal: None, context: &context };
            evaluate([&role], &request).is_allow()
        })
    };
    for (identity, set, from, region, want) in [
        ("example.com", "main", "ann@example.com", "eu-west-1", true),
        ("example.org", "billing", "billing+7@shop.example.org", "eu-west-1", true),
        ("example.org", "billing", "x@deep.sub.example.org", "eu-west-1", true),
        ("example.com", "main", "ann@example.net", "eu-west-1", false),
        ("example.com", "other", "ann@example.com", "eu-west-1", false),
        ("unused.example", "main", "ann@example.com", "eu-west-1", false),
        ("example.com", "main", "ann@example.com", "us-east-1", false),
    ] {
        assert_eq!(allowed(identity, set, from, region), want, "{identity} {set} {from} {region}");
    }
    let (code, _, complaints) = run(&["generate", "--config", "/no/such/file"]);
    assert_eq!(code, NO_INPUT, "{complaints}");
    std::fs::write(&file, "hostnam = 'x'").unwrap();
    let (code, _, complaints) = run(&["generate", "--config", file.to_str().unwrap()]);
    assert_eq!(code, 78, "{complaints}");
}
