"""A corpus with cursed videos, a local cluster of several nodes, and a monkey that kills what it finds."""

import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import av
from framepump import EncoderConfig, VideoWriter
from made_corpus import ROOT, environment
from made_networks import moving_squares
from made_processes import actors_below, kill
from ray.cluster_utils import Cluster

NODE_SECONDS = 120.0  # for a node to join: Ray's own test cluster gives it 30
SHARDS_A_KILL = 4  # with as many actors, what was in flight at one kill is mostly out before the next

# Each must end as a failure row with this class; torn and late ones must come through.
CURSES = {
    "segv-decoder": "decoder-crash",
    "stop-decoder": "decoder-stall",
    "segv-actor": "actor-died",
    "gil": "deadline",
}


def write_chaos_corpus(folder: Path, short: int = 80, long_frames: int = 900) -> tuple[Path, Path]:
    """(manifest without cursed videos, manifest with them). Few files under many ids, and one video in many units."""
    for number in range(5):
        _write(folder / f"short {number}.mp4", 40 + 5 * number, number)
    _write(folder / "long.mp4", long_frames, 9)
    rows = [_row(f"short {n % 5}.mp4", f"video-{n:03}") for n in range(short)]
    rows += [_row("long.mp4", "long"), _row("short 1.mp4", "torn-1"), _row("short 2.mp4", "torn-2")]
    rows += [_row("short 3.mp4", "late-1"), _row("short 4.mp4", "late-2")]
    cursed = [_row("short 0.mp4", f"{name}-1") for name in CURSES]
    (folder / "text.mp4").write_text("no video")
    cursed.append(_row("text.mp4", "text"))
    good, all_rows = folder / "good.jsonl", folder / "all.jsonl"
    good.write_text("".join(json.dumps(row) + "\n" for row in rows))
    random.Random(0).shuffle(rows)
    all_rows.write_text("".join(json.dumps(row) + "\n" for row in [*cursed, *rows]))
    return good, all_rows


def _write(path: Path, frames: int, seed: int) -> None:
    with VideoWriter(str(path), fps=10, encoder_config=EncoderConfig(preset="ultrafast")) as writer:
        for frame in moving_squares(frames, 48, 64, seed=seed):
            writer.append_data(frame)


def write_long_video(path: Path, hours: float, fps: int) -> None:
    """A moving test picture of 64x48 pixels."""
    with av.open(f"testsrc=size=64x48:rate={fps}:duration={hours * 3600}", format="lavfi") as source:
        with av.open(str(path), "w") as target:
            stream = target.add_stream("libx264", rate=fps, options={"preset": "ultrafast"})
            stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
            for frame in source.decode(video=0):
                target.mux(stream.encode(frame.reformat(format="yuv420p")))
            target.mux(stream.encode())


def _row(video: str, video_id: str) -> dict:
    box = {"frame": 3, "object_id": 1, "box": [10, 10, 20, 20]}
    return {"video": video, "video_id": video_id, "prompts": [box]}


class Nodes:
    """A head without GPUs and two workers with two fake GPUs each. Start it in the main thread."""

    def __init__(self) -> None:
        # It notes its address as the cluster of this machine, which other tests' runs and a user's would join.
        self._folder, self._before = tempfile.mkdtemp(prefix="r", dir="/tmp"), os.environ.get("RAY_TMPDIR")
        os.environ["RAY_TMPDIR"] = self._folder
        self.cluster = Cluster()
        self.head = self.cluster.add_node(num_cpus=2, num_gpus=0, object_store_memory=80 << 20, include_dashboard=False)
        self.workers = [self.add(), self.add()]

    def add(self):
        """One more worker node."""
        node = self.cluster.add_node(wait=False, num_cpus=2, num_gpus=2, object_store_memory=80 << 20)
        self.cluster.wait_for_nodes(NODE_SECONDS)
        return node

    def lose_one(self) -> None:
        """Kills a node without warning, and adds a new one, as a cloud does."""
        self.cluster.remove_node(self.workers.pop(0), allow_graceful=False)
        self.workers.append(self.add())

    def close(self) -> None:
        """Ends all nodes."""
        self.cluster.shutdown()
        os.environ.pop("RAY_TMPDIR")
        if self._before is not None:
            os.environ["RAY_TMPDIR"] = self._before
        shutil.rmtree(self._folder, ignore_errors=True)


def start_driver(manifest: Path, output: str, nodes: Nodes, marks: Path, *more: str) -> subprocess.Popen:
    """The run as a process of its own; its words go to the file `driver.log` beside the marks."""
    marks.mkdir(exist_ok=True)
    command = [sys.executable, str(ROOT / "tests" / "chaos_driver.py"), str(manifest), output, nodes.cluster.address]
    with (marks.parent / f"{marks.name}.log").open("a") as log:
        return subprocess.Popen(
            [*command, str(marks), *more],
            env=environment(PYTHONPATH=os.environ["PYTHONPATH"]),
            stdout=log,
            stderr=subprocess.STDOUT,
        )


@dataclass
class Monkey:
    """Kills one actor at random every few seconds until told to stop. Actors are found below this process: raylets are
    its children.

    After the first kill it waits for shards, too (published: how many there are). By the clock alone it would kill on a
    slow machine before anything is ready, and one unit again and again: then the run rightly stops, or gives it up.
    """

    seed: int
    pause: float
    most: int
    published: Callable[[], int]
    killed: int = 0
    _stop: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def __enter__(self) -> "Monkey":
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _work(self) -> None:
        draw, enough = random.Random(self.seed), 0
        while self.killed < self.most and not self._stop.wait(draw.uniform(0.5, 1.5) * self.pause):
            there = self.published()
            found = sorted(actors_below(os.getpid())) if there >= enough else []
            if found:
                kill(draw.choice(found))
                self.killed += 1
                enough = there + SHARDS_A_KILL


def shards(output: Path) -> int:
    """How many there are."""
    return len(list(output.glob("masks/*.parquet")))


def wait_for_shards(published: Callable[[], int], count: int, driver: subprocess.Popen, seconds: float = 300) -> None:
    """Until there are at least `count`. The driver must not end before."""
    deadline = time.monotonic() + seconds
    while published() < count:
        assert driver.poll() is None, f"the driver ended with {driver.poll()} at {published()} shards, not {count}"
        assert time.monotonic() < deadline, f"{published()} shards in {seconds:g} s, not {count}"
        time.sleep(0.1)
