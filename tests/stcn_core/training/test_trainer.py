import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from stcn_core.checkpoint import load_checkpoint, save_checkpoint
from stcn_core.network import STCN, NetworkConfig
from stcn_core.training.samples import Gaps, make_batch
from stcn_core.training.trainer import STATE_NAME, Trainer, TrainingSettings, averaged_network, read_state

ROOT = Path(__file__).parents[3]
TINY = TrainingSettings(
    steps=4, seed=3, batch=2, sizes=(48,), pool=4, first_fill=2, clip_rate=0.25, workers=0, save_every=2,
    log_every=2, precision="fp32", warm_up=2,
)  # fmt: skip


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


def test_a_resumed_run_ends_with_the_same_weights(tmp_path):
    records = []
    whole = Trainer(TINY, torch.device("cpu"))
    whole.train(tmp_path / "whole", records.append)
    assert [record["step"] for record in records] == [2, 4]
    assert all(np.isfinite(record["loss"]) for record in records)

    half = Trainer(replace(TINY, freeze_norms_from=1.7, decay_from=1.4, steps=2), torch.device("cpu"))
    half.train(tmp_path / "half", records.append)
    rest = Trainer(TINY, torch.device("cpu"))
    rest.load(tmp_path / "half")
    assert rest.step == 2
    rest.train(tmp_path / "half", records.append)
    one, two = read_state(tmp_path / "whole"), read_state(tmp_path / "half")
    for part in ("network", "average"):
        for key, tensor in one[part].items():
            assert torch.equal(tensor, two[part][key]), key


def test_the_average_is_what_is_exported(tmp_path):
    trainer = Trainer(TINY, torch.device("cpu"))
    trainer.take_step()
    trainer.save(tmp_path)
    network, record = averaged_network(tmp_path)
    assert record["step"] == 1 and record["settings"]["seed"] == 3
    save_checkpoint(network, tmp_path / "w.safetensors", dtype=torch.float16)
    loaded, _ = load_checkpoint(tmp_path / "w.safetensors")
    for key, tensor in loaded.state_dict().items():
        assert torch.allclose(tensor.float(), trainer.average.state[key].float(), rtol=2e-3, atol=1e-4), key


def test_two_lanes_add_up_to_the_gradient_of_the_whole_batch():
    settings = replace(TINY, lanes=2, batch=4, freeze_norms_from=0.0, pair_share=0.0)
    gradients = []
    for lanes in (1, 2):
        trainer = Trainer(replace(settings, lanes=lanes), torch.device("cpu"))
        trainer.network.eval()  # batch statistics would differ between a whole and its parts
        batch = make_batch(np.random.default_rng(0), trainer.pool.at_step(0), 4, 48, 1, Gaps())
        trainer._gradients(batch, 1.0)
        gradients.append([p.grad.clone() for p in trainer.network.parameters()])
    for one, two in zip(*gradients, strict=True):
        assert torch.allclose(one, two, rtol=1e-3, atol=1e-5)


def test_learning_lowers_the_loss_on_one_clip():
    trainer = Trainer(
        replace(TINY, steps=1000, pool=1, first_fill=1, clip_rate=0.0, pair_share=0.0), torch.device("cpu")
    )
    losses = [trainer.take_step()[0] for _ in range(40)]
    trainer.pool.close()
    assert np.mean(losses[-8:]) < 0.8 * np.mean(losses[:8])


def test_rates_rise_hold_and_fall():
    settings = TrainingSettings(steps=1000, warm_up=100, learning_rate=1.0, decay_from=0.5)
    assert settings.rate_at(0) == pytest.approx(0.01)
    assert settings.rate_at(300) == 1.0
    assert settings.rate_at(750) == pytest.approx(0.51)
    assert settings.rate_at(1000) == pytest.approx(0.02)


def test_odd_sizes_and_other_layouts_are_refused(tmp_path):
    with pytest.raises(ValueError, match="100 is not a multiple of 16"):
        Trainer(replace(TINY, sizes=(100,)), torch.device("cpu"))
    trainer = Trainer(TINY, torch.device("cpu"))
    trainer.save(tmp_path)
    state = read_state(tmp_path)
    state["settings"] = state["settings"].replace('"small"', '"official"')
    torch.save(state, tmp_path / STATE_NAME)
    with pytest.raises(ValueError, match="holds layout official, not small"):
        Trainer(TINY, torch.device("cpu")).load(tmp_path)
    with pytest.raises(FileNotFoundError, match="no training run was saved"):
        read_state(tmp_path / "nowhere")


def test_the_small_layout_is_small():
    count = sum(p.numel() for p in STCN(NetworkConfig.small()).parameters())
    assert 2e6 < count < 5e6


def test_killed_at_any_instant_the_state_is_whole_and_the_run_goes_on(tmp_path):
    options = "--steps 100000 --batch 1 --size 32 --workers 0 --threads 1 --precision fp32 --save-every 1 --pool 2"
    command = [sys.executable, "-m", "jobs.train", *options.split()]
    folder = tmp_path / "run"
    arguments, reached = ["--output", str(folder)], 0
    for _ in range(2):
        process = subprocess.Popen(command + arguments, cwd=ROOT, stdout=subprocess.DEVNULL)
        try:
            deadline = time.monotonic() + 120
            while time.monotonic() < deadline and process.poll() is None:
                if (folder / STATE_NAME).exists() and read_state(folder)["step"] > reached:
                    break
                time.sleep(0.2)
            time.sleep(0.3)
        finally:
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
        state = read_state(folder)  # reads whole, whatever was being written
        assert state["step"] > reached
        assert json.loads(state["settings"])["steps"] == 100000
        reached, arguments = state["step"], ["--resume", str(folder)]
