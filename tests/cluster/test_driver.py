"""What the driver decides without a single actor. With real actors: test_chaos.py and tests/jobs."""

import time
from pathlib import Path

from made_units import whole

from cluster.driver import Driver, DriverSettings
from cluster.exit_codes import ExitCode
from cluster.ledger import Ledger
from cluster.stores.storage import Storage
from schemas.run_config import RunConfig


class EmptyCrew:
    """Actors that never come."""

    busy = idle = starting = workers = ()

    def add(self) -> None:
        """Nobody."""

    def let_go(self, workers: list) -> None:
        """Nobody."""

    def calls(self) -> dict:
        return {}


def run(folder: Path, settings: DriverSettings) -> tuple[ExitCode, float, list[str]]:
    """(exit code, seconds it took, what it said) of a driver with one unit to do."""
    said: list[str] = []
    unit = whole(0, 1.0)
    ledger = Ledger([unit], {unit.video_key: (unit,)}, {}, Storage(str(folder)), RunConfig("s", "0" * 64), said.append)
    started = time.monotonic()
    code = Driver(ledger, EmptyCrew(), settings, said.append, lambda standing: None).run()
    return code, time.monotonic() - started, said


def test_the_jobs_time_counts_from_the_jobs_beginning(tmp_path: Path):
    """Planning and the start of Ray are part of it: a scheduler's wall clock counts them, too."""
    early = DriverSettings(lambda: 1, job_seconds=60.0, began=time.monotonic() - 100.0)
    code, _, said = run(tmp_path, early)
    assert code == ExitCode.TERMINATED and "the job's time is over (60 s)" in said[0]
    code, seconds, _ = run(tmp_path, DriverSettings(lambda: 1, job_seconds=1.0))
    assert code == ExitCode.TERMINATED and seconds > 1.0
