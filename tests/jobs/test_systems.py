"""Known systems from a data set's folder to its benchmark's table: manifest, run, evaluation. Tiny weights, no Ray."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from made_networks import moving_squares, random_network, square_labels
from made_runs import run_here
from PIL import Image

from cluster.inspect.verification import verify
from cluster.segmenter import StcnSegmenters
from cluster.stores.storage import Storage
from jobs import annotate, evaluate, manifest
from schemas.manifest import VideoRow, parse_manifest
from schemas.run_config import RunConfig
from stcn_core.checkpoint import file_sha256, save_checkpoint

SIZE, FRAMES = (48, 64), 14


@pytest.fixture(scope="module")
def davis(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One video with two objects, every true mask, and weights beside it."""
    root = tmp_path_factory.mktemp("davis")
    images, masks = root / "JPEGImages/480p/squares", root / "Annotations/480p/squares"
    for folder in (images, masks):
        folder.mkdir(parents=True)
    video, labels = moving_squares(FRAMES, *SIZE), square_labels(FRAMES, *SIZE)
    for number in range(FRAMES):
        Image.fromarray(video[number]).save(images / f"{number:05d}.png")
        mask = Image.fromarray(labels[number], "P")
        mask.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0])
        mask.save(masks / f"{number:05d}.png")
    (root / "val.txt").write_text("squares\n")
    save_checkpoint(random_network(), root / "tiny.safetensors")
    return root


def row_of(davis: Path) -> VideoRow:
    target = davis / "val.jsonl"
    split = ["--split", str(davis / "val.txt")]
    assert manifest.main(["davis", str(davis), *split, "--to", str(target), "--overwrite"]) == 0
    (row,) = parse_manifest(str(target), target.read_bytes(), str(davis))
    return row


def config_of(davis: Path, *words: str) -> RunConfig:
    args = annotate.parser().parse_args(["--manifest", "m.jsonl", "--output", "out", *words])
    config = annotate.run_config(args, "tiny", file_sha256(davis / "tiny.safetensors"))
    return replace(config, segment_frames=max(config.segment_frames, 5))


def run(davis: Path, tmp_path: Path, config: RunConfig) -> Storage:
    storage = Storage(str(tmp_path / "out"))
    segmenters = StcnSegmenters(str(davis / "tiny.safetensors"))
    run_here(storage, [row_of(davis)], config, tmp_path / "scratch", segmenters)
    return storage


def masks_of(storage: Storage) -> list[tuple[int, int, bytes]]:
    found = []
    for name in sorted(storage.list("masks")):
        with storage.open_input(name) as file:
            table = pq.read_table(file, columns=["frame_index", "object_id", "rle_counts"])
            found += [tuple(row.values()) for row in table.to_pylist()]
    return sorted(found)


@pytest.fixture(scope="module")
def causal(davis: Path, tmp_path_factory: pytest.TempPathFactory) -> list[tuple[int, int, bytes]]:
    words = ("--burn-in-passes", "0", "--memory-policy", "unbounded", "--recent-frames", "0", "--prompt-weight", "1")
    return masks_of(run(davis, tmp_path_factory.mktemp("causal"), config_of(davis, *words, "--memory-every", "3")))


@pytest.mark.parametrize(
    "words",
    [
        ["--preset", "stcn"],
        ["--preset", "stm"],
        ["--preset", "eamstcn", "--additional-every", "5"],
        ["--preset", "stcnbuf"],
        ["--preset", "stcnbuf", "--burn-in-passes", "2", "--memory-frames", "4"],
        ["--preset", "stcn", "--scales", "32,48:3", "--flip"],
        ["--preset", "stcn", "--confidence-gate", "0.7"],
        ["--burn-in-choice", "motion", "--burn-in-frames", "4", "--memory-frames", "2", "--clean", "largest"],
    ],
    ids=" ".join,
)
def test_a_known_system_from_folder_to_table(
    davis: Path, tmp_path: Path, causal: list, capsys: pytest.CaptureFixture, words: list[str]
) -> None:
    config = config_of(davis, *words)
    storage = run(davis, tmp_path, config)
    assert verify(storage).code == 0
    assert RunConfig.from_json(storage.read("_run/config.json")) == config
    masks = masks_of(storage)
    assert {frame for frame, _, _ in masks} == set(range(FRAMES)) and masks != causal
    capsys.readouterr()
    file = tmp_path / "scores.json"
    command = ["--masks", storage.url, "--truth", str(davis), "--protocol", "davis2017", "--json", str(file)]
    assert evaluate.main(command) == 0
    row = json.loads(file.read_text())["row"]
    assert 0 < row["J&F"] < 1
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("STCN ") and "85.3" in line for line in lines)
    assert lines[-1].split()[:2] == ["ours", f"{100 * row['J&F']:.1f}"]


def test_a_known_systems_masks_are_those_of_its_settings_alone(davis: Path, tmp_path: Path, causal: list) -> None:
    """The stcn preset with every third frame is the causal run that types its settings out."""
    words = ["--preset", "stcn", "--memory-every", "3"]
    assert masks_of(run(davis, tmp_path, config_of(davis, *words))) == causal
    assert np.unique([object_id for _, object_id, _ in causal]).tolist() == [1, 2]
