"""Command lines of mail programs that are started once per message. The argument of this script is the program's name."""

import os
import pathlib
import subprocess
import sys

from job import jobs

WORK = pathlib.Path(os.environ["INTEROP_WORK"])
# Settings of one message, and messages with local line ends.
PLACE = pathlib.Path(os.environ["INTEROP_PLACE"])


def local(job):
    """The message with local line ends, for programs that convert them to CR LF."""
    file = PLACE / "message"
    file.write_bytes(pathlib.Path(job.message_file).read_bytes().replace(b"\r\n", b"\n"))
    return file


def secret_file(name, text):
    file = PLACE / name
    file.write_text(text)
    file.chmod(0o600)
    return file


def swaks(job):
    tls = {"none": [], "starttls": ["-tls"], "implicit": ["-tlsc"]}[job.tls]
    verify = [] if job.tls == "none" else ["--tls-ca-path", job.authority, "--tls-verify"]
    auth = ["-a", "-au", job.user, "-ap", "secret"] if job.user else []
    # It would add a line end after the last one of the message.
    message = PLACE / "message"
    message.write_bytes(pathlib.Path(job.message_file).read_bytes().removesuffix(b"\r\n"))
    return ["swaks", "-s", f"localhost:{job.port}", "-f", job.reverse_path, "-t", ",".join(job.to + job.bcc), "-d",
            f"@{message}", "--silent", "2", *tls, *verify, *auth], None


def msmtp_settings(job, auth):
    return secret_file("msmtprc", (
        f"account default\nhost localhost\nport {job.port}\nfrom {job.reverse_path}\n"
        f"tls {'off' if job.tls == 'none' else 'on'}\ntls_starttls {'off' if job.tls == 'implicit' else 'on'}\n"
        f"tls_trust_file {job.authority}\n"
        + (f"auth {auth}\nuser {job.user}\npasswordeval echo secret\n" if job.user else "auth off\n")
    ))


def msmtp(job):
    return ["msmtp", "-C", msmtp_settings(job, "on"), *job.to, *job.bcc], local(job)


def msmtp_sendmail(job):
    """As /usr/sbin/sendmail, which reads the recipients from the message, and with AUTH PLAIN configured."""
    sendmail = PLACE / "sendmail"
    if not sendmail.exists():
        sendmail.symlink_to("/usr/bin/msmtp")
    return [sendmail, "-C", msmtp_settings(job, "plain"), "-t", "-i"], local(job)


def s_nail(job):
    # Only the settings that make it independent of the machine's configuration.
    user = f"{job.user}:secret@" if job.user else ""
    scheme = "smtps" if job.tls == "implicit" else "smtp"
    settings = [f"mta={scheme}://{user}localhost:{job.port}", "v15-compat=yes", f"from={job.author}", f"sender={job.reverse_path}", "sendwait", "nosave",
                "ttycharset=utf-8", "sendcharsets=utf-8", "mime-encoding=8bit", f"tls-ca-file={job.authority}", "tls-verify=strict"]
    if job.tls == "starttls":
        settings.append("smtp-use-starttls")
    if not job.user:
        settings.append("smtp-auth=none")
    attachment = ["-a", attachment_named(job)] if job.attachment else []
    bcc = ["-b", ",".join(job.bcc)] if job.bcc else []
    return ["s-nail", "-:/", *(f"-S{setting}" for setting in settings), "-s", job.subject,
            *attachment, *bcc, *job.to], pathlib.Path(job.text_file)


def mutt(job):
    scheme = "smtps" if job.tls == "implicit" else "smtp"
    user = f"{job.user}@" if job.user else ""
    tls = "no" if job.tls == "none" else "yes"
    rc = secret_file("muttrc", (
        f'set from={job.author} use_from=yes copy=no record="" use_envelope_from=yes envelope_from_address={job.reverse_path}\n'
        f'set smtp_url="{scheme}://{user}localhost:{job.port}" smtp_pass=secret certificate_file={job.authority}\n'
        f'set ssl_starttls={tls} ssl_force_tls={tls} charset=utf-8 send_charset=utf-8 realname=""\n'
    ))
    attachment = ["-a", attachment_named(job)] if job.attachment else []
    bcc = [word for address in job.bcc for word in ("-b", address)]
    return ["mutt", "-n", "-F", rc, "-s", job.subject, *bcc, *attachment, "--", *job.to], pathlib.Path(job.text_file)


def attachment_named(job):
    file = PLACE / "data.bin"
    file.write_bytes(job.attachment)
    return file


def curl(job):
    scheme = "smtps" if job.tls == "implicit" else "smtp"
    tls = [] if job.tls == "none" else ["--ssl-reqd", "--cacert", job.authority]
    auth = ["-u", f"{job.user}:secret"] if job.user else []
    recipients = [word for address in job.to + job.bcc for word in ("--mail-rcpt", address)]
    return ["curl", "-sS", "--crlf", "--url", f"{scheme}://localhost:{job.port}/client.test", "--mail-from", job.reverse_path,
            *recipients, "-T", local(job), *tls, *auth], None


def nullmailer(job):
    """Only its SMTP program: options on standard input, the message with its envelope on descriptor 3."""
    options = secret_file("options", "".join(f"{line}\n" for line in [
        "host=localhost", f"port={job.port}", *([f"user={job.user}", "pass=secret"] if job.user else []),
        *({"none": [], "starttls": ["starttls"], "implicit": ["tls"]}[job.tls]), f"x509cafile={job.authority}",
    ]))
    envelope = "\n".join([job.reverse_path, *job.to, *job.bcc, "", ""]).encode()
    queued = PLACE / "queued"
    queued.write_bytes(envelope + local(job).read_bytes())
    program = WORK / "unpacked/nullmailer/usr/lib/nullmailer/smtp"
    return ["sh", "-c", f"HELOHOST=client.test exec '{program}' 3<'{queued}'"], options


def lettre(job):
    """`gatepost send`, which uses lettre."""
    tls = ["--tls", job.tls, *([] if job.tls == "none" else ["--ca", job.authority])]
    auth = ["--user", job.user, "--password-env", "INTEROP_PASSWORD", "--password-in-clear"] if job.user else []
    recipients = [word for address in job.to + job.bcc for word in ("--to", address)]
    return [os.environ["INTEROP_BINARY"], "send", "--server", f"localhost:{job.port}", "--from", job.reverse_path,
            *recipients, "--file", job.message_file, *tls, *auth], None


def send(job):
    words, standard_input = globals()[sys.argv[1]](job)
    environment = {**os.environ, "LC_ALL": "C.UTF-8", "INTEROP_PASSWORD": "secret", "HOME": str(PLACE), "MAILRC": os.devnull}
    with open(standard_input or os.devnull, "rb") as content:
        done = subprocess.run([str(word) for word in words], stdin=content, capture_output=True, timeout=60, env=environment)
    told = (done.stdout + done.stderr).decode(errors="replace").replace("\t", " ").strip()
    if done.returncode:
        raise RuntimeError(f"exit {done.returncode}: {told}")
    return told


jobs(send)
