"""Annotates one video with the stand-in network and prints its peak anonymous memory as a line of JSON:

    python -m jobs.measures.length_child VIDEO FOLDER

Anonymous memory, so that the page cache of the video and of spill files does not count. The bundled network is loaded
and lies unused: every actor holds one, and what grows is to be judged beside it. `bare`: what there was before.
"""

import json
import sys
import threading
from pathlib import Path

from cluster.frames.decoder import Decoder
from cluster.heartbeat import Heartbeat
from cluster.plan import make_plan
from cluster.stand_in import StandInSegmenters
from cluster.stores.source import stat_source
from cluster.stores.storage import Storage
from cluster.unit import UnitDone, annotate_unit
from cluster.workbench import Workbench
from schemas.manifest import VideoRow
from schemas.prompt import Prompt
from schemas.run_config import RunConfig
from stcn_core.checkpoint import BUNDLED, load_checkpoint

SAMPLE_SECONDS = 0.01
VISITED = 64
RAM_BYTES = 1 << 30


def anonymous_bytes(pid: int | str) -> int:
    """RssAnon of a process, 0 where it is gone."""
    try:
        text = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in text.splitlines() if line.startswith("RssAnon:")), 0)


def main(video: str, folder: str) -> None:
    bare = anonymous_bytes("self")
    network = load_checkpoint(BUNDLED)
    config = RunConfig("stand-in", "0" * 64, memory_frames=16, burn_in_frames=VISITED, segment_frames=100)
    row = VideoRow(1, video, "long", (Prompt(frame=0, object_id=1, box=(20, 20, 40, 40)),))
    unit = make_plan([row], {video: stat_source(video)}, {}, config)[0]
    scratch = Path(folder) / "scratch"
    scratch.mkdir(parents=True)
    bench = Workbench(
        segmenters=StandInSegmenters(),
        decoder=Decoder(),
        config=config,
        storage=Storage(str(Path(folder) / "output")),
        scratch=scratch,
        actor="benchmark",
        ram_bytes=RAM_BYTES,
    )
    peak, stop = {"own": 0, "decoder": 0}, threading.Event()

    def watch() -> None:
        while not stop.wait(SAMPLE_SECONDS):
            peak["own"] = max(peak["own"], anonymous_bytes("self"))
            if bench.decoder.pid is not None:
                peak["decoder"] = max(peak["decoder"], anonymous_bytes(bench.decoder.pid))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        done = annotate_unit(unit, bench, Heartbeat())
    finally:
        stop.set()
        watcher.join()
        bench.close()
    if not isinstance(done, UnitDone):
        raise SystemExit(f"{video}: {done}")
    del network  # held until here
    print(json.dumps({"frames": done.frames, "rows": done.mask_rows, "visited": VISITED, "bare": bare, **peak}))


if __name__ == "__main__":
    main(*sys.argv[1:])
