#!/usr/bin/env python3
"""The official SDKs of the providers, pointed at the scripted model server (demo/models): is it faithful? `make wire` runs it;
by hand:

    pip install anthropic openai boto3
    (cd demo/models && go run . --listen 127.0.0.1:8080 --aws-keys AKIDEXAMPLE=sosecret)
    python3 tests/wire/sdks.py http://127.0.0.1:8080

Each line is one check; the exit code is the number of those that failed.
"""

import json
import sys
import urllib.request

import anthropic
import boto3
import botocore
import openai
from botocore.config import Config

BASE = sys.argv[1]
HI = [{"role": "user", "content": "hi"}]
COMMAND = "kubectl rollout undo deployment"
SCHEMA = {
    "type": "object",
    "properties": {"explanation": {"type": "string"}, "commands": {"type": "array", "items": {"type": "string"}}},
    "required": ["explanation", "commands"],
    "additionalProperties": False,
}
failed = 0


def check(what, ok, seen=""):
    global failed
    failed += not ok
    print("ok  " if ok else "FAIL", what, "" if ok else seen)


def control(*rules):
    body = json.dumps({"rules": rules}).encode()
    urllib.request.urlopen(urllib.request.Request(BASE + "/control", data=body)).read()


def told(text):
    """Whether a text is the answer that the script asks for."""
    return json.loads(text)["commands"] == [COMMAND]


def fails(what, call, kind):
    try:
        call()
        check(what, False, "no error")
    except Exception as error:  # which one is what is asked
        check(what, kind in {one.__name__ for one in type(error).__mro__}, repr(error))


def bedrock(secret):
    config = Config(retries={"max_attempts": 1, "mode": "standard"})
    return boto3.client("bedrock-runtime", region_name="us-east-1", endpoint_url=BASE, aws_access_key_id="AKIDEXAMPLE",
                        aws_secret_access_key=secret, config=config)


claude = anthropic.Anthropic(api_key="k", base_url=BASE, max_retries=0)
gpt = openai.OpenAI(api_key="k", base_url=BASE + "/v1", max_retries=0)
aws = bedrock("sosecret")

messages = {"model": "m", "max_tokens": 500, "messages": HI}
schema = {"extra_body": {"output_config": {"format": {"type": "json_schema", "schema": SCHEMA}}}}
tool = {"tools": [{"name": "d", "input_schema": SCHEMA}], "tool_choice": {"type": "tool", "name": "d"}}
chat = {"model": "m", "messages": HI}
chat_schema = {"response_format": {"type": "json_schema", "json_schema": {"name": "d", "strict": True, "schema": SCHEMA}}}
chat_tool = {"tools": [{"type": "function", "function": {"name": "d", "parameters": SCHEMA, "strict": True}}],
             "tool_choice": {"type": "function", "function": {"name": "d"}}}
response = {"model": "m", "input": "hi"}
response_schema = {"text": {"format": {"type": "json_schema", "name": "d", "strict": True, "schema": SCHEMA}}}
response_tool = {"tools": [{"type": "function", "name": "d", "parameters": SCHEMA, "strict": True}],
                 "tool_choice": {"type": "function", "name": "d"}}
converse = {"modelId": "eu.anthropic.m-v1:0", "messages": [{"role": "user", "content": [{"text": "hi"}]}],
            "inferenceConfig": {"maxTokens": 500}}
converse_schema = {"outputConfig": {"textFormat": {"type": "json_schema", "structure": {
    "jsonSchema": {"schema": json.dumps(SCHEMA), "name": "d"}}}}}
converse_tool = {"toolConfig": {"tools": [{"toolSpec": {"name": "d", "inputSchema": {"json": SCHEMA}}}],
                                "toolChoice": {"tool": {"name": "d"}}}}

control({"answer": "lie"})

seen = claude.messages.create(**messages, **schema)
check("messages: whole", told(seen.content[0].text) and seen.stop_reason == "end_turn" and seen.usage.output_tokens > 0, seen)
with claude.messages.stream(**messages, **schema) as stream:
    seen = stream.get_final_message()
check("messages: stream", told(seen.content[0].text) and seen.stop_reason == "end_turn", seen)
seen = claude.messages.create(**messages, **tool)
check("messages: tool", seen.content[0].input["commands"] == [COMMAND] and seen.stop_reason == "tool_use", seen)
with claude.messages.stream(**messages, **tool) as stream:
    seen = stream.get_final_message()
check("messages: tool, stream", seen.content[0].input["commands"] == [COMMAND], seen)

seen = gpt.chat.completions.create(**chat, **chat_schema)
check("chat: whole", told(seen.choices[0].message.content) and seen.usage.total_tokens > 0, seen)
text, usage = "", None
for chunk in gpt.chat.completions.create(**chat, **chat_schema, stream=True, stream_options={"include_usage": True}):
    text += "".join(choice.delta.content or "" for choice in chunk.choices)
    usage = chunk.usage or usage
check("chat: stream", told(text) and usage.total_tokens > 0, text)
seen = gpt.chat.completions.create(**chat, **chat_tool)
check("chat: tool", told(seen.choices[0].message.tool_calls[0].function.arguments), seen)

seen = gpt.responses.create(**response, **response_schema)
check("responses: whole", told(seen.output_text) and seen.status == "completed" and seen.usage.total_tokens > 0, seen)
with gpt.responses.stream(**response, **response_schema) as stream:
    for _ in stream:
        pass
    seen = stream.get_final_response()
check("responses: stream", told(seen.output_text), seen)
seen = gpt.responses.create(**response, **response_tool)
check("responses: tool", told(seen.output[0].arguments), seen)

seen = aws.converse(**converse, **converse_schema)
check("converse: whole, signature verified", told(seen["output"]["message"]["content"][0]["text"]) and seen["stopReason"] == "end_turn", seen)
text, stop, usage = "", None, None
for event in aws.converse_stream(**converse, **converse_schema)["stream"]:
    text += event.get("contentBlockDelta", {}).get("delta", {}).get("text", "")
    stop = event.get("messageStop", {}).get("stopReason", stop)
    usage = event.get("metadata", {}).get("usage", usage)
check("converse: stream", told(text) and stop == "end_turn" and usage["outputTokens"] > 0, text)
arn = "arn:aws:bedrock:us-east-1:1:inference-profile/eu.m"
aws.converse(**{**converse, **converse_schema, "modelId": arn})
entries = json.load(urllib.request.urlopen(BASE + "/journal"))
check("converse: a model that is an ARN", entries[-1]["model"] == arn, entries[-1])
seen = aws.converse(**converse, **converse_tool)
check("converse: tool", seen["output"]["message"]["content"][0]["toolUse"]["input"]["commands"] == [COMMAND], seen)
text = ""
for event in aws.converse_stream(**converse, **converse_tool)["stream"]:
    text += event.get("contentBlockDelta", {}).get("delta", {}).get("toolUse", {}).get("input", "")
check("converse: tool, stream", told(text), text)
try:
    bedrock("other").converse(**converse)
    check("converse: wrong secret", False, "no error")
except botocore.exceptions.ClientError as error:
    check("converse: wrong secret", error.response["Error"]["Code"] == "InvalidSignatureException", error.response)

for status, kind in [(400, "BadRequestError"), (401, "AuthenticationError"), (403, "PermissionDeniedError"), (404, "NotFoundError"),
                     (429, "RateLimitError"), (500, "InternalServerError"), (529, "InternalServerError")]:
    control({"fault": {"kind": "status", "status": status}})
    # The SDK of Anthropic has a class of its own for 529.
    fails(f"messages: {status}", lambda: claude.messages.create(**messages), "APIStatusError" if status == 529 else kind)
    fails(f"chat: {status}", lambda: gpt.chat.completions.create(**chat), kind)
    fails(f"responses: {status}", lambda: gpt.responses.create(**response), kind)
for status, kind in [(400, "ValidationException"), (403, "AccessDeniedException"), (408, "ModelTimeoutException"),
                     (424, "ModelErrorException"), (429, "ThrottlingException"), (500, "InternalServerException"),
                     (503, "ServiceUnavailableException")]:
    control({"fault": {"kind": "status", "status": status}})
    fails(f"converse: {status}", lambda: aws.converse(**converse), kind)

fault = {"fault": {"kind": "errorEvent", "status": 503}}
control(fault)
fails("messages: error event", lambda: list(claude.messages.create(**messages, stream=True)), "APIStatusError")
fails("chat: error event", lambda: list(gpt.chat.completions.create(**chat, stream=True)), "APIError")
events = [event.type for event in gpt.responses.create(**response, stream=True)]
check("responses: error event", "error" in events and "response.completed" not in events, events)
fails("converse: error event", lambda: list(aws.converse_stream(**converse)["stream"]), "EventStreamError")

for stop, wanted in [("length", ["max_tokens", "length", "incomplete", "max_tokens"]),
                     ("refusal", ["refusal", "stop", "completed", "content_filtered"]),
                     ("filtered", ["refusal", "content_filter", "incomplete", "guardrail_intervened"])]:
    control({"stop": stop})
    seen = [claude.messages.create(**messages).stop_reason, gpt.chat.completions.create(**chat).choices[0].finish_reason,
            gpt.responses.create(**response).status, aws.converse(**converse)["stopReason"]]
    check(f"stop: {stop}", seen == wanted, seen)

print(f"sdks: anthropic {anthropic.__version__}, openai {openai.__version__}, botocore {botocore.__version__}: {failed} failed")
sys.exit(failed)
