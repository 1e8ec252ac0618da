"""The policy on a simulated cluster: 256 actors, a skewed corpus, preemption. Real queue and ledger, no Ray, no files.

Time is simulated, so that hours take a second and nothing depends on the machine.
"""

import heapq
import random
from collections.abc import Sequence
from dataclasses import dataclass, field

from made_units import split, whole

from cluster.blame import Place
from cluster.ledger import Ledger
from cluster.plan import BURN_IN, Unit
from cluster.resume import by_video
from cluster.unit import UnitDone
from cluster.work_queue import pack_cost
from schemas.run_config import RunConfig

CONFIG = RunConfig("small", "ab" * 32)
READY_SECONDS = 60.0  # a new actor: node, process, network


class Nowhere:
    """Storage that takes everything and holds nothing: a unit's product is in its answer."""

    url = "nowhere://"

    def publish(self, name: str, data: object) -> None:
        """Nothing to do."""

    def delete(self, name: str) -> None:
        """Nothing to do."""

    def exists(self, name: str) -> bool:
        return False


@dataclass
class Simulation:
    """Runs units on `actors` simulated actors. A unit takes as many seconds as it costs, give or take `noise`."""

    units: Sequence[Unit]
    actors: int
    preempted_per_hour: float = 0.0
    noise: float = 0.0
    seed: int = 0
    wall: float = 0.0
    lost_seconds: float = 0.0
    finished: list[str] = field(default_factory=list)

    def run(self, monkeypatch) -> Ledger:
        monkeypatch.setattr("cluster.ledger.finalise_video", lambda *_: {"status": "done"})
        videos = {video[0].video_key: video for video in by_video(self.units)}
        ledger = Ledger(self.units, videos, {}, Nowhere(), CONFIG, lambda text: None)
        draw = random.Random(self.seed)
        # (time, number, open video, units given, finished?): each actor's next event
        events = [(0.0, number, None, (), True) for number in range(self.actors)]
        idle: list[tuple[int, str | None]] = []
        while events:
            now, number, video, units, whole_time = heapq.heappop(events)
            if units:
                self.wall = now
                if whole_time:
                    for unit in units:
                        ledger.done(unit, UnitDone(unit.unit_id, "done", 1, 1, unit.cost))
                        self.finished.append(unit.unit_id)
                else:
                    ledger.died(units, "node-lost", Place("final", 1), message="gone", actor="a", device="cpu")
                    heapq.heappush(events, (now + READY_SECONDS, number, None, (), True))
            if whole_time:
                idle.append((number, video))
            waiting, idle = idle, []
            for number, video in waiting:
                cost = pack_cost(ledger.rate.per_cost, ledger.queue.cost, self.actors)
                units = ledger.queue.take(video, cost)
                if not units:
                    idle.append((number, video))
                    continue
                seconds = sum(unit.cost * draw.uniform(1 - self.noise, 1 + self.noise) for unit in units)
                gone = draw.expovariate(self.preempted_per_hour / 3600) if self.preempted_per_hour else float("inf")
                self.lost_seconds += gone if gone < seconds else 0.0
                event = (now + min(seconds, gone), number, units[-1].video_key, units, gone >= seconds)
                heapq.heappush(events, event)
        return ledger


def skewed(seed: int = 0) -> list[Unit]:
    """One 10-hour video at 30 frames/s in units of 5,000 frames of 0.03 s, and 2,000 short ones."""
    draw = random.Random(seed)
    long = split(0, segments=216, burn_in=100.0, segment=150.0)
    return [*long, *(whole(n, min(600.0, draw.lognormvariate(4.0, 1.0))) for n in range(1, 2001))]


def lower_bound(units: Sequence[Unit], actors: int) -> float:
    """Total work shared out evenly, or the longest chain: a burn-in and one of its segments."""
    chain = 0.0
    for video in by_video(units):
        parts = [unit.cost for unit in video if unit.kind != BURN_IN]
        chain = max(chain, max(parts) + sum(unit.cost for unit in video if unit.kind == BURN_IN))
    return max(sum(unit.cost for unit in units) / actors, chain)


def test_a_skewed_corpus_is_done_near_the_lower_bound(monkeypatch):
    units = skewed()
    for seed in range(3):
        simulation = Simulation(units, 256, preempted_per_hour=0.02, noise=0.2, seed=seed)
        ledger = simulation.run(monkeypatch)
        assert sorted(simulation.finished) == sorted(unit.unit_id for unit in units)
        assert ledger.tally.videos == 2001 and not ledger.tally.failed
        longest = 1.2 * max(unit.cost for unit in units)
        assert simulation.wall <= 1.05 * lower_bound(units, 256) + longest


def test_unsplit_the_long_video_would_hold_everything_up(monkeypatch):
    """What splitting is for; and that the simulation can tell."""
    units = skewed()
    long = sum(unit.cost for unit in units[:217])
    simulation = Simulation([whole(0, long), *units[217:]], 256)
    simulation.run(monkeypatch)
    assert simulation.wall >= long > 20 * lower_bound(units, 256)


def test_heavy_preemption_loses_only_what_was_in_flight(monkeypatch):
    units = skewed(1)
    simulation = Simulation(units, 64, preempted_per_hour=2.0, noise=0.1, seed=4)
    ledger = simulation.run(monkeypatch)
    assert sorted(simulation.finished) == sorted(unit.unit_id for unit in units) and not ledger.tally.failed
    assert ledger.tally.deaths > 20
    assert simulation.lost_seconds <= ledger.tally.deaths * max(unit.cost for unit in units)
    total = sum(unit.cost for unit in units)
    assert simulation.wall <= 1.05 * (total + simulation.lost_seconds + ledger.tally.deaths * READY_SECONDS) / 64 + 600


def test_packs_leave_no_straggler(monkeypatch):
    """10,000 videos of a second each on 16 actors: given one by one or in packs, all actors end together."""
    units = [whole(n, 1.0) for n in range(10_000)]
    simulation = Simulation(units, 16, noise=0.5)
    simulation.run(monkeypatch)
    assert simulation.wall <= 1.05 * lower_bound(units, 16) + 1.5
