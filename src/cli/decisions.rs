//! `gatepost decisions`: what happened to mail, over the admin endpoint.

use super::admin_client::{Common, endpoint, read};
use super::exit::{Exit, Failure};
use super::printer::Printer;
use super::runtime;
use crate::admin::api::{DecisionPage, DecisionRow, PAGE_MAX};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    common: Common,
    /// With this reverse-path, author or recipient; @example.com: any address of that domain
    #[arg(long)]
    address: Option<String>,
    /// With this Message-ID field, or message id of SES
    #[arg(long, value_name = "ID")]
    message_id: Option<String>,
    /// About this transaction (the ref in a reply), queue id or session
    #[arg(long)]
    reference: Option<String>,
    /// Of this rule or limit
    #[arg(long)]
    rule: Option<String>,
    /// About this application
    #[arg(long)]
    app: Option<String>,
    /// With this result
    #[arg(long, value_parser = ["accepted", "kept", "deferred", "rejected", "would-refuse", "abandoned"])]
    result: Option<String>,
    /// Not before this time, such as 2026-01-31T12:00:00Z
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// At most this many, the latest first
    #[arg(long, default_value_t = 50, value_name = "NUMBER")]
    limit: usize,
}

pub(super) fn run(arguments: &Arguments, printer: &Printer) -> Result<Exit, Failure> {
    let settings = endpoint(&arguments.common.config)?;
    runtime()?.block_on(async {
        let (mut after, mut left) = (None, arguments.limit);
        while left > 0 {
            let path = format!("/api/v1/decisions?{}", query(arguments, after.as_deref(), left.min(PAGE_MAX)));
            let page: Value = read(&settings, &path).await?;
            let DecisionPage { rows, next } = parsed(&page)?;
            left = left.saturating_sub(rows.len());
            match arguments.common.json {
                true => page["rows"].as_array().into_iter().flatten().try_for_each(|row| print(printer, row))?,
                false => rows.iter().try_for_each(|row| print(printer, &line(row)))?,
            }
            match next {
                Some(next) => after = Some(next),
                None => break,
            }
        }
        Ok(Exit::Ok)
    })
}

fn print(printer: &Printer, row: &impl ToString) -> Result<(), Failure> {
    printer.line(&row.to_string()).map(drop)
}

fn parsed(page: &Value) -> Result<DecisionPage, Failure> {
    let page = serde_json::from_value(page.clone());
    page.map_err(|error| Failure::new(Exit::Software, format!("the relay's answer: {error}")))
}

fn query(arguments: &Arguments, after: Option<&str>, limit: usize) -> String {
    let limit = limit.to_string();
    let Arguments { address, message_id, reference, rule, app, result, since, .. } = arguments;
    let members = [
        ("address", address.as_deref()),
        ("message_id", message_id.as_deref()),
        ("reference", reference.as_deref()),
        ("rule", rule.as_deref()),
        ("app", app.as_deref()),
        ("result", result.as_deref()),
        ("since", since.as_deref()),
        ("after", after),
        ("limit", Some(&*limit)),
    ];
    let encode = |value| utf8_percent_encode(value, NON_ALPHANUMERIC);
    let given = members.into_iter().filter_map(|(name, value)| Some(format!("{name}={}", encode(value?))));
    given.collect::<Vec<_>>().join("&")
}

/// One line: when, what, who, to whom, and why.
fn line(row: &DecisionRow) -> String {
    let reference = row.reference.as_deref().or(row.session.as_deref()).unwrap_or("-");
    let to = match &row.recipients[..] {
        [] => String::new(),
        [one] => format!(" to {one}"),
        [first, ..] => format!(" to {first} and {} more", row.recipient_count.saturating_sub(1)),
    };
    let from = row.reverse_path.as_deref().or(row.client.as_deref()).unwrap_or("-");
    let rule = row.rule.as_deref().map(|rule| format!(" rule {rule}")).unwrap_or_default();
    let sent: String = row.ses_messages.iter().map(|message| format!(" ses {}", message.id)).collect();
    let queue = row.queue.as_ref().map(|fate| format!(" queue {}", fate.status)).unwrap_or_default();
    let reply = row.reply.as_deref().map(|reply| format!(": {reply}")).unwrap_or_default();
    let detail = if row.detail.is_empty() { String::new() } else { format!(" ({})", row.detail) };
    let (time, app) = (&row.time.0, row.app.as_deref().unwrap_or("-"));
    let (stage, result) = (word(&row.stage), word(&row.result));
    format!("{time} {reference:<15} {result:<12} {stage:<10} {app:<12} {from}{to}{rule}{queue}{sent}{reply}{detail}")
}

/// The word of a value in JSON.
fn word(value: &impl serde::Serialize) -> String {
    serde_json::to_value(value).ok().and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
}
