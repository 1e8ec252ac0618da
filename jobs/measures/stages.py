"""Every stage of a frame alone, ours and stcnbuf's; and what share of the machine's peak the network reaches."""

from collections.abc import Callable
from itertools import islice

import numpy as np

from cluster.shard import ShardWriter
from cluster.shard_facts import mask_row
from cluster.stores.storage import Storage
from jobs.measures import rival as stcnbuf
from jobs.measures.bench import Bench, Case
from jobs.measures.clip import FPS, Clip
from jobs.measures.clock import Budget, Timing
from jobs.measures.figure import Figure, ratio, timed
from jobs.measures.operations import count_operations
from jobs.measures.peak import peak_works
from stcn_core.masks import frame_masks

SECTION = "stages"
REGIONS = "ours {} decoder in regions"
NETWORK = ("key", "read", "decoder", "value")
HOST_SHARE = 0.15  # of the section's time, for the stages that need no network
PEAK_SHARE = 0.05


def measure(bench: Bench, seconds: float) -> list[Figure]:
    """All cases; the first takes half of the time."""
    figures, cases = [], bench.settings.cases
    for number, case in enumerate(cases):
        share = seconds if len(cases) == 1 else seconds / 2 if number == 0 else seconds / 2 / (len(cases) - 1)
        figures += measure_case(bench, case, share)
    return figures


def measure_case(bench: Bench, case: Case, seconds: float) -> list[Figure]:
    """One picture size and number of objects."""
    group, allowed = bench.settings.group_frames, Budget(seconds * (1 - HOST_SHARE - PEAK_SHARE))
    ours, rival = bench.ours(case), bench.rival(case)
    first = next(iter(ours.values()))
    works, counts, peaks = {}, {}, {}

    def add(name: str, work: Callable[[], object], count: float = 1) -> None:
        works[name], counts[name] = work, count

    for precision, contender in ours.items():
        add(f"ours {precision} key", contender.encode, group)
        add(f"ours {precision} read", contender.read, group)
        add(f"ours {precision} decoder", contender.decode, group)
        add(f"ours {precision} value", contender.value)
        peaks[precision] = peak_works(precision, bench.settings.device, bench.settings.quick)
        for name, (work, _) in peaks[precision].items():
            add(name, work)
    last = bench.settings.precisions[-1]
    if bench.settings.regions:
        add(REGIONS.format(last), bench.with_regions(case).decode, group)
    if rival is not None:
        for name, work in (("key", rival.encode), ("read", rival.read), ("decoder", rival.decode)):
            add(f"stcnbuf {name}", work)
        add("stcnbuf value", rival.value)
    taken = bench.clock.interleaved(works, allowed.left)
    times = {name: timing.per(counts[name]) for name, timing in taken.items()}

    # A few rounds more of the peak alone: with one cold round of it the shares would come out too high.
    alone = {name: work for works_of in peaks.values() for name, (work, _) in works_of.items()}
    for name, timing in bench.clock.interleaved(alone, seconds * PEAK_SHARE).items():
        times[name] = Timing(times[name].seconds + timing.seconds)

    host: dict[str, Callable[[], object]] = {"ours labels": first.labels}
    clip = bench.clip(case.resolution)
    host |= _host_works(bench, clip, case.objects)
    if rival is not None:
        host["stcnbuf labels"] = rival.labels
    count = min(clip.frames, bench.settings.cheap_frames)
    per = {"decode": count, "publish": count}
    taken = bench.clock.interleaved(host, seconds * HOST_SHARE)
    times |= {name: timing.per(per.get(name.split()[-1], 1)) for name, timing in taken.items()}
    if bench.clock.processor:
        times.pop("ours decode")  # another process does it, whose processor seconds are not counted
    if rival is None:
        times = {name: timing for name, timing in times.items() if not name.startswith(stcnbuf.NAME)}

    names = [*NETWORK, "labels", "rle", "decode", "publish"]
    figures = _stage_figures(str(case), times, names, list(ours), group)
    if bench.settings.regions:
        regions, whole = times[REGIONS.format(last)], times[f"ours {last} decoder"]
        note = f"the object covers {100 * clip.covered:.0f} % of the picture, no border fires"
        figures.append(timed(SECTION, str(case), REGIONS.format(last), regions, note=note))
        figures.append(ratio(SECTION, str(case), f"ours {last} decoder / in regions", whole, regions))
    return figures + _peak_figures(bench, case, times, peaks, list(ours))


def _stage_figures(case: str, times: dict[str, Timing], names: list[str], precisions: list[str], group: int):
    notes = {"value": "per frame memorised", "labels": "upsampling and argmax; stcnbuf does not upsample"}
    notes |= {"publish": "rows to a published shard", "decode": "a decoder's frames at the working size"}
    figures = []
    for name in names:
        theirs = times.get(f"stcnbuf {name}")
        variants = [f"ours {p}" for p in precisions] if name in NETWORK else ["ours"]
        variants = [variant for variant in variants if f"{variant} {name}" in times]
        for variant in variants:
            figures.append(
                timed(SECTION, case, f"{variant} {name}", times[f"{variant} {name}"], note=notes.get(name, ""))
            )
        if theirs is not None:
            figures.append(timed(SECTION, case, f"stcnbuf {name}", theirs, note=notes.get(name, "")))
            for variant in variants:
                figures.append(ratio(SECTION, case, f"stcnbuf / {variant} {name}", theirs, times[f"{variant} {name}"]))
    return figures


def _peak_figures(bench: Bench, case: Case, times: dict[str, Timing], peaks: dict, precisions: list[str]):
    """Network operations per second as a share of the machine's best product or convolution of the same precision."""
    padded = bench.clip(case.resolution).size
    padded = tuple(-(-side // 16) * 16 for side in padded)
    done = count_operations(bench.network.config, padded, case.objects)
    group, figures = bench.settings.group_frames, []
    for precision in precisions:
        rates = {name: flops / times[name].best for name, (_, flops) in peaks[precision].items()}
        for name, rate in rates.items():
            figures.append(Figure(SECTION, str(case), name, rate / 1e9, "GFLOP/s", rounds=len(times[name].seconds)))
        peak = max(rates.values())
        stage = {name: times[f"ours {precision} {name}"].best for name in ("key", "decoder", "value")}
        for name, operations in (("key", done.key), ("decoder", done.decoder), ("value", done.value)):
            figures.append(
                Figure(SECTION, str(case), f"ours {precision} {name} of peak", operations / stage[name] / peak, "share",
                       note=f"{operations / 1e9:.1f} G operations of the plain network")
            )  # fmt: skip
        whole = (done.key + done.decoder + done.value / group) / (
            stage["key"] + stage["decoder"] + stage["value"] / group
        )
        note = f"key, decoder, 1/{group} value; peak {peak / 1e9:.0f} GFLOP/s"
        figures.append(
            Figure(SECTION, str(case), f"ours {precision} network of peak", whole / peak, "share", note=note)
        )
    return figures


def _host_works(bench: Bench, clip: Clip, objects: int) -> dict[str, Callable[[], object]]:
    """RLE, decode and publish of the clip with its true masks."""
    count = min(clip.frames, bench.settings.cheap_frames)
    labels = clip.labels(0, objects, clip.source)
    ids, scores = list(range(1, objects + 1)), np.ones(objects)
    info = bench.decoder.probe(clip.path)
    masks = [frame_masks(clip.labels(n, objects, clip.source), scores, ids, {}) for n in range(len(clip.pictures))]
    storage = Storage(str(bench.scratch / "published"))

    def decode() -> None:
        frames = list(islice(iter(bench.decoder.frames(clip.path, info, clip.size, 0, count)), count))
        if len(frames) != count:
            raise RuntimeError(f"{clip.path}: {len(frames)} frames decode, {count} were expected")

    def publish() -> None:
        with ShardWriter(bench.scratch) as writer:
            for frame in range(count):
                for mask in masks[frame % len(masks)]:
                    row = mask_row(mask, frame, video_id="benchmark", label=None, pts=frame, seconds=frame / FPS)
                    writer.add(row)
            storage.publish("masks/benchmark.parquet", writer.finish({}))
        (bench.scratch / "published" / "masks" / "benchmark.parquet").unlink()

    return {
        "ours rle": lambda: frame_masks(labels, scores, ids, {}),
        "stcnbuf rle": lambda: stcnbuf.encoded(labels, objects),
        "ours decode": decode,
        "stcnbuf decode": lambda: stcnbuf.decoded(clip.path, clip.size, count),
        "ours publish": publish,
    }
