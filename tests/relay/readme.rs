//! What the README shows and a compiler cannot read.

use gatepost::iam::{Context, Document, DocumentKind, Request, evaluate};

fn readme() -> String {
    std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md")).unwrap()
}

/// The IAM policy allows what the quick start sends, and nothing else.
#[test]
fn the_iam_policy_of_the_quick_start_allows_only_the_relay() {
    let readme = readme();
    let json = readme.split("```json").nth(1).unwrap().split("```").next().unwrap();
    let document = Document::parse("README.md", json, DocumentKind::Identity).unwrap();
    let allowed = |action: &str, resource: &str, from: &str| {
        let context = Context::new().with("ses:FromAddress", from);
        let resource = &format!("arn:aws:ses:us-east-1:111122223333:{resource}");
        evaluate([&document], &Request { action, resource, principal: None, context: &context }).is_allow()
    };
    for resource in ["identity/example.com", "configuration-set/relay"] {
        assert!(allowed("ses:SendRawEmail", resource, "app@example.com"), "{resource}");
        assert!(!allowed("ses:SendRawEmail", resource, "app@example.org"), "{resource}");
    }
    assert!(!allowed("ses:SendRawEmail", "identity/example.org", "app@example.com"));
    assert!(!allowed("ses:DeleteEmailIdentity", "identity/example.com", "app@example.com"));
}

#[test]
fn links_lead_somewhere() {
    let readme = readme();
    for link in readme.split("](").skip(1).map(|rest| rest.split(')').next().unwrap()) {
        let path = format!("{}/{link}", env!("CARGO_MANIFEST_DIR"));
        assert!(link.starts_with("https://") || std::path::Path::new(&path).exists(), "{link}");
    }
}
