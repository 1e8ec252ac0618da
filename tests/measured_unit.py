"""Runs one unit in this process and prints its peak anonymous memory: `python tests/measured_unit.py VIDEO OUT`.

Anonymous memory, so that the page cache of the video and of spill files does not count.
"""

import sys
import tempfile
import threading
from dataclasses import replace
from pathlib import Path

import torch
from made_networks import TINY, random_network

from cluster.frames.decoder import Decoder
from cluster.heartbeat import Heartbeat
from cluster.plan import make_plan
from cluster.segmenter import StcnSegmenters
from cluster.stores.source import stat_source
from cluster.stores.storage import Storage
from cluster.unit import annotate_unit
from cluster.workbench import Workbench
from schemas.manifest import VideoRow
from schemas.prompt import Prompt
from schemas.run_config import RunConfig
from stcn_core.checkpoint import file_sha256, save_checkpoint


def anonymous_bytes() -> int:
    """RssAnon of this process."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("no RssAnon in /proc/self/status")


def main(video: str, output: str) -> None:
    torch.set_num_threads(1)
    config = RunConfig(
        "tiny", "0" * 64, memory_frames=8, burn_in_frames=32, segment_frames=100, recent_frames=2, resolution=480
    )
    row = VideoRow(1, video, "v", (Prompt(frame=0, object_id=1, box=(4, 40, 40, 40)),))
    unit = make_plan([row], {video: stat_source(video, {})}, {}, config)[0]
    peak = 0
    stop = threading.Event()

    def watch() -> None:
        nonlocal peak
        while not stop.wait(0.01):
            peak = max(peak, anonymous_bytes())

    with tempfile.TemporaryDirectory() as scratch:
        checkpoint = Path(scratch) / "tiny.safetensors"
        save_checkpoint(random_network(TINY), checkpoint)
        config = replace(config, checkpoint_sha256=file_sha256(checkpoint))
        segmenters = StcnSegmenters(str(checkpoint))
        segmenters.load(config, "cpu", 1, Path(scratch), {})
        bench = Workbench(
            segmenters=segmenters,
            decoder=Decoder(),
            config=config,
            storage=Storage(output, {}),
            scratch=Path(scratch),
            actor="test",
            ram_bytes=1 << 30,
        )
        watcher = threading.Thread(target=watch)
        watcher.start()
        try:
            done = annotate_unit(unit, bench, Heartbeat())
        finally:
            stop.set()
            watcher.join()
            bench.close()
    print(done.frames, done.mask_rows, peak)


if __name__ == "__main__":
    main(*sys.argv[1:])
