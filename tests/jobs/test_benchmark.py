"""The benchmark: its clock, its table, and all of it on tiny pictures."""

import json
from itertools import count

import numpy as np
import pytest
import torch
from PIL import Image

from jobs import benchmark
from jobs.measures.bench import Bench, BenchmarkSettings, Case
from jobs.measures.clock import Clock, Timing
from jobs.measures.figure import Figure, ratio, timed
from jobs.measures.operations import count_operations
from jobs.measures.peak import peak_works
from jobs.measures.plot import save_plot
from jobs.measures.report import Report, table
from stcn_core.network import NetworkConfig


class StepClock(Clock):
    """Every call takes as long as the work says, by a clock that stands still otherwise."""

    def __init__(self) -> None:
        super().__init__("cpu")
        self.called: list[str] = []

    def seconds(self, work) -> float:
        name, taken = work()
        self.called.append(name)
        return taken


def test_alternatives_take_turns_and_the_first_round_is_not_counted() -> None:
    clock, slower = StepClock(), count(1)
    times = clock.interleaved({"a": lambda: ("a", float(next(slower))), "b": lambda: ("b", 1.0)}, seconds=60, most=3)
    assert clock.called == ["a", "b", "b", "a", "a", "b", "b", "a"]
    assert times["a"].seconds == (2.0, 3.0, 4.0) and times["b"].seconds == (1.0, 1.0, 1.0)
    assert times["a"].best == 2 and times["a"].median == 3 and times["a"].spread == pytest.approx(2 / 3)


def test_without_time_one_round_is_all_if_it_is_long(monkeypatch) -> None:
    clock = StepClock()
    assert clock.interleaved({"a": lambda: ("a", 5.0)}, seconds=-1)["a"].seconds == (5.0, 5.0)
    monkeypatch.setattr("jobs.measures.clock.SHORT_SECONDS", -1.0)
    clock.called.clear()
    times = clock.interleaved({"a": lambda: ("a", 5.0), "b": lambda: ("b", 1.0)}, seconds=-1)
    assert clock.called == ["a", "b"]
    assert times["a"].seconds == (5.0,) and times["a"].spread == 0


def test_a_ratio_is_of_the_best_rounds_with_the_rounds_own_ratios_beside() -> None:
    figure = ratio("s", "c", "theirs / ours", Timing((8.0, 12.0, 30.0)), Timing((2.0, 1.0, 10.0)))
    assert figure.value == 8 and figure.median == 4 and figure.rounds == 3
    assert figure.spread == pytest.approx((12 - 3) / 4)


def test_tables_carry_values_spread_and_notes(tmp_path) -> None:
    figures = [
        timed("read", "480p", "ours", Timing((0.5, 0.75)), note="a | b"),
        Figure("read", "480p", "ours", 2.0, "frames/s"),
        Figure("memory", "10 frames", "peak", 123.44, "MB"),
    ]
    text = table(figures)
    assert "read: 480p" in text and "0.500  s/frame    0.625    40 %       2  a | b" in text and "123.4" in text
    report = Report("python -m jobs.benchmark", {"device": "cpu", "torch": "2"}, {"threads": 1}, figures)
    report.loads.append({"when": "at the start", "time": "2026-01-02T03:04:05", "load average": "1.00 2.00 3.00"})
    written = report.to_markdown()
    for part in ("2026-01-02", "python -m jobs.benchmark", "| torch | 2 |", "1.00 2.00 3.00", "## memory: 10 frames"):
        assert part in written
    assert "| ours | 0.500 | s/frame | 0.625 | 40 % | 2 | a \\| b |" in written
    assert json.loads(report.to_json())["figures"][2]["value"] == 123.44
    save_plot(figures, "title", tmp_path / "plot.png")
    pixels = np.asarray(Image.open(tmp_path / "plot.png"))
    assert pixels.shape[1] == 1100 and (pixels != 255).any()


def test_operations_are_those_of_the_published_network() -> None:
    """480x864, counted before by torch's counter on the original: 71.4, 198.9, 85.6 G."""
    done = count_operations(NetworkConfig.official(), (480, 864), 1)
    assert [round(number / 1e9, 1) for number in (done.key, done.decoder, done.value)] == [71.4, 198.9, 85.6]
    two = count_operations(NetworkConfig.official(), (480, 864), 2)
    assert two.key == done.key and 1.6 * done.decoder < two.decoder < 2 * done.decoder and two.value == 2 * done.value


def test_the_peaks_operations_are_those_that_are_done() -> None:
    from torch.utils.flop_counter import FlopCounterMode

    for name, (work, operations) in peak_works("fp32", "cpu", quick=True).items():
        with FlopCounterMode(display=False) as counter:
            work()
        assert counter.get_total_flops() == operations, name


def test_stcnbuf_has_the_same_weights_and_the_same_memory(tmp_path) -> None:
    pytest.importorskip("stcnbuf.model.eval_network", reason="stcnbuf is in the test extra")
    settings = BenchmarkSettings(
        "cpu", 1, (Case(64, 2),), ("fp32",), "fp32", memory_frames=3, pictures=2, cheap_frames=6
    )
    bench = Bench(settings, tmp_path)
    try:
        ours, rival = bench.ours(settings.cases[0])["fp32"], bench.rival(settings.cases[0])
        read, theirs = ours.read_one(), rival.read()[:, 0]
        assert (read - theirs).abs().max() < 1e-4 * theirs.abs().max()
        mine, labels = ours.decode()[0], rival.decode()[:, 0]
        assert (mine - labels).abs().max() < 1e-3
        assert len(rival.frame_masks(bench.clip(64).picture(0), True)) == 2
    finally:
        bench.close()


def test_all_sections_run_and_are_written(tmp_path, capsys) -> None:
    files = {name: tmp_path / "made" / f"benchmark.{name}" for name in ("json", "md", "png")}
    arguments = ["--quick", "--layout", "small", "--regions", "--threads", "1", "--minutes", "0.25", "--note", "a test"]
    arguments += ["--json", str(files["json"]), "--report", str(files["md"]), "--plot", str(files["png"])]
    assert benchmark.main(arguments) == 0
    record = json.loads(files["json"].read_text())
    figures = {(f["section"], f["name"], f["unit"]): f for f in record["figures"]}
    assert {section for section, _, _ in figures} == set(benchmark.SECTIONS)
    for name in ("ours fp32 key", "ours bf16 decoder", "ours fp32 value", "ours labels", "ours rle", "ours publish"):
        figure = figures["stages", name, "s/frame"]
        assert 0 < figure["value"] <= figure["median"] and figure["rounds"] >= 1
    assert figures["end-to-end", "ours bf16", "frames/s"]["value"] > 0
    assert 0 < figures["stages", "ours fp32 network of peak", "share"]["value"]
    assert figures["end-to-end", "ours bf16 in regions", "frames/s"]["value"] > 0
    assert figures["stages", "ours bf16 decoder / in regions", "x"]["value"] > 0
    assert 0 < figures["bottleneck", "time in the segmenter", "share"]["value"] <= 1
    lengths = [f for f in record["figures"] if f["section"] == "memory" and f["name"] == "peak anonymous memory"]
    assert [f["case"] for f in lengths] == ["50 frames", "200 frames"] and lengths[0]["value"] > 1
    assert record["machine"]["torch"] == torch.__version__.partition("+")[0]
    printed, written = capsys.readouterr().out, files["md"].read_text()
    assert "load average" in printed and "stcnbuf knows the official layout only" in printed
    assert "- a test" in written and "| load |" in written
    assert Image.open(files["png"]).height > 500


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--frames", "7"], "no multiple of 5"),
        (["--checkpoint", "none.pth"], "no such file"),
        (["--device", "cpu", "--precisions", "fp16"], "for a GPU only"),
        (["--video", "none.mp4"], "no such file"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(arguments, message, capsys) -> None:
    assert benchmark.main(arguments) == 2
    assert message in capsys.readouterr().err


def test_a_gpu_is_not_made_up(capsys, monkeypatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert benchmark.main(["--device", "cuda"]) == 2
    assert "no GPU" in capsys.readouterr().err


def test_a_gpu_gets_its_own_table(monkeypatch, capsys) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    settings = benchmark.settings_of(benchmark.parser().parse_args([]))
    assert settings.device == "cuda" and settings.rival_precision == "fp16" and settings.frames == 100
    assert [str(case) for case in settings.cases] == ["480p, 1 object", "480p, 5 objects", "320p, 1 object"]
    assert settings.precisions == ("fp32", "bf16", "fp16") and settings.seconds == 480
    assert benchmark.main(["--device", "cuda", "--clock", "processor"]) == 2
    assert "for a CPU only" in capsys.readouterr().err
