"""The whole tool on two videos that it renders itself: annotate, evaluate, look.

    python -m jobs.demo --output demo-output

Renders sample videos with known masks, annotates them with two CPU actors and the bundled network, measures J and F,
draws an overlay video and a contact sheet. About four minutes on two cores.
"""

import argparse
import json
import shlex
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from framepump import VideoWriter
from PIL import Image
from tqdm import tqdm

from jobs.messages import run_command
from stcn_core.training.renderer import render_clip

FPS = 15
HEIGHT, WIDTH = 360, 640
# Palette of the PNG masks: background, object 1, object 2; the usual VOS colours.
PALETTE = [0, 0, 0, 200, 0, 0, 0, 160, 0]
MARK = ".stcn-demo"


@dataclass(frozen=True)
class Sample:
    """A rendered video. absent: seconds between which its last object is out of the picture."""

    video_id: str
    seed: int
    seconds: int
    objects: int
    absent: tuple[float, float] | None


# The first one's seed was picked among a few, as one that the bundled network does well on.
SAMPLES = (
    Sample("leaves-and-returns", seed=9, seconds=20, objects=2, absent=(8.0, 12.0)),
    Sample("single", seed=11, seconds=6, objects=1, absent=None),
)


def main(argv: list[str] | None = None) -> int:
    """Runs the demo; returns the exit code of the first step that fails, or 0."""
    p = argparse.ArgumentParser(
        prog="python -m jobs.demo", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument("--output", type=Path, default=Path("demo-output"), help="folder, made anew (default %(default)s)")
    args = p.parse_args(argv)
    out = args.output
    if out.exists() and any(out.iterdir()) and not (out / MARK).exists():
        print(f"error: {out} is not empty and was not made by the demo: give another --output", file=sys.stderr)
        return 2
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    (out / MARK).touch()
    started = time.monotonic()
    rows = [render_sample(sample, out) for sample in SAMPLES]
    manifest = out / "manifest.jsonl"
    manifest.write_text("".join(json.dumps(row) + "\n" for row in rows))
    masks, scores = out / "masks", out / "scores.json"
    first = SAMPLES[0].video_id
    steps = (
        ["jobs.annotate", "--manifest", manifest, "--output", masks, "--actors", "2", "--threads", "1"]
        + ["--burn-in-frames", "100", "--memory-frames", "50"],
        ["jobs.evaluate", "--masks", masks, "--truth", out / "truth", "--json", scores],
        ["jobs.render", "--masks", masks, "--video", out / "videos" / f"{first}.mp4", "--video-id", first]
        + ["--to", out / "overlay.mp4", "--contact-sheet", out / "contact-sheet.png"],
    )
    for step in steps:
        code = call([str(part) for part in step])
        if code:
            return code
    report(out, masks, scores, time.monotonic() - started)
    return 0


def render_sample(sample: Sample, out: Path) -> dict:
    """Renders one video with its true masks and its prompts; returns its manifest row."""
    video = out / "videos" / f"{sample.video_id}.mp4"
    truth = out / "truth" / sample.video_id
    prompts = out / "prompts" / sample.video_id
    for folder in (video.parent, truth, prompts):
        folder.mkdir(parents=True, exist_ok=True)
    clip = render_clip(
        sample.seed, sample.seconds * FPS, (HEIGHT, WIDTH), sample.objects, fps=FPS, absent=sample.absent
    )
    prompted: dict[int, int] = {}
    with VideoWriter(str(video), fps=FPS) as writer:
        for index, (frame, labels) in enumerate(
            tqdm(clip, total=sample.seconds * FPS, desc=f"rendering {sample.video_id}", unit="frame", leave=False)
        ):
            writer.append_data(frame)
            save_mask(labels, truth / f"{index:05d}.png")
            for object_id in range(1, sample.objects + 1):
                # The first frame that shows a good part of the object is its prompt.
                if object_id not in prompted and (labels == object_id).mean() > 0.004:
                    prompted[object_id] = index
                    save_mask(np.where(labels == object_id, labels, 0), prompts / f"object-{object_id}.png")
    return {
        "video": f"videos/{video.name}",
        "video_id": sample.video_id,
        "prompts": [
            {"frame": frame, "object_id": object_id, "mask": f"prompts/{sample.video_id}/object-{object_id}.png"}
            for object_id, frame in prompted.items()
        ],
    }


def save_mask(labels: np.ndarray, path: Path) -> None:
    """labels uint8 [H, W] as a palette PNG (DAVIS's form of masks)."""
    image = Image.fromarray(labels.astype(np.uint8), mode="P")
    image.putpalette(PALETTE)
    image.save(path)


def call(command: list[str]) -> int:
    """Runs a command of this project as a user would, and shows it."""
    print(f"\n$ python -m {shlex.join(command)}", flush=True)
    return subprocess.run([sys.executable, "-m", *command], check=False).returncode


def report(out: Path, masks: Path, scores: Path, seconds: float) -> None:
    """What came out, how good it is, and how to read it."""
    overall = json.loads(scores.read_text())["overall"]
    summary = json.loads((masks / "_run" / "summary.json").read_text())
    print(
        f"""
J&F {overall["J&F"]:.3f} (J {overall["J"]:.3f}, F {overall["F"]:.3f}), {summary["frames_now"]} frames annotated at \
{summary["frames_per_second"]:.1f} frames/s, {seconds:.0f} s for everything
  masks          {masks}/masks/*.parquet   (tables videos, tracks and failures beside it)
  scores         {scores}
  overlay        {out / "overlay.mp4"}
  contact sheet  {out / "contact-sheet.png"}
Read the masks:
  from schemas import read_masks
  for frame, objects in read_masks("{masks}", "{SAMPLES[0].video_id}"):
      print(frame, {{object_id: int(mask.sum()) for object_id, mask in objects.items()}})"""
    )


if __name__ == "__main__":
    sys.exit(run_command(main))
