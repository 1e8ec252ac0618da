"""What each cell gains or loses against the base, as dots with their intervals, one panel per kind of clips."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw

from jobs.ablation.intervals import Estimate
from jobs.views.overlay import font_of

LINE, TEXT, LEFT, PANEL, GAP, TOP = 18, 12, 250, 260, 24, 64
GROUND, INK, FAINT, ZERO = (255, 255, 255), (30, 30, 30), (228, 228, 228), (150, 150, 150)
OFFLINE, ONLINE = (40, 110, 190), (205, 110, 40)
LARGEST = 0.4  # what lies farther out is drawn at the panel's edge
TICK = 0.1


@dataclass(frozen=True)
class Row:
    """One cell's difference of J&F from the base on one kind of clips."""

    name: str
    gain: Estimate
    causal: bool


def save_chart(panels: Mapping[str, Sequence[Row]], title: str, path: Path) -> None:
    """panels: heading -> rows; a cell has the same line, and J&F the same scale, in all of them. Raises OSError."""
    names = list(dict.fromkeys(row.name for rows in panels.values() for row in rows))
    ends = [
        abs(end) for rows in panels.values() for row in rows for end in (row.gain.low, row.gain.high, row.gain.mean)
    ]
    reach = min(LARGEST, max([TICK, *(end for end in ends if not math.isnan(end))]))
    title_font = font_of(TEXT + 2)
    width = math.ceil(max(LEFT + len(panels) * (PANEL + GAP), GAP + title_font.getlength(title)))
    height = TOP + LINE * len(names) + 2 * GAP
    image = Image.new("RGB", (width, height), GROUND)
    pen = ImageDraw.Draw(image)
    pen.text((GAP / 2, GAP / 3), title, INK, title_font)
    for number, name in enumerate(names):
        pen.text((GAP / 2, TOP + number * LINE), name, INK, font_of(TEXT))
    for number, (heading, rows) in enumerate(panels.items()):
        middle, bottom = LEFT + number * (PANEL + GAP) + PANEL / 2, TOP + LINE * len(names)

        def place(gain: float, middle: float = middle) -> float:
            return middle + PANEL / 2 * max(-1.0, min(1.0, gain / reach))

        pen.text((place(-reach), TOP - 1.5 * LINE), heading, INK, font_of(TEXT + 1))
        steps = int(reach / TICK + 1e-9)
        for tick in range(-steps, steps + 1):
            x = place(tick * TICK)
            pen.line((x, TOP, x, bottom), FAINT if tick else ZERO)
            pen.text((x - 8, bottom + 4), f"{100 * tick * TICK:+.0f}", INK, font_of(TEXT - 2))
        for row in rows:
            y, colour = TOP + names.index(row.name) * LINE + LINE / 2, ONLINE if row.causal else OFFLINE
            if not math.isnan(row.gain.low):
                pen.line((place(row.gain.low), y, place(row.gain.high), y), colour, 2)
            x = place(row.gain.mean)
            pen.ellipse((x - 4, y - 4, x + 4, y + 4), colour)
    image.save(path)
