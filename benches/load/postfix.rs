//! A private instance of Postfix: unpacked from its package, with a queue and settings of its own.
//!
//! It accepts a message as gatepost does under `delivery = "spool"`, flushed to disk, and holds it: nothing is sent. It does no
//! more than that: no limits by client, no look-up of client names. It uses users that every Debian has, and its master is in the
//! foreground and ends with this program.

use crate::processes::{Place, Process};
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

const OWNER: &str = "mail";
const GROUP: &str = "news";
/// Directories below the queue, of the owner.
const QUEUES: [&str; 11] =
    ["active", "bounce", "corrupt", "defer", "deferred", "flush", "hold", "incoming", "private", "saved", "trace"];

pub(crate) struct Postfix {
    process: Process,
    directory: PathBuf,
    pub(crate) server: SocketAddr,
}

impl Postfix {
    /// Starts Postfix from `unpacked`, with everything it writes in `directory`.
    pub(crate) fn start(unpacked: &Path, directory: &Path) -> io::Result<Self> {
        if !rustix::process::geteuid().is_root() {
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, "Postfix needs root"));
        }
        let server = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let (owner, group) = (number("/etc/passwd", OWNER)?, number("/etc/group", GROUP)?);
        let make = |name: &str, mode: u32, owner: Option<u32>, group: Option<u32>| -> io::Result<PathBuf> {
            let path = directory.join(name);
            fs::create_dir_all(&path)?;
            fs::set_permissions(&path, fs::Permissions::from_mode(mode))?;
            chown(&path, owner, group)?;
            Ok(path)
        };
        make("", 0o755, None, None)?;
        let conf = make("conf", 0o755, None, None)?;
        make("queue", 0o755, None, None)?;
        for name in QUEUES {
            make(&format!("queue/{name}"), 0o700, Some(owner), None)?;
        }
        make("queue/pid", 0o755, None, None)?;
        make("queue/maildrop", 0o730, Some(owner), Some(group))?;
        make("queue/public", 0o710, Some(owner), Some(group))?;
        make("data", 0o700, Some(owner), None)?;
        let unpacked = unpacked.canonicalize()?;
        let (at, libraries) = (directory.display(), unpacked.join("usr/lib/postfix"));
        let programs = libraries.display();
        fs::write(
            conf.join("main.cf"),
            format!(
                "compatibility_level = 3.6\nqueue_directory = {at}/queue\ndata_directory = {at}/data\n\
                 command_directory = {}/usr/sbin\ndaemon_directory = {programs}/sbin\nshlib_directory = {programs}\n\
                 import_environment = MAIL_CONFIG LD_LIBRARY_PATH LANG=C\n\
                 export_environment = MAIL_CONFIG LD_LIBRARY_PATH LANG=C\n\
                 mail_owner = {OWNER}\nsetgid_group = {GROUP}\nmaillog_file = {at}/log\nmaillog_file_prefixes = {at}\n\
                 myhostname = host.example.com\nmydestination =\ninet_protocols = ipv4\nmynetworks = 127.0.0.0/8\n\
                 alias_maps =\nalias_database =\nlocal_transport = error:none\n\
                 default_process_limit = 200\nsmtpd_client_connection_count_limit = 0\nsmtpd_peername_lookup = no\n\
                 in_flow_delay = 0\nmessage_size_limit = 0\n\
                 smtpd_recipient_restrictions = check_client_access static:HOLD, permit_mynetworks, reject\n",
                unpacked.display()
            ),
        )?;
        fs::write(
            conf.join("master.cf"),
            format!(
                "{server} inet n - n - - smtpd\npickup unix n - n 60 1 pickup\ncleanup unix n - n - 0 cleanup\n\
                 qmgr unix n - n 300 1 qmgr\nrewrite unix - - n - - trivial-rewrite\nbounce unix - - n - 0 bounce\n\
                 defer unix - - n - 0 bounce\ntrace unix - - n - 0 bounce\nproxymap unix - - n - - proxymap\n\
                 anvil unix - - n - 1 anvil\nerror unix - - n - - error\nretry unix - - n - - error\n\
                 postlog unix-dgram n - n - 1 postlogd\n"
            ),
        )?;
        let process = Process::spawn(
            Place::default()
                .command(OsStr::new("setsid"))?
                .arg(libraries.join("sbin/master"))
                .arg("-c")
                .arg(&conf)
                .arg("-d")
                .env_clear()
                .env("MAIL_CONFIG", &conf)
                .env("LD_LIBRARY_PATH", &libraries)
                .env("PATH", std::env::var_os("PATH").unwrap_or_default())
                .stdout(Stdio::null()),
        )?;
        let mut postfix = Self { process, directory: directory.to_owned(), server };
        let ends = Instant::now() + Duration::from_secs(30);
        while TcpStream::connect(server).is_err() {
            if postfix.process.ended() || Instant::now() > ends {
                let said = fs::read_to_string(directory.join("log")).unwrap_or_default();
                return Err(io::Error::other(format!("Postfix does not start: {said}")));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(postfix)
    }

    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }

    /// Messages in the queue.
    pub(crate) fn held(&self) -> io::Result<u64> {
        let mut count = 0;
        let mut directories = vec![self.directory.join("queue/hold")];
        while let Some(directory) = directories.pop() {
            for entry in fs::read_dir(directory)? {
                let entry = entry?;
                match entry.file_type()?.is_dir() {
                    true => directories.push(entry.path()),
                    false => count += 1,
                }
            }
        }
        Ok(count)
    }

    /// Ends it with all its processes.
    pub(crate) fn stop(self) -> io::Result<()> {
        self.process.stop()
    }
}

/// The number of a user or group.
fn number(file: &str, name: &str) -> io::Result<u32> {
    let text = fs::read_to_string(file)?;
    let mut lines = text.lines().map(|line| line.split(':'));
    let found =
        lines.find_map(|mut fields| if fields.next() == Some(name) { fields.nth(1)?.parse().ok() } else { None });
    found.ok_or_else(|| io::Error::other(format!("{file} has no {name}")))
}
