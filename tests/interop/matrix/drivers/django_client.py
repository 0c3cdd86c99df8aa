"""Django's mail backend. It reads the authority from SSL_CERT_FILE only."""

from django.conf import settings
from django.core.mail import EmailMessage, get_connection
from job import jobs

settings.configure()


def send(job):
    connection = get_connection(
        host="localhost", port=job.port, username=job.user, password="secret" if job.user else "",
        use_tls=job.tls == "starttls", use_ssl=job.tls == "implicit", timeout=60,
    )
    # from_email is the envelope sender; recipients see the From header.
    message = EmailMessage(
        job.subject, job.text, job.reverse_path, job.to, job.bcc, connection=connection, headers={"From": job.author}
    )
    if job.attachment:
        message.attach("data.bin", job.attachment, "application/octet-stream")
    return f"send() returned {message.send()}"


jobs(send)
