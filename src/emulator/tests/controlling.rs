//! The control API for tests in other languages.

use super::*;
use serde_json::json;

#[tokio::test]
async fn faults_are_scripted_over_http() {
    let (emulator, client) = start(EmulatorSettings::default()).await;
    let script = json!(["429", {"fault": "MessageRejected", "message": "no"}, "accept-then-reset"]);
    let answer = client.control("POST", "/faults", &script.to_string()).await;
    assert_eq!(answer.json(), json!({"waiting": 3, "always": null}));
    assert_eq!(client.send("ann@example.com", "bob@example.net").await.expect("an answer").status, 429);
    assert_eq!(client.send("ann@example.com", "bob@example.net").await.expect("an answer").message(), "no");
    assert!(client.send("ann@example.com", "bob@example.net").await.is_err());
    let orders = json!({"always": "503", "at": [{"request": 2, "fault": "500"}], "queue": ["ok"]});
    client.control("POST", "/faults", &orders.to_string()).await;
    assert_eq!(
        client.control("GET", "/faults", "").await.json(),
        json!({"waiting": 2, "always": "ServiceUnavailable"})
    );
    let mut statuses = Vec::new();
    for _ in 0..3 {
        statuses.push(client.send("ann@example.com", "bob@example.net").await.expect("an answer").status);
    }
    assert_eq!(statuses, [200, 500, 503]);
    client.control("DELETE", "/faults", "").await;
    assert_eq!(client.send("ann@example.com", "bob@example.net").await.expect("an answer").status, 200);
    emulator.stop().await;
}

#[tokio::test]
async fn a_script_with_one_mistake_is_refused_whole() {
    let (emulator, client) = start(EmulatorSettings::default()).await;
    let too_many = json!(vec!["429"; 10_001]).to_string();
    for script in [
        "nonsense",
        "3",
        r#"["429", "explode"]"#,
        r#"{"queue": ["429"], "allways": "500"}"#,
        r#"{"queue": ["429"], "at": [{"request": 0, "fault": "500"}]}"#,
        r#"{"queue": ["429"], "at": [{"request": 1}]}"#,
        &too_many,
    ] {
        let answer = client.control("POST", "/faults", script).await;
        assert_eq!(answer.status, 400);
        assert!(answer.json()["error"].is_string());
    }
    assert_eq!(client.send("ann@example.com", "bob@example.net").await.expect("an answer").status, 200);
    emulator.stop().await;
}

#[tokio::test]
async fn requests_and_connections_are_counted_including_faulted_ones() {
    let (emulator, client) = start(EmulatorSettings::default()).await;
    emulator.script([Fault::ResetBeforeBody, Fault::throttled()]);
    for _ in 0..3 {
        let _ = client.send("ann@example.com", "bob@example.net").await;
    }
    client::until(|| emulator.counts().connections_open == 0).await;
    let seen = client.control("GET", "/requests", "").await.json();
    assert_eq!(seen["send_email_requests"], 3);
    assert_eq!(seen["messages_accepted"], 1);
    assert_eq!(seen["connections_opened"], 4, "the one that asks is one too");
    assert_eq!(seen["service_connections_opened"], 3);
    assert_eq!(seen["connections_open"], 1);
    let outcomes: Vec<_> = seen["recent"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|entry| (entry["fault"].clone(), entry["outcome"].clone()))
        .collect();
    assert_eq!(
        outcomes,
        [
            (json!("reset-before-body"), json!("reset")),
            (json!("TooManyRequestsException"), json!(429)),
            (json!(null), json!(200)),
        ]
    );
    client.control("DELETE", "/requests", "").await;
    let seen = client.control("GET", "/requests", "").await.json();
    assert_eq!((&seen["send_email_requests"], &seen["recent"]), (&json!(3), &json!([])));
    assert_eq!(client.send("ann@example.com", "bob@example.net").await.expect("an answer").status, 200);
    assert_eq!(emulator.requests()[0].number, 4);
    emulator.stop().await;
}

#[tokio::test]
async fn messages_latency_and_health_are_reached_over_http() {
    let (emulator, client) = start(EmulatorSettings::default()).await;
    client.send("ann@example.com", "bob@example.net").await.expect("an answer");
    client.control("DELETE", "/messages", "").await;
    assert_eq!(client.control("GET", "/messages", "").await.body, b"");
    for body in ["7", r#"{"milliseconds": 7}"#] {
        client.control("PUT", "/latency", "0").await;
        assert_eq!(client.control("PUT", "/latency", body).await.json(), json!({"milliseconds": 7}));
    }
    assert_eq!(client.control("GET", "/latency", "").await.json(), json!({"milliseconds": 7}));
    assert_eq!(client.control("PUT", "/latency", "-1").await.status, 400);
    assert_eq!(client.control("GET", "/health", "").await.status, 200);
    assert_eq!(client.control("POST", "/messages", "").await.status, 405);
    assert_eq!(client.control("GET", "/", "").await.status, 404);
    emulator.stop().await;
}

#[tokio::test]
async fn requests_of_web_pages_are_refused() {
    let (emulator, client) = start(EmulatorSettings::default()).await;
    for (fields, status) in [
        ("Host: localhost:1\r\n", 200),
        ("Host: 127.0.0.1\r\n", 200),
        ("Host: [::1]:80\r\n", 200),
        ("Host: rebound.example\r\n", 403),
        ("Host: localhost\r\nOrigin: http://page.example\r\n", 403),
    ] {
        let request = format!("GET /messages HTTP/1.1\r\n{fields}\r\n");
        let answer = client.connect().await.exchange(request.as_bytes()).await.expect("an answer");
        assert_eq!(answer.status, status, "{fields}");
    }
    emulator.stop().await;
}
