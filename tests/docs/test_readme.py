"""Every block of README.md that runs on one machine, word for word and in order, beside two small videos."""

import re
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest
from made_markdown import ROOT, blocks, checkout, run
from made_networks import moving_squares, square_labels
from PIL import Image

SIZE = (360, 480)
BLOCKS = [block for block in blocks(ROOT / "README.md") if block.language in ("python", "bash") and not block.not_run]


def write_clip(path: Path, frames: int, fps: int, seed: int) -> None:
    from framepump import EncoderConfig, VideoWriter

    with VideoWriter(str(path), fps=fps, encoder_config=EncoderConfig(preset="ultrafast")) as writer:
        for frame in moving_squares(frames, *SIZE, seed=seed):
            writer.append_data(frame)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A fresh checkout with the two videos, the prompt and the true masks that the page speaks of."""
    place = checkout(tmp_path / "checkout")
    (place / "clips").mkdir()
    (place / "truth/dog").mkdir(parents=True)
    write_clip(place / "clips/dog.mp4", 8, fps=10, seed=1)
    write_clip(place / "clips/run.mp4", 14, fps=1, seed=2)
    labels = (square_labels(8, *SIZE) == 1).astype(np.uint8)
    Image.fromarray(labels[0] * 255).save(place / "clips/dog_0.png")
    for number, picture in enumerate(labels):
        Image.fromarray(picture).save(place / f"truth/dog/{number:05d}.png")
    # Neither a cluster of this machine is joined, nor is its folder of sessions filled.
    sessions = tempfile.mkdtemp(prefix="r", dir="/tmp")
    monkeypatch.setenv("RAY_TMPDIR", sessions)
    yield place
    shutil.rmtree(sessions, ignore_errors=True)


@pytest.mark.timeout(2400)
def test_every_block_runs_and_leaves_what_it_says(folder):
    assert len(BLOCKS) >= 4
    printed = {block.line: run(block, folder, 1200) for block in BLOCKS}
    assert any("dog" in text and "run" in text for text in printed.values())  # the query over all masks
    for name in (
        "masks/masks", "report.html", "review.jsonl", "corrected/masks", "dog-overlay.mp4", "dog.png", "scores.json",
        "davis/Annotations/dog/00007.png", "imported/masks", "masks-compact/masks",
    ):  # fmt: skip
        assert (folder / name).exists(), name


PAGES = ["README.md", "cluster/README.md", *sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))]


@pytest.mark.parametrize("name", PAGES)
def test_links_between_pages_lead_somewhere(name):
    page = ROOT / name
    for target in re.findall(r"\]\(([^)\s]+?)(?:\s\"[^\"]*\")?\)", page.read_text()):
        if "://" not in target and not target.startswith("#"):
            assert (page.parent / target.split("#")[0]).exists(), f"{page}: {target}"
