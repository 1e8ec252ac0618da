"""The figures as bars on one picture, drawn with Pillow."""

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

from PIL import Image, ImageDraw

from jobs.measures.figure import Figure
from jobs.measures.report import cells
from jobs.views.overlay import font_of

WIDTH, LINE, TEXT, LEFT, RIGHT, GAP = 1100, 20, 13, 330, 150, 14
GROUND, INK, FAINT = (255, 255, 255), (30, 30, 30), (225, 225, 225)
OURS, THEIRS, OTHER = (40, 110, 190), (205, 110, 40), (130, 130, 130)


def save_plot(figures: Sequence[Figure], title: str, path: Path) -> None:
    """One group of bars per section, case and unit; each group has its own scale, from 0."""
    groups = [
        (f"{section}: {case}, {unit}", list(members))
        for (section, case, unit), members in groupby(
            sorted(figures, key=lambda f: (f.section, f.case, f.unit)), lambda f: (f.section, f.case, f.unit)
        )
    ]
    height = 3 * LINE + sum((1 + len(members)) * LINE + GAP for _, members in groups)
    image = Image.new("RGB", (WIDTH, height), GROUND)
    pen, y = ImageDraw.Draw(image), LINE
    pen.text((GAP, y - LINE // 2), title, INK, font_of(TEXT + 2))
    y += LINE + GAP
    for name, members in groups:
        pen.text((GAP, y), name, INK, font_of(TEXT + 1))
        y += LINE
        largest = max((abs(figure.value) for figure in members), default=0) or 1
        for figure in members:
            length = abs(figure.value) / largest * (WIDTH - LEFT - RIGHT)
            pen.text((2 * GAP, y), figure.name.strip(), INK, font_of(TEXT))
            pen.rectangle((LEFT, y + 3, WIDTH - RIGHT, y + LINE - 4), FAINT)
            pen.rectangle((LEFT, y + 3, LEFT + max(1, length), y + LINE - 4), _colour(figure))
            pen.text((WIDTH - RIGHT + GAP, y), f"{cells(figure)[1]} {figure.unit}", INK, font_of(TEXT))
            y += LINE
        y += GAP
    image.save(path)


def _colour(figure: Figure) -> tuple[int, int, int]:
    if figure.name.startswith("stcnbuf") and figure.unit != "x":
        return THEIRS
    return OURS if figure.name.startswith("ours") else OTHER
