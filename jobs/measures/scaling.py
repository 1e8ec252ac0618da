"""How a frame's cost grows with the number of objects, and a read's with the bank."""

from jobs.measures.bench import Bench, Case
from jobs.measures.clock import Budget
from jobs.measures.figure import Figure, timed

OBJECTS, BANK = "objects", "bank"


def measure_objects(bench: Bench, seconds: float) -> list[Figure]:
    """Key path, read and decoder of one frame, at the smallest picture size and the last precision."""
    settings, allowed = bench.settings, Budget(seconds)
    resolution, precision = min(case.resolution for case in settings.cases), settings.precisions[-1]
    contenders = {
        count: bench.ours(Case(resolution, count), group_frames=1)[precision] for count in settings.object_counts
    }
    works = {str(count): contender.frame for count, contender in contenders.items()}
    times = bench.clock.interleaved(works, allowed.left)
    least = times[str(settings.object_counts[0])].best
    case, figures = f"{resolution}p, {precision}", []
    for count in settings.object_counts:
        timing = times[str(count)]
        note = f"{timing.best / least:.2f} x one object's, {timing.best / least / count:.2f} x per object"
        figures.append(timed(OBJECTS, case, f"{count} object{'s' * (count > 1)}", timing, note=note))
    return figures


def measure_banks(bench: Bench, seconds: float) -> list[Figure]:
    """Reads of one frame and one object."""
    settings, allowed = bench.settings, Budget(seconds)
    case = Case(min(case.resolution for case in settings.cases), 1)
    works = {}
    for size in settings.bank_sizes:
        ours, rival = next(iter(bench.ours(case, memory_frames=size).values())), bench.rival(case, size)
        works[f"ours, {size} frames"] = ours.read_one
        if rival is not None:
            works[f"stcnbuf, {size} frames"] = rival.read
    times = bench.clock.interleaved(works, allowed.left)
    by_size = sorted(times.items(), key=_by_size)
    return [timed(BANK, f"{case.resolution}p read", name, timing) for name, timing in by_size]


def _by_size(item: tuple) -> tuple[str, int]:
    who, size, _ = item[0].replace(",", "").split()
    return who, int(size)
