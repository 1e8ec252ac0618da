"""What was measured, one small JSON file per cell, clip and seed: OUTPUT/results/CELL/CLIP.sSEED.json."""

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from jobs.ablation.cells import Cell
from jobs.ablation.clips import ClipSpec
from stcn_core.settings import BEFORE, OfflineSettings

NAME, VERSION = "stcn-ablation", "1.0.0"
EARLIER = {"precision": "fp32"}  # of records that do not say


@dataclass(frozen=True)
class Task:
    """One cell on one clip with one seed."""

    cell: Cell
    clip: ClipSpec
    seed: int = 0

    @property
    def settings(self) -> OfflineSettings:
        return replace(self.cell.settings, seed=self.seed)

    @property
    def file(self) -> str:
        return f"results/{self.cell.name}/{self.clip.name}.s{self.seed}.json"


class Results:
    """A folder of results of one checkpoint at one resolution and precision. Those made otherwise are not read, and
    made anew."""

    def __init__(self, folder: Path, checkpoint_sha256: str, resolution: int, precision: str = "fp32") -> None:
        self.folder, self.resolution, self.precision = folder, resolution, precision
        self.made_with = {"checkpoint_sha256": checkpoint_sha256, "resolution": resolution, "precision": precision}
        self._read: dict[str, dict[str, Any] | None] = {}

    def get(self, task: Task) -> dict[str, Any] | None:
        """What was measured, or None."""
        if task.file not in self._read:
            self._read[task.file] = self._load(task)
        return self._read[task.file]

    def put(self, task: Task, measured: Mapping[str, Any]) -> None:
        """Writes it in one step. Raises OSError."""
        record = {"schema": NAME, "version": VERSION, **self._identity(task), **measured}
        path = self.folder / task.file
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        temporary.write_text(json.dumps(record) + "\n")
        os.replace(temporary, path)
        self._read[task.file] = record

    def all(self) -> list[dict[str, Any]]:
        """Everything that lies in the folder, whichever cells are asked for now."""
        found = [json.loads(path.read_text()) for path in sorted(self.folder.glob("results/*/*.json"))]
        return [record for record in found if self._ours(record)]

    def _load(self, task: Task) -> dict[str, Any] | None:
        try:
            record = json.loads((self.folder / task.file).read_text())
        except FileNotFoundError:
            return None
        if not self._ours(record):
            return None
        try:
            settings = OfflineSettings(**(BEFORE | record["settings"]))
        except (KeyError, TypeError, ValueError):
            return None
        return record if settings == task.settings else None

    def _identity(self, task: Task) -> dict[str, Any]:
        return {
            "cell": task.cell.name,
            "clip": task.clip.name,
            "kind": task.clip.kind,
            "base": task.clip.base,
            "seed": task.seed,
            "settings": asdict(task.settings),
            **self.made_with,
        }

    def _ours(self, record: Mapping[str, Any]) -> bool:
        version = str(record.get("version", "")).split(".")[0]
        made_with = all(record.get(name, EARLIER.get(name)) == value for name, value in self.made_with.items())
        return record.get("schema") == NAME and version == VERSION.split(".")[0] and made_with


def mean_jf(record: Mapping[str, Any]) -> float:
    """Mean J&F over the clip's objects."""
    return sum(one["J&F"] for one in record["objects"]) / len(record["objects"])
