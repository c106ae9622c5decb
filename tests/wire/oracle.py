"""What an answer of a peer says, read without our code: what ours reports is compared with it."""

import json
import re
import struct
import zlib
from dataclasses import dataclass

# Nano-dollars a token. A wrong place for any token gives another sum.
PRICES = {"input": 1000, "output": 10_000, "cache_write": 2000, "cache_read": 100}


@dataclass
class Said:
    """One answer. Tokens of the input do not include those of the cache."""

    model: str = ""
    usage: dict | None = None

    @property
    def tokens(self):
        return sum((self.usage or {}).values())

    @property
    def cost(self):
        return sum(PRICES[kind] * count for kind, count in (self.usage or {}).items())


def events(exchange):
    """The JSON objects of a body: its events where it is a stream, and else itself."""
    kind = exchange.answered.get("content-type", "")
    if kind.startswith("text/event-stream"):
        found = (line[5:].strip() for line in re.split(rb"\r\n|\r|\n", exchange.raw) if line.startswith(b"data:"))
        return [json.loads(data) for data in found if data != b"[DONE]"]
    if kind.startswith("application/vnd.amazon.eventstream"):
        return [json.loads(payload) for payload in frames(exchange.raw)]
    return [json.loads(exchange.raw)]


def frames(raw):
    """Payloads of the messages of an event stream of AWS."""
    while raw:
        whole, headers, prelude = struct.unpack(">III", raw[:12])
        if zlib.crc32(raw[:8]) != prelude or zlib.crc32(raw[: whole - 4]) != struct.unpack(">I", raw[whole - 4 : whole])[0]:
            raise ValueError("a checksum of the event stream is wrong")
        yield raw[12 + headers : whole - 4]
        raw = raw[whole:]


def read(api, exchange):
    said = Said()
    for event in events(exchange):
        # Where each API puts the model and the usage, whole and in the events of a stream.
        inner = event.get("message") if api == "AnthropicMessages" and "message" in event else event.get("response")
        for place in (event, inner if isinstance(inner, dict) else {}):
            said.model = place.get("model") or said.model
            if place.get("usage"):
                said.usage = {**(said.usage or {}), **USAGE[api](place["usage"], said.usage or {})}
    return said


def of_chat(usage, _):
    details = usage.get("prompt_tokens_details") or {}
    return openai(usage["prompt_tokens"], usage["completion_tokens"], details)


def of_responses(usage, _):
    return openai(usage["input_tokens"], usage["output_tokens"], usage.get("input_tokens_details") or {})


def openai(prompt, output, details):
    """`prompt` includes the cache."""
    read, write = details.get("cached_tokens") or 0, details.get("cache_write_tokens") or 0
    return {"input": prompt - read - write, "cache_read": read, "cache_write": write, "output": output}


def of_messages(usage, before):
    """The last event only repeats what changed."""
    names = {"input": "input_tokens", "cache_read": "cache_read_input_tokens", "cache_write": "cache_creation_input_tokens",
             "output": "output_tokens"}
    return {kind: usage.get(name) if usage.get(name) is not None else before.get(kind, 0) for kind, name in names.items()}


def of_converse(usage, _):
    return {"input": usage["inputTokens"], "cache_read": usage.get("cacheReadInputTokens") or 0,
            "cache_write": usage.get("cacheWriteInputTokens") or 0, "output": usage["outputTokens"]}


USAGE = {"OpenAiChat": of_chat, "OpenAiResponses": of_responses, "AnthropicMessages": of_messages, "BedrockConverse": of_converse}


def asked(api, exchange):
    """What a request asks for: streamed or not, and how the answer is held to its form."""
    body = json.loads(exchange.body)
    if api == "BedrockConverse":
        stream = exchange.path.endswith("/converse-stream")
        native, tool = bool(body.get("outputConfig")), bool((body.get("toolConfig") or {}).get("tools"))
    else:
        stream = bool(body.get("stream"))
        native = bool(body.get("response_format") or (body.get("text") or {}).get("format") or body.get("output_config"))
        tool = bool(body.get("tools"))
    return stream, {(True, False): "Native", (False, True): "StrictTool", (False, False): "Prompt"}.get((native, tool), "both")
