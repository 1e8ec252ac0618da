"""Small servers for tests of storage: HTTP that answers as told, and FTP with one file in its root."""

import contextlib
import http.server
import socketserver
import threading
from collections.abc import Callable, Iterator

Handler = http.server.BaseHTTPRequestHandler


@contextlib.contextmanager
def serving(server: socketserver.BaseServer) -> Iterator[int]:
    """Its port, while it serves."""
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()


def web_server(answer: Callable[[Handler], None]) -> http.server.ThreadingHTTPServer:
    """`answer` answers every HEAD and GET. Ranges are its own business."""

    class Answering(Handler):
        def do_GET(self) -> None:
            answer(self)

        do_HEAD = do_GET

        def log_message(self, *args: object) -> None:
            pass

    class Quiet(http.server.ThreadingHTTPServer):
        def handle_error(self, *args: object) -> None:
            """A client that has gone away is what some tests are about."""

    return Quiet(("127.0.0.1", 0), Answering)


class _Control(socketserver.StreamRequestHandler):
    """As much of RFC 959 and 3659 as ftplib asks for to list a folder and fetch a file; REST is refused."""

    def handle(self) -> None:
        self._say("220 ready")
        while line := self.rfile.readline().decode().strip():
            command, _, argument = line.partition(" ")
            answer = getattr(self, f"_{command.lower()}", None)
            if command == "QUIT":
                return
            self._say("502 not known") if answer is None else answer(argument)

    def _say(self, line: str) -> None:
        self.wfile.write(f"{line}\r\n".encode())

    def _user(self, _: str) -> None:
        self._say("230 come in")

    def _type(self, _: str) -> None:
        self._say("200 as you like")

    def _epsv(self, _: str) -> None:
        self._data = socketserver.TCPServer(("127.0.0.1", 0), socketserver.BaseRequestHandler)
        self._say(f"229 here (|||{self._data.server_address[1]}|)")

    def _pasv(self, _: str) -> None:
        self._data = socketserver.TCPServer(("127.0.0.1", 0), socketserver.BaseRequestHandler)
        high, low = divmod(self._data.server_address[1], 256)
        self._say(f"227 here (127,0,0,1,{high},{low})")

    def _mlsd(self, _: str) -> None:
        self._send(
            "".join(f"type=file;size={len(data)}; {name}\r\n" for name, data in self.server.files.items()).encode()
        )

    def _retr(self, path: str) -> None:
        self._send(self.server.files[path.lstrip("/")])

    def _send(self, data: bytes) -> None:
        self._say("150 it comes")
        connection, _ = self._data.get_request()
        connection.sendall(data)
        connection.close()
        self._data.server_close()
        self._say("226 that was it")


def ftp_server(files: dict[str, bytes]) -> socketserver.ThreadingTCPServer:
    """Files by name, in the root."""
    server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), _Control)
    server.daemon_threads, server.files = True, files
    return server
