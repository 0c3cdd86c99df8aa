"""Input and output of every driver: one job per line with fields separated by tabs; for each a line "sent" or "failed" with
the output of the client."""

import os
import pathlib
import sys
import types

FIELDS = ("tls", "port", "user", "reverse_path", "author", "to", "bcc", "subject", "text", "attachment", "message")


def read(line):
    job = types.SimpleNamespace(**dict(zip(FIELDS, line.rstrip("\n").split("\t"), strict=True)))
    job.authority = os.environ["INTEROP_CA"]
    job.port = int(job.port)
    job.to = job.to.split(",")
    job.bcc = job.bcc.split(",") if job.bcc else []
    job.text_file, job.attachment_file, job.message_file = job.text, job.attachment, job.message
    job.text = pathlib.Path(job.text_file).read_text()
    job.attachment = pathlib.Path(job.attachment_file).read_bytes() if job.attachment_file else None
    return job


def jobs(send):
    """Calls `send` for each job. Its return value is reported; an exception is a failure."""
    for line in sys.stdin:
        try:
            told = f"sent\t{send(read(line)) or ''}"
        except Exception as error:  # Any exception of a client library is a result.
            told = f"failed\t{type(error).__name__}: {error}"
        print(told.replace("\n", " "), flush=True)
