"""Runs the product's own commands on chains of real peers, and checks what they report."""

import concurrent.futures
import json
import re
import subprocess
import tempfile
import threading
from dataclasses import dataclass, field
from pathlib import Path

import oracle
from tap import Tap

HERE = Path(__file__).parent
PRICES = {"input": "1", "output": "10", "cacheWrite": "2", "cacheRead": "0.1"}  # as oracle.PRICES
# A right answer about investigation.yaml, for peers that say what they are told to.
ANSWER = {
    "claims": [
        {"cites": ["f2", "f3"], "failure": "CrashLoop", "kind": "PodsFailing", "revision": 0, "text": "2 pods crash"},
        {"cites": ["f6", "f4", "f5"], "failure": "Any", "kind": "TemplateChanged", "revision": 1, "text": "revision 2 differs"},
    ],
    "confidence": 80, "hypothesis": "the release of revision 2 broke it", "nextSteps": "return to revision 1",
    "proposal": {"action": "RolloutUndo", "toRevision": 1}, "rootCause": "BadRollout",
    "suspect": {"change": "", "kind": "Deployment", "name": "catalog", "revision": 2},
}
PATIENCE = 240  # seconds for one command; it only ends what hangs
AWS = {"id": "AKIDEXAMPLE", "secret": "good-secret"}


@dataclass
class Up:
    """An upstream of a chain. `base` is the peer's, with the path before that of the API."""

    api: str
    base: str
    model: str
    stream: bool = True
    how: str = "Prompt"
    key: str | None = None
    aws: dict | None = None
    more: dict = field(default_factory=dict)


@dataclass
class Call:
    """What the record has to say of one call."""

    outcome: str
    status: int | None = None
    then: str = ""
    upstream: int = 0


OK = 200  # of an answer that came, whatever came of it
ANSWERED = Call("Answered", OK)


@dataclass
class Case:
    """One diagnosis: upstreams of one rung, the calls that it has to take, and hits at each upstream."""

    name: str
    ups: list
    calls: list
    hits: list
    by: str = "wire"  # which rung has to be the one that answered
    alter: object = None  # a function for the tap of the first upstream: a planted defect
    tls: tuple | None = None  # certificate and key of the taps
    flags: tuple = ()  # more of `backstop diagnose`
    deadline: int = 20
    pause: float = 0.0  # seconds that have to be between the first two hits of the first upstream


class Bench:
    def __init__(self, backstop):
        self.backstop, self.lock = backstop, threading.Lock()
        self.checked, self.failures = 0, []

    def check(self, what, ok, seen=""):
        with self.lock:
            self.checked += 1
            if not ok:
                self.failures.append(what)
                print(f"FAIL {what}: {str(seen)[:1500]}", flush=True)

    def run_all(self, cases, width=4):
        """Cases wait for pauses most of the time."""
        with concurrent.futures.ThreadPoolExecutor(width) as pool:
            for done in [pool.submit(self.run, case) for case in cases]:
                done.result()

    def run(self, case):
        taps = [Tap(up.base, case.alter if index == 0 else None, case.tls) for index, up in enumerate(case.ups)]
        try:
            with tempfile.TemporaryDirectory() as folder:
                args = ["diagnose", "--json", "--investigation", HERE / "investigation.yaml", *case.flags]
                done = self.command(Path(folder), args, case.ups, taps, case.deadline)
            self.judge(case, done, taps)
        finally:
            for tap in taps:
                tap.close()

    def command(self, folder, args, ups, taps, deadline=20):
        chain, secrets = folder / "chain.yaml", folder / "secrets"
        upstreams = [self.upstream(index, up, tap, secrets) for index, (up, tap) in enumerate(zip(ups, taps))]
        chain.write_text(json.dumps({
            "apiVersion": "backstop.dev/v1alpha1", "kind": "ModelChain", "metadata": {"name": "wire"},
            "spec": {"deadlineSeconds": deadline, "budgets": {"requestsPerMinute": 1000},
                     "rungs": [{"name": "wire", "model": "asked", "ceiling": "approve", "maxOutputTokens": 1000, "upstreams": upstreams}]},
        }))
        command = [self.backstop, *args, "--chain", chain, "--secrets", secrets]
        return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, stdin=subprocess.DEVNULL)

    @staticmethod
    def upstream(index, up, tap, secrets):
        secret, said = f"secret-{index}", {}
        (secrets / secret).mkdir(parents=True)
        if up.key:
            (secrets / secret / "token").write_text(up.key)
            said = {"credentials": {"secret": secret}}
        if up.aws:
            for name, value in up.aws.items():
                (secrets / secret / name).write_text(value)
            said = {"credentials": {"secret": secret, "key": "id", "secretKey": "secret"}}
        if up.api == "BedrockConverse":
            said["region"] = "us-east-1"
        # 100 and 0: the first is asked first.
        return {"name": f"up-{index}", "url": tap.url, "api": up.api, "model": up.model, "stream": up.stream,
                "structuredOutput": up.how, "prices": PRICES, "weight": 0 if index else 100, **said, **up.more}

    def judge(self, case, done, taps):
        try:
            said = json.loads(done.stdout)
        except ValueError:
            return self.check(f"{case.name}: diagnose prints JSON", False, done.stdout + done.stderr)
        calls = [call for call in said["attempts"] if call.get("upstream")]
        seen = [(int(call["upstream"][3:]), call["outcome"], call.get("status"), call.get("then", "")) for call in calls]
        wanted = [(call.upstream, call.outcome, call.status, call.then) for call in case.calls]
        self.check(f"{case.name}: attempts", seen == wanted, f"{seen}, wanted {wanted}; {calls}")
        self.check(f"{case.name}: hits", [tap.hits for tap in taps] == case.hits, f"{[tap.hits for tap in taps]}, wanted {case.hits}")
        self.check(f"{case.name}: answered by", said["diagnosis"]["diagnoser"] == case.by, said["diagnosis"])
        self.check(f"{case.name}: exit code", done.returncode == 0, done.stderr)
        if case.pause and taps[0].hits > 1:
            pause = taps[0].exchanges[1].at - taps[0].exchanges[0].at
            self.check(f"{case.name}: waited as asked", case.pause <= pause < case.pause + 5, pause)
        for up, tap in zip(case.ups, taps):
            for exchange in tap.exchanges:
                asked = oracle.asked(up.api, exchange)
                self.check(f"{case.name}: asked as configured", asked == (up.stream, up.how), asked)
        for call in calls:
            if call["outcome"] == "Answered":
                self.answered(case, call, said, taps)
        # Whatever came of it, nobody can read a key in the output.
        keys = [up.key for up in case.ups if up.key] + [up.aws["secret"] for up in case.ups if up.aws]
        self.check(f"{case.name}: no key is shown", not any(key in done.stdout + done.stderr for key in keys))

    def answered(self, case, call, said, taps):
        index = int(call["upstream"][3:])
        up, exchange = case.ups[index], taps[index].exchanges[-1]
        try:
            wanted = oracle.read(up.api, exchange)
        except (ValueError, KeyError, TypeError) as error:
            return self.check(f"{case.name}: the peer's answer can be read", False, f"{error!r} {exchange.raw[:500]}")
        report = {"tokens": call.get("tokens", 0), "cost": call.get("costNanoDollars", 0), "served": call.get("servedModel", "")}
        if wanted.usage:
            self.check(f"{case.name}: tokens", report["tokens"] == wanted.tokens > 0, (report, wanted))
            self.check(f"{case.name}: cost", report["cost"] == wanted.cost, (report, wanted))
        else:
            # Nothing said what was used: what was reserved stays charged.
            self.check(f"{case.name}: unknown usage stays charged", report["tokens"] == 0 and report["cost"] > 0, report)
        self.check(f"{case.name}: served model", report["served"] == wanted.model, (report, wanted))
        # A date behind the name is the same model. The rung may go up to `approve`, and another model only to `suggest`.
        swapped = bool(wanted.model) and not re.fullmatch(re.escape(up.model) + r"(-\d{4}-\d{2}-\d{2})?", wanted.model)
        self.check(f"{case.name}: another model", call.get("swapped", False) == swapped, (call, wanted))
        ceiling = "suggest" if swapped else "approve"
        self.check(f"{case.name}: ceiling", said["diagnosis"]["ceiling"] == ceiling, said["diagnosis"])
        proposal = (said["diagnosis"].get("proposal") or {}).get("action")
        self.check(f"{case.name}: the answer arrived", proposal == {"rolloutUndo": {"toRevision": 1}}, said["diagnosis"])

    def models_check(self, name, ups, outcomes):
        """`backstop models check`: a row for each upstream, and an exit code that says whether all answered."""
        taps = [Tap(up.base) for up in ups]
        try:
            with tempfile.TemporaryDirectory() as folder:
                done = self.command(Path(folder), ["models", "check"], ups, taps)
            rows = [line.split() for line in done.stdout.splitlines()[1:]]
            seen = [row[2] for row in rows if len(row) > 2]
            self.check(f"{name}: models check, rows", seen == outcomes, done.stdout + done.stderr)
            self.check(f"{name}: models check, exit code",
                       # An answer that ran to its limit is one: the question asks whether the upstream works.
                       (done.returncode == 0) == all(outcome in ("Answered", "OutputLimit") for outcome in outcomes), done.stderr)
            self.check(f"{name}: models check, one hit each", [tap.hits for tap in taps] == [1] * len(taps))
        finally:
            for tap in taps:
                tap.close()
