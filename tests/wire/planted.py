"""Defects that are planted between our code and a peer: the checks have to notice each of them."""

import json

from bench import ANSWERED, AWS, Bench, Call, Case, Up


def every(change):
    """A change of each JSON object of a body, whole or streamed."""

    def alter(seen, status, headers, raw):
        out = []
        for line in raw.split(b"\n"):
            head, data = (b"data: ", line[6:]) if line.startswith(b"data: {") else (b"", line)
            try:
                said = json.loads(data)
                change(said)
                out.append(head + json.dumps(said).encode())
            except ValueError:
                out.append(line)
        return status, headers, b"\n".join(out)

    return alter


def more_tokens(said):
    for name in ["completion_tokens", "output_tokens"]:
        for usage in [said.get("usage"), (said.get("response") or {}).get("usage")]:
            if usage and name in usage:
                usage[name] += 1


def cached(said):
    if said.get("usage"):
        said["usage"].setdefault("prompt_tokens_details", {})["cached_tokens"] = 7


def unnamed(said):
    said["model"] = ""


def other_revision(said):
    text = json.dumps(said).replace(r'\"toRevision\":1', r'\"toRevision\":2').replace(r'\"toRevision\": 1', r'\"toRevision\": 2')
    said.update(json.loads(text))


def no_last_event(seen, status, headers, raw):
    return status, headers, raw.replace(b"data: [DONE]", b"")


def of_status(status):
    return lambda seen, _, headers, raw: (status, headers, raw)


def without_limits(seen, status, headers, raw):
    """Neither Retry-After nor when a limit is lifted."""
    return status, {name: value for name, value in headers.items() if "retry" not in name and "ratelimit" not in name}, raw


def html(seen, status, headers, raw):
    return 200, {"content-type": "text/html"}, b"<html>busy</html>"


def empty(seen, status, headers, raw):
    return status, headers, b""


def play(bench, base, control):
    """Each defect in a case that passes without it."""
    chat = lambda stream, model="m": Up("OpenAiChat", base + "/v1", model, stream, "Native", "good-key")  # noqa: E731
    aws = Up("BedrockConverse", base, "m", False, "Native", aws=AWS)
    limited, refused = "planted-limited", "planted-refused"
    good = {stream: Case("planted", [chat(stream)], [ANSWERED], [1]) for stream in [True, False]}
    stopped = Case("planted", [chat(False, refused), chat(False)], [Call("CredentialsRefused", 401, "Stopped")], [1, 0], "rules")
    waits = Case("planted", [chat(False, limited)], [Call("RateLimited", 429, "SameUpstream"), ANSWERED], [2], pause=1.0)
    defects = [
        ("a token more than the peer said, whole", good[False], every(more_tokens)),
        ("a token more than the peer said, streamed", good[True], every(more_tokens)),
        ("tokens of the cache that were none", good[False], every(cached)),
        ("no name of the model", good[False], every(unnamed)),
        ("another proposal", good[False], every(other_revision)),
        ("no last event", good[True], no_last_event),
        ("HTML", good[False], html),
        ("nothing", good[False], empty),
        ("a response of Bedrock without its output", Case("planted", [aws], [ANSWERED], [1]), every(lambda said: said.pop("output", None))),
        ("500 in place of 401", stopped, of_status(500)),
        ("400 in place of 401", stopped, of_status(400)),
        ("429 without a wait", waits, without_limits),
        ("400 in place of 429", waits, of_status(400)),
        ("an answer that is expected and does not come", Case("planted", [chat(False, refused)], [ANSWERED], [1]), None),
        ("a hit more than is counted", Case("planted", [chat(False)], [ANSWERED], [2]), None),
    ]
    for what, case, alter in defects:
        control([
            {"model": limited, "times": 1, "fault": {"kind": "status", "status": 429, "headers": {"Retry-After": "1"}}},
            {"model": refused, "fault": {"kind": "status", "status": 401}},
        ])
        quiet = Quiet(bench.backstop)
        quiet.run(Case(**{**case.__dict__, "alter": alter}))
        bench.check(f"planted, {what}: noticed", bool(quiet.failures))
    # And without a defect the same cases pass.
    for case in [*good.values(), stopped, waits, Case("planted", [aws], [ANSWERED], [1])]:
        control([
            {"model": limited, "times": 1, "fault": {"kind": "status", "status": 429, "headers": {"Retry-After": "1"}}},
            {"model": refused, "fault": {"kind": "status", "status": 401}},
        ])
        bench.run(case)


class Quiet(Bench):
    """Its failures are what is wanted."""

    def check(self, what, ok, seen=""):
        if not ok:
            self.failures.append(what)
