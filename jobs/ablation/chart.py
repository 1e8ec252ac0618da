"""The cells as dots with their intervals, one panel per kind of clips, drawn with Pillow."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw

from jobs.ablation.intervals import Estimate
from jobs.views.overlay import font_of

LINE, TEXT, LEFT, PANEL, GAP, TOP = 18, 12, 250, 260, 24, 60
GROUND, INK, FAINT = (255, 255, 255), (30, 30, 30), (228, 228, 228)
OFFLINE, ONLINE = (40, 110, 190), (205, 110, 40)


@dataclass(frozen=True)
class Row:
    """One cell's J&F on one kind of clips."""

    name: str
    score: Estimate
    causal: bool


def save_chart(panels: Mapping[str, Sequence[Row]], path: Path) -> None:
    """J&F from 0 to 1 in every panel; a cell has the same line in all of them. Raises OSError."""
    names = list(dict.fromkeys(row.name for rows in panels.values() for row in rows))
    width, height = LEFT + len(panels) * (PANEL + GAP), TOP + LINE * len(names) + 2 * GAP
    image = Image.new("RGB", (width, height), GROUND)
    pen = ImageDraw.Draw(image)
    pen.text((GAP / 2, GAP / 2), "J&F, offline (blue) and causal (orange)", INK, font_of(TEXT + 2))
    for number, name in enumerate(names):
        pen.text((GAP / 2, TOP + number * LINE), name, INK, font_of(TEXT))
    for number, (kind, rows) in enumerate(panels.items()):
        left, bottom = LEFT + number * (PANEL + GAP), TOP + LINE * len(names)
        pen.text((left, TOP - 2 * LINE), kind, INK, font_of(TEXT + 1))
        for tick in range(0, 11, 2):
            x = left + PANEL * tick / 10
            pen.line((x, TOP, x, bottom), FAINT)
            pen.text((x - 6, bottom + 4), f"{tick / 10:.1f}", INK, font_of(TEXT - 2))
        for row in rows:
            y = TOP + names.index(row.name) * LINE + LINE / 2
            colour, x = ONLINE if row.causal else OFFLINE, left + PANEL * row.score.mean
            if not math.isnan(row.score.low):
                pen.line((left + PANEL * row.score.low, y, left + PANEL * row.score.high, y), colour, 2)
            pen.ellipse((x - 4, y - 4, x + 4, y + 4), colour)
    image.save(path)
