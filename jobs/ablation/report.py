"""What the results say, as one Markdown page and one picture."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from jobs.ablation.cells import (
    BANK,
    BANKS,
    BASE,
    CAUSAL,
    CAUSAL_DEFAULTS,
    CAUSAL_RESERVOIR,
    DEFAULT_BANK,
    DEFAULTS,
    OUTWARD,
    UNWEIGHTED,
    Cell,
)
from jobs.ablation.chart import Row, save_chart
from jobs.ablation.clips import KINDS, ClipSpec
from jobs.ablation.intervals import LEVEL, Estimate, estimate
from jobs.ablation.plan import candidates, chosen
from jobs.ablation.results import Results, Task

BEST_CAUSAL, BEST_OFFLINE = "best-causal", "best-offline"
# (clip, object) -> the measure, a mean over seeds.
Values = Mapping[tuple[str, int], float]


@dataclass(frozen=True)
class Measured:
    """All results of one cell on clips of one kind."""

    name: str
    records: tuple[Mapping[str, Any], ...]

    def values(self, measure: str) -> dict[tuple[str, int], float]:
        """Means over seeds."""
        found: dict[tuple[str, int], list[float]] = {}
        for record in self.records:
            for one in record["objects"]:
                found.setdefault((record["clip"], one["object_id"]), []).append(one[measure])
        return {key: float(np.mean(values)) for key, values in found.items()}

    def per_frame(self, what: Callable[[Mapping[str, Any]], float]) -> float:
        return sum(map(what, self.records)) / sum(record["frames"] for record in self.records)

    @property
    def seeds(self) -> int:
        return len({record["seed"] for record in self.records})


def write_report(folder: Path, cells: Sequence[Cell], clips: Sequence[ClipSpec], results: Results) -> list[Path]:
    """ablation.md and ablation.png; nothing where there is no result. Raises OSError."""
    found = {kind: measured(kind, cells, clips, results) for kind in KINDS}
    found = {kind: rows for kind, rows in found.items() if rows}
    if not found:
        return []
    bases = {spec.name: spec.base for spec in clips}
    page, picture = folder / "ablation.md", folder / "ablation.png"
    page.write_text("\n".join(_page(found, cells, bases, results)) + "\n")
    title = f"J&F against {BASE}, in points, on the clips that both were measured on: offline blue, causal orange"
    save_chart(_chart_rows(found, bases), title, picture)
    return [page, picture]


def measured(kind: str, cells: Sequence[Cell], clips: Sequence[ClipSpec], results: Results) -> dict[str, Measured]:
    """By cell, and the best policies, each chosen on other clips; without those that were measured nowhere."""
    names = {spec.name for spec in clips if spec.kind == kind}
    records = [record for record in results.all() if record["clip"] in names]
    settings = {cell.name: cell.settings for cell in cells}
    found = {}
    for cell in cells:
        own = [r for r in records if r["cell"] == cell.name and results.get(_task(cell, clips, r)) is not None]
        if own:
            found[cell.name] = Measured(cell.name, tuple(own))
    for name, causal in ((BEST_CAUSAL, True), (BEST_OFFLINE, False)):
        among = [cell for cell in candidates(cells, causal) if cell.name in settings]
        picked = [(chosen(among, spec, clips, results), spec) for spec in clips if spec.kind == kind]
        own = [results.get(Task(cell, spec)) for cell, spec in picked if cell is not None]
        if any(own):
            found[name] = Measured(name, tuple(filter(None, own)))
    return found


def difference(ours: Values, theirs: Values, bases: Mapping[str, str]) -> Estimate | None:
    """ours - theirs over the objects that both have; None without any."""
    both = sorted(set(ours) & set(theirs))
    return _estimate({key: ours[key] - theirs[key] for key in both}, bases) if both else None


def _estimate(values: Values, bases: Mapping[str, str]) -> Estimate:
    groups: dict[str, list[float]] = {}
    for (clip, _), value in values.items():
        groups.setdefault(bases[clip], []).append(value)
    return estimate(groups)


def _task(cell: Cell, clips: Sequence[ClipSpec], record: Mapping[str, Any]) -> Task:
    return Task(cell, next(spec for spec in clips if spec.name == record["clip"]), record["seed"])


def _page(
    found: Mapping[str, Mapping[str, Measured]], cells: Sequence[Cell], bases: Mapping[str, str], results: Results
) -> list[str]:
    lines = [
        "# What the settings of the memory are worth",
        "",
        f"Made by `python -m jobs.ablate`. Checkpoint {results.made_with['checkpoint_sha256'][:12]}, shorter side "
        f"{results.resolution} pixels, {results.precision}, the first frame's true masks are the prompt, masks "
        "compared at that size. "
        f"Brackets: {LEVEL:.0%} bootstrap intervals over the clips (all objects of a clip, and clips made from the "
        "same one, are drawn together); of fewer than five clips they say little. Passes run on all frames; of long "
        "videos every 10th frame is compared with the truth, of to-and-fro ones every 2nd or 5th. To-and-fro clips "
        "hold every frame several times: they say nothing about genuine long videos.",
        "",
        f"`{BASE}`: bank {BANK}, one burn-in pass of {4 * BANK} frames at most in random order, fifo, prompt pinned, "
        f"ring 2, groups of 5. `{OUTWARD}`: from the prompt outwards into a reservoir. `{CAUSAL}`: bank and ring "
        f"of {BASE}, every 5th frame memorised. `{DEFAULTS}`: those of jobs.annotate, bank {DEFAULT_BANK}; "
        f"`{CAUSAL_DEFAULTS}`: the same without a burn-in; `...{UNWEIGHTED}`: with --prompt-weight 1. `{BEST_CAUSAL}` "
        f"and `{BEST_OFFLINE}`: for each clip the policy with bank {BANK} that did best on the other clips; offline "
        "ones with one pass.",
        "",
        "## Offline against causal, J&F in points",
        "",
        "| clips | " + " | ".join(name for name, _, _ in _pairs(cells)) + " |",
        "| --- |" + " --- |" * len(_pairs(cells)),
    ]
    for kind, rows in found.items():
        row = [kind]
        for _, ours, theirs in _pairs(cells):
            both = ours in rows and theirs in rows
            gain = difference(rows[ours].values("J&F"), rows[theirs].values("J&F"), bases) if both else None
            row.append(f"{_points(gain)} ({gain.bases} clips, {gain.objects} objects)" if gain else "")
        lines.append("| " + " | ".join(row) + " |")
    factors = {cell.name: cell.factor for cell in cells} | dict.fromkeys((BEST_CAUSAL, BEST_OFFLINE), "chosen")
    for kind, rows in found.items():
        lines += ["", f"## {kind}", "", *_table(rows, factors, bases)]
    return lines


def _pairs(cells: Sequence[Cell]) -> list[tuple[str, str, str]]:
    names = {cell.name for cell in cells}
    found = [("defaults, offline - causal", DEFAULTS, CAUSAL_DEFAULTS)]
    found += [(f"{each} - unweighted", each, each + UNWEIGHTED) for each in (DEFAULTS, CAUSAL_DEFAULTS)]
    found += [(f"{DEFAULTS} - {CAUSAL}, bank {DEFAULT_BANK}", DEFAULTS, f"{CAUSAL}-bank-{DEFAULT_BANK}")]
    for bank in BANKS:
        ours, theirs = (BASE, CAUSAL) if bank == BANK else (f"bank-{bank}", f"causal-bank-{bank}")
        if {ours, theirs} <= names:
            found.append((f"bank {bank}", ours, theirs))
    found += [(f"{OUTWARD} - {theirs}", OUTWARD, theirs) for theirs in (CAUSAL, CAUSAL_RESERVOIR, BASE)]
    large = f"bank-{DEFAULT_BANK}"
    for name, theirs in ((CAUSAL_RESERVOIR, f"{CAUSAL_RESERVOIR}-{large}"), (BASE, large)):
        found.append((f"{OUTWARD} - {name}, bank {DEFAULT_BANK}", f"{OUTWARD}-{large}", theirs))
    return [*found, ("base - best causal", BASE, BEST_CAUSAL), ("best - best causal", BEST_OFFLINE, BEST_CAUSAL)]


def _table(rows: Mapping[str, Measured], factors: Mapping[str, str], bases: Mapping[str, str]) -> list[str]:
    head = ("factor", "cell", "J&F", "J", "F", "J decay", "against base, points", "clips, objects, seeds")
    head += ("key, value, decoder calls per frame", "CPU s per frame")
    lines = ["| " + " | ".join(head) + " |", "| --- | --- |" + " ---: |" * (len(head) - 2)]
    base = rows[BASE].values("J&F") if BASE in rows else {}
    for name, row in rows.items():
        score = _estimate(row.values("J&F"), bases)
        gain = difference(row.values("J&F"), base, bases) if name != BASE else None
        more = [f"{np.mean(list(row.values(measure).values())):.3f}" for measure in ("J", "F", "J_decay")]
        calls = [f"{row.per_frame(lambda r, n=n: r['evaluations'][n]):.2f}" for n in ("key", "value", "decoder")]
        shown = [
            factors[name],
            f"`{name}`",
            f"{score.mean:.3f} {_bracket(score, 1, 3)}".strip(),
            *more,
            _points(gain),
            f"{score.bases}, {score.objects}, {row.seeds}",
            ", ".join(calls),
            f"{row.per_frame(lambda r: r['cpu_seconds']):.3f}",
        ]
        lines.append("| " + " | ".join(shown) + " |")
    return lines


def _points(gain: Estimate | None) -> str:
    return f"{100 * gain.mean:+.1f} {_bracket(gain, 100, 1)}".strip() if gain else ""


def _bracket(one: Estimate, scale: float, digits: int) -> str:
    if math.isnan(one.low):
        return ""
    sign = "+" if scale == 100 else ""
    return f"[{scale * one.low:{sign}.{digits}f}, {scale * one.high:{sign}.{digits}f}]"


def _chart_rows(found: Mapping[str, Mapping[str, Measured]], bases: Mapping[str, str]) -> dict[str, list[Row]]:
    panels = {}
    for kind, rows in found.items():
        if BASE in rows:
            base = rows[BASE].values("J&F")
            gains = {name: difference(row.values("J&F"), base, bases) for name, row in rows.items() if name != BASE}
            heading = f"{kind}: {BASE} {np.mean(list(base.values())):.3f}"
            causal = (CAUSAL, BEST_CAUSAL)
            panels[heading] = [Row(name, gain, name.startswith(causal)) for name, gain in gains.items() if gain]
    return panels
