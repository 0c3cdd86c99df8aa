//! One row of the table, and its target.

use crate::contest::Contest;
use serde_json::{Value, json};
use std::fmt;

/// The target of a row.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Target {
    AtMost(f64),
    AtLeast(f64),
    /// No target.
    None,
}

/// Rows, and contests by name.
pub(crate) type Results = (Vec<Row>, Vec<(String, Contest)>);

/// A row of the table.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) what: String,
    pub(crate) target: Target,
    pub(crate) goal: Option<f64>,
    pub(crate) measured: f64,
    pub(crate) unit: &'static str,
}

impl Row {
    pub(crate) fn met(&self) -> Option<bool> {
        match self.target {
            Target::AtMost(most) => Some(self.measured <= most),
            Target::AtLeast(least) => Some(self.measured >= least),
            Target::None => None,
        }
    }

    /// A row without a target.
    pub(crate) fn shown(what: &str, measured: f64, unit: &'static str) -> Self {
        Self { what: what.to_owned(), target: Target::None, goal: None, measured, unit }
    }

    pub(crate) fn to_json(&self) -> Value {
        let target = match self.target {
            Target::AtMost(most) => json!({"at_most": most}),
            Target::AtLeast(least) => json!({"at_least": least}),
            Target::None => Value::Null,
        };
        json!({
            "what": self.what, "target": target, "goal": self.goal, "measured": self.measured, "unit": self.unit,
            "met": self.met(),
        })
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let target = match self.target {
            Target::AtMost(most) => format!("≤ {most}"),
            Target::AtLeast(least) => format!("≥ {least}"),
            Target::None => String::new(),
        };
        let goal = self.goal.map(|goal| format!(" (goal {goal})")).unwrap_or_default();
        let verdict = match self.met() {
            Some(true) => "ok",
            Some(false) => "MISSED",
            None => "",
        };
        let measured = match self.measured.abs() {
            100.0.. => format!("{:.0}", self.measured),
            10.0.. => format!("{:.1}", self.measured),
            _ => format!("{:.2}", self.measured),
        };
        write!(f, "{:66} {:22} {:>9} {:6} {verdict}", self.what, format!("{target}{goal}"), measured, self.unit)
    }
}
