"""A small corpus with prompts, a tiny network, and the annotate command run as a user runs it."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.dataset as ds
from made_networks import moving_squares, random_network, square_labels
from PIL import Image

from stcn_core.checkpoint import save_checkpoint

ROOT = Path(__file__).resolve().parent.parent
SETTINGS = ["--memory-frames", "4", "--burn-in-frames", "8", "--segment-frames", "10", "--threads", "1"]


def write_corpus(folder: Path, videos: int = 4, frames: int = 24, size: tuple[int, int] = (48, 64)) -> Path:
    """Videos of moving squares with a mask prompt (object 3) and a box prompt (object 8) each; returns the manifest."""
    from framepump import EncoderConfig, VideoWriter

    rows = []
    for number in range(videos):
        count = frames + 3 * number
        name = f"video {number} ü"
        with VideoWriter(str(folder / f"{name}.mp4"), fps=10, encoder_config=EncoderConfig(preset="ultrafast")) as w:
            for frame in moving_squares(count, *size, seed=number):
                w.append_data(frame)
        labels = square_labels(count, *size)
        Image.fromarray((labels[0] == 1).astype(np.uint8) * 255).save(folder / f"{name}.png")
        rows_y, rows_x = np.nonzero(labels[5] == 2)
        box = [int(rows_x.min()), int(rows_y.min()), int(np.ptp(rows_x)) + 1, int(np.ptp(rows_y)) + 1]
        prompts = [
            {"frame": 0, "object_id": 3, "mask": f"{name}.png"},
            {"time": 0.5, "object_id": 8, "box": box, "label": "square"},
        ]
        rows.append({"video": f"{name}.mp4", "video_id": f"v-{number}", "prompts": prompts})
    manifest = folder / "manifest.jsonl"
    manifest.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    return manifest


def write_checkpoint(folder: Path) -> Path:
    """A random network of 30 k parameters."""
    path = folder / "tiny.safetensors"
    save_checkpoint(random_network(), path)
    return path


def annotate_command(manifest: Path | str, output: Path | str, checkpoint: Path | str, *more: str) -> list[str]:
    """`python -m jobs.annotate …` on a local Ray of its own."""
    command = [sys.executable, "-m", "jobs.annotate", "--manifest", str(manifest), "--output", str(output)]
    return [*command, "--checkpoint", str(checkpoint), "--address", "local", *SETTINGS, *more]


def environment(**more: str) -> dict[str, str]:
    """The environment of a child: this project on the path, Ray quiet."""
    return {**os.environ, "PYTHONPATH": str(ROOT), "RAY_USAGE_STATS_ENABLED": "0", **more}


def annotate(*arguments, **more: str) -> subprocess.CompletedProcess:
    """Runs the command to its end; its output is in .stderr."""
    return subprocess.run(
        annotate_command(*arguments), env=environment(**more), capture_output=True, text=True, timeout=600, check=False
    )


def read_rows(output: Path | str, filesystem=None) -> list[dict]:
    """All rows of the `masks` table, as any reader of a folder of Parquet sees them, sorted."""
    table = ds.dataset(f"{output}/masks" if filesystem is None else output, filesystem=filesystem).to_table()
    return table.sort_by([(name, "ascending") for name in ("video_id", "object_id", "frame_index")]).to_pylist()


def rows_hash(rows: list[dict]) -> str:
    """SHA-256 over every value of every row."""
    return hashlib.sha256(repr([sorted(row.items()) for row in rows]).encode()).hexdigest()


def table_rows(output: Path, table: str) -> list[dict]:
    """Rows of `videos`, `tracks` or `failures` of a local output folder."""
    folder = Path(output) / table
    return ds.dataset(folder).to_table().to_pylist() if folder.is_dir() and any(folder.iterdir()) else []
