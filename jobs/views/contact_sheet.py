"""A grid of frames with captions, as one picture."""

from dataclasses import dataclass, field

import numpy as np
from PIL import Image, ImageDraw

from jobs.views.overlay import font_of

BACKGROUND = (24, 24, 24)
INK = (225, 225, 225)


@dataclass
class ContactSheet:
    """Frames uint8 [h, w, 3] of one size are added in order; `image` lays them out in `columns`."""

    columns: int
    title: str = ""
    _cells: list[tuple[np.ndarray, str]] = field(default_factory=list)

    def add(self, frame: np.ndarray, caption: str) -> None:
        if self._cells and frame.shape != self._cells[0][0].shape:
            raise ValueError(f"frames of a sheet have one size: {self._cells[0][0].shape}, got {frame.shape}")
        self._cells.append((frame, caption))

    def __len__(self) -> int:
        return len(self._cells)

    def image(self) -> Image.Image:
        """The sheet. Raises ValueError when it has no frame."""
        if not self._cells:
            raise ValueError("a contact sheet needs at least one frame")
        height, width = self._cells[0][0].shape[:2]
        columns = min(self.columns, len(self._cells))
        rows = -(-len(self._cells) // columns)
        gap = max(4, width // 40)
        text = min(max(width // 20, 11), 20)
        below = round(text * 1.6)
        head = round(text * 2.2) if self.title else gap
        sheet = Image.new("RGB", (columns * (width + gap) + gap, head + rows * (height + below + gap)), BACKGROUND)
        pen = ImageDraw.Draw(sheet)
        if self.title:
            pen.text(
                (gap, text * 0.5),
                _fitted(self.title, round(text * 1.2), sheet.width - 2 * gap),
                INK,
                font_of(text * 1.2),
            )
        for number, (frame, caption) in enumerate(self._cells):
            x = gap + number % columns * (width + gap)
            y = head + number // columns * (height + below + gap)
            sheet.paste(Image.fromarray(frame), (x, y))
            pen.text((x + 1, y + height + text * 0.2), caption, INK, font_of(text))
        return sheet


def _fitted(text: str, size: int, width: int) -> str:
    """`text`, cut with an ellipsis to what fits into `width` pixels."""
    font = font_of(size)
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "...") > width:
        text = text[:-1]
    return text + "..."
