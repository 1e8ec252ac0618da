"""What the driver decides without a single actor. With real actors: test_chaos.py and tests/jobs."""

import time
from pathlib import Path

from made_units import whole

from cluster.driver import Driver, DriverSettings
from cluster.exit_codes import ExitCode
from cluster.ledger import Ledger
from cluster.stores.storage import Storage
from schemas.run_config import RunConfig


class NoCrew:
    """Nobody is there, and asking for an actor fails."""

    busy = idle = starting = workers = ()

    def let_go(self, workers: list) -> None:
        """Nobody."""


def test_the_jobs_time_counts_from_the_jobs_beginning(tmp_path: Path):
    """Planning and the start of Ray are part of it: a scheduler's wall clock counts them, too."""
    said: list[str] = []
    unit, config = whole(0, 1.0), RunConfig("small", "0" * 64)
    ledger = Ledger([unit], {unit.video_key: (unit,)}, {}, Storage(str(tmp_path)), config, said.append)
    settings = DriverSettings(lambda: 1, job_seconds=60.0, began=time.monotonic() - 100.0)
    code = Driver(ledger, NoCrew(), settings, said.append, lambda standing: None).run()
    assert code == ExitCode.TERMINATED and "the job's time is over (60 s)" in said[0]
