"""Where the time of a unit goes: the same unit with a dummy network, with a dummy writer, with both."""

import shutil

from cluster.segmenter import Segmenters, StcnSegmenters
from cluster.stand_in import StandInSegmenters
from jobs.measures.bench import Bench, Case
from jobs.measures.clock import Budget, Clock
from jobs.measures.figure import Figure
from jobs.measures.unit_bench import DummyWriter, UnitBench

SECTION = "bottleneck"


def measure(bench: Bench, seconds: float) -> list[Figure]:
    """The first case, at the last precision."""
    settings, allowed = bench.settings, Budget(seconds)
    case: Case = settings.cases[0]
    clip, precision = bench.clip(case.resolution), settings.precisions[-1]
    folder = bench.scratch / SECTION
    contents = bench.contents(case)
    many = min(settings.cheap_frames, clip.frames)
    variants: dict[str, tuple[Segmenters, int]] = {
        "network and writer": (StcnSegmenters(str(bench.checkpoint)), settings.frames),
        "network, dummy writer": (DummyWriter(StcnSegmenters(str(bench.checkpoint))), settings.frames),
        "dummy network, writer": (StandInSegmenters(), many),
        "dummy network, dummy writer": (DummyWriter(StandInSegmenters()), many),
    }
    units, last = {}, {}
    try:
        for number, (name, (segmenters, _)) in enumerate(variants.items()):
            units[name] = UnitBench(
                folder / str(number),
                segmenters,
                bench.run_config(precision, resolution=case.resolution),
                clip,
                case.objects,
                contents if name.startswith("network") else None,
                device=settings.device,
                threads=settings.threads,
            )

        def annotate(name: str) -> None:
            last[name] = units[name].annotate(variants[name][1])

        clock = Clock(settings.device)  # what is waited for counts here, whatever the other sections count
        times = clock.interleaved({name: lambda name=name: annotate(name) for name in variants}, allowed.left)
    finally:
        for unit in units.values():
            unit.close()
        shutil.rmtree(folder, ignore_errors=True)
    figures = []
    for name, timing in times.items():
        frames = variants[name][1]
        per = timing.per(frames)
        figures.append(
            Figure(SECTION, f"{case}, {precision}", name, 1 / per.best, "frames/s", 1 / per.median, per.spread,
                   len(per.seconds), f"{frames} frames")
        )  # fmt: skip
    measured = last["network and writer"].measured
    share = measured["seconds_network"] / measured["seconds_final"]
    note = "of the final pass: key path, read, decoder, values, labels, RLE; the rest waits for frames or writes"
    figures.append(Figure(SECTION, f"{case}, {precision}", "time in the segmenter", share, "share", note=note))
    return figures
