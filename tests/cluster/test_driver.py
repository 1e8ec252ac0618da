"""What the driver decides without a single actor. With real actors: test_chaos.py and tests/jobs."""

import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from made_units import whole

from cluster import driver as driver_module
from cluster.actor import Ready, answers
from cluster.crew import Crew, Worker
from cluster.driver import CAP_SECONDS, Driver, DriverSettings
from cluster.exit_codes import ExitCode
from cluster.ledger import Ledger
from cluster.plan import Unit
from cluster.stores.storage import Storage
from cluster.unit import UnitDone, UnitFailed
from schemas.run_config import RunConfig


class NoCrew:
    """Nobody is there, and asking for an actor fails."""

    busy = idle = starting = workers = ()

    def let_go(self, workers: list) -> None:
        """Nobody."""


class StillCrew(Crew):
    """Actors in this process. work(actor's name, units) is what they answer; `coming` of those asked for are ready at
    once, the others never."""

    def __init__(self, work: Callable[[str, tuple[Unit, ...]], tuple], coming: int = 1000) -> None:
        super().__init__(SimpleNamespace(device="cuda"))
        self.work, self.coming, self.gone = work, coming, []
        self._began = time.monotonic()

    def add(self) -> None:
        """One more."""
        name = f"actor-{next(self._numbers)}"
        self.coming -= 1
        call = (lambda: Ready("here", 1, "cuda")) if self.coming >= 0 else None
        self.workers.append(Worker(name, None, call, self._began))

    def give(self, worker: Worker, units: tuple[Unit, ...]) -> None:
        """The answer is made when it is asked for."""
        worker.units, worker.call = units, lambda: self.work(worker.name, units)
        worker.called = worker.moved = worker.answered = time.monotonic()

    def ask(self, worker: Worker) -> None:
        """It is well."""

    def let_go(self, workers: list[Worker]) -> None:
        """Notes who."""
        self.gone.append([worker.name for worker in workers])
        self.workers = [worker for worker in self.workers if worker not in workers]


@pytest.fixture
def no_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    """Calls are functions, and answered when they are waited for."""
    stand_in = SimpleNamespace(wait=lambda calls, **_: (calls, []), get=lambda call: call())
    monkeypatch.setattr(driver_module, "ray", stand_in)


def make_ledger(folder: Path, count: int) -> Ledger:
    units = [whole(number, 1.0) for number in range(count)]
    videos = {unit.video_key: (unit,) for unit in units}
    return Ledger(units, videos, {}, Storage(str(folder)), RunConfig("small", "0" * 64), print)


def test_a_broken_device_costs_one_attempt_and_its_actor(tmp_path: Path, no_ray: None):
    """One unit breaks the device of any actor the first time; in such an actor all that follow fail, too."""
    broken: set[str] = set()

    def work(actor: str, units: tuple[Unit, ...]) -> tuple:
        def one(unit: Unit) -> UnitDone | UnitFailed:
            if (unit.row.row == 6 and not broken) or actor in broken:
                broken.add(actor)
                return UnitFailed(unit.unit_id, "device", "final", "CUDA error: an illegal memory access", 0)
            return UnitDone(unit.unit_id, "done", 1, 1, 1.0)

        return answers(units, one)

    ledger, crew = make_ledger(tmp_path, 60), StillCrew(work)
    said: list[str] = []
    code = Driver(ledger, crew, DriverSettings(lambda: 1), said.append, lambda standing: None).run()
    assert code == ExitCode.DONE and ledger.tally.videos == 60 and not said
    assert broken == {"actor-1"} and crew.gone[0] == ["actor-1"]


def test_actors_that_do_not_come_are_let_go_together_and_for_a_while(
    tmp_path: Path, no_ray: None, monkeypatch: pytest.MonkeyPatch
):
    """Each of eight would double the time for which no more are asked for, to an hour."""
    monkeypatch.setattr(driver_module, "BEAT_SECONDS", 0.0)

    def work(actor: str, units: tuple[Unit, ...]) -> tuple:
        time.sleep(0.01)
        return tuple(UnitDone(unit.unit_id, "done", 1, 1, 1.0) for unit in units)

    ledger, crew = make_ledger(tmp_path, 40), StillCrew(work, coming=1)
    said: list[str] = []
    settings = DriverSettings(lambda: 9, ready_seconds=0.05)
    assert Driver(ledger, crew, settings, said.append, lambda standing: None).run() == ExitCode.DONE
    assert crew.gone[0] == [f"actor-{number}" for number in range(2, 10)]
    assert said == [
        "8 actors were not ready within 0.05 s: going on without",
        f"going on with 1 actor(s); more are tried again in {CAP_SECONDS / 60:.0f} min",
    ]


def test_the_jobs_time_counts_from_the_jobs_beginning(tmp_path: Path):
    """Planning and the start of Ray are part of it: a scheduler's wall clock counts them, too."""
    said: list[str] = []
    unit, config = whole(0, 1.0), RunConfig("small", "0" * 64)
    ledger = Ledger([unit], {unit.video_key: (unit,)}, {}, Storage(str(tmp_path)), config, said.append)
    settings = DriverSettings(lambda: 1, job_seconds=60.0, began=time.monotonic() - 100.0)
    code = Driver(ledger, NoCrew(), settings, said.append, lambda standing: None).run()
    assert code == ExitCode.TERMINATED and "the job's time is over (60 s)" in said[0]
