"""deploy/alerts.yaml and deploy/grafana-dashboard.json: promtool reads them, and the relay has what they name.

promtool accepts a metric that does not exist, so metrics come from a running relay, labels from the table in the manual, and values
of labels from the source.
"""

import json
import os
import pathlib
import re
import smtplib
import subprocess
import tempfile
import time
import unittest
import urllib.request

from relay_process import PATIENCE_SECONDS, WORK, Relay, emulator, free_port

ROOT = pathlib.Path(__file__).resolve().parents[2]
ALERTS = ROOT / "deploy/alerts.yaml"
UNIT_TESTS = ROOT / "tests/interop/alerts_test.yaml"
DASHBOARD = json.loads((ROOT / "deploy/grafana-dashboard.json").read_text())

# Of Prometheus itself and of its blackbox exporter.
FOREIGN = {"up", "probe_success"}
# Added at the same time as the dashboard, in another change.
# Labels that Prometheus adds, and the one of histograms.
TARGET_LABELS = {"job", "instance", "le"}
CONTENT = "From: ann@example.com\r\nSubject: x\r\n\r\nx\r\n"

METRIC = re.compile(r"\b(?:gatepost|process)_[a-z0-9_]+|\bup\b|\bprobe_success\b")
SELECTOR = re.compile(r"\b((?:gatepost|process|up|probe_success)[a-z0-9_]*)\{([^}]*)\}")
MATCHER = re.compile(r'([a-z_]+)\s*(?:=~|!~|!=|=)\s*"([^"]*)"')
GROUPING = re.compile(r"\b(?:by|on|without)\s*\(([^)]*)\)")


def promtool(*arguments):
    done = subprocess.run(
        [os.environ["INTEROP_PROMTOOL"], *arguments], capture_output=True, text=True, timeout=PATIENCE_SECONDS, cwd=ROOT
    )
    return done.returncode, done.stdout + done.stderr


def panels():
    return [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]


def dashboard_expressions():
    """Every query of the dashboard, with values for Grafana's variables."""
    return [
        re.sub(r"\$(job|instance|app)\b", ".*", target["expr"]).replace("$__rate_interval", "5m")
        for panel in panels() for target in panel["targets"]
    ]


def alert_expressions():
    """Every expression of the rules: what follows `expr:`, on the same line or folded on the lines below."""
    found, lines = [], ALERTS.read_text().splitlines()
    for place, line in enumerate(lines):
        if not line.strip().startswith("expr:"):
            continue
        text, indent = line.split("expr:", 1)[1].strip(), len(line) - len(line.lstrip())
        if text == ">-":
            folded = []
            for following in lines[place + 1:]:
                if len(following) - len(following.lstrip()) <= indent:
                    break
                folded.append(following.strip())
            text = " ".join(folded)
        found.append(text)
    return found


class Monitoring(unittest.TestCase):
    def test_promtool_accepts_the_rules_and_their_unit_tests_pass(self):
        code, said = promtool("check", "rules", str(ALERTS))
        self.assertEqual(code, 0, said)
        code, said = promtool("test", "rules", str(UNIT_TESTS))
        self.assertEqual(code, 0, said)
        alerts = set(re.findall(r"- alert: (\w+)", ALERTS.read_text()))
        text = UNIT_TESTS.read_text()
        fires = set(re.findall(r"alertname: (\w+)\n\s+exp_alerts:\n", text))
        self.assertEqual(alerts - fires, set(), "no unit test in which it fires")
        rests = set(re.findall(r"alertname: (\w+), exp_alerts: \[\]", text))
        # Where one certificate is bad and another good, the list of alerts shows both.
        self.assertEqual(alerts - rests - {"GatepostCertificateEndsSoon"}, set(), "no unit test in which it does not fire")

    def test_every_query_of_the_dashboard_is_one_of_prometheus(self):
        rules = [{"record": f"query:{number}", "expr": expr} for number, expr in enumerate(dashboard_expressions())]
        with tempfile.NamedTemporaryFile("w", dir=WORK, suffix=".yaml") as file:
            # JSON is YAML.
            json.dump({"groups": [{"name": "dashboard", "rules": rules}]}, file)
            file.flush()
            code, said = promtool("check", "rules", file.name)
        self.assertEqual(code, 0, said)
        self.assertIn(f"{len(rules)} rules found", said)

    def test_the_dashboard_can_be_imported(self):
        self.assertIsNone(DASHBOARD["id"], "Grafana gives it a number")
        variables = {variable["name"]: variable for variable in DASHBOARD["templating"]["list"]}
        self.assertEqual(variables["datasource"]["type"], "datasource")
        source = {"type": "prometheus", "uid": "${datasource}"}
        for name, variable in variables.items():
            if name != "datasource":
                self.assertEqual(variable["datasource"], source, name)
        ids = [panel["id"] for panel in DASHBOARD["panels"]]
        self.assertEqual(len(ids), len(set(ids)))
        taken = {}
        for panel in DASHBOARD["panels"]:
            place = panel["gridPos"]
            self.assertLessEqual(place["x"] + place["w"], 24, panel["title"])
            for x in range(place["x"], place["x"] + place["w"]):
                for y in range(place["y"], place["y"] + place["h"]):
                    self.assertNotIn((x, y), taken, f"{panel['title']} and {taken.get((x, y))}")
                    taken[x, y] = panel["title"]
        for panel in panels():
            self.assertEqual(panel["datasource"], source, panel["title"])
            for target in panel["targets"]:
                self.assertEqual(target["datasource"], source, panel["title"])
                used = set(re.findall(r"\$(\w+)", target["expr"])) - {"__rate_interval"}
                self.assertLessEqual(used, set(variables), panel["title"])

    def test_every_metric_of_dashboard_and_alerts_is_one_of_the_relay(self):
        # The variables of the dashboard name metrics too.
        queries = [variable["definition"] for variable in DASHBOARD["templating"]["list"] if "definition" in variable]
        named = {name for expr in dashboard_expressions() + alert_expressions() + queries for name in METRIC.findall(expr)}
        self.assertGreater(len(named), 40)
        missing = named - self.metrics_of_a_relay() - FOREIGN
        self.assertEqual(missing, set())

    def metrics_of_a_relay(self):
        """Of one in which everything happens once: a metric with labels appears with its first event."""
        port = free_port()
        config = f'[admin]\naddress = "127.0.0.1:{port}"\n[[limit]]\nby = "relay"\nrates = ["2/h"]\n'
        relay = Relay(
            lambda relay: f'{emulator(relay)}\n{config}[spool]\ndirectory = "{relay.directory}/spool"\n',
            {"GATEPOST_POLICY__DELIVERY": "spool", "GATEPOST_SMTP__ERRORS_MAX": "3"},
        )

        def text_with(sample):
            deadline = time.monotonic() + PATIENCE_SECONDS
            while True:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=PATIENCE_SECONDS) as answer:
                    text = answer.read().decode()
                if sample in text:
                    return text
                self.assertLess(time.monotonic(), deadline, f"no {sample} in {text}")
                time.sleep(0.1)

        try:
            with smtplib.SMTP("127.0.0.1", relay.ports["plain"]) as client:
                client.ehlo()
                self.assertEqual(client.mail("ann@example.com")[0], 250)
                client.rset()
                client.sendmail("ann@example.com", ["bob@elsewhere.example"], CONTENT)
                text_with('gatepost_queue_messages_left_total{status="sent"')
                # It waits for the next attempt, and the third message is over the limit.
                relay.script(["ServiceUnavailable"] * 50)
                client.sendmail("ann@example.com", ["bob@elsewhere.example"], CONTENT)
                self.assertEqual(client.mail("ann@example.com")[0], 451)
                self.assertEqual(client.mail("ceo@other.example")[0], 550)
            with smtplib.SMTP("127.0.0.1", relay.ports["plain"]) as client:
                with self.assertRaises(smtplib.SMTPAuthenticationError):
                    client.login("app", "wrong")
            client = smtplib.SMTP("127.0.0.1", relay.ports["plain"])
            self.assertEqual([client.docmd("NONSENSE")[0] for _ in range(3)] + [client.getreply()[0]], [500, 500, 500, 421])
            client.close()
            text = text_with("gatepost_queue_messages{")
            text_with("gatepost_smtp_sessions_closed_total{")
            text += text_with("gatepost_smtp_transactions_abandoned_total{")
        finally:
            relay.stop()
        names = set()
        for name, kind in re.findall(r"^# TYPE (\S+) (\w+)$", text, re.MULTILINE):
            names |= {f"{name}_{part}" for part in ("bucket", "sum", "count")} if kind == "histogram" else {name}
        return names

    def test_every_label_is_one_of_the_metric_and_every_value_is_in_the_source(self):
        chapter = (ROOT / "src/manual/operating.md").read_text()
        labels = {}
        for name, listed in re.findall(r"`((?:gatepost|process)_[a-z0-9_]+)\{([a-z_,]+)\}`", chapter):
            labels.setdefault(name, set()).update(listed.split(","))
        source = "".join(path.read_text() for path in (ROOT / "src").rglob("*.rs"))
        for expr in dashboard_expressions() + alert_expressions():
            allowed = set(TARGET_LABELS)
            for name in METRIC.findall(expr):
                allowed |= labels.get(re.sub("_bucket$", "", name), set())
            # Of recorded series.
            allowed |= {"app"} if "gatepost:" in expr else set()
            for name, matchers in SELECTOR.findall(expr):
                for label, value in MATCHER.findall(matchers):
                    of_metric = labels.get(re.sub("_bucket$", "", name), set()) | TARGET_LABELS
                    self.assertIn(label, of_metric, f"{name} in {expr}")
                    if label in TARGET_LABELS or value == ".*" or re.fullmatch(r"\d(\d\d|\.\.)", value):
                        continue
                    for word in value.split("|"):
                        # Not assertIn, which would print the source.
                        self.assertTrue(f'"{word}"' in source, f"no {word}: {label} of {name} in {expr}")
            for group in GROUPING.findall(expr):
                self.assertLessEqual({label.strip() for label in group.split(",")}, allowed, expr)


if __name__ == "__main__":
    unittest.main()
