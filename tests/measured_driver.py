"""What the driver's books cost at 100,000 units: `python tests/measured_driver.py [UNITS]`. Prints seconds and MB.

Real queue, ledger, plan table, listing and resume on a local folder; no Ray, and no actor's work.
"""

import io
import resource
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow.parquet as pq
from made_units import whole

from cluster.driver import Driver, DriverSettings
from cluster.finalise import row_name, shard_name
from cluster.ledger import Ledger
from cluster.plan_table import known_probes, plan_table
from cluster.progress import Progress
from cluster.resume import TABLES, OutputState, sort_out
from cluster.stores.storage import Storage
from cluster.unit import UnitDone
from schemas.run_config import RunConfig


@contextmanager
def measured(what: str, count: int) -> Iterator[None]:
    before, cpu = time.perf_counter(), time.process_time()
    yield
    wall, cpu = time.perf_counter() - before, time.process_time() - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{what}: {wall:.2f} s ({1e6 * cpu / count:.0f} us CPU a unit), peak {peak:.0f} MB", flush=True)


class NoCrew:
    """Where the driver looks for actors."""

    busy = idle = starting = workers = ()


def main(count: int) -> None:
    with measured("make units", count):
        units = [whole(number, 1.0 + number % 100) for number in range(count)]
    with measured("plan to Parquet and back", count):
        sink = io.BytesIO()
        pq.write_table(plan_table(units), sink, compression="zstd")
        known_probes(pq.read_table(io.BytesIO(sink.getvalue())))
    with tempfile.TemporaryDirectory() as name:
        storage = Storage(name)
        videos = {unit.video_key: (unit,) for unit in units}
        with measured("ledger: take, settle and look at the standing, unit by unit", count):
            ledger = Ledger(units, videos, {}, storage, RunConfig("small", "0" * 64), print)
            driver = Driver(ledger, NoCrew(), DriverSettings(lambda: 256), print, print)
            progress = Progress(stream=io.StringIO())
            while pack := ledger.queue.take(pack_cost=5.0):
                for unit in pack:
                    ledger.done(unit, UnitDone(unit.unit_id, "done", 1, 1, unit.cost))
                progress.show(driver.standing())
        assert ledger.tally.videos == count
        for unit in units:
            for file in (
                shard_name(unit.unit_id),
                *(row_name(table, unit.row.video_id) for table in ("videos", "tracks")),
            ):
                path = Path(name) / file
                path.parent.mkdir(exist_ok=True)
                path.touch()
        with measured("resume: list all tables and sort out", count):
            state = OutputState.of(file for table in TABLES for file in storage.list(table))
            todo = sort_out(units, state, None)
        assert todo.done == count and not todo.work and not todo.finalise


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 100_000)
