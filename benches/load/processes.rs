//! Starts, controls and stops the processes of a run.

use crate::machine::CpuTime;
use crate::roles::{Bucket, Role, SesOrder};
use serde::Serialize;
use serde_json::Value;
use std::ffi::OsStr;
use std::io::{self, BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

/// A process that is stopped when its handle is dropped.
pub(crate) struct Process(Child);

impl Process {
    pub(crate) fn spawn(command: &mut Command) -> io::Result<Self> {
        Ok(Self(command.spawn()?))
    }

    pub(crate) fn id(&self) -> u32 {
        self.0.id()
    }

    pub(crate) fn cpu(&self) -> io::Result<CpuTime> {
        CpuTime::of(self.id())
    }

    /// Sends SIGTERM, and waits.
    pub(crate) fn stop(mut self) -> io::Result<()> {
        if let Some(id) = rustix::process::Pid::from_raw(self.0.id().cast_signed()) {
            rustix::process::kill_process(id, rustix::process::Signal::TERM)?;
        }
        let ends = Instant::now() + Duration::from_secs(30);
        while self.0.try_wait()?.is_none() {
            if Instant::now() > ends {
                return Err(io::Error::other("a process does not end"));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    pub(crate) fn ended(&mut self) -> bool {
        !matches!(self.0.try_wait(), Ok(None))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Where a process runs: on this machine, or in one of its network namespaces.
#[derive(Clone, Debug, Default)]
pub(crate) struct Place {
    pub(crate) namespace: Option<String>,
}

impl Place {
    /// A command there. It is started through this binary in the role `exec`, which makes the kernel stop the program when
    /// this process ends, and through `ip netns exec`. Both replace themselves, so the process id is that of the program.
    pub(crate) fn command(&self, program: &OsStr) -> io::Result<Command> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["role", "exec"]);
        if let Some(namespace) = &self.namespace {
            command.args(["ip", "netns", "exec", namespace]);
        }
        command.arg(program);
        Ok(command)
    }
}

/// The role `exec`.
pub(crate) fn exec(arguments: &[std::ffi::OsString]) -> io::Result<()> {
    use std::os::unix::process::CommandExt;
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
    let (program, arguments) = arguments.split_first().ok_or_else(|| io::Error::other("exec what?"))?;
    let error = Command::new(program).args(arguments).exec();
    Err(io::Error::new(error.kind(), format!("{}: {error}", program.display())))
}

/// A process in a role.
pub(crate) struct Helper {
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    /// The line that it printed when it was ready.
    pub(crate) ready: Value,
    pub(crate) process: Process,
}

impl Helper {
    pub(crate) fn start(role: &Role, place: &Place) -> io::Result<Self> {
        let this = std::env::current_exe()?;
        let mut command = match role.is_measured() {
            true => place.command(this.as_os_str())?,
            // It runs on the processors of the measured process, which wakes it with each packet. It must not preempt that
            // process, as no other machine would.
            false => {
                let mut command = place.command(OsStr::new("chrt"))?;
                command.args(["-b", "0"]).arg(&this);
                command
            }
        };
        command.arg("role").arg(serde_json::to_string(role)?);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let (input, output) = (child.stdin.take(), child.stdout.take());
        let process = Process(child);
        let (Some(input), Some(output)) = (input, output) else { return Err(io::Error::other("no pipes")) };
        let mut helper = Self { input, output: BufReader::new(output), ready: Value::Null, process };
        helper.ready = helper.answer()?;
        Ok(helper)
    }

    /// Sends one order and returns the answer.
    pub(crate) fn ask(&mut self, order: &impl Serialize) -> io::Result<Value> {
        let mut line = serde_json::to_vec(order)?;
        line.push(b'\n');
        self.input.write_all(&line)?;
        self.answer()
    }

    fn answer(&mut self) -> io::Result<Value> {
        let mut line = String::new();
        if self.output.read_line(&mut line)? == 0 {
            return Err(io::Error::other("a helper ended early"));
        }
        Ok(serde_json::from_str(&line)?)
    }

    pub(crate) fn address(&self) -> io::Result<SocketAddr> {
        serde_json::from_value(self.ready["address"].clone()).map_err(io::Error::other)
    }
}

/// The emulator and its counts.
pub(crate) struct Ses(pub Helper);

impl Ses {
    pub(crate) fn start(bucket: Bucket, place: &Place) -> io::Result<Self> {
        Ok(Self(Helper::start(&Role::Emulator { bucket }, place)?))
    }

    pub(crate) fn endpoint(&self) -> io::Result<String> {
        Ok(format!("http://{}", self.0.address()?))
    }

    pub(crate) fn latency(&mut self, milliseconds: u64) -> io::Result<()> {
        self.0.ask(&SesOrder::LatencyMilliseconds(milliseconds))?;
        Ok(())
    }

    pub(crate) fn count(&mut self, what: &str) -> io::Result<u64> {
        self.0.ask(&SesOrder::Counts)?[what].as_u64().ok_or_else(|| io::Error::other(format!("no count of {what}")))
    }
}

/// Runs the relay, with its log in a file, and waits until it listens.
pub(crate) fn relay(
    binary: &Path,
    configuration: &Path,
    log: &Path,
    listens: impl Fn() -> bool,
    place: &Place,
) -> io::Result<Process> {
    let pair = gatepost::emulator::Credential::default();
    let mut command = place.command(binary.as_os_str())?;
    for (name, _) in std::env::vars_os() {
        // No AWS credentials of the user may be used.
        if name.to_string_lossy().starts_with("AWS_") || name.to_string_lossy().starts_with("GATEPOST_") {
            command.env_remove(name);
        }
    }
    command
        .env("AWS_ACCESS_KEY_ID", pair.access_key_id)
        .env("AWS_SECRET_ACCESS_KEY", pair.secret_access_key)
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .args(["run", "--config"])
        .arg(configuration)
        .stdin(Stdio::null())
        .stderr(std::fs::File::create(log)?);
    let mut process = Process(command.spawn()?);
    let ends = Instant::now() + Duration::from_secs(30);
    while !listens() {
        if process.ended() || Instant::now() > ends {
            let said = std::fs::read_to_string(log).unwrap_or_default();
            return Err(io::Error::other(format!("the relay does not start: {said}")));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(process)
}
