import json
from dataclasses import replace

import pytest
import torch

from jobs import train
from jobs.train import EXIT_ARGUMENTS, build_parser, main, progress_line, training_command
from stcn_core.checkpoint import load_checkpoint
from stcn_core.training.trainer import LAYOUTS, Trainer, TrainingSettings, read_state

TINY = ["--steps", "2", "--batch", "1", "--size", "32", "--workers", "0", "--threads", "1", "--precision", "fp32",
        "--pool", "2"]  # fmt: skip


def test_help_names_every_way_to_use_it(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["--help"])
    text = capsys.readouterr().out
    assert stop.value.code == 0
    for flag in ("--output", "--resume", "--steps", "--batch", "--size", "--seed", "--threads", "--precision",
                 "--layout", "--export", "--validate"):  # fmt: skip
        assert flag in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give --output DIR for a new run"),
        (["--output", "x", "--export", "y.safetensors"], "need --resume"),
        (["--resume", "x", "--export", "y.pth"], "must end in .safetensors"),
        (["--output", "x", "--steps", "0"], "must be at least 1"),
        (["--output", "x", "--workers", "-1"], "must be 0 or more"),
        (["--output", "x", "--size", "100"], "not a multiple of 16"),
        (["--resume", "nowhere"], "no training run was saved"),
    ],
)
def test_bad_arguments_exit_2_with_a_reason(arguments, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == EXIT_ARGUMENTS
    assert message in capsys.readouterr().err


def test_train_continue_and_export(tmp_path, capsys):
    run = tmp_path / "run"
    assert main(["--output", str(run), *TINY]) == 0
    assert read_state(run)["step"] == 2
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert lines[-1]["step"] == 2 and lines[-1]["loss"] > 0
    assert main(["--output", str(run), *TINY]) == EXIT_ARGUMENTS
    assert "already holds a run" in capsys.readouterr().err
    assert main(["--resume", str(run), "--steps", "3"]) == 0
    assert read_state(run)["step"] == 3
    target = tmp_path / "w.safetensors"
    assert main(["--resume", str(run), "--export", str(target)]) == 0
    note = json.loads((tmp_path / "w.json").read_text())
    assert note["steps_done"] == 3 and note["seed"] == 0
    assert note["command"].startswith("python -m jobs.train --output RUN --steps 3 --seed 0")
    network, info = load_checkpoint(target)
    assert info.sha256 == note["sha256"] and not network.training


def test_another_run_is_not_written_over(tmp_path, capsys):
    first, second = tmp_path / "first", tmp_path / "second"
    for folder, step in ((first, 1), (second, 5)):
        folder.mkdir()
        trainer = Trainer(TrainingSettings(steps=9, sizes=(32,), workers=0, precision="fp32"), torch.device("cpu"))
        trainer.step = step
        trainer.save(folder)
    before = (second / "last.pt").read_bytes()
    assert main(["--resume", str(first), "--output", str(second), *TINY]) == EXIT_ARGUMENTS
    assert f"already holds a run: continue it with --resume {second}" in capsys.readouterr().err
    assert (second / "last.pt").read_bytes() == before and not (second / "log.jsonl").exists()
    same = f"{first}/../first"  # the run's own folder by another name is no other run
    assert main(["--resume", str(first), "--output", same, *TINY, "--steps", "1"]) == 0
    assert main(["--resume", str(first), "--output", str(tmp_path / "third"), *TINY, "--steps", "1"]) == 0
    assert main(["--resume", str(first), "--output", str(second), "--export", str(tmp_path / "w.safetensors")]) == 0


def test_an_export_that_is_stopped_leaves_the_earlier_one_whole(tmp_path, monkeypatch, capsys):
    trainer = Trainer(TrainingSettings(steps=9, sizes=(32,), workers=0, precision="fp32"), torch.device("cpu"))
    trainer.save(tmp_path)
    target = tmp_path / "w.safetensors"
    command = ["--resume", str(tmp_path), "--export", str(target)]
    assert main(command) == 0
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    real = train.save_checkpoint

    def stopped(network, path, *more):
        real(network, path, *more)
        raise KeyboardInterrupt

    monkeypatch.setattr(train, "save_checkpoint", stopped)
    with pytest.raises(KeyboardInterrupt):
        main(command)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    capsys.readouterr()
    (tmp_path / "folder.safetensors").mkdir()
    assert main(["--resume", str(tmp_path), "--export", str(tmp_path / "folder.safetensors")]) == EXIT_ARGUMENTS
    assert "a file and a folder are mixed up" in capsys.readouterr().err


@pytest.mark.parametrize("layout", ["efficientnet-v2-b1", "no-cbam"])
def test_other_layouts_train(layout, tmp_path, monkeypatch):
    """Narrow ones of the same kind, so that it is quick; the decoder's width is no part of the kind."""
    narrow = {"key_width": 8, "value_width": 8, "key_dim": 16, "value_dim": 32, "decoder_dim": 16}
    config = replace(LAYOUTS[layout](), **narrow, **({"expansion": 16} if layout != "no-cbam" else {}))
    monkeypatch.setitem(LAYOUTS, layout, lambda: config)
    run = tmp_path / "run"
    assert main(["--output", str(run), "--layout", layout, *TINY]) == 0
    losses = [json.loads(line)["loss"] for line in (run / "log.jsonl").read_text().splitlines()]
    assert all(0 < loss < 100 for loss in losses)
    start = Trainer(TrainingSettings(steps=2, layout=layout, workers=0), torch.device("cpu")).network.state_dict()
    trained = read_state(run)["network"]
    moved = {key.split(".")[0] for key in start if "weight" in key and not torch.equal(start[key], trained[key])}
    assert moved == {"key_encoder", "value_encoder", "key_proj", "key_comp", "decoder"}
    assert main(["--resume", str(run), "--export", str(tmp_path / "w.safetensors")]) == 0
    assert load_checkpoint(tmp_path / "w.safetensors")[1].config == config


def test_the_recorded_command_parses_back(tmp_path):
    trainer = Trainer(TrainingSettings(steps=9, sizes=(32, 64), workers=0, precision="fp32"), torch.device("cpu"))
    trainer.save(tmp_path)
    command = training_command(json.loads(read_state(tmp_path)["settings"]))
    args = build_parser().parse_args(command.split()[3:])
    assert args.steps == 9 and args.sizes == [32, 64] and args.precision == "fp32" and args.workers == 0


def test_progress_line():
    record = {"step": 40, "steps": 100, "loss": 1.25, "iou": None, "seconds_per_step": 0.5, "seconds_left": 30.0}
    assert progress_line(record) == "step 40/100  loss 1.250  IoU   -    2.00 steps/s  0:00:30 left"
