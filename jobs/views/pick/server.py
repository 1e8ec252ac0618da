"""The pick page over HTTP, for one person on one machine: who may ask, what may be asked, and how much.

Everything that the manifest or its videos say needs the token, sent in a header: other sites cannot send it, and other
servers on this machine never see it, as they would a cookie. The page's own files hold no secret and are held in
memory; nothing that a request says ever becomes a path.
"""

import hmac
import importlib.resources
import ipaddress
import json
import re
import socket
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs

from jobs.views.overlay import object_colour
from jobs.views.pick.session import Refused, Session

TOKEN_HEADER = "X-Pick-Token"
MOST_BODY = 32 << 20  # bytes; the runs of a mask of 8K pixels that is all edges are fewer
IDLE_SECONDS = 60.0
COLOURS = 64
TYPES = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
    "Cache-Control": "no-store",
}
_FRAME = re.compile(r"/api/videos/(\d{1,9})/frames/(\d{1,9})(/proposals)?")
_HOST = re.compile(r"(?:\[([0-9a-fA-F:.]{2,45})\]|([\w.-]{1,253}))(?::\d{1,5})?")
_VIDEO = re.compile(r"/api/videos/(\d{1,9})")


class PickServer(ThreadingHTTPServer):
    """Serves one session. `port` 0: any free one; `address` is what the person opens. Raises OSError."""

    daemon_threads = True

    def __init__(self, session: Session, token: str, host: str = "127.0.0.1", port: int = 0):
        if ":" in host:
            self.address_family = socket.AF_INET6
        self.session, self.token, self.host = session, token, host.lower()
        self.files = page_files()
        super().__init__((host, port), PickHandler)

    @property
    def address(self) -> str:
        """The URL with the token."""
        host = socket.gethostname() if self.host in ("0.0.0.0", "::") else self.host
        host = f"[{host}]" if ":" in host else host
        return f"http://{host}:{self.server_port}/?token={self.token}"

    def knows(self, host: str) -> bool:
        """Whether a Host header names this server: one that does not is a foreign page that had its name resolved to
        this machine. Any port will do, as it differs behind an SSH tunnel."""
        found = _HOST.fullmatch(host)
        if found is None:
            return False
        name = (found[1] or found[2]).lower()
        if name in ("localhost", self.host):
            return True
        try:
            address = ipaddress.ip_address(name)
        except ValueError:
            return name == socket.gethostname().lower() and not is_loopback(self.host)
        return address.is_loopback or not is_loopback(self.host)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A connection that breaks off is no event."""


class PickHandler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "pick"
    sys_version = ""
    timeout = IDLE_SECONDS
    server: PickServer

    def do_GET(self) -> None:
        self._answer(self._get)

    def do_POST(self) -> None:
        self._answer(self._post)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: addresses hold the token."""

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """What http.server itself refuses (bad requests, other methods), with our headers."""
        self.close_connection = True
        self._send(code, json.dumps({"error": message or HTTPStatus(code).phrase}).encode(), "application/json")

    def _answer(self, handle: Any) -> None:
        try:
            if not self.server.knows(self.headers.get("Host", "")):
                raise Refused(421, "this server does not go by that name", "open the address that jobs.pick printed")
            handle()
        except Refused as refused:
            # A body that was not read must not be taken for the next request.
            self.close_connection = True
            self._send(refused.status, json.dumps(refused.to_json()).encode(), "application/json")
        except (ConnectionError, TimeoutError):
            self.close_connection = True
        except Exception as error:
            self.close_connection = True
            told = {"error": f"internal error: {type(error).__name__}: {error}", "remedy": "report this as a defect"}
            self._send(500, json.dumps(told).encode(), "application/json")

    def _get(self) -> None:
        path, _, query = self.path.partition("?")
        if self.headers.get("Content-Length", "0") != "0" or "Transfer-Encoding" in self.headers:
            self.close_connection = True  # what it brings is not read, and no next request
        if path == "/":
            given = parse_qs(query).get("token")
            if given is not None and not self._is_token(given[0]):
                raise Refused(403, "the token in the address is wrong", "open the address that jobs.pick printed")
            self._send(200, self.server.files["index.html"], TYPES["html"])
        elif path.startswith("/page/"):
            self._page_file(path.removeprefix("/page/"))
        else:
            self._need_token()
            self._read(path)

    def _page_file(self, name: str) -> None:
        if name not in self.server.files:
            raise Refused(404, "there is no such page")
        self._send(200, self.server.files[name], TYPES[name.rpartition(".")[2]])

    def _read(self, path: str) -> None:
        session = self.server.session
        if path == "/api/manifest":
            colours = [f"#{bytes(object_colour(number)).hex()}" for number in range(1, COLOURS + 1)]
            self._send_json(session.overview() | {"colours": colours})
        elif match := _VIDEO.fullmatch(path):
            self._send_json(session.video(int(match[1])))
        elif match := _FRAME.fullmatch(path):
            key, frame = int(match[1]), int(match[2])
            if match[3]:
                self._send_json({"proposals": session.propose(key, frame)})
                return
            data, seconds = session.frame(key, frame)
            self._send(200, data, "image/jpeg", {} if seconds is None else {"X-Frame-Time": f"{seconds:.6f}"})
        else:
            raise Refused(404, "there is no such address")

    def _post(self) -> None:
        self._need_token()
        origin = self.headers.get("Origin")
        if (
            origin != f"http://{self.headers['Host']}"
            or self.headers.get("Sec-Fetch-Site", "same-origin") != "same-origin"
        ):
            raise Refused(403, "only the pick page itself may write", "open the address that jobs.pick printed")
        match = _VIDEO.fullmatch(self.path)
        if match is None:
            raise Refused(404, "there is no such address")
        self._send_json(self.server.session.edit(int(match[1]), self._body()))

    def _body(self) -> dict[str, Any]:
        if self.headers.get_content_type() != "application/json" or "Transfer-Encoding" in self.headers:
            raise Refused(415, "an edit is sent as JSON, in one piece")
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal():
            raise Refused(411, "an edit says its length")
        if int(length) > MOST_BODY:
            raise Refused(413, f"an edit has {MOST_BODY >> 20} MiB at most", "simplify the mask")
        data = self.rfile.read(int(length))
        try:
            body = json.loads(data)
        except (ValueError, RecursionError):
            raise Refused(400, "the edit is not JSON") from None
        if len(data) < int(length) or not isinstance(body, dict):
            raise Refused(400, "the edit is not a JSON object")
        return body

    def _need_token(self) -> None:
        if not self._is_token(self.headers.get(TOKEN_HEADER, "")):
            raise Refused(403, "the token is missing or wrong", "open the address that jobs.pick printed", "token")

    def _is_token(self, given: str) -> bool:
        return hmac.compare_digest(given.encode("utf-8", "replace"), self.server.token.encode())

    def _send_json(self, value: dict[str, Any]) -> None:
        self._send(200, json.dumps(value).encode(), "application/json")

    def _send(self, status: int, data: bytes, kind: str, more: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {**HEADERS, **(more or {})}.items():
            self.send_header(name, value)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)


def page_files() -> dict[str, bytes]:
    """Name -> bytes of the files of the page."""
    folder = importlib.resources.files("jobs.views.pick") / "page"
    return {
        file.name: file.read_bytes()
        for file in folder.iterdir()
        if file.is_file() and file.name.rpartition(".")[2] in TYPES
    }


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches a server at `host`."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
