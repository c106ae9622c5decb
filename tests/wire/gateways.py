#!/usr/bin/env python3
"""`make bench-router`: starts the server that everybody asks and the gateways that are installed, and measures beside them."""

import argparse
import os
import pathlib
import signal
import subprocess
import sys
import tempfile

import peers


def portkey(tools, folder):
    program = tools.installed / "portkey/node_modules/@portkey-ai/gateway/build/start-server.js"
    if not program.exists():
        raise peers.Missing(f"@portkey-ai/gateway: {peers.why_not(tools.installed, 'portkey')}")
    port = peers.free_port()
    command = [tools.installed / "node", program, "--headless", f"--port={port}"]
    return peers.Peer("portkey", folder, command, "/", port, {"NODE_ENV": "production"})


def main():
    # Whoever ends this ends the peers too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    args = argparse.ArgumentParser(description=__doc__)
    args.add_argument("--router", type=pathlib.Path, required=True, help="the program that benches/router.rs becomes")
    args.add_argument("--installed", type=pathlib.Path, required=True, help="folder that install.sh filled")
    args.add_argument("more", nargs="*", help="for the program: --rounds N --calls N")
    tools, more = args.parse_known_args()
    tools.installed = tools.installed.absolute()
    server = subprocess.Popen([tools.router.absolute(), "serve"], stdout=subprocess.PIPE, text=True)
    started, command = [], []
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        try:
            base = server.stdout.readline().strip()
            models = {"m": {"model": "openai/m", "api_base": f"{base}/v1", "api_key": "unused"}}
            for name, start in [("LiteLLM", lambda: peers.litellm(tools, pathlib.Path(folder), models)),
                                ("Portkey", lambda: (portkey(tools, pathlib.Path(folder)), "unused"))]:
                try:
                    peer, key = start()
                except peers.Missing as why:
                    print(f"not installed: {why}")
                    continue
                started.append(peer.wait())
                command += ["--gateway", f"{name}={peer.base}/v1"]
                if name == "LiteLLM":
                    command += ["--header", f"authorization=Bearer {key}"]
            # Portkey is told by each request where to go; LiteLLM does not look at these.
            command += ["--header", "x-portkey-provider=openai", "--header", f"x-portkey-custom-host={base}/v1"]
            done = subprocess.run([tools.router.absolute(), "measure", "--server", base, *command, *tools.more, *more],
                                  env={**os.environ, "NO_PROXY": "127.0.0.1"})
            sys.exit(done.returncode)
        finally:
            for peer in started:
                peer.stop()
            server.terminate()
            server.wait()


if __name__ == "__main__":
    main()
