"""The settings that affect masks: recorded with every shard, and locked for an output folder by its first run."""

import hashlib
import json
from dataclasses import asdict, dataclass, fields

NAME = "stcn-run-config"
VERSION = "1.4.0"
# What earlier versions did not ask for, and did: a record without them means this, and they are left out of the
# fingerprint where they are so, so that earlier runs go on. Not the defaults of today, which may be others.
BEFORE = {
    "region_decoding": False,
    "second_opinion": False,
    "admission": "every-nth",
    "additional_every": 25,
    "memory_restart": False,
    "include_last": False,
    "confidence_gate": 0.0,
    "pin_prompts": True,
    "prompt_weight": 1.0,
    "burn_in_choice": "uniform",
    "burn_in_order": "priority",
    "kernel_sigma": 0.0,
    "scales": "",
    "flip": False,
    "clean": "",
    "burn_in_gate": "",
    "gate_overlap": 0.5,
}


@dataclass(frozen=True)
class RunConfig:
    """Everything besides video and prompts that decides what the masks are. Names are the command line's.

    Actors, order of work, drain and retry are not in here: they never change a mask.
    """

    checkpoint: str
    checkpoint_sha256: str
    resolution: int = 480
    burn_in_passes: int = 1
    burn_in_frames: int | None = None
    memory_frames: int = 128
    memory_policy: str = "reservoir"
    memory_every: int = 5
    recent_frames: int = 0
    group_frames: int = 5
    segment_frames: int = 1000
    top_k: int = 20
    affinity: str = "l2"
    exclude_own: bool = True
    start: int | None = None
    end: int | None = None
    stride: int = 1
    region_decoding: bool = False
    second_opinion: bool = False  # changes no mask, but what is written beside it
    precision: str = "fp32"
    seed: int = 0
    admission: str = "every-nth"
    additional_every: int = 25
    memory_restart: bool = False
    include_last: bool = False
    confidence_gate: float = 0.0
    pin_prompts: bool = True
    prompt_weight: float = 8.0
    burn_in_choice: str = "uniform"
    burn_in_order: str = "outward"
    kernel_sigma: float = 0.0
    scales: str = ""
    flip: bool = False
    clean: str = ""
    burn_in_gate: str = ""
    gate_overlap: float = 0.5

    def to_json(self) -> str:
        """One JSON object with the schema's name and version."""
        return json.dumps({"schema": NAME, "version": VERSION, **asdict(self)}, indent=2)

    @staticmethod
    def from_json(text: str | bytes) -> "RunConfig":
        """Raises ValueError where the text is no run config, or of a later version than this program knows."""
        try:
            record = json.loads(text)
            if record.pop("schema") != NAME:
                raise ValueError("it has another schema")
            version = record.pop("version")
            if version.split(".")[0] != VERSION.split(".")[0]:
                raise ValueError(f"it has version {version}, this program reads {VERSION}")
            return RunConfig(**(BEFORE | record))
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise ValueError(f"not a run config: {error}") from error

    def fingerprint(self) -> str:
        """Hex SHA-256 over everything that affects masks. The checkpoint counts by its content, not its name."""
        record = asdict(self)
        del record["checkpoint"]
        for name, before in BEFORE.items():
            if record[name] == before:
                del record[name]
        return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()

    def differences(self, other: "RunConfig") -> list[str]:
        """Readable lines, one per setting that differs and matters: `--name: theirs -> ours`."""
        lines = []
        for field in fields(self):
            ours, theirs = getattr(self, field.name), getattr(other, field.name)
            if field.name != "checkpoint" and ours != theirs:
                lines.append(
                    f"--{field.name.replace('_', '-')}: {other._shown(field.name)} -> {self._shown(field.name)}"
                )
        return lines

    def _shown(self, name: str) -> str:
        value = getattr(self, name)
        if name == "checkpoint_sha256":
            return f"{self.checkpoint} ({value[:12]})"
        return str(value)
