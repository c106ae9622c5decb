#!/usr/bin/env python3
"""Software of others against ours: `make wire`. Each check is counted; the last line says how many failed."""

import argparse
import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request

import cases
import gateway
import local
import peers
import planted
from bench import Bench

HERE = pathlib.Path(__file__).parent
ALL = ["sdks", "scripted", "aimock", "litellm", "llama"]


def main():
    # Whoever ends this ends the peers too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    args = argparse.ArgumentParser(description=__doc__)
    args.add_argument("peers", nargs="*", help=f"which of {', '.join(ALL)}; default: all")
    args.add_argument("--backstop", type=pathlib.Path, required=True, help="the program")
    args.add_argument("--models", type=pathlib.Path, required=True, help="the scripted model server, built from demo/models")
    args.add_argument("--installed", type=pathlib.Path, required=True, help="folder that install.sh filled")
    args.add_argument("--skip-missing", action="store_true", help="a peer that could not be installed is said and no failure")
    tools = args.parse_args()
    if unknown := set(tools.peers) - set(ALL):
        args.error(f"{', '.join(unknown)}: none of {', '.join(ALL)}")
    for name in ["backstop", "models", "installed"]:
        setattr(tools, name, getattr(tools, name).absolute())
    bench, missing, started = Bench(tools.backstop), 0, []
    # A proxy of the environment is nobody's peer.
    for name in ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"]:
        os.environ.pop(name, None)
    with tempfile.TemporaryDirectory(prefix="wire-") as folder:
        try:
            for name in tools.peers or ALL:
                began, before = time.monotonic(), bench.checked
                try:
                    PLAY[name](bench, tools, pathlib.Path(folder), started)
                except peers.Missing as why:
                    print(f"not installed: {why}", flush=True)
                    missing += 1
                    continue
                except peers.NotStarted as why:
                    bench.check(f"{name}: starts", False, why)
                print(f"{name}: {bench.checked - before} checks in {time.monotonic() - began:.1f} s", flush=True)
        finally:
            for peer in started:
                peer.stop()
    if missing and not tools.skip_missing:
        bench.check(f"{missing} peer(s) are not installed", False)
    print(f"wire: {bench.checked} checked, {len(bench.failures)} failed")
    sys.exit(1 if bench.failures or not bench.checked else 0)


def start(started, peer):
    started.append(peer)
    return peer.wait()


def control(peer):
    def rules(script):
        body = json.dumps({"rules": script}).encode()
        urllib.request.urlopen(urllib.request.Request(peer.base + "/control", data=body), timeout=10).read()

    return rules


def sdks(bench, tools, folder, started):
    """The official SDKs find our scripted server faithful: what is shown with it is worth something."""
    if not (tools.installed / "venv/bin/python").exists():
        raise peers.Missing(f"anthropic, openai, boto3: {peers.why_not(tools.installed, 'litellm')}")
    # Any key, because each SDK sends its own.
    port = peers.free_port()
    command = [tools.models, "--listen", f"127.0.0.1:{port}", "--aws-keys", "AKIDEXAMPLE=sosecret"]
    server = start(started, peers.Peer("sdks", folder, command, "/healthz", port))
    python = tools.installed / "venv/bin/python"
    done = subprocess.run([python, HERE / "sdks.py", server.base], capture_output=True, text=True, timeout=300)
    lines = done.stdout.splitlines()
    for line in lines:
        if line.startswith(("ok  ", "FAIL ")):
            bench.check(f"sdks, {line[5:]}", line.startswith("ok"), line)
    bench.check("sdks: ran to the end", done.returncode == 0 and bool(lines), (lines[-1:], done.stderr[-2000:]))


def scripted(bench, tools, folder, started):
    peer = start(started, peers.scripted(tools, folder))
    bench.run_all(cases.scripted(peer.base, control(peer)))
    bench.run_all(cases.trusted(peer.base, *peers.authority(folder)))
    planted.play(bench, peer.base, control(peer))
    good = cases.Up("OpenAiChat", peer.base + "/v1", "m", key="good-key")
    bad = cases.Up("AnthropicMessages", peer.base, "m", key="bad-key")
    aws = cases.Up("BedrockConverse", peer.base, "m", aws=cases.AWS)
    bench.models_check("scripted", [good, aws], ["Answered", "Answered"])
    bench.models_check("scripted, a wrong key", [good, bad], ["Answered", "CredentialsRefused"])


def aimock(bench, tools, folder, started):
    peer = start(started, peers.aimock(tools, folder, cases.aimock_fixtures()))
    bench.run_all(cases.aimock(peer.base))
    ups = [cases.Up(api, peer.base + cases.path(api), model, aws=cases.AWS if api == "BedrockConverse" else None)
           for api, model in zip(cases.APIS, ["text", "text", "broken", "text"])]
    bench.models_check("aimock", ups, ["Answered", "Answered", "Upstream", "Answered"])


def litellm(bench, tools, folder, started):
    behind = start(started, peers.scripted(tools, folder))
    control(behind)(gateway.script())
    peer, key = peers.litellm(tools, folder, gateway.models(behind.base))
    start(started, peer)
    bench.run_all(gateway.litellm(peer.base, key))
    ups = [cases.Up("OpenAiChat", peer.base + "/v1", "mock-text", key=key), cases.Up("AnthropicMessages", peer.base, "messages-m", key=key)]
    bench.models_check("litellm", ups, ["Answered", "Answered"])


def llama(bench, tools, folder, started):
    peer, small = (start(started, peers.llama(tools, folder, context)) for context in [16_384, 2048])
    bench.run_all(local.llama(peer.base, small.base), width=1)
    # The question of a check is small. So is its answer, which this server does not bound: it knows no max_completion_tokens.
    bench.models_check("llama", [cases.Up("OpenAiChat", small.base + "/v1", "tiny-random")], ["OutputLimit"])


PLAY = {"sdks": sdks, "scripted": scripted, "aimock": aimock, "litellm": litellm, "llama": llama}

if __name__ == "__main__":
    main()
