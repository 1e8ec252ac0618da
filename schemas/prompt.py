"""One prompt of a video: what is said about an object (or several, in one mask) on one frame."""

import base64
import json
import math
from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Prompt:
    """A given mask or a box on one frame. Raises ValueError where the fields contradict each other.

    frame       display-order index in the source, 0-based; or
    time_s      seconds after the first displayed frame: means the last frame at or before it.
    object_id   from 1; None: the labels in `mask`, or object 1 for a box or RLE that is the video's only prompt.
    mask        URL of a palette or grey PNG at the size of the source as shown (after rotation); or
    rle         (height, width, counts): COCO RLE, compressed counts, column-major; or
    box         (x, y, width, height) in source pixels, after rotation. A box seeds only, it is never pinned.
    label       free text, copied to the tables.
    complete    objects that are not given on this frame are absent from it (otherwise: unknown).
    """

    frame: int | None = None
    time_s: float | None = None
    object_id: int | None = None
    mask: str | None = None
    rle: tuple[int, int, bytes] | None = None
    box: tuple[float, float, float, float] | None = None
    label: str | None = None
    complete: bool = False

    def __post_init__(self) -> None:
        if (self.frame is None) == (self.time_s is None):
            raise ValueError("a prompt needs exactly one of frame and time")
        if sum(value is not None for value in (self.mask, self.rle, self.box)) != 1:
            raise ValueError("a prompt needs exactly one of mask, rle and box")
        if self.frame is not None and self.frame < 0:
            raise ValueError(f"frame {self.frame} is negative; the first frame is 0")
        if self.time_s is not None and not (math.isfinite(self.time_s) and self.time_s >= 0):
            raise ValueError(f"time {self.time_s} is not a time; give seconds from 0")
        if self.object_id is not None and self.object_id < 1:
            raise ValueError(f"object_id {self.object_id} is below 1; 0 is the background")
        if self.box is not None:
            check_box(self.box)

    def to_json(self) -> str:
        """Canonical JSON (sorted keys, unset fields left out; RLE counts as base64): equal prompts, equal text."""
        record = {key: value for key, value in asdict(self).items() if value is not None and value is not False}
        if self.rle is not None:
            height, width, counts = self.rle
            record["rle"] = [height, width, base64.b64encode(counts).decode("ascii")]
        return json.dumps(record, sort_keys=True)

    @staticmethod
    def from_json(text: str | bytes) -> "Prompt":
        """The prompt that `to_json` wrote. Raises ValueError."""
        try:
            record = json.loads(text)
            if record.get("rle") is not None:
                height, width, counts = record["rle"]
                record["rle"] = (int(height), int(width), base64.b64decode(counts, validate=True))
            if record.get("box") is not None:
                record["box"] = tuple(float(value) for value in record["box"])
            return Prompt(**record)
        except (TypeError, AttributeError, ValueError) as error:
            raise ValueError(f"not a prompt: {error}") from error


def check_box(box: tuple[float, ...]) -> None:
    """Raises ValueError unless `box` is x, y, width, height of a rectangle with an area that can meet a frame."""
    if len(box) != 4:
        raise ValueError(f"a box has 4 numbers, not {len(box)}")
    if not all(math.isfinite(value) for value in box):
        raise ValueError("a box holds finite numbers only")
    x, y, width, height = box
    if width <= 0 or height <= 0:
        raise ValueError(f"the box is {width:g} wide and {height:g} high")
    if x + width <= 0 or y + height <= 0:
        raise ValueError("the box lies left of or above the frame")
