"""An independent SES: moto's server accepts the calls of gatepost. It checks and parses them with AWS's own Python code.

Known quirks of moto 5.2.5: it adds the recipients of header fields to those of the request, verifies exact domains only,
and fails on content that is not UTF-8; so the message here has no To field and is UTF-8.
"""

import json
import os
import smtplib
import subprocess
import unittest
import urllib.request

from relay_process import WORK, Relay, free_port, wait_for_port

CONTENT = (
    b"From: Ann <ann@example.com>\r\nSubject: moto\r\nMIME-Version: 1.0\r\n"
    b"Content-Type: text/plain; charset=utf-8\r\n\r\nGr\xc3\xbc\xc3\x9fe\r\n"
)


class Moto(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.port = free_port()
        cls.url = f"http://127.0.0.1:{cls.port}"
        cls.log = open(WORK / "moto.log", "w")
        cls.moto = subprocess.Popen(
            [WORK / "venv/bin/moto_server", "-H", "127.0.0.1", "-p", str(cls.port)], stdout=cls.log, stderr=cls.log
        )
        try:
            wait_for_port(cls.port, cls.moto)
            aws = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_REGION": "us-east-1"}
            cls.relay = Relay(lambda _: f'[ses]\nendpoint_url = "{cls.url}"\n', aws)
        except BaseException:
            cls.moto.terminate()
            cls.moto.wait(timeout=30)
            cls.log.close()
            raise

    @classmethod
    def tearDownClass(cls):
        code = cls.relay.stop()
        cls.moto.terminate()
        cls.moto.wait(timeout=30)
        cls.log.close()
        assert code == 0, code

    def send(self, to):
        with smtplib.SMTP("127.0.0.1", self.relay.ports["plain"], timeout=60) as client:
            return client.sendmail("ann@example.com", to, CONTENT)

    def test_messages_arrive_once_the_identity_is_verified(self):
        with self.assertRaises(smtplib.SMTPDataError) as caught:
            self.send(["bob@elsewhere.example"])
        self.assertEqual(caught.exception.smtp_code, 554, "MessageRejected: the identity is not verified")

        import boto3

        client = boto3.client(
            "sesv2", region_name="us-east-1", endpoint_url=self.url, aws_access_key_id="test", aws_secret_access_key="test"
        )
        client.create_email_identity(EmailIdentity="example.com")
        self.send(["bob@elsewhere.example", "carol@elsewhere.example"])
        with urllib.request.urlopen(f"{self.url}/moto-api/data.json") as answer:
            (message,) = json.load(answer)["ses"]["RawMessage"]
        self.assertEqual(message["destinations"], ["bob@elsewhere.example", "carol@elsewhere.example"])
        self.assertTrue(message["raw_data"].encode().endswith(CONTENT), message["raw_data"])


if __name__ == "__main__":
    unittest.main()
