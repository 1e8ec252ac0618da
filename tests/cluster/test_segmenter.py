"""The real segmenters: what they load, refuse and call errors; nothing of torch before `load`."""

import json
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from fresh_interpreter import run_fresh
from made_networks import moving_squares, random_network, square_labels
from made_runs import run_here
from made_videos import write_video

from cluster.failure import ENVIRONMENT_CLASSES
from cluster.segmenter import StcnSegmenters, VideoFacts
from cluster.stores.storage import Storage
from cluster.workbench import offline_settings
from schemas.manifest import VideoRow
from schemas.prompt import Prompt
from schemas.run_config import RunConfig
from stcn_core.checkpoint import file_sha256, save_checkpoint
from stcn_core.prompts import FramePrompts, PromptSet

SIZE = (32, 48)


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.safetensors"
    save_checkpoint(random_network(), path)
    return path


def config_of(path: Path) -> RunConfig:
    return RunConfig("tiny", file_sha256(path), memory_frames=2, burn_in_frames=4, recent_frames=2)


def test_a_pickled_one_loads_and_segments(checkpoint: Path, tmp_path: Path) -> None:
    segmenters = pickle.loads(pickle.dumps(StcnSegmenters(str(checkpoint))))
    config = config_of(checkpoint)
    segmenters.load(config, "cpu", 1, tmp_path, {})
    profile = json.loads(segmenters.device_profile())
    assert profile["threads"] == 1 and profile["precision"] == "fp32" and torch.__version__.startswith(profile["torch"])
    video = moving_squares(6, *SIZE, objects=1)
    prompts = PromptSet((1,), {0: FramePrompts({1: (square_labels(6, *SIZE, 1)[0] == 1).astype(np.uint8)})})
    segmenter = segmenters.begin(offline_settings(config), prompts, VideoFacts(SIZE, SIZE, "v", 4))
    segmenter.memorise_prompts(lambda frame: video[frame])
    assert list(segmenter.burn_in([3, 1, 4], lambda frame: video[frame])) == [3, 1, 4]
    assert [frame for frame, _ in segmenter.final_pass(enumerate(video))] == list(range(6))
    assert segmenter.ring_frames == config.recent_frames * config.group_frames


def test_another_checkpoint_than_the_drivers_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    config = replace(config_of(checkpoint), checkpoint_sha256="ab" * 32)
    with pytest.raises(RuntimeError, match="tiny.safetensors has SHA-256 .* here, abababababab at the driver"):
        StcnSegmenters(str(checkpoint)).load(config, "cpu", 1, tmp_path, {})


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_a_gpu_that_torch_does_not_see(checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="a GPU was assigned, but torch sees none"):
        StcnSegmenters(str(checkpoint)).load(config_of(checkpoint), "cuda", 1, tmp_path, {})


def test_begin_before_load() -> None:
    with pytest.raises(RuntimeError, match="call load first"):
        StcnSegmenters().begin(None, None, VideoFacts(SIZE, SIZE, "v"))


def test_error_classes() -> None:
    classes = StcnSegmenters().error_class
    assert classes(torch.OutOfMemoryError("CUDA out of memory")) == "device-out-of-memory"
    assert classes(RuntimeError("CUDA error: an illegal memory access was encountered")) == "device"
    assert classes(RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED")) == "device"
    assert classes(RuntimeError("shapes do not match")) is None
    assert classes(ValueError("CUDA error: in other hands")) is None
    with pytest.raises(RuntimeError) as full:
        torch.empty(1 << 60, dtype=torch.uint8)
    assert classes(full.value) == "out-of-memory"


def test_weights_that_give_no_numbers_are_the_checkpoints_fault(tmp_path: Path) -> None:
    """Not the video's: such failures in a row stop the run instead of marking a corpus as failed."""
    network = random_network()
    with torch.no_grad():
        next(network.decoder.parameters()).fill_(float("nan"))
    save_checkpoint(network, tmp_path / "nan.safetensors")
    config = config_of(tmp_path / "nan.safetensors")
    segmenters = StcnSegmenters(str(tmp_path / "nan.safetensors"))
    row = VideoRow(
        1, str(write_video(tmp_path / "v.mp4", 8, size=SIZE)), "v", (Prompt(frame=0, object_id=1, box=(4, 4, 20, 20)),)
    )
    with pytest.raises(AssertionError, match="error_class='not-a-number'.*--precision fp16"):
        run_here(Storage(str(tmp_path / "out")), [row], config, tmp_path / "scratch", segmenters)
    assert "not-a-number" in ENVIRONMENT_CLASSES


LIGHT = """
import sys
import cluster.segmenter, stcn_core.burn_in, stcn_core.masks, stcn_core.prompts, stcn_core.settings
cluster.segmenter.StcnSegmenters("x")
heavy = [name for name in ("torch", "ray", "pyarrow", "fsspec") if name in sys.modules]
assert not heavy, heavy
"""


def test_importing_needs_no_torch() -> None:
    run_fresh(LIGHT)
