//! Checks against a provider that answers by a script, in time that is advanced.

use super::*;
use crate::limit::Unlimited;
use crate::mail::{AccountQuota, ManualClock, Outcome, Permitted};
use crate::observe::NoopObserver;
use crate::policy::{MailFacts, MessageFacts, Policy, PolicyDecision, PolicyError, RcptFacts};
use crate::relay::{
    AppConnectionLimits, BudgetSettings, Components, DeadlineSettings, RelaySettings, SendQueueSettings,
};
use crate::transport::Transport;
use async_trait::async_trait;
use std::sync::{Arc, Mutex};
use std::time::Instant;

type Answers = Vec<(&'static str, Result<(), ReadError>)>;

/// Answers by role and set; everything else works.
#[derive(Default)]
struct Provider {
    answers: Mutex<Answers>,
    asked: Mutex<Vec<String>>,
}

#[async_trait]
impl Transport for Provider {
    async fn send(&self, _: Permitted, _: Instant) -> Outcome {
        unreachable!("nothing is sent here")
    }

    /// As the script says; without a word there, it cannot be asked.
    async fn quota(&self) -> Result<AccountQuota, ReadError> {
        let answers = self.answers.lock().unwrap();
        let (_, answer) = answers.iter().find(|(known, _)| *known == "quota").ok_or(ReadError::Unsupported)?;
        self.asked.lock().unwrap().push("quota".to_owned());
        answer.clone().map(|()| AccountQuota {
            recipients_per_second_max: 14.0,
            recipients_per_24_hours_max: None,
            recipients_last_24_hours: 0.0,
            sending_enabled: true,
        })
    }

    async fn check(&self, role: Option<&RoleArn>, set: Option<&ConfigurationSetName>) -> Result<(), ReadError> {
        let role = role.map_or("own", |role| role.as_str().rsplit('/').next().unwrap());
        let question = format!("{role} {}", set.map_or("account", ConfigurationSetName::as_str));
        self.asked.lock().unwrap().push(question.clone());
        let answers = self.answers.lock().unwrap();
        answers.iter().find(|(known, _)| *known == question).map_or(Ok(()), |(_, answer)| answer.clone())
    }
}

impl Provider {
    fn answer(&self, answers: Answers) {
        *self.answers.lock().unwrap() = answers;
    }

    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut *self.asked.lock().unwrap())
    }
}

/// Applications that need these: name, role, set.
struct Apps(Vec<(String, Option<&'static str>, Option<&'static str>)>);

#[async_trait]
impl Policy for Apps {
    async fn reverse_path(&self, _: &MailFacts<'_>) -> Result<PolicyDecision, PolicyError> {
        unreachable!()
    }

    async fn forward_path(&self, _: &RcptFacts<'_>) -> Result<PolicyDecision, PolicyError> {
        unreachable!()
    }

    async fn message(&self, _: &MessageFacts<'_>) -> Result<PolicyDecision, PolicyError> {
        unreachable!()
    }

    fn sends(&self) -> Vec<(AppName, SendParameters)> {
        let role = |name: &str| RoleArn::parse(&format!("arn:aws:iam::111122223333:role/{name}")).unwrap();
        let send = |(_, r, set): &(String, Option<&str>, Option<&str>)| SendParameters {
            role: r.map(role),
            configuration_set: set.map(|set| ConfigurationSetName::parse(set).unwrap()),
            ..SendParameters::default()
        };
        self.0.iter().map(|app| (AppName::parse(&app.0).unwrap(), send(app))).collect()
    }
}

fn relay(apps: Apps) -> (Arc<Relay>, Arc<Provider>) {
    let provider = Arc::new(Provider::default());
    let settings = RelaySettings {
        hostname: "relay.example".to_owned(),
        trace: Default::default(),
        header: Default::default(),
        mime: Default::default(),
        deadline: DeadlineSettings::default(),
        send_queue: SendQueueSettings::default(),
        app_connections: AppConnectionLimits::default(),
        queue: Default::default(),
        spools: false,
    };
    let components = Components {
        policy: Arc::new(apps),
        limiter: Arc::new(Unlimited),
        authenticator: None,
        pace: None,
        spool: None,
        lockout: None,
        transport: Arc::clone(&provider) as Arc<dyn Transport>,
        observer: Arc::new(NoopObserver),
        clock: Arc::new(ManualClock::new()),
    };
    (Arc::new(Relay::new(settings, components, &BudgetSettings::default())), provider)
}

fn texts(relay: &Relay) -> Vec<String> {
    relay.faults().into_iter().map(|fault| format!("{:?} {}", fault.apps, fault.text)).collect()
}

fn three() -> Apps {
    let app = |name: &str, role, set| (name.to_owned(), role, set);
    Apps(vec![
        app("a", None, Some("s")),
        app("b", None, Some("s")),
        app("c", Some("r"), Some("s")),
        app("d", None, None),
    ])
}

async fn rest(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}

#[tokio::test(start_paused = true)]
async fn what_applications_need_is_asked_once_and_what_does_not_work_until_it_does() {
    let (relay, provider) = relay(three());
    let missing = || Err(ReadError::Missing("no set".to_owned()));
    provider.answer(vec![("own s", missing())]);
    let watched = Arc::clone(&relay);
    let watch = tokio::spawn(async move { watched.watch_provider(None).await });
    rest(10).await;
    assert_eq!(provider.asked(), ["r account", "own s", "r s"]);
    assert_eq!(texts(&relay), ["[AppName(\"a\"), AppName(\"b\")] no set"]);
    rest(80).await;
    assert_eq!(provider.asked(), ["own s"], "about every minute, and only that");
    // A question that may not be asked any more, or has no answer, ends or keeps what was known.
    provider.answer(vec![("own s", Err(ReadError::Unavailable("throttled".to_owned())))]);
    rest(80).await;
    assert_eq!(texts(&relay).len(), 1);
    provider.answer(Vec::new());
    rest(80).await;
    assert!(texts(&relay).is_empty());
    provider.asked();
    rest(600).await;
    assert!(provider.asked().is_empty(), "what works is not asked for again");
    watch.abort();
}

#[tokio::test(start_paused = true)]
async fn a_role_without_credentials_is_one_fault_and_its_configuration_set_is_asked_for_later() {
    let (relay, provider) = relay(three());
    provider.answer(vec![("r account", Err(ReadError::Fault("cannot assume r".to_owned())))]);
    let watched = Arc::clone(&relay);
    let watch = tokio::spawn(async move { watched.watch_provider(None).await });
    rest(10).await;
    assert_eq!(provider.asked(), ["r account", "own s"]);
    assert_eq!(texts(&relay), ["[AppName(\"c\")] cannot assume r"]);
    provider.answer(Vec::new());
    rest(80).await;
    assert_eq!(provider.asked(), ["r account", "r s"]);
    assert!(texts(&relay).is_empty());
    watch.abort();
}

#[tokio::test(start_paused = true)]
async fn a_thousand_applications_are_fifty_questions_at_most() {
    let names = ["s0", "s1", "s2"];
    let apps = (0..1_000).map(|number| (format!("app{number}"), None, Some(names[number % 3])));
    let (few, _) = relay(Apps(apps.collect()));
    let checks = few.checks();
    assert_eq!(checks.len(), 3);
    assert!(checks.iter().all(|check| check.apps.len() == APPS_MAX));
    let sets: Vec<String> = (0..200).map(|number| format!("set{number}")).collect();
    let sets: Vec<&'static str> = sets.into_iter().map(|name| &*name.leak()).collect();
    let (many, _) = relay(Apps(sets.iter().map(|set| (format!("app-{set}"), None, Some(*set))).collect()));
    assert_eq!(many.checks().len(), CHECKS_MAX);
}

#[tokio::test(start_paused = true)]
async fn an_account_that_does_not_work_is_asked_for_about_every_minute_and_not_at_the_usual_interval() {
    let (relay, provider) = relay(three());
    let none = || Err(ReadError::Fault("no credentials".to_owned()));
    provider.answer(vec![("quota", none())]);
    let watched = Arc::clone(&relay);
    let interval = Duration::from_secs(300);
    let watch = tokio::spawn(async move { watched.watch_provider(Some(interval)).await });
    rest(600).await;
    assert_eq!(texts(&relay), ["[] no credentials"]);
    let asked = provider.asked();
    let count = |what: &str| asked.iter().filter(|question| *question == what).count();
    assert!((9..=20).contains(&count("quota")), "{asked:?}");
    assert_eq!(count("own s"), 0, "nothing is said of a configuration set without credentials");
    // They come, and go again when the configuration set is asked for.
    provider.answer(vec![("quota", Ok(())), ("own s", none())]);
    rest(160).await;
    assert!(provider.asked().contains(&"own s".to_owned()));
    provider.answer(vec![("quota", Ok(()))]);
    rest(160).await;
    assert!(texts(&relay).is_empty(), "{:?}", texts(&relay));
    provider.asked();
    rest(900).await;
    let asked = provider.asked();
    assert!(asked.iter().all(|question| question == "quota") && asked.len() <= 4, "{asked:?}");
    watch.abort();
}
