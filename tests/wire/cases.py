"""What is asked of each peer."""

import itertools
import json

from bench import ANSWER, ANSWERED, AWS, OK, Call, Case, Up
from peers import refusing_port

TEXT = json.dumps(ANSWER)
MODES = ["Native", "StrictTool", "Prompt"]
APIS = ["OpenAiChat", "OpenAiResponses", "AnthropicMessages", "BedrockConverse"]
NEXT = [Call("Answered", OK, upstream=1)]
# In which envelopes aimock says the code of an error.
WITH_CODE = ["OpenAiChat", "OpenAiResponses"]


def path(api):
    """What stands before the path of the API itself."""
    return "/v1" if api.startswith("OpenAi") else ""


def answers(peer, apis, up):
    """Streamed and whole, in each mode of structured output."""
    for api, stream, how in itertools.product(apis, [True, False], MODES):
        yield Case(f"{peer}, {api}, {'streamed' if stream else 'whole'}, {how}", [up(api, stream, how)], [ANSWERED], [1])


def scripted(peer, control):
    """demo/models, which the official SDKs find faithful (sdks.py): all four APIs, signatures verified."""

    def up(api, stream=True, how="Native", model="m", good=True):
        aws = api == "BedrockConverse"
        keys = {"aws": AWS if good else {**AWS, "secret": "bad-secret"}} if aws else {"key": "good-key" if good else "bad-key"}
        return Up(api, peer + path(api), model, stream, how, **keys)

    control([
        *({"model": "limited", "api": api, "times": 1, "fault": {
            "kind": "status", "status": 429, "headers": {"Retry-After": "1"}}} for api in APIS),
        {"model": "limited-long", "fault": {"kind": "status", "status": 429, "headers": {"Retry-After": "90"}}},
        {"model": "broken", "fault": {"kind": "status", "status": 500}},
        {"model": "overloaded", "fault": {"kind": "status", "status": 529}},
        {"model": "conflict", "fault": {"kind": "status", "status": 409}},
        {"model": "event", "fault": {"kind": "errorEvent", "status": 503}},
        {"model": "cut", "fault": {"kind": "truncated"}},
        {"model": "swapped", "served": "another-model"},
    ])
    yield from answers("scripted", APIS, up)
    for api in APIS:
        named = lambda what: f"scripted, {api}, {what}"  # noqa: E731
        pair = lambda model: [up(api, model=model), up(api)]  # noqa: E731
        yield Case(named("wrong key"), [up(api, good=False), up(api)],
                   [Call("CredentialsRefused", 403 if api == "BedrockConverse" else 401, "Stopped")], [1, 0], "rules")
        yield Case(named("429 for a second"), [up(api, model="limited")],
                   [Call("RateLimited", 429, "SameUpstream"), ANSWERED], [2], pause=1.0)
        yield Case(named("429 for 90 s"), pair("limited-long"), [Call("RateLimited", 429, "NextUpstream"), *NEXT], [1, 1])
        yield Case(named("500"), pair("broken"), [Call("Upstream", 500, "NextUpstream"), *NEXT], [1, 1])
        yield Case(named("529"), pair("overloaded"), [Call("Upstream", 529, "NextUpstream"), *NEXT], [1, 1])
        yield Case(named("409"), pair("conflict"), [Call("CallerError", 409, "Stopped")], [1, 0], "rules")
        yield Case(named("error in the stream"), pair("event"), [Call("Upstream", 200, "NextUpstream"), *NEXT], [1, 1])
        yield Case(named("cut stream"), pair("cut"), [Call("Truncated", 200, "NextUpstream"), *NEXT], [1, 1])
        yield Case(named("another model answers"), [up(api, model="swapped")], [ANSWERED], [1])
        nowhere = Up(api, f"http://127.0.0.1:{refusing_port()}" + path(api), "m", key="good-key") if api != "BedrockConverse" else None
        if nowhere:
            # The tap accepts and then finds nobody behind it: a connection that breaks.
            yield Case(named("nobody there"), [nowhere, up(api)], [Call("Transport", None, "NextUpstream"), *NEXT], [1, 1])


def trusted(peer, ca, certificate):
    """A server with a certificate of an authority that only `--ca` names."""
    ups = [Up("OpenAiChat", peer + "/v1", "m", key="good-key")]
    yield Case("tls, an authority that is named", ups, [ANSWERED], [1], tls=certificate, flags=("--ca", ca))
    unknown = [Call("Transport", None, "SameUpstream"), Call("Transport", None, "NextRung")]
    yield Case("tls, an authority that nobody knows", ups, unknown, [0], "rules", tls=certificate)


def aimock_fixtures():
    """What @copilotkit/aimock is told to say, by model."""
    usage = {"prompt_tokens": 1200, "completion_tokens": 80, "input_tokens": 1200, "output_tokens": 80}

    def error(model, status, kind, code=None, **more):
        said = {"message": "planned", "type": kind, **({"code": code} if code else {})}
        return {"match": {"model": model}, "response": {"error": said, "status": status, **more}}

    text = {"content": TEXT, "usage": usage}
    fixtures = [
        {"match": {"model": "text"}, "response": text},
        {"match": {"model": "dated"}, "response": {**text, "model": "dated-2026-11-01"}},
        {"match": {"model": "tool"}, "response": {"toolCalls": [{"name": "diagnosis", "arguments": TEXT}], "usage": usage}},
        {"match": {"model": "long"}, "response": {**text, "content": TEXT[:40], "finishReason": "length"}},
        {"match": {"model": "filtered"}, "response": {**text, "content": "no", "finishReason": "content_filter"}},
        {"match": {"model": "prose"}, "response": {**text, "content": "I would roll everything back."}},
        {"match": {"model": "cut"}, "response": text, "truncateAfterChunks": 4, "latency": 20},
        error("limited-long", 429, "rate_limit_error", "rate_limit_exceeded", retryAfter=90),
        error("quota", 429, "insufficient_quota", "insufficient_quota", retryAfter=1),
        error("broken", 500, "server_error"),
        error("unavailable", 503, "overloaded"),
        error("refused", 401, "authentication_error", "invalid_api_key"),
        error("forbidden", 403, "permission_error"),
        error("too-long", 400, "invalid_request_error", "context_length_exceeded"),
        error("wrong", 422, "invalid_request_error"),
    ]
    for api in APIS:
        limited = {"model": f"limited-{api}"}
        fixtures.append({**error("", 429, "rate_limit_error", "rate_limit_exceeded", retryAfter=1),
                         "match": {**limited, "sequenceIndex": 0}})
        fixtures.append({"match": {**limited, "sequenceIndex": 1}, "response": text})
    return fixtures


def aimock(peer):
    def up(api, stream=True, how="Prompt", model=None):
        model = model or ("tool" if how == "StrictTool" else "text")
        return Up(api, peer + path(api), model, stream, how, **({"aws": AWS} if api == "BedrockConverse" else {"key": "any"}))

    yield from answers("aimock", APIS, up)
    for api in APIS:
        named = lambda what: f"aimock, {api}, {what}"  # noqa: E731
        pair = lambda model, stream=True: [up(api, stream, model=model), up(api)]  # noqa: E731
        stop = lambda what, model, call: Case(named(what), pair(model), [call], [1, 0], "rules")  # noqa: E731
        on = lambda what, model, call, stream=True: Case(named(what), pair(model, stream), [call, *NEXT], [1, 1])  # noqa: E731
        yield Case(named("429 for a second"), [up(api, model=f"limited-{api}")], [Call("RateLimited", 429, "SameUpstream"), ANSWERED], [2], pause=1.0)
        yield on("429 for 90 s", "limited-long", Call("RateLimited", 429, "NextUpstream"))
        yield on("quota used up", "quota", Call("QuotaExhausted", 429, "NextUpstream"))
        yield on("500", "broken", Call("Upstream", 500, "NextUpstream"))
        yield on("503", "unavailable", Call("Upstream", 503, "NextUpstream"))
        yield stop("401", "refused", Call("CredentialsRefused", 401, "Stopped"))
        yield stop("403", "forbidden", Call("CredentialsRefused", 403, "Stopped"))
        yield stop("400, too long", "too-long", Call("ContextTooLong" if api in WITH_CODE else "CallerError", 400, "Stopped"))
        yield stop("422", "wrong", Call("CallerError", 422, "Stopped"))
        yield Case(named("prose"), [up(api, model="prose")],
                   [Call("NotOfSchema", OK, "AskedDifferently"), Call("NotOfSchema", OK, "NextRung")], [2], "rules")
        if api == "OpenAiResponses":
            # It says `incomplete` and not why, and `failed` where a filter stopped it.
            yield stop("output limit", "long", Call("CallerError", 200, "Stopped"))
            yield on("content filter", "filtered", Call("Upstream", 200, "NextUpstream"))
        else:
            yield Case(named("output limit"), [up(api, model="long")],
                       [Call("OutputLimit", 200, "AskedDifferently"), Call("OutputLimit", 200, "NextRung")], [2], "rules")
            # In the word of OpenAI, whatever the API.
            yield stop("content filter", "filtered", Call("Refused", 200, "Stopped"))
        yield on("connection ends in the stream", "cut", Call("Truncated", 200, "NextUpstream"))
        yield Case(named("three times 500"), [up(api, model="broken")],
                   [Call("Upstream", 500, "SameUpstream")] * 2 + [Call("Upstream", 500, "NextRung")], [3], "rules")
        if api != "BedrockConverse":  # which names no model
            yield Case(named("a dated model answers"), [up(api, model="dated")], [ANSWERED], [1])
