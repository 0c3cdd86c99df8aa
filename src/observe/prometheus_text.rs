//! OpenMetrics as the older text format of Prometheus.

use std::collections::HashSet;

/// For the text format of Prometheus, where the type line of a counter has the name that its samples have.
pub(crate) fn prometheus_text(open_metrics: &str) -> String {
    let mut text = String::with_capacity(open_metrics.len());
    let mut counters: HashSet<&str> = HashSet::new();
    for line in open_metrics.lines() {
        if let Some((name, "counter")) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' ')) {
            counters.insert(name);
        }
    }
    for line in open_metrics.lines() {
        let mut words = line.splitn(4, ' ');
        match (words.next(), words.next(), words.next(), words.next()) {
            (Some("#"), Some("EOF" | "UNIT"), ..) => continue,
            (Some("#"), Some(word), Some(name), Some(rest)) if counters.contains(name) => {
                text.push_str(&format!("# {word} {name}_total {rest}"));
            }
            _ => text.push_str(line),
        }
        text.push('\n');
    }
    text
}
