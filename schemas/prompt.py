"""One prompt of a video: what is said about an object (or several, in one mask or by a detector) on one frame."""

import base64
import json
import math
from dataclasses import asdict, dataclass

# What `detector` may be: stcn_core.detectors makes one of each name.
DETECTORS = ("mask-rcnn", "mask-rcnn-v2", "pointrend", "lost", "lost-crf")
MATCHINGS = ("one-to-one", "nearest")
MOST_OBJECTS = 50  # that a detector may find in a video: their masks are held at the source's size
KINDS = ("mask", "rle", "box", "points", "absent")


@dataclass(frozen=True)
class Prompt:
    """What shows or starts an object on one frame. Raises ValueError where the fields contradict each other.

    frame       display-order index in the source, 0-based; or
    time_s      seconds after the first displayed frame: means the last frame at or before it; or, for a detector,
    frames      the best of these; or
    candidates  the best of so many, evenly spread over the range (1, the usual: its middle).
    object_id   from 1; None: the labels in `mask`, or object 1 for a prompt that is the video's only one, or the
                lowest numbers that no prompt names for what a detector finds (otherwise the first of its numbers).
    mask        URL of a palette or grey PNG at the size of the source as shown (after rotation); or
    rle         (height, width, counts): COCO RLE, compressed counts, column-major; or
    box         (x, y, width, height) in source pixels, after rotation; or
    points      ((x, y, label), ...) in source pixels: the detection under those of label 1, not under those of 0; or
    absent      the object is not visible on this frame (as an empty mask says, too); or none of them, and
    detector    one of DETECTORS: the objects that it finds. With a box or mask: the detection that matches it best.
    classes     only these classes of the detector; max_objects: at most so many, best score first; min_score: from
                that score on (None: 0.5); matching: how boxes choose (None: one-to-one); detector_sha256: its weights.
    label       free text, copied to the tables.
    complete    objects that are not given on this frame are absent from it (otherwise: unknown).

    Only masks, RLEs and `absent` are facts and pinned; boxes, points and detections seed: their frames are predicted.
    """

    frame: int | None = None
    time_s: float | None = None
    object_id: int | None = None
    mask: str | None = None
    rle: tuple[int, int, bytes] | None = None
    box: tuple[float, float, float, float] | None = None
    label: str | None = None
    complete: bool = False
    points: tuple[tuple[float, float, int], ...] | None = None
    absent: bool = False
    detector: str | None = None
    classes: tuple[str, ...] | None = None
    max_objects: int | None = None
    min_score: float | None = None
    matching: str | None = None
    frames: tuple[int, ...] | None = None
    candidates: int | None = None
    detector_sha256: str | None = None

    def __post_init__(self) -> None:
        kinds = self.kinds
        if len(kinds) > 1 or (not kinds and self.detector is None):
            raise ValueError("a prompt needs exactly one of mask, rle, box, points, absent and detector")
        places = sum(value is not None for value in (self.frame, self.time_s, self.frames, self.candidates))
        if places > 1 or (places == 0 and kinds):
            raise ValueError("a prompt needs exactly one of frame and time")
        if kinds and (self.frames is not None or self.candidates is not None):
            raise ValueError("only what a detector is to find may have several frames to choose from")
        for frame in (() if self.frame is None else (self.frame,)) + (self.frames or ()):
            if frame < 0:
                raise ValueError(f"frame {frame} is negative; the first frame is 0")
        if self.time_s is not None and not (math.isfinite(self.time_s) and self.time_s >= 0):
            raise ValueError(f"time {self.time_s} is not a time; give seconds from 0")
        if self.object_id is not None and self.object_id < 1:
            raise ValueError(f"object_id {self.object_id} is below 1; 0 is the background")
        if self.absent and (self.object_id is None or self.detector is not None):
            raise ValueError("absent needs an object_id, and no detector")
        if self.box is not None:
            check_box(self.box)
        if self.points is not None:
            check_points(self.points)
        self._check_detector()

    def _check_detector(self) -> None:
        if self.detector is not None and self.detector not in DETECTORS:
            raise ValueError(f"no detector is called {self.detector!r}: there are {', '.join(DETECTORS)}")
        if self.matching is not None and self.matching not in MATCHINGS:
            raise ValueError(f"matching is one of {', '.join(MATCHINGS)}, not {self.matching!r}")
        if self.min_score is not None and not 0 <= self.min_score <= 1:
            raise ValueError(f"min_score {self.min_score} is not between 0 and 1")
        for name in ("max_objects", "candidates"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} {value} is below 1")
        if (self.max_objects or 0) > MOST_OBJECTS:
            raise ValueError(f"max_objects {self.max_objects} is above {MOST_OBJECTS}, the most that are kept")
        if self.frames == ():
            raise ValueError("frames is empty")
        settings = (self.classes, self.max_objects, self.min_score, self.matching, self.detector_sha256)
        if not self.detects and any(value is not None for value in settings):
            raise ValueError("classes, max_objects, min_score and matching go with a detector")
        if self.max_objects is not None and not self.finds:
            raise ValueError("max_objects goes with a detector that finds objects by itself")

    @property
    def kinds(self) -> tuple[str, ...]:
        """Which of KINDS it is: one, or none for a detector's own finds."""
        return tuple(name for name in KINDS if getattr(self, name) not in (None, False))

    @property
    def finds(self) -> bool:
        """Whether a detector says which objects there are."""
        return self.detector is not None and not self.kinds

    @property
    def detects(self) -> bool:
        """Whether a detector must look at the video."""
        return self.detector is not None or self.points is not None

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
            if record.get("points") is not None:
                record["points"] = tuple((float(x), float(y), int(label)) for x, y, label in record["points"])
            for name in ("classes", "frames"):
                if record.get(name) is not None:
                    record[name] = tuple(record[name])
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


def check_points(points: tuple[tuple[float, float, int], ...]) -> None:
    """Raises ValueError unless `points` are x, y, label with label 1 (on the object, at least one) or 0 (not on it)."""
    for point in points:
        if len(point) != 3:
            raise ValueError(f"a point is x, y, label, not {len(point)} values")
        x, y, label = point
        if not (math.isfinite(x) and math.isfinite(y) and x >= 0 and y >= 0):
            raise ValueError(f"the point {x:g}, {y:g} lies left of or above the frame")
        if label not in (0, 1):
            raise ValueError(f"a point's label is 1 (on the object) or 0 (not on it), not {label}")
    if not any(label == 1 for _, _, label in points):
        raise ValueError("no point has the label 1: at least one must lie on the object")
