//! Every limit, and the reply when it is reached.

use crate::support::{NOTE, Smtp, TestRelay, TestSetup, short_deadline, until, with};
use gatepost::relay::BudgetSettings;
use std::time::Duration;

const TO: &[&str] = &["bob@elsewhere.example"];

#[tokio::test]
async fn headers_are_bounded_in_octets_fields_and_hops() {
    let relay = TestRelay::start().await;
    let hops = "Received: from a by b; Thu, 1 Jan 2026 00:00:00 +0000\r\n";
    for (name, content, want) in [
        ("octets", format!("X-Long: {}{NOTE}", format!("{}\r\n ", "x".repeat(900)).repeat(300)), "552 5.3.4"),
        ("fields", format!("{}{NOTE}", "X-A: b\r\n".repeat(1_001)), "552 5.3.4"),
        ("hops", format!("{}{NOTE}", hops.repeat(101)), "554 5.4.6"),
        ("within", format!("{}{NOTE}", hops.repeat(99)), "250"),
    ] {
        let reply = relay.send("ann@example.com", TO, &content).await;
        assert!(reply.starts_with(want), "{name}: {reply}");
    }
}

/// Once, mail-parser read the whole message: a deep one ended the process, a wide one took minutes on the thread that
/// served other connections.
#[tokio::test]
async fn the_parts_of_a_message_are_bounded_and_the_reply_names_the_bound() {
    use gatepost::smtp::LongLines;
    let long = "x ".repeat(600);
    let mixed = "Content-Type: multipart/mixed; boundary=b\r\n\r\n";
    let (head, _) = NOTE.split_once("\r\n\r\n").unwrap();
    let deep = |times: usize| format!("{head}\r\n{}{long}\r\n", "Content-Type: message/rfc822\r\n\r\n".repeat(times));
    let pieces: String = (0..2_000).map(|n| format!(";\r\n name*{n}=a")).collect();
    let relay = TestRelay::with(|plan| plan.smtp(|smtp| smtp.long_lines = LongLines::ReEncode)).await;
    for (name, content, want) in [
        ("deep", deep(25_000), "554 5.6.0 MIME parts are nested deeper than 20"),
        (
            "wide",
            format!("{head}\r\n{mixed}{}{long}\r\n", "--b\r\n\r\n".repeat(100_000)),
            "554 5.6.0 Message has more than 500 MIME parts",
        ),
        (
            "pieces",
            format!("{head}\r\n{mixed}--b\r\nContent-Type: a/b{pieces}\r\n\r\nx\r\n--b--\r\n"),
            "554 5.6.0 Content-Type",
        ),
        (
            "fields",
            format!("{head}\r\n{mixed}--b\r\n{}\r\nx\r\n", "a: b\r\n".repeat(100_000)),
            "554 5.6.0 Header of a MIME part has more than 1000",
        ),
        (
            "a long field",
            format!("{head}\r\n{mixed}--b\r\na: {}\r\n\r\nx\r\n", "b".repeat(200_000)),
            "554 5.6.0 Header of a MIME part is longer",
        ),
        ("within", format!("{head}\r\n{mixed}{}--b--\r\n", "--b\r\n\r\nx\r\n".repeat(400)), "250"),
    ] {
        let reply = relay.send("ann@example.com", TO, &content).await;
        assert!(reply.starts_with(want), "{name}: {reply}");
        assert!(reply.contains("(ref ") || want == "250", "{name}: {reply}");
    }
    let (memory, sending, disk) = relay.running.relay().budget().in_use();
    assert_eq!((memory, sending, disk), (0, 0, 0), "everything is given back");
}

#[tokio::test]
async fn a_size_that_cannot_fit_is_refused_before_the_content_comes() {
    let relay = TestRelay::start().await;
    let mut client = relay.client().await;
    client.say("MAIL FROM:<ann@example.com> SIZE=30000000").await;
    client.expect("552 5.3.4").await;
    client.say("MAIL FROM:<ann@example.com> SIZE=29999000").await;
    client.expect("250").await;
}

/// The default limit and the trace field stay under SES's 40 MB after base64 (here as the emulator enforces it).
#[tokio::test]
async fn the_largest_message_that_is_advertised_is_taken_by_ses() {
    let relay = TestRelay::start().await;
    let max = usize::try_from(gatepost::smtp::MESSAGE_OCTETS_MAX).unwrap();
    let line = format!("{}\r\n", "x".repeat(998));
    let mut content = format!("{NOTE}{}", line.repeat((max - NOTE.len()) / 1000));
    content.push_str(&"x".repeat(max - content.len() - 2));
    content.push_str("\r\n");
    assert_eq!(content.len(), max);
    let reply = relay.send("ann@example.com", TO, &content).await;
    assert!(reply.starts_with("250 2.0.0 Ok "), "{reply}");
    assert!(relay.only_message().raw.ends_with(content.as_bytes()));
    content.insert(content.len() - 2, 'y');
    let reply = relay.send("ann@example.com", TO, &content).await;
    assert!(reply.starts_with("552 5.3.4") || reply.starts_with("554 5.6.0"), "{reply}");
}

#[tokio::test]
async fn many_large_messages_at_once_wait_their_turn_and_all_arrive() {
    const MIB: u64 = 1024 * 1024;
    let relay = TestRelay::with(|mut plan: TestSetup| {
        plan.emulator.latency = Duration::from_millis(50);
        plan.build(|builder| {
            builder.budget(with(BudgetSettings::default(), |it| {
                it.memory_octets = 16 * MIB;
                it.disk_octets = 64 * MIB;
            }))
        })
    })
    .await;
    let body = format!("{}\r\n", "x".repeat(900)).repeat(2_200);
    let content = format!("{NOTE}{body}");
    let mut sends = tokio::task::JoinSet::new();
    for n in 0..12 {
        let (mut client, content) = (relay.client().await, content.clone());
        sends.spawn(
            async move { client.send("ann@example.com", &[&format!("r{n}@elsewhere.example")], &content).await },
        );
    }
    while let Some(reply) = sends.join_next().await {
        assert!(reply.as_ref().unwrap().starts_with("250 2.0.0 Ok "), "{reply:?}");
    }
    assert_eq!(relay.counts(), (12, 12));
    assert_eq!(relay.running.relay().budget().in_use(), (0, 0, 0), "everything was given back");
}

#[tokio::test]
async fn whatever_size_is_announced_the_message_arrives_whole() {
    let relay = TestRelay::start().await;
    let content = |lines: usize| format!("{NOTE}{}", format!("{}\r\n", "x".repeat(900)).repeat(lines));
    let (small, large, larger) = (content(1), content(1_500), content(5_500));
    let exactly = |content: &str| content.len() as u64;
    let mut client = relay.client().await;
    for (name, content, announced) in [
        ("exactly", &large, exactly(&large)),
        ("nothing", &large, 0),
        ("too little", &large, 20),
        ("four times as much", &large, 4 * exactly(&large)),
        ("more than memory may hold, and it is", &larger, exactly(&larger)),
        ("more than memory may hold, and it is not", &large, 20_000_000),
        ("as much as memory may hold", &large, 4 * 1024 * 1024),
        ("a large one for a small one", &small, 29_000_000),
    ] {
        client.say(&format!("MAIL FROM:<ann@example.com> SIZE={announced}")).await;
        client.expect("250").await;
        client.say("RCPT TO:<bob@elsewhere.example>").await;
        client.expect("250").await;
        client.say("DATA").await;
        client.expect("354").await;
        client.content(content).await;
        client.expect("250 2.0.0 Ok ").await;
        let message = relay.emulator.messages().pop().unwrap();
        assert!(message.raw.ends_with(content.as_bytes()), "{name}");
        assert_eq!(relay.running.relay().budget().in_use(), (0, 0, 0), "{name}");
    }
}

#[tokio::test]
async fn when_memory_and_disk_are_used_up_the_client_is_deferred_and_capacity_returns() {
    const KIB: u64 = 1024;
    let relay = TestRelay::with(|plan: TestSetup| {
        plan.build(|builder| {
            let budget = with(BudgetSettings::default(), |it| {
                it.memory_octets = 512 * KIB;
                it.disk_octets = 1024 * KIB;
            });
            builder.budget(budget)
        })
    })
    .await;
    let large = format!("{NOTE}{}", format!("{}\r\n", "x".repeat(900)).repeat(2_500));
    let mut client = relay.client().await;
    let reply = client.send("ann@example.com", TO, &large).await;
    assert!(reply.starts_with("452 4.3.1"), "{reply}");
    let reply = client.send("ann@example.com", TO, NOTE).await;
    assert!(reply.starts_with("250"), "{reply}");
    assert_eq!(relay.running.relay().budget().in_use(), (0, 0, 0));
}

#[tokio::test]
async fn who_waits_past_the_deadline_for_a_turn_is_deferred() {
    let relay = TestRelay::with(|mut plan: TestSetup| {
        plan.emulator.latency = Duration::from_millis(1_500);
        plan.build(|builder| {
            builder
                .budget(with(BudgetSettings::default(), |it| it.memory_octets = 64 * 1024))
                .deadline(short_deadline(400))
        })
    })
    .await;
    let body = format!("{NOTE}{}", format!("{}\r\n", "x".repeat(900)).repeat(14));
    let (mut first, mut second) = (relay.client().await, relay.client().await);
    let (a, b) = tokio::join!(first.send("ann@example.com", TO, &body), second.send("ann@example.com", TO, &body));
    let mut replies = [a, b];
    replies.sort();
    assert!(replies[0].starts_with("451 4.4.2"), "one had its turn and no answer: {replies:?}");
    assert!(replies[1].starts_with("452 4.3.1"), "one had no turn: {replies:?}");
    assert_eq!(relay.counts().0, 1);
}

#[tokio::test]
async fn connections_are_bounded_in_total_and_by_client() {
    for (total, per_client, want) in [(2, 10, "421 4.3.2"), (10, 2, "421 4.7.0")] {
        let relay =
            TestRelay::with(|plan: TestSetup| plan.build(move |builder| builder.connections(total, per_client))).await;
        let first = relay.client().await;
        let _second = relay.client().await;
        let mut third = Smtp::connect(relay.port("plain")).await;
        third.expect(want).await;
        assert_eq!(third.reply().await, "", "and closed");
        drop(first);
        until("a place comes back", || relay.running.connections() < 2).await;
        relay.client().await;
        relay.log.expect("ConnectionRefused");
    }
}

#[tokio::test]
async fn a_client_that_sends_too_slowly_receives_421_and_is_closed() {
    let relay = TestRelay::with(|plan: TestSetup| {
        plan.smtp(|smtp| {
            smtp.limits.content_rate_grace = Duration::from_millis(300);
            smtp.limits.content_rate_min = 1_000_000;
            smtp.limits.command_wait_max = Duration::from_millis(300);
        })
    })
    .await;
    let mut silent = relay.client().await;
    silent.expect("421 4.4.2").await;
    assert_eq!(silent.reply().await, "");
    let mut slow = relay.client().await;
    slow.say("MAIL FROM:<ann@example.com>").await;
    slow.expect("250").await;
    slow.say("RCPT TO:<bob@elsewhere.example>").await;
    slow.expect("250").await;
    slow.say("DATA").await;
    slow.expect("354").await;
    slow.write(NOTE).await;
    slow.expect("421 4.4.2").await;
    assert_eq!(slow.reply().await, "");
    assert_eq!(relay.counts(), (0, 0), "a message that was cut off is not sent");
}

#[tokio::test]
async fn a_client_that_hangs_up_before_the_end_sends_nothing() {
    let relay = TestRelay::start().await;
    let mut client = relay.client().await;
    client.say("MAIL FROM:<ann@example.com>\r\nRCPT TO:<bob@elsewhere.example>\r\nDATA").await;
    client.expect("250").await;
    client.expect("250").await;
    client.expect("354").await;
    client.write(format!("{NOTE}.")).await;
    drop(client);
    until("the connection is gone", || relay.running.connections() == 0).await;
    assert_eq!(relay.counts(), (0, 0));
    assert_eq!(relay.running.relay().budget().in_use(), (0, 0, 0));
}

/// With the memory of others used up, a small message in two writes was once refused although the disk had room.
#[tokio::test]
async fn a_small_message_in_pieces_is_kept_on_disk_when_memory_is_used_up() {
    const KIB: u64 = 1024;
    let relay = TestRelay::with(|plan: TestSetup| {
        plan.build(|builder| builder.budget(with(BudgetSettings::default(), |it| it.memory_octets = 64 * KIB)))
    })
    .await;
    let mut stalled = relay.client().await;
    stalled.say("MAIL FROM:<ann@example.com>\r\nRCPT TO:<bob@elsewhere.example>\r\nDATA").await;
    for want in ["250", "250", "354"] {
        stalled.expect(want).await;
    }
    stalled.write(NOTE).await;
    until("the memory is used up", || relay.running.relay().budget().in_use().0 == 16 * KIB).await;
    let mut client = relay.client().await;
    client.say("MAIL FROM:<ann@example.com>\r\nRCPT TO:<bob@elsewhere.example>\r\nDATA").await;
    for want in ["250", "250", "354"] {
        client.expect(want).await;
    }
    client.write(&NOTE[..20]).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    client.write(format!("{}.\r\n", &NOTE[20..])).await;
    client.expect("250 2.0.0 Ok ").await;
}

#[tokio::test]
async fn content_that_is_no_message_is_logged_with_its_transaction() {
    let relay = TestRelay::start().await;
    let reply = relay.send("ann@example.com", TO, &format!("{NOTE}bare\nline\r\n")).await;
    assert!(reply.starts_with("550 5.5.2"), "{reply}");
    let lines = relay.log.lines();
    let line = lines.iter().find(|line| line.starts_with("MessageEnded")).unwrap();
    for part in ["ann", "forward_paths: [ForwardPath(", "code: 550", "content is not a message"] {
        assert!(line.contains(part), "{part}: {line}");
    }
}

/// What RSET gave up was once logged as the message of a later command out of order.
#[tokio::test]
async fn a_message_that_the_client_abandons_is_not_logged_as_refused() {
    let relay = TestRelay::start().await;
    let mut client = relay.client().await;
    client.say("MAIL FROM:<ann@example.com>\r\nRCPT TO:<bob@elsewhere.example>\r\nBDAT 6\r\nFrom: RSET\r\nDATA").await;
    for want in ["250", "250", "250 2.0.0 Chunk", "250 2.0.0 Ok", "503"] {
        client.expect(want).await;
    }
    assert!(!relay.log.lines().iter().any(|line| line.starts_with("MessageEnded")));
    relay.log.expect("verb: \"DATA\"");
}

/// With few descriptors left, connections took the last ones, and health checks and calls to SES had none.
#[cfg(unix)]
#[tokio::test]
async fn the_last_file_descriptors_are_not_for_connections() {
    let relay = TestRelay::with(|plan: TestSetup| plan.build(|builder| builder.file_descriptors_max(Some(8)))).await;
    let mut client = Smtp::connect(relay.port("plain")).await;
    client.expect("421 4.3.2 Too many connections").await;
    assert_eq!(client.reply().await, "");
    relay.log.expect("LimitHit { limit: \"file_descriptors\", app: None }");
    relay.log.until("the remaining file descriptors are reserved").await;
}

/// Clients that no policy permits held their places for 300 seconds, and permitted ones received 421.
#[tokio::test]
async fn a_client_that_is_not_recognised_is_closed_soon_and_a_recognised_one_is_not() {
    let relay = TestRelay::with(|plan: TestSetup| {
        let soon = std::time::Duration::from_secs(1);
        plan.smtp(move |smtp| smtp.limits.unrecognised_max = soon)
    })
    .await;
    let (mut stranger, mut known) = (relay.client().await, relay.client().await);
    stranger.say("MAIL FROM:<ann@other.example>").await;
    stranger.expect("550").await;
    known.say("MAIL FROM:<ann@example.com>").await;
    known.expect("250").await;
    stranger.expect("421 4.4.2").await;
    relay.log.until("SessionClosed").await;
    known.say("RSET").await;
    known.expect("250").await;
    let text = known.send("ann@example.com", &["bob@elsewhere.example"], NOTE).await;
    assert!(text.starts_with("250"), "{text}");
}

/// Connections of clients that say nothing held every place.
#[tokio::test]
async fn a_recognised_client_has_a_place_however_many_others_come() {
    let relay = TestRelay::with(|plan: TestSetup| plan.build(|builder| builder.connections(8, 8))).await;
    let from = |address: &'static str, port: std::net::SocketAddr| async move {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind(format!("{address}:0").parse().unwrap()).unwrap();
        let mut client = Smtp::over(socket.connect(port).await.unwrap());
        (client.reply().await, client)
    };
    let port = relay.port("plain");
    let (_, mut known) = from("127.0.0.1", port).await;
    known.say("EHLO x").await;
    known.expect("250").await;
    assert!(known.send("ann@example.com", TO, NOTE).await.starts_with("250"));
    known.say("QUIT").await;
    known.expect("221").await;
    until("its place is free", || relay.running.connections() == 0).await;
    let mut strangers = Vec::new();
    for _ in 0..6 {
        let (greeting, client) = from("127.0.0.2", port).await;
        assert!(greeting.starts_with("220"), "{greeting}");
        strangers.push(client);
    }
    let (refused, _) = from("127.0.0.3", port).await;
    assert!(refused.starts_with("421"), "{refused}");
    let (greeting, _known) = from("127.0.0.1", port).await;
    assert!(greeting.starts_with("220"), "{greeting}");
}

/// The connection was closed with octets unread, and the reset took the last reply away.
#[tokio::test]
async fn the_last_reply_reaches_a_client_that_still_sends() {
    let relay = TestRelay::with(|plan: TestSetup| plan.smtp(|smtp| smtp.limits.message_octets_max = 10_000)).await;
    let mut client = relay.client().await;
    for (line, want) in
        [("MAIL FROM:<ann@example.com>", "250"), ("RCPT TO:<bob@elsewhere.example>", "250"), ("DATA", "354")]
    {
        client.say(line).await;
        client.expect(want).await;
    }
    client.write(b"From: ann@example.com\r\n\r\n").await;
    // As clients do, which read a reply only when all is sent: no write may fail.
    client.write(&b"0123456789012345678901234567890123456789\r\n".repeat(100_000)).await;
    client.expect("552 5.3.4").await;
}
