//! Which signatures are accepted.

use super::*;

const ACCOUNT: &str = "/v2/email/account";

#[tokio::test]
async fn each_mistake_in_a_signature_has_its_error() {
    let (emulator, good) = start(EmulatorSettings::default()).await;
    let with = |change: fn(&mut Client)| {
        let mut client = good.clone();
        change(&mut client);
        client
    };
    for (name, client, want) in [
        ("wrong secret", with(|client| client.credential.secret_access_key.push('x')), "SignatureDoesNotMatch"),
        ("wrong key id", with(|client| client.credential.access_key_id.push('X')), "UnrecognizedClientException"),
        ("wrong region", with(|client| client.region = "eu-west-1".into()), "InvalidSignatureException"),
        ("wrong service", with(|client| client.service = "email".into()), "InvalidSignatureException"),
        ("slow clock", with(|client| client.seconds_ahead = -310), "InvalidSignatureException"),
        ("fast clock", with(|client| client.seconds_ahead = 310), "InvalidSignatureException"),
        (
            "unknown token",
            with(|client| client.credential.session_token = Some("t".into())),
            "UnrecognizedClientException",
        ),
        ("another body's hash", with(|client| client.payload_hash = Some("0".repeat(64))), "InvalidSignatureException"),
        ("unsigned date", with(|client| client.unsigned_field = Some("x-amz-date")), "InvalidSignatureException"),
        ("unsigned host", with(|client| client.unsigned_field = Some("host")), "InvalidSignatureException"),
    ] {
        for answer in [client.call("GET", ACCOUNT, b"").await, client.send("ann@example.com", "bob@example.net").await]
        {
            let answer = answer.expect("an answer");
            assert_eq!(answer.error(), (403, want), "{name}: {answer:?}");
            assert!(answer.header("x-amzn-requestid").is_some(), "{name}");
        }
    }
    let expired = with(|client| client.seconds_ahead = -310).call("GET", ACCOUNT, b"").await.expect("an answer");
    assert!(expired.message().starts_with("Signature expired: "), "{expired:?}");
    let region = with(|client| client.region = "eu-west-1".into()).call("GET", ACCOUNT, b"").await.expect("an answer");
    assert_eq!(region.message(), "Credential should be scoped to a valid region, not 'eu-west-1'. ");
    assert!(emulator.messages().is_empty());
    assert_eq!(emulator.counts().send_email_requests, 10);
    emulator.stop().await;
}

#[tokio::test]
async fn valid_signatures_pass_in_every_form() {
    let (emulator, good) = start(EmulatorSettings::default()).await;
    let with = |change: fn(&mut Client)| {
        let mut client = good.clone();
        change(&mut client);
        client
    };
    for (name, client) in [
        ("plain", with(|_| {})),
        ("hash not declared", with(|client| client.declares_hash = false)),
        ("payload not signed", with(|client| client.payload_hash = Some("UNSIGNED-PAYLOAD".into()))),
        ("clock a little off", with(|client| client.seconds_ahead = 200)),
    ] {
        let answer = client.send("ann@example.com", "bob@example.net").await.expect("an answer");
        assert_eq!(answer.status, 200, "{name}: {answer:?}");
    }
    let unsigned = with(|client| {
        client.payload_hash = Some("UNSIGNED-PAYLOAD".into());
        client.credential.secret_access_key.push('x');
    });
    assert_eq!(
        unsigned.send("ann@example.com", "bob@example.net").await.expect("an answer").error().1,
        "SignatureDoesNotMatch"
    );
    emulator.stop().await;
}

#[tokio::test]
async fn a_multi_region_endpoint_takes_no_sigv4() {
    let (emulator, client) = start(EmulatorSettings::default()).await;
    let mut request = client::small_request("ann@example.com", "bob@example.net");
    request["EndpointId"] = "abc123.def456".into();
    let answer = client.send_json(&request).await.expect("an answer");
    assert_eq!(answer.error(), (403, "InvalidSignatureException"), "{answer:?}");
    assert!(emulator.messages().is_empty());
    emulator.stop().await;
}

fn now() -> String {
    jiff::Timestamp::now().strftime("%Y%m%dT%H%M%SZ").to_string()
}

#[tokio::test]
async fn sigv4a_is_for_the_regions_that_it_names_and_signs() {
    let (emulator, client) = start(EmulatorSettings::default()).await;
    let time = now();
    let scope = format!("{}/{}/ses/aws4_request", client.credential.access_key_id, &time[..8]);
    for (regions, signed, want) in [
        ("X-Amz-Region-Set: eu-west-1,eu-west-2\r\n", ";x-amz-region-set", "InvalidSignatureException"),
        ("X-Amz-Region-Set: eu-west-1, us-east-1\r\n", "", "InvalidSignatureException"),
        ("", "", "IncompleteSignatureException"),
        // As far as the signature, which is none.
        ("X-Amz-Region-Set: eu-west-1, us-east-1\r\n", ";x-amz-region-set", "SignatureDoesNotMatch"),
        ("X-Amz-Region-Set: *\r\n", ";x-amz-region-set", "SignatureDoesNotMatch"),
    ] {
        let request = format!(
            "GET {ACCOUNT} HTTP/1.1\r\nHost: x\r\nX-Amz-Date: {time}\r\n{regions}Authorization: AWS4-ECDSA-P256-SHA256 \
             Credential={scope}, SignedHeaders=host;x-amz-date{signed}, Signature=3006020101020101\r\n\r\n"
        );
        let answer = client.connect().await.exchange(request.as_bytes()).await.expect("an answer");
        assert_eq!(answer.error(), (403, want), "{regions}{signed}: {answer:?}");
    }
    emulator.stop().await;
}

#[tokio::test]
async fn a_changed_request_does_not_pass() {
    let (emulator, client) = start(EmulatorSettings::default()).await;
    let body = client::small_request("ann@example.com", "bob@example.net").to_string();
    let signed = client.sign("POST", "/v2/email/outbound-emails", body.as_bytes());
    let mut changed_body = signed.clone();
    let last = changed_body.len() - 3;
    changed_body[last] ^= 1;
    let account = String::from_utf8(client.sign("GET", ACCOUNT, b"")).expect("text");
    for (name, request) in [
        ("body", changed_body),
        ("path", account.replace("/account", "/identities/example.com").into_bytes()),
        ("query", account.replace("/account ", "/account?x=y ").into_bytes()),
        ("method", account.replace("GET /v2/email/account", "POST /v2/email/outbound-emails").into_bytes()),
    ] {
        let answer = client.connect().await.exchange(&request).await.expect("an answer");
        assert_eq!(answer.status, 403, "{name}: {answer:?}");
    }
    emulator.stop().await;
}

#[tokio::test]
async fn a_request_without_a_signature_receives_its_error() {
    let (emulator, client) = start(EmulatorSettings::default()).await;
    let digits = |octet: &str| {
        let (time, digits) = (now(), octet.repeat(32));
        let scope = "a/20260101/us-east-1/ses/aws4_request";
        format!(
            "X-Amz-Date: {time}\r\nAuthorization: AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders=host, \
             Signature={digits}\r\n"
        )
    };
    for (field, want) in [
        ("", "MissingAuthenticationTokenException"),
        ("Authorization: Bearer x\r\n", "MissingAuthenticationTokenException"),
        ("Authorization: AWS3-HMAC-SHA256 Credential=x\r\n", "MissingAuthenticationTokenException"),
        ("Authorization: AWS4-ECDSA-P256-SHA256 Credential=x\r\n", "IncompleteSignatureException"),
        (
            "Authorization: AWS4-ECDSA-P256-SHA256 Credential=a/b/c/d, SignedHeaders=host, Signature=ff\r\n",
            "IncompleteSignatureException",
        ),
        ("Authorization: AWS4-HMAC-SHA256 Credential=x\r\n", "IncompleteSignatureException"),
        (&digits("+f"), "IncompleteSignatureException"),
        (&digits("FF"), "IncompleteSignatureException"),
        (&digits("ff"), "UnrecognizedClientException"),
        (
            "Authorization: AWS4-HMAC-SHA256 Credential=a/b/c/d/e, SignedHeaders=host, Signature=ff\r\n",
            "IncompleteSignatureException",
        ),
    ] {
        let request = format!("GET {ACCOUNT} HTTP/1.1\r\nHost: x\r\n{field}\r\n");
        let answer = client.connect().await.exchange(request.as_bytes()).await.expect("an answer");
        assert_eq!(answer.error(), (403, want), "{field}");
    }
    emulator.stop().await;
}

#[tokio::test]
async fn temporary_credentials_need_their_token_and_sign_it() {
    let credential = Credential { session_token: Some("token/1+2==".to_owned()), ..Credential::default() };
    let settings = EmulatorSettings { credentials: vec![credential.clone()], ..EmulatorSettings::default() };
    let (emulator, mut client) = start(settings).await;
    assert_eq!(client.call("GET", ACCOUNT, b"").await.expect("an answer").error().1, "UnrecognizedClientException");
    client.credential = credential;
    assert_eq!(client.call("GET", ACCOUNT, b"").await.expect("an answer").status, 200);
    client.unsigned_field = Some("x-amz-security-token");
    assert_eq!(client.call("GET", ACCOUNT, b"").await.expect("an answer").error().1, "InvalidSignatureException");
    emulator.stop().await;
}

#[tokio::test]
async fn the_emulators_clock_can_be_wrong_and_is_in_the_date_field() {
    let settings = EmulatorSettings { clock_ahead_seconds: 3600, ..EmulatorSettings::default() };
    let (emulator, mut client) = start(settings).await;
    let answer = client.call("GET", ACCOUNT, b"").await.expect("an answer");
    assert_eq!(answer.error(), (403, "InvalidSignatureException"));
    let hour = (jiff::Timestamp::now() + jiff::SignedDuration::from_secs(3600)).strftime("%d %b %Y %H:").to_string();
    let soon = (jiff::Timestamp::now() + jiff::SignedDuration::from_secs(3660)).strftime("%d %b %Y %H:").to_string();
    let date = answer.header("date").expect("a date");
    assert!(date.contains(&hour) || date.contains(&soon), "{date}");
    client.seconds_ahead = 3600;
    assert_eq!(client.call("GET", ACCOUNT, b"").await.expect("an answer").status, 200);
    emulator.stop().await;
}
