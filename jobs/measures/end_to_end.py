"""Frames per second from the video file to the published masks, ours and stcnbuf's."""

import shutil

from cluster.segmenter import StcnSegmenters
from jobs.measures import rival as stcnbuf
from jobs.measures.bench import Bench, Case
from jobs.measures.clock import Budget
from jobs.measures.figure import Figure, ratio, timed
from jobs.measures.unit_bench import UnitBench

SECTION = "end-to-end"


def measure(bench: Bench, seconds: float) -> list[Figure]:
    """All cases; time in proportion to pixels and objects."""
    figures, cases = [], bench.settings.cases
    weights = [case.resolution**2 * (1 + case.objects) for case in cases]
    for case, weight in zip(cases, weights, strict=True):
        figures += measure_case(bench, case, seconds * weight / sum(weights))
    return figures


def measure_case(bench: Bench, case: Case, seconds: float) -> list[Figure]:
    """Ours: a segment unit through annotate_unit. stcnbuf: the same frames decoded by framepump, one at a time through
    its main pass, and its masks as it keeps them; its ring takes one frame in `group_frames`, as ours does."""
    allowed, settings, clip = Budget(seconds), bench.settings, bench.clip(case.resolution)
    frames, group = settings.frames, settings.group_frames
    folder = bench.scratch / f"end-to-end-{case.resolution}-{case.objects}"
    units = {}
    try:
        contents = bench.contents(case)
        names = [(precision, precision, False) for precision in settings.precisions]
        if settings.regions:
            names.append((f"{settings.precisions[-1]} in regions", settings.precisions[-1], True))
        for name, precision, regions in names:
            units[name] = UnitBench(
                folder / name,
                StcnSegmenters(str(bench.region_checkpoint if regions else bench.checkpoint)),
                bench.run_config(precision, resolution=case.resolution, region_decoding=regions),
                clip,
                case.objects,
                contents,
                device=settings.device,
                threads=settings.threads,
            )
        works = {f"ours {p}": lambda unit=unit: unit.annotate(frames) for p, unit in units.items()}
        rival = bench.rival(case)
        if rival is not None:
            pictures = stcnbuf.decoded(clip.path, clip.size, 2)
            works["stcnbuf decode"] = lambda: stcnbuf.decoded(clip.path, clip.size, min(clip.frames, 50))
            works["stcnbuf frame"] = lambda: rival.frame_masks(pictures[0], False)
            works["stcnbuf frame and memory"] = lambda: rival.frame_masks(pictures[1], True)
        taken = bench.clock.interleaved(works, allowed.left)
    finally:
        for unit in units.values():
            unit.close()
        shutil.rmtree(folder, ignore_errors=True)
    ours = {p: taken[f"ours {p}"].per(frames) for p in units}
    note = f"{frames} frames in a round, {settings.memory_frames} frames in the bank, one in {group} into the ring"
    if bench.clock.processor:
        note += "; without the processor seconds of the decoder's process"
    figures = []
    for precision, timing in ours.items():
        figures.append(timed(SECTION, str(case), f"ours {precision}", timing, note=note))
        figures.append(Figure(SECTION, str(case), f"ours {precision}", 1 / timing.best, "frames/s"))
    if rival is None:
        return figures
    plain, remembered = taken["stcnbuf frame"], taken["stcnbuf frame and memory"]
    parts = plain.per(group / (group - 1)).plus(remembered.per(group)) if group > 1 else remembered
    theirs = parts.plus(taken["stcnbuf decode"].per(min(clip.frames, 50)))
    kind = settings.rival_precision
    note = f"{kind}; a frame with and one without memorising, weighted 1:{group - 1}, and its decoding"
    figures.append(timed(SECTION, str(case), "stcnbuf", theirs, note=note))
    figures.append(Figure(SECTION, str(case), "stcnbuf", 1 / theirs.best, "frames/s"))
    figures += [ratio(SECTION, str(case), f"stcnbuf / ours {p}", theirs, timing) for p, timing in ours.items()]
    return figures
