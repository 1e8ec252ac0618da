"""Options of the burn-in's gates: recorded with the run, part of its identity only where they are used."""

from pathlib import Path

import pyarrow.parquet as pq
import pytest
from made_networks import moving_squares, random_network, square_labels
from made_runs import run_here
from PIL import Image

from cluster.segmenter import StcnSegmenters
from cluster.stores.storage import Storage
from jobs import annotate
from schemas.manifest import VideoRow
from schemas.prompt import Prompt
from schemas.run_config import RunConfig
from stcn_core.checkpoint import file_sha256, save_checkpoint
from stcn_core.settings import GATES

NEEDED = ["--manifest", "m.jsonl", "--output", "out"]


def config(*words: str) -> RunConfig:
    return annotate.run_config(annotate.parser().parse_args([*NEEDED, *words]), "stcn.pth", "ab" * 32)


def test_gates_are_recorded_and_change_the_fingerprint() -> None:
    found = config("--burn-in-gate", "two-way,relabel", "--gate-overlap", "0.7")
    assert (found.burn_in_gate, found.gate_overlap) == ("two-way,relabel", 0.7)
    assert RunConfig.from_json(found.to_json()) == found
    assert len({each.fingerprint() for each in (config(), found, config("--burn-in-gate", "two-way"))}) == 3


def test_help_names_every_gate(capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit):
        annotate.main(["--help"])
    text = capsys.readouterr().out
    assert all(f"{name}:" in text for name in GATES)


@pytest.mark.parametrize("words", [["--burn-in-gate", "near"], ["--burn-in-gate", "restart"], ["--gate-overlap", "2"]])
def test_what_cannot_be_is_refused(words: list[str]) -> None:
    with pytest.raises(ValueError, match=words[0]):
        config(*words)


def test_a_run_with_gates_visits_stored_frames_again(tmp_path: Path) -> None:
    """From the frame store, which must still hold them; as a whole video."""
    size, frames = (48, 64), 16
    (tmp_path / "video").mkdir()
    for number, pixels in enumerate(moving_squares(frames, *size, 1)):
        Image.fromarray(pixels).save(tmp_path / "video" / f"{number:05d}.png")
    Image.fromarray(square_labels(frames, *size, 1)[0]).save(tmp_path / "mask.png")
    save_checkpoint(random_network(), tmp_path / "tiny.safetensors")
    row = VideoRow(1, str(tmp_path / "video"), "v", (Prompt(frame=0, mask=str(tmp_path / "mask.png")),))
    found = []
    for gates in ("", "agreement,two-way,relabel,restart"):
        common = {"resolution": 48, "memory_frames": 4, "burn_in_frames": 8, "burn_in_passes": 2, "gate_overlap": 0.3}
        run = RunConfig("tiny", file_sha256(tmp_path / "tiny.safetensors"), burn_in_gate=gates, **common)
        storage = Storage(str(tmp_path / f"out{len(found)}"))
        run_here(storage, [row], run, tmp_path / "scratch", StcnSegmenters(str(tmp_path / "tiny.safetensors")))
        (name,) = storage.list("masks")
        with storage.open_input(name) as file:
            found.append(pq.read_table(file).column("rle_counts").to_pylist())
    assert len(found[0]) > 1 and found[0] != found[1]
