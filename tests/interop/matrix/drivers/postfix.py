"""Postfix as a null client: it queues local mail and sends it to gatepost.

A private instance: unpacked from its package, not installed, with a queue and settings of its own, users that every Debian
has, and its own master, which ends with this program. What became of a message is read from its log.
"""

import os
import pathlib
import pwd
import re
import grp
import shutil
import subprocess
import sys
import tempfile
import time

from job import jobs

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from scenarios import CLIENTS, SCENARIOS  # noqa: E402

UNPACKED = pathlib.Path(os.environ["INTEROP_WORK"]) / "unpacked/postfix"
LIBRARIES = UNPACKED / "usr/lib/postfix"
# Not the users of the package, which do not exist here.
OWNER, GROUP = "mail", "news"
QUEUES = ("active", "bounce", "corrupt", "defer", "deferred", "flush", "hold", "incoming", "private", "saved", "trace")
SERVICES = {
    "pickup": "n - n 60 1 pickup", "cleanup": "n - n - 0 cleanup", "qmgr": "n - n 300 1 qmgr", "tlsmgr": "- - n 1000? 1 tlsmgr",
    "rewrite": "- - n - - trivial-rewrite", "bounce": "- - n - 0 bounce", "defer": "- - n - 0 bounce",
    "trace": "- - n - 0 bounce", "proxymap": "- - n - - proxymap", "smtp": "- - n - - smtp", "showq": "n - n - - showq",
    "error": "- - n - - error", "retry": "- - n - - error", "discard": "- - n - - discard",
}
AUTH = "-o smtp_sasl_auth_enable=yes -o smtp_sasl_security_options=noanonymous -o smtp_sasl_password_maps=texthash:{conf}/passwords"
TLS = AUTH + " -o smtp_tls_security_level=verify -o smtp_tls_CAfile={authority}"
# Postfix's client options for each listener.
SPEECH = {
    "plain": "", "limited": "", "notices": "", "auth": AUTH, "starttls": TLS, "implicit": TLS + " -o smtp_tls_wrappermode=yes",
}
PATIENCE_SECONDS = 60


class Instance:
    def __init__(self):
        # Its users need access to this directory, and the working directory may be below a home directory.
        self.place = pathlib.Path(tempfile.mkdtemp(prefix="interop-postfix-"))
        self.place.chmod(0o755)
        self.conf = self.directory("conf", 0o755)
        self.queue = self.directory("queue", 0o755)
        owner, group = pwd.getpwnam(OWNER).pw_uid, grp.getgrnam(GROUP).gr_gid
        for name in QUEUES:
            os.chown(self.directory(f"queue/{name}", 0o700), owner, -1)
        self.directory("queue/pid", 0o755)
        os.chown(self.directory("queue/maildrop", 0o730), owner, group)
        os.chown(self.directory("queue/public", 0o710), owner, group)
        os.chown(self.directory("data", 0o700), owner, -1)
        self.log = self.place / "log"
        self.settings()
        self.environment = {"MAIL_CONFIG": str(self.conf), "LD_LIBRARY_PATH": str(LIBRARIES), "PATH": os.environ["PATH"]}
        # In the foreground, with its own process group, which it ends when it stops.
        self.master = subprocess.Popen(
            [LIBRARIES / "sbin/master", "-c", self.conf, "-d"], env=self.environment, start_new_session=True,
            stdout=subprocess.DEVNULL,
        )
        self.wait(lambda: self.log.exists() and (self.queue / "public/pickup").exists(), "it does not start")

    def directory(self, name, mode):
        path = self.place / name
        path.mkdir()
        path.chmod(mode)
        return path

    def settings(self):
        listeners = dict(word.split("=") for word in os.environ["INTEROP_LISTENERS"].split())
        (self.conf / "main.cf").write_text(f"""
compatibility_level = 3.6
queue_directory = {self.queue}
data_directory = {self.place}/data
command_directory = {UNPACKED}/usr/sbin
daemon_directory = {LIBRARIES}/sbin
shlib_directory = {LIBRARIES}
import_environment = MAIL_CONFIG LD_LIBRARY_PATH LANG=C
export_environment = MAIL_CONFIG LD_LIBRARY_PATH LANG=C
mail_owner = {OWNER}
setgid_group = {GROUP}
maillog_file = {self.log}
maillog_file_prefixes = {self.place}
myhostname = host.example.com
mydestination =
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
alias_maps =
alias_database =
local_transport = error:none
smtp_host_lookup = native
smtp_connection_cache_on_demand = no
relayhost = [localhost]:{listeners["plain"]}
transport_maps = regexp:{self.conf}/transports
minimal_backoff_time = 2s
maximal_backoff_time = 4s
queue_run_delay = 2s
""")
        (self.conf / "passwords").write_text("".join(f"[localhost]:{port} app:secret\n" for port in listeners.values()))
        # The recipient contains the scenario's name, which determines the listener.
        (self.conf / "transports").write_text("".join(
            f"/\\+{one.name}@/ {one.listener}:[localhost]:{listeners[one.listener]}\n" for one in [*SCENARIOS, *CLIENTS["postfix"].scenarios]
        ))
        speech = "".join(
            f"{listener} unix - - n - - smtp {options.format(conf=self.conf, authority=os.environ['INTEROP_CA'])}\n"
            for listener, options in SPEECH.items()
        )
        services = "".join(f"{name} unix {line}\n" for name, line in SERVICES.items())
        (self.conf / "master.cf").write_text(services + speech + "postlog unix-dgram n - n - 1 postlogd\n")

    def wait(self, condition, what):
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not condition():
            if time.monotonic() > deadline or self.master.poll() is not None:
                raise RuntimeError(f"{what}: {self.log.read_text() if self.log.exists() else self.master.poll()}")
            time.sleep(0.05)

    def send(self, job):
        before = len(self.log.read_text())

        def lines():
            return self.log.read_text()[before:].splitlines()

        def numbers(pattern):
            return {found[1] for line in lines() if (found := re.search(pattern, line))}

        subprocess.run(
            [UNPACKED / "usr/sbin/sendmail", "-C", self.conf, "-i", "-f", job.reverse_path, *job.to, *job.bcc],
            input=pathlib.Path(job.message_file).read_bytes().replace(b"\r\n", b"\n"), env=self.environment, check=True,
            stderr=subprocess.DEVNULL,
        )
        # Its notices are separate messages, and are done when it is.
        queued, removed = r"postfix/qmgr\[\d+\]: (\w+): from=", r"postfix/qmgr\[\d+\]: (\w+): removed"
        named = r"(?:sender non-delivery notification|postfix/pickup\[\d+\]): (\w+)"
        self.wait(
            lambda: numbers(named) and numbers(named) | numbers(queued) == numbers(removed), f"{job.to} stays in the queue"
        )
        told = " / ".join(line for line in lines() if "status=" in line)
        if "status=sent" not in told.split(" / ")[0] and "status=bounced" in told:
            raise RuntimeError(told)
        return told

    def stop(self):
        self.master.terminate()
        self.master.wait(timeout=PATIENCE_SECONDS)
        shutil.rmtree(self.place)


instance = Instance()
try:
    jobs(instance.send)
finally:
    instance.stop()
