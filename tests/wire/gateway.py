"""What is asked of LiteLLM: its own mock answers, and through it the scripted server and aimock, which it translates."""

import itertools
import json

from bench import ANSWER, ANSWERED, Call, Case, Up
from cases import MODES, NEXT, path

TEXT = json.dumps(ANSWER)
APIS = ["OpenAiChat", "OpenAiResponses", "AnthropicMessages"]


def models(behind):
    """The models of its configuration. `behind` is the scripted server."""
    mock = {"model": "openai/gpt-4o-mini", "api_key": "unused"}
    call = {"id": "call_1", "type": "function", "function": {"name": "diagnosis", "arguments": TEXT}}
    chat = {"api_base": f"{behind}/v1", "api_key": "good-key"}
    messages = {"api_base": behind, "api_key": "good-key"}
    return {
        "mock-text": {**mock, "mock_response": TEXT},
        "mock-tool": {**mock, "mock_response": "", "mock_tool_calls": [call]},
        "mock-prose": {**mock, "mock_response": "I would roll everything back."},
        "mock-429": {**mock, "mock_response": "litellm.RateLimitError"},
        "mock-500": {**mock, "mock_response": "litellm.InternalServerError"},
        "mock-too-long": {**mock, "mock_response": "litellm.ContextWindowExceededError"},
        **{f"chat-{name}": {"model": f"openai/{name}", **chat} for name in BEHIND},
        **{f"messages-{name}": {"model": f"anthropic/{name}", **messages} for name in BEHIND},
        "chat-wrong-key": {"model": "openai/m", **chat, "api_key": "bad-key"},
    }


BEHIND = ["m", "limited", "broken", "overloaded", "unavailable", "swapped", *(f"limited-{api}" for api in APIS)]


def script():
    def fault(name, kind="status", **more):
        return {"model": name, "fault": {"kind": kind, **more}}

    once = [{**fault(f"limited-{api}", status=429, headers={"Retry-After": "1"}), "times": 1} for api in APIS]
    return [*once, fault("limited", status=429, headers={"Retry-After": "90"}), fault("broken", status=500),
            fault("overloaded", status=529), fault("unavailable", status=503), {"model": "swapped", "served": "another-model"}]


def litellm(base, key):
    def up(api, model, stream=True, how="Prompt", good=True):
        return Up(api, base + path(api), model, stream, how, key if good else "sk-" + "0" * 48)

    good = lambda api: up(api, "mock-text" if api == "OpenAiChat" else f"{family(api)}-m")  # noqa: E731
    # Its own mock answers.
    for stream, how in itertools.product([True, False], MODES):
        said = "streamed" if stream else "whole"
        name = f"litellm, mock, {said}, {how}"
        if stream and how == "StrictTool":
            # Its mock cannot stream the call of a tool: it ends the stream with nothing in it.
            empty = [Call("Malformed", 200, "SameUpstream"), Call("Malformed", 200, "NextRung")]
            yield Case(name, [up("OpenAiChat", "mock-tool", stream, how)], empty, [2], "rules")
            continue
        model = "mock-tool" if how == "StrictTool" else "mock-text"
        yield Case(name, [up("OpenAiChat", model, stream, how)], [ANSWERED], [1])
    for stream in [True, False]:
        yield Case(f"litellm, mock, AnthropicMessages, stream {stream}", [up("AnthropicMessages", "mock-text", stream)], [ANSWERED], [1])
    for api in ["OpenAiChat", "AnthropicMessages"]:
        pair = lambda model: [up(api, model), good(api)]  # noqa: E731
        named = lambda what: f"litellm, mock, {api}, {what}"  # noqa: E731
        yield Case(named("429"), pair("mock-429"), [Call("RateLimited", 429, "NextUpstream"), *NEXT], [1, 1])
        yield Case(named("500"), pair("mock-500"), [Call("Upstream", 500, "NextUpstream"), *NEXT], [1, 1])
        # Its words for these are in the message alone, which decides nothing: too long a prompt is any wrong request, and so
        # is a wrong key where it has no database.
        yield Case(named("400, too long"), pair("mock-too-long"), [Call("CallerError", 400, "Stopped")], [1, 0], "rules")
        yield Case(named("wrong key"), [up(api, "mock-text", good=False), good(api)],
                   [Call("CallerError", 400, "Stopped")], [1, 0], "rules")
        yield Case(named("unknown model"), pair("no-such-model"), [Call("CallerError", 400, "Stopped")], [1, 0], "rules")
    # Through it, to a server that streams for real: each API, translated or passed on.
    for api, stream, how in itertools.product(APIS, [True, False], MODES):
        said = f"{'streamed' if stream else 'whole'}, {how}"
        yield Case(f"litellm in front, {api}, {said}", [up(api, f"{family(api)}-m", stream, how)], [ANSWERED], [1])
    for api in APIS:
        named = lambda what: f"litellm in front, {api}, {what}"  # noqa: E731
        pair = lambda what: [up(api, f"{family(api)}-{what}"), good(api)]  # noqa: E731
        # It hands Retry-After on as llm_provider-retry-after, and with Messages not at all: then nobody knows how long.
        once = [up(api, f"{family(api)}-limited-{api}")]
        if api == "AnthropicMessages":
            yield Case(named("429 for a second"), once, [Call("RateLimited", 429, "NextRung")], [1], "rules")
        else:
            yield Case(named("429 for a second"), once, [Call("RateLimited", 429, "SameUpstream"), ANSWERED], [2], pause=1.0)
        yield Case(named("429 for 90 s"), pair("limited"), [Call("RateLimited", 429, "NextUpstream"), *NEXT], [1, 1])
        yield Case(named("500"), pair("broken"), [Call("Upstream", 500, "NextUpstream"), *NEXT], [1, 1])
        yield Case(named("503"), pair("unavailable"), [Call("Upstream", 503, "NextUpstream"), *NEXT], [1, 1])
        status = 500 if api == "AnthropicMessages" else 529
        yield Case(named("529"), pair("overloaded"), [Call("Upstream", status, "NextUpstream"), *NEXT], [1, 1])
        yield Case(named("another model answers"), [up(api, f"{family(api)}-swapped")], [ANSWERED], [1])
    # Translated: our Anthropic Messages to its OpenAI Chat.
    for stream, how in itertools.product([True, False], MODES):
        yield Case(f"litellm translates, Messages to Chat, {'streamed' if stream else 'whole'}, {how}",
                   [up("AnthropicMessages", "chat-m", stream, how)], [ANSWERED], [1])
        yield Case(f"litellm translates, Chat to Messages, {'streamed' if stream else 'whole'}, {how}",
                   [up("OpenAiChat", "messages-m", stream, how)], [ANSWERED], [1])
    yield Case("litellm in front, its own key is wrong", [up("OpenAiChat", "chat-wrong-key"), good("OpenAiChat")],
               [Call("CredentialsRefused", 401, "Stopped")], [1, 0], "rules")


def family(api):
    return "messages" if api == "AnthropicMessages" else "chat"
