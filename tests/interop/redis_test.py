"""Limits that two relays share over a real Redis: their accuracy, and what happens when Redis hangs, stops or loses data."""

import os
import pathlib
import shutil
import signal
import smtplib
import socket
import subprocess
import tempfile
import threading
import time
import unittest

from relay_process import BINARY, PATIENCE_SECONDS, WORK, Relay, emulator, free_port, wait_for_port

CONTENT = b"From: Ann <ann@example.com>\r\nSubject: limits\r\n\r\nHello\r\n"
# The limit is 50 ms; the rest is for busy machines.
REPLY_SECONDS_MAX = 1.0


class Redis:
    """`redis-server` on its own port, with no data on disk after it ends."""

    def __init__(self, *arguments, tls=False):
        self.port = free_port()
        self.tls = tls
        self.directory = pathlib.Path(tempfile.mkdtemp(dir=WORK, prefix="redis-"))
        ports = ["--port", "0", "--tls-port", str(self.port)] if tls else ["--port", str(self.port)]
        common = ["--bind", "127.0.0.1", "--save", "", "--dir", self.directory, "--logfile", "log"]
        self.arguments = [os.environ["INTEROP_REDIS"], *ports, *common, *arguments]
        self.start()

    def start(self):
        self.process = subprocess.Popen(self.arguments, stdout=subprocess.DEVNULL)
        wait_for_port(self.port, self.process)

    def signal(self, number):
        self.process.send_signal(number)
        if number == signal.SIGKILL:
            self.process.wait(timeout=PATIENCE_SECONDS)

    def ask(self, *words):
        """Sends one command; returns the first line of the response."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE_SECONDS) as connection:
            connection.sendall(f"*{len(words)}\r\n".encode() + b"".join(f"${len(word)}\r\n{word}\r\n".encode() for word in words))
            return connection.makefile("rb").readline().decode().strip()

    def stop(self):
        self.process.kill()
        self.process.wait(timeout=PATIENCE_SECONDS)
        shutil.rmtree(self.directory)


def shared(url, rates, more=""):
    """The configuration of a relay that shares its limit."""
    return lambda relay: f"""{emulator(relay)}
[[limit]]
name = "all"
by = "relay"
rates = {rates}

[redis]
url = "{url}"
instances = 2
{more}
"""


class Load:
    """Clients that send as much as a relay accepts, and record the replies."""

    def __init__(self, relays, clients=3):
        self.accepted, self.deferred, self.other, self.slowest = 0, 0, [], 0.0
        self.lock, self.ended = threading.Lock(), threading.Event()
        self.began = time.monotonic()
        self.threads = [threading.Thread(target=self.send, args=(relay,)) for relay in relays for _ in range(clients)]
        for thread in self.threads:
            thread.start()

    def send(self, relay):
        try:
            with smtplib.SMTP("127.0.0.1", relay.ports["plain"], timeout=PATIENCE_SECONDS) as client:
                client.ehlo()
                while not self.ended.is_set():
                    asked = time.monotonic()
                    code, text = client.mail("ann@example.com")
                    took = time.monotonic() - asked
                    if code == 250:
                        client.rcpt("bob@elsewhere.example")
                        code, text = client.data(CONTENT)
                    with self.lock:
                        self.slowest = max(self.slowest, took)
                        self.accepted += code == 250
                        self.deferred += code == 451 and b"Rate limit" in text
                        if code not in (250, 451) or code == 451 and b"Rate limit" not in text:
                            self.other.append((code, text))
                    if code != 250:
                        time.sleep(0.003)
        except Exception as error:
            self.other.append(repr(error))

    def end(self):
        self.ended.set()
        seconds = time.monotonic() - self.began
        for thread in self.threads:
            thread.join(timeout=PATIENCE_SECONDS)
        return seconds


def told(relay):
    """The reply to one message."""
    with smtplib.SMTP("127.0.0.1", relay.ports["plain"], timeout=PATIENCE_SECONDS) as client:
        client.ehlo()
        code, text = client.mail("ann@example.com")
        if code != 250:
            return code, text.decode()
        client.rcpt("bob@elsewhere.example")
        code, text = client.data(CONTENT)
        return code, text.decode()


def log(relay):
    return (relay.directory / "log").read_text()


def until(relay, text, times=1):
    deadline = time.monotonic() + PATIENCE_SECONDS
    while log(relay).count(text) < times:
        assert time.monotonic() < deadline, f"{text!r} is not in {log(relay)}"
        time.sleep(0.05)


LEFT_ALONE = "Redis is not used until it answers again"
ANSWERS = "Redis answers: limits are shared"


class Shared(unittest.TestCase):
    def redis(self, *arguments, **more):
        server = Redis(*arguments, **more)
        self.addCleanup(server.stop)
        return server

    def relays(self, count, configuration):
        relays = []
        for _ in range(count):
            relays.append(Relay(configuration))
            self.addCleanup(self.end, relays[-1])
        return relays

    def end(self, relay):
        if relay.process.poll() is None:
            self.assertEqual(relay.stop(), 0)

    def url(self, redis):
        return f"redis://127.0.0.1:{redis.port}"

    def test_two_relays_share_a_rate_within_one_percent(self):
        redis = self.redis()
        relays = self.relays(2, shared(self.url(redis), ["50/s burst 20"], "wait_milliseconds_max = 1000"))
        load = Load(relays)
        time.sleep(10)
        seconds = load.end()
        self.assertEqual(load.other, [])
        counts = [len(relay.messages()) for relay in relays]
        allowed = 20 + 50 * seconds
        print(f"{counts} in {seconds:.3f} s, {allowed:.1f} allowed; slowest reply {load.slowest * 1000:.0f} ms")
        self.assertEqual(sum(counts), load.accepted)
        self.assertLessEqual(abs(sum(counts) - allowed), max(1, 0.01 * allowed), "more or less than 1 %")
        self.assertGreater(min(counts), 0, "both had a part of it")

    def test_two_relays_share_the_pace_of_the_account(self):
        redis = self.redis()
        pace = "wait_milliseconds_max = 1000\n[pace]\nrecipients_per_second_max = 20.0\naccount_seconds = 0"
        relays = self.relays(2, shared(self.url(redis), ["1000/s"], pace))
        load = Load(relays)
        time.sleep(8)
        seconds = load.end()
        counts = [len(relay.messages()) for relay in relays]
        paced = 0.98 * 20 * seconds
        print(f"{counts} in {seconds:.3f} s, {paced:.1f} and a burst allowed")
        self.assertEqual(load.other, [])
        self.assertGreaterEqual(sum(counts), 0.95 * paced)
        # The burst, messages in progress at the end, and a margin; two relays without Redis would send twice as much.
        self.assertLessEqual(sum(counts), 1.02 * paced + 20 + 6 + 20)
        self.assertGreater(min(counts), 0)

    def test_a_quota_survives_a_restart_of_every_relay(self):
        redis = self.redis()
        configuration = shared(self.url(redis), ["1000/s", "7/month"])
        answers = []
        for _ in range(2):
            relays = [Relay(configuration) for _ in range(2)]
            answers += [told(relay)[0] for relay in relays for _ in range(2)]
            self.assertEqual([relay.stop() for relay in relays], [0, 0])
        self.assertEqual(answers, [250] * 7 + [451])

    def test_a_redis_that_stops_blocks_nobody_and_is_used_again(self):
        redis = self.redis()
        relays = self.relays(2, shared(self.url(redis), ["40/s burst 20"]))
        load = Load(relays)
        time.sleep(1)
        redis.signal(signal.SIGSTOP)
        stopped = time.monotonic()
        for relay in relays:
            until(relay, LEFT_ALONE)
        noticed = time.monotonic() - stopped
        time.sleep(3)
        redis.signal(signal.SIGCONT)
        for relay in relays:
            until(relay, ANSWERS, times=2)
        time.sleep(1)
        seconds = load.end()
        counts = [len(relay.messages()) for relay in relays]
        print(f"{counts} in {seconds:.2f} s; noticed in {noticed * 1000:.0f} ms; slowest reply {load.slowest * 1000:.0f} ms")
        self.assertEqual(load.other, [])
        self.assertLess(load.slowest, REPLY_SECONDS_MAX)
        # One burst at the start, and two for the outage: one in the relays' shares, and one in Redis when it is back.
        self.assertLessEqual(sum(counts), 1.01 * (3 * 20 + 40 * seconds))
        self.assertGreaterEqual(sum(counts), 0.8 * 40 * seconds, "mail went on")

    def test_a_redis_that_dies_is_used_again_when_it_is_back(self):
        redis = self.redis()
        relays = self.relays(2, shared(self.url(redis), ["40/s burst 20"]))
        load = Load(relays)
        time.sleep(1)
        apart = 0.0
        for round in (1, 2):
            redis.signal(signal.SIGKILL)
            for relay in relays:
                until(relay, LEFT_ALONE, times=round)
            time.sleep(1)
            redis.start()
            back = time.monotonic()
            for relay in relays:
                until(relay, ANSWERS, times=round + 1)
            apart += time.monotonic() - back
            time.sleep(0.5)
        seconds = load.end()
        counts = [len(relay.messages()) for relay in relays]
        print(f"{counts} in {seconds:.2f} s with two deaths; slowest reply {load.slowest * 1000:.0f} ms")
        self.assertEqual(load.other, [])
        self.assertLess(load.slowest, REPLY_SECONDS_MAX)
        # Two bursts per outage; and while only one relay has reconnected, the share of the other in addition.
        self.assertLessEqual(sum(counts), 1.01 * (5 * 20 + 40 * seconds + 20 * apart))
        self.assertEqual([log(relay).count(LEFT_ALONE) for relay in relays], [2, 2], "one line a change")

    def test_a_redis_that_forgets_costs_a_burst_and_nobody_notices(self):
        redis = self.redis()
        relays = self.relays(2, shared(self.url(redis), ["40/s burst 20"], "wait_milliseconds_max = 1000"))
        load = Load(relays)
        for command in (["FLUSHALL"], ["SCRIPT", "FLUSH"], ["FLUSHALL"], ["SCRIPT", "FLUSH"]):
            time.sleep(1)
            self.assertEqual(redis.ask(*command), "+OK")
        seconds = load.end()
        counts = [len(relay.messages()) for relay in relays]
        print(f"{counts} in {seconds:.2f} s, emptied twice")
        self.assertEqual(load.other, [])
        self.assertLessEqual(sum(counts), 1.01 * (3 * 20 + 40 * seconds))
        self.assertEqual([LEFT_ALONE in log(relay) for relay in relays], [False, False])

    def test_a_server_that_becomes_a_replica_is_left_alone_until_it_is_a_primary(self):
        redis, other = self.redis(), self.redis()
        (relay,) = self.relays(1, shared(self.url(redis), ["3/h"]))
        self.assertEqual(told(relay)[0], 250)
        self.assertEqual(redis.ask("REPLICAOF", "127.0.0.1", str(other.port)), "+OK")
        self.assertEqual(told(relay)[0], 250, "its part")
        until(relay, "READONLY")
        self.assertEqual(redis.ask("REPLICAOF", "NO", "ONE"), "+OK")
        until(relay, ANSWERS, times=2)
        self.assertEqual(told(relay)[0], 250)

    def test_without_redis_mail_is_deferred_or_let_through_as_the_file_says(self):
        for on_error, want in (("defer", 451), ("allow", 250)):
            redis = self.redis()
            (relay,) = self.relays(1, shared(self.url(redis), ["1/h"], f'on_error = "{on_error}"'))
            self.assertEqual([told(relay)[0] for _ in range(2)], [250, 451])
            redis.signal(signal.SIGKILL)
            self.assertEqual([told(relay)[0] for _ in range(3)], [want] * 3, on_error)
            until(relay, LEFT_ALONE)

    def test_a_start_without_redis_fails_unless_the_file_allows_it(self):
        url = f"redis://user:hunter2@127.0.0.1:{free_port()}"
        with self.assertRaises(RuntimeError) as caught:
            Relay(shared(url, ["4/h"]))
        self.assertRegex(str(caught.exception), "ended with 69 ")
        self.assertIn("Redis at redis://127.0.0.1", str(caught.exception))
        self.assertNotIn("hunter2", str(caught.exception))
        (relay,) = self.relays(1, shared(url, ["4/h"], "start_without = true"))
        self.assertEqual([told(relay)[0] for _ in range(3)], [250, 250, 451], "half of four")
        self.assertIn("starting without Redis", log(relay))
        self.assertNotIn("hunter2", log(relay))

    def test_an_acl_user_needs_few_rights_and_a_good_password(self):
        rights = "on >hunter2 ~gatepost:* +eval +evalsha +time +get +set +del".split()
        redis = self.redis("--user", "gatepost", *rights, "--user", "default", "off")
        login = 'username = "gatepost"\npassword = "{}"'
        (relay,) = self.relays(1, shared(self.url(redis), ["2/h", "5/day"], login.format("hunter2")))
        self.assertEqual([told(relay)[0] for _ in range(3)], [250, 250, 451])
        with self.assertRaises(RuntimeError) as caught:
            Relay(shared(self.url(redis), ["2/h"], login.format("hunter3")))
        self.assertIn("authentication failed", str(caught.exception))
        self.assertNotIn("hunter3", str(caught.exception))

    def test_tls_is_verified(self):
        directory = pathlib.Path(tempfile.mkdtemp(dir=WORK, prefix="redis-tls-"))
        self.addCleanup(shutil.rmtree, directory)
        subprocess.run([BINARY, "gen-cert", "--directory", directory], check=True, stdout=subprocess.DEVNULL)
        files = {"cert": "cert.pem", "key": "key.pem", "ca-cert": "ca.pem"}
        options = [word for name, file in files.items() for word in (f"--tls-{name}-file", directory / file)]
        redis = self.redis(*options, "--tls-auth-clients", "no", tls=True)
        url = f"rediss://localhost:{redis.port}"
        (relay,) = self.relays(1, shared(url, ["2/h"], f'authorities = {{ file = "{directory}/ca.pem" }}'))
        self.assertEqual([told(relay)[0] for _ in range(3)], [250, 250, 451])
        with self.assertRaises(RuntimeError) as caught:
            Relay(shared(url, ["2/h"]))
        self.assertIn("certificate", str(caught.exception), "an authority that nobody trusts")

    def test_cluster_mode(self):
        # Its default is a second port 10,000 above the first, in the range of the system's ephemeral ports.
        redis = self.redis("--cluster-enabled", "yes", "--cluster-port", str(free_port()))
        self.assertEqual(redis.ask("CLUSTER", "ADDSLOTSRANGE", "0", "16383"), "+OK")
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not redis.ask("SET", "x", "y").startswith("+OK"):
            self.assertLess(time.monotonic(), deadline)
            time.sleep(0.1)
        rights = "on >hunter2 ~gatepost:* +eval +evalsha +time +get +set +del +cluster|slots".split()
        self.assertEqual(redis.ask("ACL", "SETUSER", "gatepost", *rights), "+OK")
        more = 'cluster = true\nusername = "gatepost"\npassword = "hunter2"'
        relays = self.relays(2, shared(self.url(redis), ["5/h", "9/day"], more))
        self.assertEqual([told(relay)[0] for relay in relays * 3], [250] * 5 + [451])
        self.assertEqual(redis.ask("SCRIPT", "FLUSH"), "+OK")
        self.assertEqual([told(relay)[0] for relay in relays], [451, 451])
        explain = [BINARY, "explain", "--config", relays[0].directory / "gatepost.toml"]
        explain += ["--mail-from", "ann@example.com", "--from", "ann@example.com", "--rcpt", "bob@elsewhere.example"]
        self.assertIn("0 of 5/h", subprocess.run(explain, text=True, capture_output=True).stdout)
        redis.signal(signal.SIGKILL)
        self.assertEqual(told(relays[0])[0], 250, "its part")
        until(relays[0], LEFT_ALONE)
        redis.start()
        redis.ask("ACL", "SETUSER", "gatepost", *rights)
        until(relays[0], ANSWERS, times=2)

    def test_the_scripts_decide_as_the_limiter_in_the_process(self):
        redis = self.redis()
        environment = {**os.environ, "GATEPOST_TEST_REDIS": self.url(redis)}
        command = ["cargo", "test", "--locked", "--quiet", "--lib", "limit::redis", "--", "--ignored"]
        root = pathlib.Path(__file__).parents[2]
        done = subprocess.run(command, env=environment, cwd=root, text=True, capture_output=True)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        self.assertIn("7 passed", done.stdout)


if __name__ == "__main__":
    unittest.main()
