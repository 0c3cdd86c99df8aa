"""The load benchmark works: every scenario once, as short as possible. Counts are asserted, times are not."""

import json
import os
import pathlib
import subprocess
import tempfile
import unittest

from relay_process import WORK

ROOT = pathlib.Path(__file__).parents[2]


def benchmark(*arguments):
    """The result of the benchmark. The benchmark itself fails unless each acceptance is exactly one message at SES."""
    with tempfile.TemporaryDirectory(dir=WORK, prefix="load-") as directory:
        results = pathlib.Path(directory) / "results.json"
        plot = pathlib.Path(directory) / "plot.svg"
        command = ["cargo", "test", "--locked", "--quiet", "--bench", "load", "--", *arguments]
        environment = {**os.environ, "GATEPOST_BENCH_REDIS_SERVER": os.environ["INTEROP_REDIS"]}
        if libraries := os.environ.get("INTEROP_REDIS_LIBRARIES"):
            environment["LD_LIBRARY_PATH"] = libraries
        command += ["--json", results] + (["--svg", plot] if "sweep" in arguments else [])
        done = subprocess.run(command, cwd=ROOT, env=environment, text=True, capture_output=True)
        if done.returncode != 0:
            raise AssertionError(done.stdout + done.stderr)
        return json.loads(results.read_text()), plot.read_text() if plot.exists() else ""


def can_make_namespaces():
    probe = ["ip", "netns", "add", f"gatepost-probe-{os.getpid()}"]
    try:
        if subprocess.run(probe, capture_output=True).returncode != 0:
            return False
    except FileNotFoundError:
        return False
    return subprocess.run([*probe[:2], "del", probe[3]]).returncode == 0


class LoadBenchmark(unittest.TestCase):
    def test_every_scenario_of_the_table(self):
        results, _ = benchmark("smoke")
        rows = {row["what"]: row for row in results["table"]}
        self.assertGreater(len(rows), 20)
        self.assertGreater(len(results["contests"]), 6)
        for what, row in rows.items():
            # When the emulator alone is measured, there is no count to compare with.
            self.assertIsInstance(row["measured"], float, what)
        self.assertTrue(rows["6 × 10 MB: delivered"]["met"])
        self.assertTrue(rows["50 ms, C=128: connections opened to SES"]["met"])

    def test_a_load_that_the_command_line_describes(self):
        described = "--connections 4 --size 2000 --recipients 3 --pipelining --messages-per-connection 5 --idle 20"
        for more in ("--rate 50", "--auth", "--starttls"):
            words = f"own --duration 0.5 --rounds 1 {described} {more}".split()
            results, _ = benchmark(*words)
            (subjects,) = results["contests"].values()
            self.assertEqual([subject["subject"] for subject in subjects], ["relay", "aws-sdk-sesv2 alone"], more)
            for subject in subjects:
                self.assertEqual(subject["rounds"][0]["report"]["refused"], {}, more)

    def test_latency_against_offered_rate(self):
        results, plot = benchmark("sweep", "--duration", "0.3", "--connections", "4")
        self.assertEqual(len(results["latency_by_rate"]), 9)
        self.assertEqual(plot.count("<polyline"), 4)

    @unittest.skipUnless(can_make_namespaces(), "makes network namespaces, which this machine does not let it")
    def test_two_relays_in_a_vpc(self):
        results, _ = benchmark("vpc", "--duration", "0.5", "--rounds", "1")
        self.assertEqual(len(results["contests"]), 3)
        left = subprocess.run(["ip", "netns", "list"], text=True, capture_output=True).stdout
        self.assertNotIn("gatepost-load-", left)


if __name__ == "__main__":
    unittest.main()
