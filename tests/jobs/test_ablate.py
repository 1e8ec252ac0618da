"""jobs.ablate: the whole command on tiny clips, resumed, stopped in time; equal to what a unit makes."""

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from made_networks import moving_squares, random_network, square_labels
from made_runs import run_here
from PIL import Image

from cluster.segmenter import StcnSegmenters
from cluster.stores.storage import Storage
from jobs.ablate import main
from jobs.ablation import work
from jobs.ablation.clips import ClipSpec, open_clip
from jobs.ablation.measure import CountedNetwork, segment
from schemas.manifest import VideoRow
from schemas.prompt import Prompt
from schemas.run_config import RunConfig
from stcn_core.checkpoint import file_sha256, load_checkpoint, save_checkpoint
from stcn_core.settings import OfflineSettings

SIZE = (48, 64)
FRAMES = 9


def write_clip(folder: Path, seed: int, objects: int = 1) -> Path:
    for name, pixels in (
        ("frames", moving_squares(FRAMES, *SIZE, objects, seed=seed)),
        ("masks", square_labels(FRAMES, *SIZE, objects)),
    ):
        (folder / name).mkdir(parents=True)
        for number, each in enumerate(pixels):
            Image.fromarray(each).save(folder / name / f"{number:05d}.png")
    return folder


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """clips/ with three clips, and a checkpoint."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("ablation")
    for seed, name in enumerate("abc"):
        write_clip(folder / "clips" / name, seed, objects=1 + seed % 2)
    save_checkpoint(random_network(), folder / "tiny.safetensors")
    return folder


def ablate(place: Path, output: Path, *more: str) -> int:
    clips, checkpoint = str(place / "clips"), str(place / "tiny.safetensors")
    return main(["--output", str(output), "--clips", clips, "--checkpoint", checkpoint, "--resolution", "48", *more])


def test_a_grid_is_measured_once_and_told(place: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    cells = ("--cells", "base", "causal", "order-outward", "causal-ring-0", "--seeds", "2")
    kinds = ("--kinds", "real", "occluded", "spliced", "to-and-fro-3", "long", "--long", "1", "--long-frames", "4")
    assert ablate(place, tmp_path, *cells, *kinds) == 0
    files = {str(path.relative_to(tmp_path / "results")) for path in (tmp_path / "results").glob("*/*.json")}
    assert {f"base/{name}.real.s{seed}.json" for name in "abc" for seed in (0, 1)} <= files
    assert {"causal/a.spliced.s0.json", "base/a.to-and-fro-3.s0.json", "base/a.occluded.s1.json"} <= files
    assert "causal/a.real.s1.json" not in files  # another seed changes nothing there
    assert "causal/drift_0_4_48.long.s0.json" in files
    record = json.loads((tmp_path / "results" / "base" / "b.real.s0.json").read_text())
    # Every frame but the prompt is visited once, then all frames are segmented; two objects; two ring slots.
    assert record["evaluations"] == {"key": 1 + 8 + 9, "value": 2 * (1 + 8 + 1), "decoder": 2 * (8 + 9)}
    assert record["frames"] == FRAMES and len(record["objects"]) == 2
    page = (tmp_path / "ablation.md").read_text()
    assert "## Offline against causal" in page and "| real | " in page and "`order-outward`" in page
    assert Image.open(tmp_path / "ablation.png").size[1] > 100
    monkeypatch.setattr(work, "_measured", lambda *_: pytest.fail("measured again"))
    capsys.readouterr()
    assert ablate(place, tmp_path, *cells, *kinds) == 0


def test_another_checkpoint_or_precision_is_measured_anew(place: Path, tmp_path: Path, monkeypatch) -> None:
    common = ("--kinds", "real", "--clip", "a", "--cells", "causal")
    assert ablate(place, tmp_path, *common) == 0
    save_checkpoint(random_network(seed=6), tmp_path / "other.safetensors")
    tried = []
    record = tmp_path / "results/causal/a.real.s0.json"
    earlier = json.loads(record.read_text())
    del earlier["precision"]  # as written before there was a choice
    record.write_text(json.dumps(earlier))
    measured = work._measured
    monkeypatch.setattr(work, "_measured", lambda *given: tried.append(given[0].file) or measured(*given))
    assert ablate(place, tmp_path, *common) == 0
    assert tried == []
    assert ablate(place, tmp_path, *common, "--checkpoint", str(tmp_path / "other.safetensors")) == 0
    assert tried == ["results/causal/a.real.s0.json"]
    assert ablate(place, tmp_path, *common, "--precision", "bf16") == 0
    assert len(tried) == 2


def test_it_stops_in_time_and_goes_on(place: Path, tmp_path: Path, capsys) -> None:
    common = ("--kinds", "real", "--clip", "a", "--cells", "base", "--seeds", "1")
    assert ablate(place, tmp_path, *common, "--minutes", "0.0001") == 3
    assert "1 measurements are left" in capsys.readouterr().err
    assert ablate(place, tmp_path, *common, "--list") == 0
    assert "left  base  a.real  seed 0" in capsys.readouterr().out
    assert ablate(place, tmp_path, *common) == 0


@pytest.mark.parametrize(
    ("more", "said"),
    [(("--cells", "basis"), "no such cell"), (("--clip", "zebra"), "no clip"), (("--clips", "/nowhere"), "nowhere")],
)
def test_bad_arguments(place: Path, tmp_path: Path, capsys, more: tuple[str, ...], said: str) -> None:
    kinds = () if "--clips" in more else ("--kinds", "real")
    assert ablate(place, tmp_path, *kinds, *more) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("passes", [0, 1])
def test_equal_to_what_a_unit_makes(place: Path, tmp_path: Path, passes: int) -> None:
    """The same masks as jobs.annotate's, byte for byte."""
    checkpoint = place / "tiny.safetensors"
    clip = open_clip(ClipSpec("v", "real", (str(place / "clips" / "b"),)), SIZE[0])
    common = {"burn_in_passes": passes, "memory_frames": 4, "burn_in_frames": 6, "memory_every": 2}
    network = CountedNetwork(load_checkpoint(checkpoint)[0])
    ours = [
        (frame, mask.object_id, mask.counts)
        for frame, masks in segment(network, clip, OfflineSettings(**common))
        for mask in masks
    ]
    config = RunConfig("tiny", file_sha256(checkpoint), resolution=SIZE[0], **common)
    prompt = Prompt(frame=0, mask=str(place / "clips" / "b" / "masks" / "00000.png"))
    row = VideoRow(1, str(place / "clips" / "b" / "frames"), "v", (prompt,))
    storage = Storage(str(tmp_path / "out"))
    run_here(storage, [row], config, tmp_path / "scratch", StcnSegmenters(str(checkpoint)))
    rows = []
    for name in storage.list("masks"):
        with storage.open_input(name) as file:
            rows += pq.read_table(file).to_pylist()
    assert len(rows) > FRAMES
    key = [(row["frame_index"], row["object_id"], row["rle_counts"]) for row in rows]
    assert sorted(ours) == sorted(key)
    assert not np.array_equal(clip.labels(0), clip.labels(8))
