"""Which cell is measured on which clip: pure decisions.

The headline cells are measured on every clip; the others on a share of them (SHARE), so that the grid stays affordable.
A best policy is chosen for each clip on OTHER clips (of other bases), and then measured there, too.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from jobs.ablation.cells import BANK, BASE, CAUSAL, CAUSAL_RESERVOIR, OUTWARD, Cell
from jobs.ablation.clips import KINDS, LONG, OCCLUDED, REAL, SPLICED, TO_AND_FRO, ClipSpec
from jobs.ablation.results import Results, Task, mean_jf

# Kinds on which every n-th clip is for all cells; of the other kinds none is.
SHARE = {REAL: 3, OCCLUDED: 6, SPLICED: 6, LONG: 3}
# Headline cells: every n-th clip of the kind.
HEADLINE_SHARE = {REAL: 1, OCCLUDED: 2, SPLICED: 2, LONG: 1, **dict.fromkeys(TO_AND_FRO, 4)}
SEEDED = (REAL, OCCLUDED)  # kinds on which headline cells get several seeds
LONG_SEEDED = (BASE, OUTWARD, CAUSAL_RESERVOIR)  # those of equal bank and ring that are compared
SHORT_ONLY = ("eviction x bank", "gate x passes")  # factors that are too many to be measured on long clips


def tasks(cells: Sequence[Cell], clips: Sequence[ClipSpec], seeds: int) -> list[Task]:
    """All that is measured whatever comes out, what is most wanted first."""
    numbered = [(spec, number) for kind in KINDS for number, spec in enumerate(c for c in clips if c.kind == kind)]
    found = []
    for cell in cells:
        for spec, number in numbered:
            if is_measured(cell, spec.kind, number):
                several = seeds if has_seeds(cell, spec.kind) else 1
                found += [Task(cell, spec, seed) for seed in range(several)]
    place = {cell.name: number for number, cell in enumerate(cells)}

    def rank(task: Task) -> tuple:
        """Clip by clip: cells are compared on the same clips, and a clip is read once."""
        kind = KINDS.index(task.clip.kind)
        return not task.cell.headline, task.seed, kind, task.clip.name, place[task.cell.name]

    return sorted(found, key=rank)


def is_measured(cell: Cell, kind: str, number: int) -> bool:
    """Whether the cell is measured on clip `number` of a kind."""
    share = HEADLINE_SHARE if cell.headline or (cell.all_long and kind == LONG) else SHARE
    return kind in share and number % share[kind] == 0 and not (kind == LONG and cell.factor in SHORT_ONLY)


def has_seeds(cell: Cell, kind: str) -> bool:
    """Whether several are measured."""
    return cell.headline and cell.random and (kind in SEEDED or (kind == LONG and cell.name in LONG_SEEDED))


def candidates(cells: Sequence[Cell], causal: bool) -> list[Cell]:
    """The cells among which the best policy of an equal bank is chosen. A causal run may choose among all that were
    tried, an offline run among those of one pass, so that it gets no more than twice the network's time or so."""
    one_bank = [cell for cell in cells if cell.settings.memory_frames == BANK and cell.causal == causal]
    return [cell for cell in one_bank if causal or cell.settings.burn_in_passes == 1]


def chosen(among: Sequence[Cell], clip: ClipSpec, clips: Sequence[ClipSpec], results: Results) -> Cell | None:
    """The cell with the best mean J&F on clips of the same kind and another base, on which all of them were measured
    (seed 0); on all kinds where no such clip is. None: nothing was."""
    for same_kind in (True, False):
        scores: Mapping[str, list[float]] = {cell.name: [] for cell in among}
        for other in clips:
            if other.base == clip.base or (same_kind and other.kind != clip.kind):
                continue
            records = [results.get(Task(cell, other)) for cell in among]
            if all(records):
                for cell, record in zip(among, records, strict=True):
                    scores[cell.name].append(mean_jf(record))
        if among and scores[among[0].name]:
            return max(among, key=lambda cell: np.mean(scores[cell.name]))
    return None


def chosen_tasks(cells: Sequence[Cell], clips: Sequence[ClipSpec], results: Results) -> list[Task]:
    """What the best policies are still to be measured on: the clips of the base cells."""
    wanted = [cell for cell in cells if cell.name in (BASE, CAUSAL)]
    found = []
    for task in tasks(wanted, clips, 1):
        cell = chosen(candidates(cells, task.cell.causal), task.clip, clips, results)
        if cell is not None:
            found.append(Task(cell, task.clip))
    return found
