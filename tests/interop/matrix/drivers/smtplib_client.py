"""Python's smtplib with the email package, as scripts use it."""

import smtplib
import ssl
from email.message import EmailMessage

from job import jobs


def send(job):
    message = EmailMessage()
    message["From"] = job.author
    message["To"] = ", ".join(job.to)
    if job.bcc:
        message["Bcc"] = ", ".join(job.bcc)
    message["Subject"] = job.subject
    message.set_content(job.text, cte="8bit")
    if job.attachment:
        message.add_attachment(job.attachment, maintype="application", subtype="octet-stream", filename="data.bin")
    context = ssl.create_default_context(cafile=job.authority)
    if job.tls == "implicit":
        client = smtplib.SMTP_SSL("localhost", job.port, context=context, timeout=60)
    else:
        client = smtplib.SMTP("localhost", job.port, timeout=60)
    with client:
        if job.tls == "starttls":
            client.starttls(context=context)
        if job.user:
            client.login(job.user, "secret")
        refused = client.send_message(message, job.reverse_path, job.to + job.bcc)
    return f"refused: {refused}" if refused else ""


jobs(send)
