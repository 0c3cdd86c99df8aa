//! `gatepost queue`: the messages in the spool.
//!
//! Where the relay runs, it does the work, over its admin endpoint. Where it is stopped, the command opens the spool itself.

use super::admin_client::{AdminClientError, As, request};
use super::exit::{Exit, Failure};
use super::printer::Printer;
use super::{ConfigFile, config_plan, runtime};
use crate::admin::AdminSettings;
use crate::config::Plan;
use crate::mail::{Clock, QueueId, SystemClock};
use crate::spool::operate::{self, MessageState, QueueAction, QueueFilter, QueuePage, QueueRow};
use crate::spool::{DiskSpool, OpenError, Spool, Timestamp};
use bytes::Bytes;
use hyper::Method;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use std::fs::{DirBuilder, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Show the messages, one a line, and how many there are
    List(Selection),
    /// Show everything known of one message, except its content
    Show(OneMessage),
    /// Make no more attempts to send these messages
    Hold(Selection),
    /// Send held messages again, from now on
    Release(Selection),
    /// Make the next attempt now
    Retry(Selection),
    /// Take messages out of the spool without sending them, and print which
    Remove(Selection),
    /// Write messages to files: ID.eml the content, ID.json what is known of it
    Export(Export),
    /// Check the files of a stopped relay: read every message, and set damaged records aside
    Fsck(Common),
}

#[derive(Debug, clap::Args)]
struct Common {
    #[command(flatten)]
    config: ConfigFile,
    /// Print JSON, one object a line
    #[arg(long)]
    json: bool,
    /// The name in admin.operator_tokens whose token is used. Default: the first one
    #[arg(long, env = "GATEPOST_OPERATOR", value_name = "NAME")]
    operator: Option<String>,
}

#[derive(Debug, clap::Args)]
struct Selection {
    #[command(flatten)]
    common: Common,
    /// Queue ids. Without ids and options: for list all messages; the others need --all
    ids: Vec<String>,
    /// Of this application; - for those of none
    #[arg(long)]
    app: Option<String>,
    /// In this state
    #[arg(long, value_parser = ["waiting", "sending", "held"])]
    state: Option<String>,
    /// Accepted at least this many seconds ago
    #[arg(long, value_name = "SECONDS")]
    older_than: Option<u64>,
    /// With a recipient at this domain
    #[arg(long, value_name = "DOMAIN")]
    recipient_domain: Option<String>,
    /// All messages
    #[arg(long)]
    all: bool,
}

#[derive(Debug, clap::Args)]
struct OneMessage {
    #[command(flatten)]
    common: Common,
    /// The queue id
    id: String,
}

#[derive(Debug, clap::Args)]
struct Export {
    #[command(flatten)]
    selection: Selection,
    /// A directory for the files; it is created if it is missing
    #[arg(long)]
    directory: PathBuf,
}

pub(super) fn run(arguments: &Arguments, printer: &Printer) -> Result<Exit, Failure> {
    runtime()?.block_on(async {
        match &arguments.command {
            Command::List(selection) => list(selection, printer).await,
            Command::Show(one) => show(one, printer).await,
            Command::Hold(selection) => act(selection, QueueAction::Hold, "held", printer).await,
            Command::Release(selection) => act(selection, QueueAction::Release, "released", printer).await,
            Command::Retry(selection) => act(selection, QueueAction::Retry, "due now", printer).await,
            Command::Remove(selection) => act(selection, QueueAction::Remove, "removed", printer).await,
            Command::Export(export) => write_files(export, printer).await,
            Command::Fsck(common) => fsck(common, printer).await,
        }
    })
}

/// The queue of a running relay, or the spool of a stopped one.
enum Queue {
    Running(AdminSettings, Option<String>),
    Stopped(Box<DiskSpool>),
}

impl Queue {
    async fn open(common: &Common) -> Result<Self, Failure> {
        let plan = config_plan(&common.config)?;
        if let Some(admin) = plan.admin() {
            match request(admin, As::Operator(common.operator.as_deref()), Method::GET, "/livez").await {
                Err(AdminClientError::NotRunning { .. }) => {}
                Err(error) => return Err(error.into()),
                Ok(_) => return Ok(Self::Running(admin.clone(), common.operator.clone())),
            }
        }
        Ok(Self::Stopped(Box::new(stopped(&plan)?)))
    }

    async fn page(
        &self,
        filter: &QueueFilter,
        after: Option<&str>,
        action: Option<QueueAction>,
    ) -> Result<QueuePage, Failure> {
        match self {
            Self::Running(admin, operator) => {
                let (method, verb) = match action {
                    None => (Method::GET, String::new()),
                    Some(action) => (Method::POST, format!("/{}", word(&action))),
                };
                let path = format!("/api/v1/queue{verb}{}", query(filter, after));
                let answer = request(admin, As::Operator(operator.as_deref()), method, &path).await?;
                let page = serde_json::from_slice(&answer);
                page.map_err(|error| Failure::new(Exit::Software, format!("the relay's answer: {error}")))
            }
            Self::Stopped(spool) => {
                let after = after.and_then(QueueId::parse);
                let now = Timestamp::from(SystemClock.wall());
                let page = operate::page(&**spool, filter, after, action, now, &|_| {}).await;
                page.map_err(|error| Failure::new(Exit::Io, error.to_string()))
            }
        }
    }

    async fn content(&self, id: &str) -> Result<Bytes, Failure> {
        match self {
            Self::Running(admin, operator) => {
                let shown = As::Operator(operator.as_deref());
                Ok(request(admin, shown, Method::GET, &format!("/api/v1/queue/{id}/content")).await?)
            }
            Self::Stopped(spool) => {
                let id =
                    QueueId::parse(id).ok_or_else(|| Failure::new(Exit::Usage, format!("{id} is not a queue id")))?;
                let message = spool.load(id).await.map_err(|error| Failure::new(Exit::Io, error.to_string()))?;
                Ok(message.content().octets().clone())
            }
        }
    }

    /// Calls `each` with every page of every filter.
    async fn every_page(
        &self,
        filters: &[QueueFilter],
        action: Option<QueueAction>,
        mut each: impl AsyncFnMut(Vec<QueueRow>) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        for filter in filters {
            let mut after: Option<String> = None;
            loop {
                let QueuePage { rows, next } = self.page(filter, after.as_deref(), action).await?;
                each(rows).await?;
                match next {
                    Some(next) => after = Some(next),
                    None => break,
                }
            }
        }
        Ok(())
    }
}

/// The spool of a relay that does not run.
fn stopped(plan: &Plan) -> Result<DiskSpool, Failure> {
    // Files that another user makes would keep the relay from starting.
    let owner = plan.spool_directory().and_then(|directory| directory.metadata().ok()).map(|meta| meta.uid());
    if let Some(owner) = owner.filter(|owner| *owner != rustix::process::geteuid().as_raw()) {
        let failure = Failure::new(Exit::NoPermission, format!("the spool belongs to the user with id {owner}"));
        return Err(failure.with_hint("run the command as that user: sudo -u USER gatepost queue …"));
    }
    let opened = plan.open_spool().map_err(|error| match error {
        OpenError::InUse(_) => Failure::new(Exit::CannotCreate, error.to_string()).with_hint(
            "the relay runs: stop it for fsck; for the other commands set admin.address (a Unix socket, or with admin.operator_tokens)",
        ),
        other => other.into(),
    })?;
    let (spool, ..) = opened
        .ok_or_else(|| Failure::new(Exit::Config, "the configuration has no spool").with_hint("set spool.directory"))?;
    Ok(spool)
}

/// The filters that a command line means: one for each id, or one.
fn filters(selection: &Selection, needs_all: bool) -> Result<Vec<QueueFilter>, Failure> {
    let Selection { ids, app, state, older_than, recipient_domain, all, .. } = selection;
    let state = match state.as_deref() {
        Some("waiting") => Some(MessageState::Waiting),
        Some("sending") => Some(MessageState::Sending),
        Some("held") => Some(MessageState::Held),
        _ => None,
    };
    let filter = QueueFilter {
        id: None,
        app: app.clone(),
        state,
        older_than_seconds: *older_than,
        recipient_domain: recipient_domain.clone(),
    };
    if let Some(id) = ids.iter().find(|id| QueueId::parse(id).is_none()) {
        let failure = Failure::new(Exit::Usage, format!("{id:?} is not a queue id"));
        return Err(failure.with_hint("as in the 250 of the message and in the log: 13 characters, - and a number"));
    }
    if ids.is_empty() && filter == QueueFilter::default() && needs_all && !all {
        let failure = Failure::new(Exit::Usage, "no message is selected");
        return Err(failure.with_hint("give queue ids, --app, --state, --older-than, --recipient-domain or --all"));
    }
    match ids.is_empty() {
        true => Ok(vec![filter]),
        false => Ok(ids.iter().map(|id| QueueFilter { id: Some(id.clone()), ..filter.clone() }).collect()),
    }
}

async fn list(selection: &Selection, printer: &Printer) -> Result<Exit, Failure> {
    let queue = Queue::open(&selection.common).await?;
    let mut totals = Totals::default();
    let json = selection.common.json;
    queue
        .every_page(&filters(selection, false)?, None, async |rows| {
            for row in rows {
                totals.add(&row);
                printer.line(&if json { as_json(&row) } else { as_line(&row) })?;
            }
            Ok(())
        })
        .await?;
    if json { Ok(Exit::Ok) } else { printer.line(&totals.text()) }
}

async fn show(one: &OneMessage, printer: &Printer) -> Result<Exit, Failure> {
    let queue = Queue::open(&one.common).await?;
    let page = queue.page(&QueueFilter { id: Some(one.id.clone()), ..QueueFilter::default() }, None, None).await?;
    let Some(row) = page.rows.first() else {
        return Err(Failure::new(Exit::Data, format!("no message {} in the queue", one.id)));
    };
    if one.common.json {
        return printer.line(&as_json(row));
    }
    let rows = [
        ("id", row.id.clone()),
        ("application", row.app.clone().unwrap_or_else(|| "-".to_owned())),
        ("state", row.state.label().to_owned()),
        ("held because", row.held.clone().unwrap_or_default()),
        ("accepted", at(row.accepted)),
        ("next attempt", if row.held.is_none() { at(row.due) } else { String::new() }),
        ("attempts", row.attempts.to_string()),
        ("last attempt", row.last.clone().unwrap_or_default()),
        ("bytes", row.octets.to_string()),
        ("parts", format!("{} of {} ended", row.parts_ended, row.parts)),
        ("reverse-path", row.reverse_path.clone().unwrap_or_else(|| "<>".to_owned())),
        ("recipients", row.forward_paths.join(", ")),
    ];
    let rows = rows.iter().filter(|(_, value)| !value.is_empty());
    printer.text(&rows.map(|(name, value)| format!("{name:<14} {value}\n")).collect::<String>())
}

async fn act(selection: &Selection, action: QueueAction, done: &str, printer: &Printer) -> Result<Exit, Failure> {
    let filters = filters(selection, true)?;
    let queue = Queue::open(&selection.common).await?;
    let (mut count, json) = (0_u64, selection.common.json);
    queue
        .every_page(&filters, Some(action), async |rows| {
            for row in rows {
                count += 1;
                printer.line(&if json { as_json(&row) } else { format!("{done} {}", as_line(&row)) })?;
            }
            Ok(())
        })
        .await?;
    if !json {
        printer.line(&format!("-- {count} {} {done}", if count == 1 { "message" } else { "messages" }))?;
    }
    // An id that is not there is probably a mistake.
    let expected = selection.ids.len() as u64;
    Ok(if count < expected { Exit::Data } else { Exit::Ok })
}

async fn write_files(export: &Export, printer: &Printer) -> Result<Exit, Failure> {
    let filters = filters(&export.selection, true)?;
    let queue = Queue::open(&export.selection.common).await?;
    let directory = &export.directory;
    let failed =
        |path: &Path, error: std::io::Error| Failure::new(Exit::CannotCreate, format!("{}: {error}", path.display()));
    let made = DirBuilder::new().recursive(true).mode(0o700).create(directory);
    made.map_err(|error| failed(directory, error))?;
    let mut count = 0_u64;
    queue
        .every_page(&filters, None, async |rows| {
            for row in rows {
                let content = queue.content(&row.id).await?;
                for (extension, octets) in [("eml", &content[..]), ("json", as_json(&row).as_bytes())] {
                    let path = directory.join(format!("{}.{extension}", row.id));
                    // Mail is private, and nothing is overwritten.
                    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
                    file.and_then(|mut file| file.write_all(octets)).map_err(|error| failed(&path, error))?;
                }
                count += 1;
            }
            Ok(())
        })
        .await?;
    printer.line(&format!("{count} messages written to {}", directory.display()))
}

async fn fsck(common: &Common, printer: &Printer) -> Result<Exit, Failure> {
    let plan = config_plan(&common.config)?;
    let spool = stopped(&plan)?;
    let (mut good, mut damaged, mut after) = (0_u64, Vec::new(), None);
    loop {
        let page = spool.page(after, operate::PAGE_MAX);
        let Some(last) = page.last() else { break };
        after = Some(last.id);
        for message in &page {
            match spool.load(message.id).await {
                Ok(_) => good += 1,
                Err(error) => damaged.push((message.id, error.to_string())),
            }
        }
    }
    let aside = spool.usage().damaged;
    if common.json {
        let damaged: Vec<String> = damaged.iter().map(|(id, _)| id.to_string()).collect();
        let found = serde_json::json!({ "good": good, "damaged": damaged, "set_aside": aside });
        printer.line(&found.to_string())?;
    } else {
        for (id, error) in &damaged {
            printer.line(&format!("damaged {id}: {error}"))?;
        }
        printer.line(&format!(
            "-- {good} messages are good, {} are damaged, {aside} records in corrupt/",
            damaged.len()
        ))?;
    }
    Ok(if damaged.is_empty() { Exit::Ok } else { Exit::Data })
}

/// What a list adds up to.
#[derive(Default)]
struct Totals {
    waiting: u64,
    sending: u64,
    held: u64,
    octets: u64,
    oldest: Option<Timestamp>,
}

impl Totals {
    fn add(&mut self, row: &QueueRow) {
        match row.state {
            MessageState::Waiting => self.waiting += 1,
            MessageState::Sending => self.sending += 1,
            MessageState::Held => self.held += 1,
        }
        self.octets += row.octets;
        self.oldest = Some(self.oldest.map_or(row.accepted, |oldest| oldest.min(row.accepted)));
    }

    fn text(&self) -> String {
        let Self { waiting, sending, held, octets, oldest } = self;
        let messages = waiting + sending + held;
        let age = oldest.map(|oldest| Timestamp::from(SystemClock.wall()).since(oldest).as_secs());
        let age = age.map(|age| format!("; the oldest is {age} s old")).unwrap_or_default();
        format!("-- {messages} messages, {octets} bytes: {waiting} waiting, {sending} sending, {held} held{age}")
    }
}

fn as_json(row: &QueueRow) -> String {
    serde_json::to_string(row).unwrap_or_default()
}

fn as_line(row: &QueueRow) -> String {
    let QueueRow { id, app, state, accepted, octets, attempts, forward_paths, .. } = row;
    let to = match &forward_paths[..] {
        [one] => one.clone(),
        [first, rest @ ..] => format!("{first} and {} more", rest.len()),
        [] => String::new(),
    };
    let why = row.held.as_deref().or(row.last.as_deref()).map(|text| format!("  {text}")).unwrap_or_default();
    let (app, state, accepted) = (app.as_deref().unwrap_or("-"), state.label(), at(*accepted));
    format!("{id:<15} {accepted} {state:<7} {octets:>9} {attempts:>3} {app:<12} {to}{why}")
}

fn at(time: Timestamp) -> String {
    let millis = i64::try_from(time.millis()).unwrap_or(i64::MAX);
    jiff::Timestamp::from_millisecond(millis).map(|time| format!("{time:.0}")).unwrap_or_else(|_| "never".to_owned())
}

/// The word of a value in JSON and in a path.
fn word(value: &impl serde::Serialize) -> String {
    serde_json::to_value(value).ok().and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
}

fn query(filter: &QueueFilter, after: Option<&str>) -> String {
    let members = [
        ("id", filter.id.clone()),
        ("app", filter.app.clone()),
        ("state", filter.state.as_ref().map(word)),
        ("older_than_seconds", filter.older_than_seconds.map(|age| age.to_string())),
        ("recipient_domain", filter.recipient_domain.clone()),
        ("after", after.map(str::to_owned)),
        // The command line has asked for it.
        ("all", (*filter == QueueFilter::default()).then(|| "true".to_owned())),
    ];
    let members = members
        .into_iter()
        .filter_map(|(name, value)| Some(format!("{name}={}", utf8_percent_encode(&value?, NON_ALPHANUMERIC))));
    let members: Vec<String> = members.collect();
    if members.is_empty() { String::new() } else { format!("?{}", members.join("&")) }
}
