"""What a detector found for a video's prompts: kept with the bank, so that every segment sees the same objects."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from rlemasklib import RLEMask


@dataclass(frozen=True)
class Found:
    """One object that starts from a detection. prompt: its number from 1; mask uint8 [H, W] of 0 and 1."""

    prompt: int
    frame: int
    object_id: int
    mask: np.ndarray
    detector: str
    class_name: str
    score: float

    def to_record(self) -> dict[str, Any]:
        """JSON values; the mask as COCO RLE."""
        rle = RLEMask.from_array(np.ascontiguousarray(self.mask, np.uint8)).to_dict()
        record = {name: value for name, value in self.__dict__.items() if name != "mask"}
        return record | {"size": list(rle["size"]), "counts": rle["counts"].decode("ascii")}

    @staticmethod
    def from_record(record: dict[str, Any]) -> "Found":
        """What `to_record` gave. Raises ValueError."""
        try:
            values = dict(record)
            rle = {"size": values.pop("size"), "counts": values.pop("counts").encode("ascii")}
            return Found(mask=RLEMask.from_dict(rle).to_array(order="C").astype(np.uint8), **values)
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"not a found object: {error!r}") from error

    def provenance(self) -> dict[str, Any]:
        """What the `tracks` table says of it."""
        return {
            "found_by": self.detector,
            "found_class": self.class_name,
            "found_score": self.score,
            "found_frame": self.frame,
        }
