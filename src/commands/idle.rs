//! What a relay gives back when it has become idle.

use std::time::Duration;

/// How often is looked.
const INTERVAL: Duration = Duration::from_secs(5);
/// CPU time in an interval that is no work: a thousandth.
const CPU_OF_IDLE: Duration = Duration::from_millis(5);
/// What of files may stay in memory: twice what is left right after the last time.
const FILES_OF_IDLE_KIB: u64 = 3 * 1024;

/// Calls that function after an interval without work, while there is something to give back.
pub(super) async fn watch(give_back: impl Fn()) {
    loop {
        let before = cpu_time();
        tokio::time::sleep(INTERVAL).await;
        if is_worth_it(cpu_time().saturating_sub(before), files_kib()) {
            give_back();
        }
    }
}

fn is_worth_it(cpu: Duration, files_kib: Option<u64>) -> bool {
    cpu <= CPU_OF_IDLE && files_kib.is_some_and(|kib| kib > FILES_OF_IDLE_KIB)
}

/// What all threads of the process have used.
#[cfg(unix)]
fn cpu_time() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(now.tv_sec.unsigned_abs(), u32::try_from(now.tv_nsec).unwrap_or_default())
}

#[cfg(not(unix))]
fn cpu_time() -> Duration {
    Duration::ZERO
}

/// What is in memory of files that are mapped, the program's own above all. proc_pid_status(5); `None` elsewhere.
fn files_kib() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("RssFile:"))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_given_back_while_there_is_work_or_when_it_is_gone_already() {
        let cpu = |milliseconds| Duration::from_millis(milliseconds);
        assert!(is_worth_it(cpu(5), Some(14_000)));
        assert!(!is_worth_it(cpu(6), Some(14_000)));
        assert!(!is_worth_it(cpu(0), Some(2_100)));
        assert!(!is_worth_it(cpu(0), None));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_process_has_used_cpu_and_has_files_in_memory() {
        assert!(cpu_time() > Duration::ZERO);
        assert!(files_kib() > Some(100));
    }
}
