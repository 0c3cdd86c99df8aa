//! The pace of all sending, counted at the emulator of SES.

use crate::configured_relay::{Note, Site};
use crate::support::{NOTE, TestRelay, TestSetup, short_deadline, until, with};
use gatepost::emulator::{Denial, ErrorName, Fault, SeenRequest};
use gatepost::limit::{LimitDecision, LimitError, LimitKey, LimitRule, LimitStage, LimitStatus, LimitStep, Limiter};
use gatepost::limit::{LocalLimiter, Measure, PaceSettings, Reservation};
use gatepost::mail::{Mailbox, RuleName, SystemClock};
use gatepost::relay::SendQueueSettings;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

const TO: &[&str] = &["bob@elsewhere.example"];

/// Sends with that many clients, each as fast as it is answered, that many messages in all; every reply.
async fn flood(relay: &TestRelay, clients: usize, messages: usize) -> Vec<String> {
    let left = Arc::new(AtomicUsize::new(messages));
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..clients {
        let (mut client, left) = (relay.client().await, Arc::clone(&left));
        tasks.spawn(async move {
            let mut replies = Vec::new();
            while left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok() {
                replies.push(client.send("ann@example.com", TO, NOTE).await);
            }
            replies
        });
    }
    tasks.join_all().await.into_iter().flatten().collect()
}

/// Over every window between two requests: no more than rate × window + burst, and one for the clock of whoever notes the
/// time, a moment after the decision.
fn conforms(requests: &[SeenRequest], rate: f64, burst: f64) {
    let times: Vec<f64> = requests.iter().map(|seen| seen.seen_at.as_nanosecond() as f64 / 1e9).collect();
    for (first, start) in times.iter().enumerate() {
        for (last, end) in times.iter().enumerate().skip(first) {
            let (seen, window) = ((last - first + 1) as f64, end - start + NOTED_LATE_SECONDS);
            assert!(seen <= rate * window + burst + 1e-6, "{seen} in {window:.3} s from request {first}");
        }
    }
}

/// How much later than decided a request may be seen, on a busy machine.
const NOTED_LATE_SECONDS: f64 = 0.15;

#[tokio::test(flavor = "multi_thread")]
async fn sending_stays_under_the_rate_that_the_account_tells_and_loses_nothing() {
    let relay = TestRelay::with(|mut plan: TestSetup| {
        plan.emulator.account.recipients_per_second_max = Some(100.0);
        plan
    })
    .await;
    relay.log.until("QuotaRead").await;
    let replies = flood(&relay, 20, 250).await;
    assert!(replies.iter().all(|reply| reply.starts_with("250")), "{replies:?}");
    assert_eq!(relay.counts(), (250, 250), "and SES never had to throttle");
    conforms(&relay.emulator.requests(), 98.0, 49.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_window_of_a_limit_is_kept_at_ses() {
    let rule = LimitRule::new(
        RuleName::parse("two-windows").unwrap(),
        LimitKey::Relay,
        Measure::Messages,
        vec!["40/s burst 10".parse().unwrap(), "600/min burst 50".parse().unwrap()],
    );
    let relay = TestRelay::with(|plan: TestSetup| {
        plan.build(|builder| builder.limiter(LocalLimiter::new(vec![rule], Arc::new(SystemClock))))
    })
    .await;
    let mut replies = Vec::new();
    while relay.counts().0 < 60 {
        replies.extend(flood(&relay, 8, 400).await);
    }
    let sent = replies.iter().filter(|reply| reply.starts_with("250")).count() as u64;
    assert!(replies.iter().all(|reply| reply.starts_with("250") || reply.starts_with("451 4.7.1")));
    assert_eq!(relay.counts(), (sent, sent));
    let requests = relay.emulator.requests();
    conforms(&requests, 40.0, 10.0);
    conforms(&requests, 10.0, 50.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_permission_the_fixed_figure_holds() {
    let relay = TestRelay::with(|mut plan: TestSetup| {
        plan.emulator.denied_actions.insert("ses:GetAccount".to_owned(), Denial::Bare);
        let pace = with(PaceSettings::default(), |it| {
            it.recipients_per_second_max = Some(50.0);
            it.percent = 100;
        });
        plan.build(move |builder| builder.pace(pace))
    })
    .await;
    relay.log.until("QuotaUnknown { error: NotPermitted").await;
    relay.log.expect("sending continues at 50.00 recipients/s");
    let replies = flood(&relay, 10, 75).await;
    assert!(replies.iter().all(|reply| reply.starts_with("250")), "{replies:?}");
    conforms(&relay.emulator.requests(), 50.0, 25.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_would_wait_past_the_deadline_is_deferred_with_the_limits_name() {
    let relay = TestRelay::with(|mut plan: TestSetup| {
        plan.emulator.account.recipients_per_second_max = Some(2.0);
        plan.build(|builder| builder.deadline(short_deadline(1_500)))
    })
    .await;
    relay.log.until("QuotaRead").await;
    let replies = flood(&relay, 12, 24).await;
    let late: Vec<&String> = replies.iter().filter(|reply| !reply.starts_with("250")).collect();
    assert!(late.len() >= 12, "{replies:?}");
    assert!(late.iter().all(|reply| reply.starts_with("454 4.7.0 Throttling failure: maximum sending rate")));
    let (requests, accepted) = relay.counts();
    assert_eq!((requests, accepted as usize), (accepted, 24 - late.len()), "what was deferred was never sent");
    relay.log.expect("rule: Some(\"pace\")");
}

#[tokio::test]
async fn what_policy_refuses_takes_no_part_of_the_rate() {
    let relay = TestRelay::with(|plan: TestSetup| {
        let pace = with(PaceSettings::default(), |it| {
            it.recipients_per_second_max = Some(0.1);
            it.percent = 100;
        });
        plan.build(move |builder| builder.pace(pace).account_interval(None).deadline(short_deadline(1_500)))
    })
    .await;
    let mut client = relay.client().await;
    let forged = NOTE.replace("ann@example.com", "ann@forged.example");
    for _ in 0..3 {
        let reply = client.send("ann@example.com", TO, &forged).await;
        assert!(reply.starts_with("550 5.7.1"), "{reply}");
    }
    let reply = client.send("ann@example.com", TO, NOTE).await;
    assert!(reply.starts_with("250"), "{reply}");
}

#[tokio::test]
async fn what_ses_refuses_is_not_counted_and_a_redirect_is_logged_as_one() {
    let rule = LimitRule::new(
        RuleName::parse("authors").unwrap(),
        LimitKey::Author,
        Measure::Messages,
        vec!["1/h".parse().unwrap()],
    );
    let relay = TestRelay::with(|mut plan: TestSetup| {
        plan.app.redirect_to = Some(Mailbox::parse("stage@example.com").unwrap());
        plan.build(|builder| builder.limiter(LocalLimiter::new(vec![rule], Arc::new(SystemClock))))
    })
    .await;
    let mut client = relay.client().await;
    relay.emulator.script([Fault::refuse(ErrorName::MessageRejected)]);
    for want in ["554 5.7.1", "250", "451 4.7.1"] {
        let reply = client.send("ann@example.com", &["bob@elsewhere.example", "eve@elsewhere.example"], NOTE).await;
        assert!(reply.starts_with(want), "{want}: {reply}");
    }
    let lines = relay.log.lines();
    let ended: Vec<&String> = lines.iter().filter(|line| line.starts_with("MessageEnded")).collect();
    let redirected = |line: &&String| line.matches("ForwardPath(").count() == 1;
    assert!(ended.len() == 3 && ended.iter().all(redirected), "as redirected: {ended:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_throttled_message_is_sent_again_and_the_client_does_not_notice() {
    let relay = TestRelay::with(|plan: TestSetup| {
        let pace = with(PaceSettings::default(), |it| {
            it.recipients_per_second_max = Some(400.0);
            it.percent = 100;
        });
        plan.build(move |builder| builder.pace(pace).account_interval(None))
    })
    .await;
    relay.emulator.script(vec![Fault::throttled(); 3]);
    let replies = flood(&relay, 4, 60).await;
    assert!(replies.iter().all(|reply| reply.starts_with("250")), "each is sent again: {replies:?}");
    assert_eq!(relay.counts(), (63, 60));
    relay.log.expect("PaceChanged { change: \"throttled: nothing for ");
}

#[tokio::test]
async fn a_throttled_message_is_deferred_when_the_deadline_does_not_allow_another_attempt() {
    let relay = TestRelay::with(|plan: TestSetup| {
        plan.build(|builder| builder.account_interval(None).deadline(short_deadline(1_500)))
    })
    .await;
    relay.emulator.script(vec![Fault::throttled(); 100]);
    let mut client = relay.client().await;
    let reply = client.send("ann@example.com", TO, NOTE).await;
    assert!(reply.starts_with("454 4.7.0 Throttling failure: maximum sending rate"), "{reply}");
    let (requests, accepted) = relay.counts();
    assert!((2..20).contains(&requests) && accepted == 0, "{requests} requests, with pauses that double");
    until("nothing is held", || relay.running.relay().send_queue() == (0, 0)).await;
    relay.emulator.script(Vec::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_small_bucket_of_ses_defers_nothing() {
    for reported in [None, Some(2_000.0)] {
        let relay = TestRelay::with(|mut plan: TestSetup| {
            plan.emulator.account.recipients_per_second_max = Some(200.0);
            plan.emulator.account.recipients_at_once_max = Some(10);
            plan.emulator.account.recipients_per_second_reported = reported;
            plan
        })
        .await;
        relay.log.until("QuotaRead").await;
        let replies = flood(&relay, 16, 600).await;
        assert!(replies.iter().all(|reply| reply.starts_with("250")), "{reported:?}: {replies:?}");
        assert_eq!(relay.counts().1, 600);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_in_flight_are_bounded() {
    let relay = TestRelay::with(|mut plan: TestSetup| {
        plan.emulator.latency = Duration::from_millis(100);
        let settings = with(SendQueueSettings::default(), |it| it.calls_max = 2);
        plan.build(move |builder| builder.send_queue(settings))
    })
    .await;
    let replies = flood(&relay, 10, 20).await;
    assert!(replies.iter().all(|reply| reply.starts_with("250")), "{replies:?}");
    let connections = relay.emulator.requests().iter().map(|seen| seen.connection).max();
    // GetAccount may have opened one.
    assert!(connections <= Some(3), "{connections:?}");
}

#[tokio::test]
async fn an_application_has_a_bounded_number_of_connections() {
    let site = Site::start(
        "[[app]]\nname = 'a'\nnetworks = ['10.1.0.0/16']\nfrom = ['*@a.example']\nconnections_max = 2\n\
         [[app]]\nname = 'b'\nnetworks = ['10.2.0.0/16']\nfrom = ['*@b.example']\n",
    )
    .await;
    let mut held = Vec::new();
    for client in ["10.1.0.1", "10.1.0.2"] {
        let mut connection = site.connect(client).await;
        connection.say("MAIL FROM:<ann@a.example>").await;
        connection.expect("250").await;
        held.push(connection);
    }
    let mut third = site.connect("10.1.0.3").await;
    third.say("MAIL FROM:<ann@a.example>").await;
    third.expect("421 4.7.0 Too many connections of your application").await;
    assert_eq!(third.line().await, None, "and it is closed");
    site.log.expect("rule: Some(\"connections\")");
    let mut other = site.connect("10.2.0.1").await;
    other.say("MAIL FROM:<ann@b.example>").await;
    other.expect("250").await;
    drop(held);
    let again = Note { client: "10.1.0.3", ..Note::default() };
    // The listener notices a closed connection a moment later.
    for _ in 0..50 {
        if site.send(&again).await.starts_with("250") {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("places come back");
}

fn auth(password: &str) -> [String; 2] {
    use base64::Engine as _;
    let encode = |text: &str| base64::engine::general_purpose::STANDARD.encode(text);
    [format!("AUTH PLAIN {}", encode(&format!("\0ann\0{password}"))), encode(password)]
}

#[tokio::test]
async fn a_client_that_guesses_is_locked_out_there_and_plain_then_login_is_one_failure() {
    let lockout = "failures = '1/h burst 2'\nfailures_by_name = '1/h burst 100'\nfailure_delay_seconds = 0\n";
    let site = Site::with_user("ann", &format!("[policy]\nfrom = ['*@a.example']\n[auth]\n{lockout}")).await;
    let [plain, password] = auth("wrong");
    let guess = async |client: &str| {
        let mut connection = site.connect(client).await;
        connection.say(&plain).await;
        let first = connection.reply().await;
        if first.starts_with("535") {
            connection.say("AUTH LOGIN YW5u").await;
            connection.expect("334").await;
            connection.say(&password).await;
            connection.expect("535 5.7.8").await;
        }
        first
    };
    assert!(guess("10.1.0.1").await.starts_with("535"));
    assert!(guess("10.1.0.1").await.starts_with("535"), "four tries were two failures");
    let locked = guess("10.1.0.1").await;
    assert!(locked.starts_with("454 4.7.0 Too many authentication failures, try again in 3"), "{locked}");
    let mut right = site.connect("10.1.0.1").await;
    right.say(&auth("secret")[0]).await;
    right.expect("454 4.7.0 Too many authentication failures").await;
    site.log.expect("locked out: too many failures with this name from this client");
    let mut elsewhere = site.connect("10.1.0.2").await;
    elsewhere.say(&auth("secret")[0]).await;
    elsewhere.expect("235").await;
}

#[tokio::test]
async fn by_name_alone_there_is_only_a_delay() {
    let sections =
        "[policy]\nfrom = ['*@a.example']\n[auth]\nfailures_by_name = '1/h burst 1'\nfailure_delay_seconds = 1\n";
    let site = Site::with_user("ann", sections).await;
    let mut guesser = site.connect("10.1.0.1").await;
    guesser.say(&auth("wrong")[0]).await;
    guesser.expect("535").await;
    let mut right = site.connect("10.1.0.2").await;
    let began = tokio::time::Instant::now();
    right.say(&auth("secret")[0]).await;
    right.expect("235").await;
    assert!(began.elapsed() >= Duration::from_secs(1), "it waited, and came in");
}

#[tokio::test]
async fn quotas_of_a_day_survive_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let sections = format!(
        "[[app]]\nname = 'a'\nnetworks = ['10.1.0.0/16']\nfrom = ['*@a.example']\n\
         [[limit]]\nname = 'day'\nof = 'recipients'\nrates = ['3/day']\nover = 'reject'\n\
         [limits]\nstate_directory = {:?}\ntime_zone = 'Asia/Tokyo'\n",
        directory.path()
    );
    let site = Site::start(&sections).await;
    let two = Note { to: &["a@elsewhere.example", "b@elsewhere.example"], ..Note::default() };
    assert!(site.send(&two).await.starts_with("250"));
    // What is counted is on disk within half a second; explain looks there.
    tokio::time::sleep(Duration::from_millis(700)).await;
    let explained = site.explain(&two).await;
    let notes: Vec<String> =
        explained.steps.iter().flat_map(|step| step.notes.iter().map(|note| note.text.clone())).collect();
    assert!(notes.contains(&"day: 1 of 3/day left, this takes 1".to_owned()), "{notes:?}");
    assert!(notes.contains(&"day: 0 of 3/day left, this takes 1".to_owned()), "{notes:?}");
    drop(site);
    // The file is let go of when the last task has gone.
    for _ in 0..100 {
        if std::fs::File::open(directory.path().join("quotas.lock")).unwrap().try_lock().is_ok() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let site = Site::start(&sections).await;
    assert!(site.send(&Note::default()).await.starts_with("250"));
    let reply = site.send(&Note::default()).await;
    assert!(reply.starts_with("550 5.7.1 Rate limit exceeded"), "{reply}");
}

/// A limiter far away: counts how often it is asked.
struct Distant {
    near: LocalLimiter,
    asked: Arc<AtomicUsize>,
    given_back: Arc<AtomicUsize>,
}

#[async_trait::async_trait]
impl Limiter for Distant {
    async fn take(&self, step: &LimitStep<'_>) -> Result<LimitDecision, LimitError> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        self.near.take(step).await
    }

    async fn take_each(&self, steps: &[LimitStep<'_>]) -> Vec<Result<LimitDecision, LimitError>> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        steps.iter().map(|step| Ok(self.near.try_take(step))).collect()
    }

    fn is_distant(&self) -> bool {
        true
    }

    async fn give_back(&self, ticket: Reservation) {
        self.given_back.fetch_add(1, Ordering::Relaxed);
        self.near.give_back(ticket).await;
    }

    async fn peek(&self, step: &LimitStep<'_>) -> Result<Vec<LimitStatus>, LimitError> {
        assert!(matches!(step.stage, LimitStage::Mail | LimitStage::Rcpt(_) | LimitStage::Message { .. }));
        self.near.peek(step).await
    }
}

#[tokio::test]
async fn a_pipelined_group_of_recipients_asks_a_distant_limiter_once() {
    let (asked, given_back) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let rule = LimitRule::new(
        RuleName::parse("recipients").unwrap(),
        LimitKey::Relay,
        Measure::Recipients,
        vec!["12/h".parse().unwrap()],
    );
    let near = LocalLimiter::new(vec![rule], Arc::new(SystemClock));
    let distant = Distant { near, asked: Arc::clone(&asked), given_back: Arc::clone(&given_back) };
    let relay = TestRelay::with(|plan: TestSetup| plan.build(|builder| builder.limiter(distant))).await;
    let mut client = relay.client().await;
    let rcpt = |range: std::ops::Range<usize>| -> String {
        range.map(|number| format!("RCPT TO:<to{number}@elsewhere.example>\r\n")).collect()
    };
    // One who is refused by policy stands in the middle, one stands twice, and NOOP ends the first group.
    let repeated = "RCPT TO:<to3@elsewhere.example>\r\n";
    let group =
        format!("MAIL FROM:<ann@example.com>\r\n{}{repeated}{}NOOP\r\n{}DATA\r\n", rcpt(0..5), rcpt(5..8), rcpt(8..14));
    client.write(group).await;
    client.expect("250 2.1.0").await;
    for number in 0..9 {
        assert!(client.reply().await.starts_with("250 2.1.5"), "{number}");
    }
    client.expect("250 2.0.0").await;
    for number in 8..14 {
        let want = if number < 12 { "250 2.1.5" } else { "452 4.5.3" };
        let reply = client.reply().await;
        assert!(reply.starts_with(want), "{number}: {reply}");
    }
    client.expect("354").await;
    client.content(NOTE).await;
    client.expect("250").await;
    assert_eq!(relay.only_message().to.len(), 12, "in two groups, and the one that stands twice once");
    // MAIL, two groups, those behind the repeated one again, and the message.
    assert!(asked.load(Ordering::Relaxed) <= 7, "{asked:?}");
    let given = given_back.load(Ordering::Relaxed);
    assert!(given <= 4, "what was fetched for the one that stands twice: {given}");
    until("nothing is held", || relay.running.relay().send_queue() == (0, 0)).await;
}
