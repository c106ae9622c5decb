"""The software of others that is asked, each as a process of its own on a free port of the loopback address."""

import json
import os
import pathlib
import secrets
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

HERE = pathlib.Path(__file__).parent
PATIENCE = 120  # seconds until a peer answers; it only ends what hangs


class Missing(Exception):
    """A package is not installed, and why."""


class NotStarted(Exception):
    """A peer is installed and does not serve."""


def authority(folder):
    """Makes an authority and a certificate of it for localhost: the file with the authority, and the certificate with its key."""
    new = ["openssl", "req", "-newkey", "rsa:2048", "-nodes", "-keyout"]
    sign = ["openssl", "x509", "-req", "-in", "host.csr", "-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2"]
    for command in [
        [*new, "ca.key", "-x509", "-out", "ca.crt", "-days", "2", "-subj", "/CN=wire"],
        [*new, "host.key", "-out", "host.csr", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"],
        [*sign, "-copy_extensions", "copy", "-out", "host.crt"],
    ]:
        subprocess.run(command, cwd=folder, check=True, capture_output=True)
    return folder / "ca.crt", (folder / "host.crt", folder / "host.key")


HELD = []


def refusing_port():
    """A port on which every connection is refused for as long as this runs: it is bound, and nobody listens."""
    held = socket.socket()
    held.bind(("127.0.0.1", 0))
    HELD.append(held)
    return held.getsockname()[1]


def free_port():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


def clean():
    """The environment without what would turn a peer into somebody else's."""
    return {name: value for name, value in os.environ.items()
            if not name.startswith(("AIMOCK_", "LITELLM_", "OPENAI_", "ANTHROPIC_", "AWS_")) and name != "DATABASE_URL"}


class Peer:
    """A process that serves HTTP at `base` until it is stopped."""

    def __init__(self, name, folder, command, ready, port, env=None):
        self.base, self.name, self.log = f"http://127.0.0.1:{port}", name, folder / f"{name}.log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=folder,
                                            env={**clean(), **(env or {})}, start_new_session=True)
        self.ready = self.base + ready

    def wait(self):
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until:
            if self.process.poll() is not None:
                break
            try:
                urllib.request.urlopen(self.ready, timeout=2).read()
                return self
            except (OSError, urllib.error.URLError):
                time.sleep(0.1)
        self.stop()
        raise NotStarted(f"{self.name} did not start:\n{self.log.read_text(errors='replace')[-4000:]}")

    def stop(self):
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


def why_not(folder, package):
    """Why a package is not there, as install.sh noted it."""
    note = folder / f"{package}.missing"
    return note.read_text().strip() if note.exists() else "tests/wire/install.sh was not run"


def scripted(tools, folder):
    """demo/models. Signatures of AWS are verified, and one key of a provider is refused."""
    port = free_port()
    command = [tools.models, "--listen", f"127.0.0.1:{port}", "--keys", "good-key", "--aws-keys", "AKIDEXAMPLE=good-secret"]
    return Peer("scripted", folder, command, "/healthz", port)


def aimock(tools, folder, fixtures):
    cli = tools.installed / "aimock/node_modules/@copilotkit/aimock/dist/cli.js"
    if not cli.exists():
        raise Missing(f"@copilotkit/aimock: {why_not(tools.installed, 'aimock')}")
    file, port = folder / "aimock.json", free_port()
    file.write_text(json.dumps({"fixtures": fixtures}))
    command = [tools.installed / "node", cli, "--port", str(port), "--fixtures", file, "--strict", "--chunk-size", "40"]
    return Peer("aimock", folder, command, "/health", port)


def litellm(tools, folder, models):
    """The proxy of LiteLLM. Returns the peer and the key that it wants."""
    program = tools.installed / "venv/bin/litellm"
    if not program.exists():
        raise Missing(f"litellm: {why_not(tools.installed, 'litellm')}")
    key, port, file = f"sk-{secrets.token_hex(24)}", free_port(), folder / "litellm.yaml"
    settings = {
        "model_list": [{"model_name": name, "litellm_params": params} for name, params in models.items()],
        "litellm_settings": {"num_retries": 0, "callbacks": [], "telemetry": False, "drop_params": False},
        "router_settings": {"num_retries": 0, "disable_cooldowns": True},
    }
    file.write_text(json.dumps(settings))  # JSON is YAML
    env = {"LITELLM_MASTER_KEY": key, "LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_TELEMETRY": "False",
           "LITELLM_LOG": "ERROR", "NO_PROXY": "127.0.0.1,localhost"}
    command = [program, "--config", file, "--host", "127.0.0.1", "--port", str(port), "--num_workers", "1"]
    return Peer("litellm", folder, command, "/health/liveliness", port, env), key


def llama(tools, folder, context):
    """The server of llama-cpp-python, with a tiny model of random weights that takes so many tokens."""
    python = tools.installed / "llama/bin/python"
    if not python.exists():
        raise Missing(f"llama-cpp-python: {why_not(tools.installed, 'llama')}")
    model, port = folder / f"tiny-{context}.gguf", free_port()
    subprocess.run([python, HERE / "tiny_model.py", model], check=True, stdout=sys.stderr)
    # One thread: those of llama.cpp wait for each other, and on a busy machine for ever.
    command = [python, "-m", "llama_cpp.server", "--model", model, "--host", "127.0.0.1", "--port", str(port),
               "--n_ctx", str(context), "--n_threads", "1", "--n_threads_batch", "1", "--model_alias", "tiny-random",
               "--chat_format", "chatml"]
    return Peer(f"llama-{context}", folder, command, "/v1/models", port)
