"""What a detector proposes on a frame, as the page shows it; kept per video and frame."""

import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import numpy as np

from jobs.views.pick.prompt_items import counts_of
from stcn_core.detectors import Detector

KEPT = 200  # frames
MOST = 40  # of a frame
SURE = 0.5


class Proposals:
    """Asks the detector, one frame at a time, and remembers what it said. `name` is shown."""

    def __init__(self, name: str, detector: Detector, classes: tuple[str, ...] = (), min_score: float = 0.5):
        self.name, self.detector, self.classes, self.min_score = name, detector, classes, min_score
        self._lock = threading.Lock()
        self._found: OrderedDict[tuple[str, int], list[dict[str, Any]]] = OrderedDict()

    def on(self, video: str, frame: int, picture: Callable[[], np.ndarray]) -> list[dict[str, Any]]:
        """Proposals on the frame, best first: score, name, box [x, y, w, h], and the runs of the mask at the video's
        size. picture gives uint8 RGB [H, W, 3]; it is asked for only where the frame is new. Empty masks are left out.
        """
        with self._lock:
            if (video, frame) not in self._found:
                found = self.detector.detect(picture(), classes=self.classes, min_score=self.min_score, limit=MOST)
                self._found[video, frame] = [
                    _proposal(mask, box, name, score)
                    for mask, box, name, score in zip(
                        found.masks, found.boxes, found.classes, found.scores, strict=True
                    )
                    if (mask > SURE).any()
                ]
                while len(self._found) > KEPT:
                    self._found.popitem(last=False)
            self._found.move_to_end((video, frame))
            return self._found[video, frame]


def _proposal(mask: np.ndarray, box: np.ndarray, name: str, score: float) -> dict[str, Any]:
    x1, y1, x2, y2 = (float(value) for value in box)
    return {
        "name": name,
        "score": round(float(score), 3),
        "box": [round(value, 1) for value in (x1, y1, x2 - x1, y2 - y1)],
        "counts": counts_of(mask > SURE),
    }
