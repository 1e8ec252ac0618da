"""A run without Ray: the plan's units done one after the other in this process, by the stand-in."""

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from cluster.config_lock import lock_config
from cluster.detector_weights import Detectors
from cluster.finalise import delete_bank, finalise_video
from cluster.frames.decoder import Decoder
from cluster.heartbeat import Heartbeat
from cluster.kept_manifest import keep_manifest
from cluster.plan import Unit
from cluster.planning import plan_run
from cluster.resume import TABLES, OutputState, by_video, sort_out
from cluster.segmenter import Segmenters
from cluster.stand_in import StandInSegmenters
from cluster.stores.storage import Storage
from cluster.unit import UnitDone, annotate_unit
from cluster.workbench import Workbench
from schemas.manifest import VideoRow
from schemas.run_config import RunConfig


def published(storage: Storage) -> OutputState:
    """What an output holds now."""
    return OutputState.of(name for table in TABLES for name in storage.list(table))


@contextlib.contextmanager
def workbench(
    storage: Storage,
    config: RunConfig,
    scratch: Path,
    segmenters: Segmenters | None = None,
    detectors: Detectors | None = None,
) -> Iterator[Workbench]:
    """An actor's tools in this process; the stand-in, where no segmenters are given."""
    segmenters = segmenters or StandInSegmenters()
    scratch.mkdir(exist_ok=True)
    segmenters.load(config, "cpu", 1, scratch, {})
    bench = Workbench(segmenters, Decoder(), config, storage, scratch, "actor-0", 64 << 20, detectors=detectors)
    try:
        yield bench
    finally:
        bench.close()


def run_here(
    storage: Storage,
    rows: Sequence[VideoRow],
    config: RunConfig,
    scratch: Path,
    segmenters: Segmenters | None = None,
    detectors: Detectors | None = None,
) -> list[Unit]:
    """Does what is still to be done of these rows; returns the units that were worked on."""
    lock_config(storage, config)
    units = plan_run(storage, rows, config, {}, set(published(storage).published), print)
    keep_manifest(storage, rows)
    todo = sort_out(units, published(storage), None)
    with workbench(storage, config, scratch, segmenters, detectors) as bench:
        for unit in todo.work:
            done = annotate_unit(unit, bench, Heartbeat())
            assert isinstance(done, UnitDone), done
    for video in by_video(units):
        if len(video) > 1:
            finalise_video(storage, [unit.unit_id for unit in video if unit.has_shard])
            delete_bank(storage, video[0].unit_id)
    return todo.work
