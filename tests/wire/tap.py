"""A recording proxy in front of a peer: what our code sent, what the peer answered, and how often.

It changes nothing, so that signatures hold, unless it is given a function that does: that is how defects are planted.
"""

import http.client
import http.server
import ssl
import threading
import time
from dataclasses import dataclass, field
from urllib.parse import urlsplit

HOP = {"connection", "keep-alive", "transfer-encoding", "te", "trailer", "upgrade", "content-length"}
PATIENCE = 60  # seconds; it only ends what hangs


@dataclass
class Exchange:
    """One request, and the peer's answer to it."""

    path: str
    headers: dict
    body: bytes
    at: float  # seconds of a clock that only runs forward
    status: int = 0  # 0: the peer sent no head
    answered: dict = field(default_factory=dict)
    raw: bytes = b""


class Tap:
    """Listens on a port of its own and passes everything on to `base`."""

    def __init__(self, base, alter=None, tls=None):
        self.base, self.alter, self.exchanges = urlsplit(base), alter, []
        tap = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                tap.pass_on(self)

            def log_message(self, *_):
                pass

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_):
                pass  # the caller hung up, which some cases are about

        self.server = Server(("127.0.0.1", 0), Handler)
        scheme, host = "http", "127.0.0.1"
        if tls:
            scheme, host, context = "https", "localhost", ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*tls)
            self.server.socket = context.wrap_socket(self.server.socket, server_side=True, do_handshake_on_connect=False)
        self.url = f"{scheme}://{host}:{self.server.server_address[1]}{self.base.path.rstrip('/')}"
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()

    @property
    def hits(self):
        return len(self.exchanges)

    def pass_on(self, handler):
        body = handler.rfile.read(int(handler.headers.get("content-length") or 0))
        seen = Exchange(handler.path, {name.lower(): value for name, value in handler.headers.items()}, body,
                        time.monotonic())
        self.exchanges.append(seen)
        peer = http.client.HTTPConnection(self.base.hostname, self.base.port, timeout=PATIENCE)
        try:
            # Host stays the caller's: a signature covers it.
            sent = {name: value for name, value in seen.headers.items() if name not in HOP}
            peer.request("POST", handler.path, body, sent)
            answer = peer.getresponse()
            seen.status = answer.status
            seen.answered = {name.lower(): value for name, value in answer.getheaders()}
            if self.alter:
                self.altered(handler, seen, answer.read())
            else:
                self.copied(handler, seen, answer)
        except (OSError, http.client.HTTPException):
            handler.close_connection = True  # as the peer did it: in the middle
            handler.connection.close()
        finally:
            peer.close()

    def altered(self, handler, seen, raw):
        seen.raw = raw
        status, headers, body = self.alter(seen, seen.status, dict(seen.answered), raw)
        self.head(handler, status, headers, len(body))
        handler.wfile.write(body)

    def copied(self, handler, seen, answer):
        whole = answer.getheader("content-length")
        self.head(handler, answer.status, seen.answered, whole)
        while piece := answer.read1(65536):
            seen.raw += piece
            handler.wfile.write(piece if whole else b"%x\r\n%b\r\n" % (len(piece), piece))
            handler.wfile.flush()
        if not whole:
            handler.wfile.write(b"0\r\n\r\n")

    @staticmethod
    def head(handler, status, headers, length):
        handler.send_response_only(status)
        for name, value in headers.items():
            if name not in HOP:
                handler.send_header(name, value)
        handler.send_header(*(("transfer-encoding", "chunked") if length is None else ("content-length", str(length))))
        handler.end_headers()
