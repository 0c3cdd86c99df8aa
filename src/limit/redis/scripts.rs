//! The Lua scripts that run inside Redis: one short script for each purpose, with one key and an integer answer.
//!
//! A rate is GCRA in its continuous form: a key stores the debt that is still to be paid, in microseconds, and the
//! server's time when it was written. A take adds its cost to the debt, and there is capacity as long as the earlier
//! debt is at most the slack. The theoretical arrival time itself is not stored: it is so large that a double has only
//! a quarter of a microsecond left for its fraction, and after a failover to a server whose clock is behind it would be
//! far in the future. A debt is small, and a clock that goes back only makes it last longer by the difference. Keys
//! live as long as their debt. During a pause, a third number has its end.
//!
//! Scripts are called by their digest. If the server does not know the digest (after a restart, `SCRIPT FLUSH` or a
//! failover), the script is sent whole, which costs one more round trip.

use ::redis::{Cmd, cmd};
use smallvec::SmallVec;
use std::fmt::Write as _;
use std::sync::LazyLock;

/// A script.
pub(super) struct Script {
    text: &'static str,
    /// The SHA-1 digest in hexadecimal, by which Redis identifies scripts.
    name: String,
}

impl std::fmt::Debug for Script {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.name)
    }
}

impl Script {
    fn new(text: &'static str) -> Self {
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA1_FOR_LEGACY_USE_ONLY, text.as_bytes());
        let name = digest.as_ref().iter().fold(String::with_capacity(40), |mut name, octet| {
            let _ = write!(name, "{octet:02x}");
            name
        });
        Self { text, name }
    }

    #[cfg(test)]
    pub(super) fn text(&self) -> &'static str {
        self.text
    }
}

/// A call: script, key and arguments.
#[derive(Clone, Debug)]
pub(super) struct Call {
    script: &'static LazyLock<Script>,
    key: String,
    arguments: SmallVec<[String; 3]>,
}

impl Call {
    pub(super) fn new<const N: usize>(
        script: &'static LazyLock<Script>,
        key: String,
        arguments: [&dyn std::fmt::Display; N],
    ) -> Self {
        Self { script, key, arguments: arguments.iter().map(ToString::to_string).collect() }
    }

    /// The command with the script's digest, or with its text.
    pub(super) fn command(&self, whole: bool) -> Cmd {
        let mut command = if whole { cmd("EVAL") } else { cmd("EVALSHA") };
        command.arg(if whole { self.script.text } else { &self.script.name }).arg(1).arg(&self.key);
        for argument in &self.arguments {
            command.arg(argument);
        }
        command
    }
}

/// The answer of a take that was granted. Any other answer is the time until there is capacity, in microseconds.
pub(super) const TAKEN: i64 = -1;

/// The common beginning of the scripts about a debt. `now` fits a double exactly until the year 2255.
macro_rules! debt {
    ($rest:literal) => {
        concat!(
            r"
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local debt, pause = 0, 0
local kept = redis.call('GET', KEYS[1])
if kept then
  local owed, at, rest = string.match(kept, '^(%S+) (%S+) ?(%S*)$')
  owed, at, rest = tonumber(owed), tonumber(at), tonumber(rest) or 0
  if owed and at then
    local passed = math.max(0, now - at)
    debt, pause = math.max(0, owed - passed), math.max(0, rest - passed)
  end
end
local function keep()
  local last = math.max(debt, pause)
  if last <= 0 then
    redis.call('DEL', KEYS[1])
  else
    local text = string.format('%.17g %.0f', debt, now)
    if pause > 0 then text = text .. string.format(' %.0f', pause) end
    redis.call('SET', KEYS[1], text, 'PX', string.format('%.0f', math.min(math.ceil(last / 1000) + 1, 1e15)))
  end
end
",
            $rest
        )
    };
}

/// Arguments: the cost in microseconds; the slack. A nanosecond of debt above the slack is a rounding error.
pub(super) static TAKE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(debt!(
        r"
local over = math.max(debt - tonumber(ARGV[2]), pause)
if over > 0.001 then return math.ceil(math.min(over, 1e15)) end
debt = debt + tonumber(ARGV[1])
keep()
return -1
"
    ))
});

/// Argument: microseconds to return.
pub(super) static GIVE_BACK: LazyLock<Script> = LazyLock::new(|| {
    Script::new(debt!(
        r"
if kept then
  debt = debt - tonumber(ARGV[1])
  keep()
end
return -1
"
    ))
});

/// Argument: microseconds in which nothing is granted, whatever the slack.
pub(super) static PAUSE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(debt!(
        r"
pause = math.max(pause, tonumber(ARGV[1]))
keep()
return -1
"
    ))
});

/// Returns the debt, in nanoseconds.
pub(super) static LOOK: LazyLock<Script> =
    LazyLock::new(|| Script::new(debt!(r"return math.floor(math.min(debt * 1000 + 0.5, 1e15))")));

/// Arguments: the quota; the amount; seconds until the count expires. Returns 0 if the quota is used up.
pub(super) static TAKE_QUOTA: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
local count = tonumber(redis.call('GET', KEYS[1]) or 0) or 0
local sum = count + tonumber(ARGV[2])
if sum > tonumber(ARGV[1]) then return 0 end
redis.call('SET', KEYS[1], string.format('%.0f', sum), 'EX', ARGV[3])
return -1
",
    )
});

/// Arguments: the amount to return; seconds until the count expires.
pub(super) static GIVE_BACK_QUOTA: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
local count = tonumber(redis.call('GET', KEYS[1]) or 0) or 0
local rest = count - tonumber(ARGV[1])
if rest > 0 then
  redis.call('SET', KEYS[1], string.format('%.0f', rest), 'EX', ARGV[2])
elseif count > 0 then
  redis.call('DEL', KEYS[1])
end
return -1
",
    )
});

/// Returns the count.
pub(super) static LOOK_QUOTA: LazyLock<Script> =
    LazyLock::new(|| Script::new(r"return tonumber(redis.call('GET', KEYS[1]) or 0) or 0"));
