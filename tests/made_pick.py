"""A pick page over a small manifest, served in this process."""

import http.client
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from jobs.views.pick.manifest_file import ManifestFile
from jobs.views.pick.open_videos import OpenVideos
from jobs.views.pick.proposals import Proposals
from jobs.views.pick.run_masks import RunMasks
from jobs.views.pick.server import PickServer
from jobs.views.pick.session import Session
from stcn_core.detectors import Detections

TOKEN = "a-token-for-the-tests"
SIZE = (96, 128)  # of the videos


def square(top: int, left: int, side: int = 10) -> np.ndarray:
    """Mask uint8 [96, 128] of one square."""
    mask = np.zeros(SIZE, np.uint8)
    mask[top : top + side, left : left + side] = 1
    return mask


class Finder:
    """A detector that finds a square in every picture, and counts how often it was asked."""

    class_names = ("square",)

    def __init__(self):
        self.asked = 0

    def detect(self, picture, *, classes=(), min_score=0.5, limit=50):
        self.asked += 1
        masks = np.stack([square(4, 4), np.zeros(SIZE, np.uint8)]).astype(np.float16)
        boxes = np.array([[4, 4, 14, 14], [0, 0, 5, 5]], np.float32)
        return Detections(masks, boxes, ("square", "nothing"), np.array([0.9, 0.4], np.float32))


def write_rows(path: Path, rows: list[dict[str, Any]]) -> Path:
    """A JSONL manifest."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Its rows."""
    return [json.loads(line) for line in path.read_text().splitlines() if line.strip()]


@contextmanager
def served(manifest: Path, proposals: Proposals | None = None, masks: RunMasks | None = None) -> Iterator[PickServer]:
    """The server of a manifest, answering in threads of its own."""
    session = Session(ManifestFile(manifest), OpenVideos(), proposals, masks)
    server = PickServer(session, TOKEN)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
        session.close()


class Client:
    """A browser's part, by hand: every header can be another one."""

    def __init__(self, server: PickServer):
        self.server = server
        self.host = f"127.0.0.1:{server.server_port}"

    def ask(
        self,
        path: str,
        method: str = "GET",
        body: bytes | None = None,
        token: str | None = TOKEN,
        **headers: str | None,
    ) -> tuple[int, dict[str, str], bytes]:
        """(status, headers, body). A header of None is left out; underscores stand for dashes."""
        sent = {"Host": self.host} | ({"X-Pick-Token": token} if token is not None else {})
        sent |= {name.replace("_", "-"): value for name, value in headers.items()}
        connection = http.client.HTTPConnection("127.0.0.1", self.server.server_port, timeout=30)
        connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
        for name, value in sent.items():
            if value is not None:
                connection.putheader(name, value)
        connection.endheaders(body)
        answer = connection.getresponse()
        data = answer.read()
        connection.close()
        return answer.status, {key.lower(): value for key, value in answer.getheaders()}, data

    def get(self, path: str) -> dict[str, Any]:
        """A JSON answer that must be there."""
        status, _, data = self.ask(path)
        assert status == 200, data
        return json.loads(data)

    def edit(self, key: int, request: dict[str, Any], **headers: str | None) -> tuple[int, dict[str, Any]]:
        """(status, answer) of an edit; without a revision that of now is sent."""
        if "revision" not in request:
            rows = self.get("/api/manifest")["videos"]
            request = request | {"revision": next(row["revision"] for row in rows if row["key"] == key)}
        body = json.dumps(request).encode()
        sent = {"Origin": f"http://{self.host}", "Content-Type": "application/json", "Content-Length": str(len(body))}
        status, _, data = self.ask(f"/api/videos/{key}", "POST", body, **(sent | headers))
        return status, json.loads(data)
