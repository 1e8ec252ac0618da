"""--preset: bundles of settings that explicit options override."""

from types import ModuleType

import pytest

from jobs import annotate, plan
from jobs.presets import PRESETS, option_text
from schemas.run_config import RunConfig

NEEDED = ["--manifest", "m.jsonl", "--output", "out"]


def config(*words: str) -> RunConfig:
    return annotate.run_config(annotate.parser().parse_args([*NEEDED, *words]), "stcn.pth", "ab" * 32)


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_is_its_options_typed_out(name: str) -> None:
    words = [word for key, value in PRESETS[name].settings.items() for word in option_text(key, value).split()]
    assert config("--preset", name) == config(*words) != config()


def test_what_is_given_beside_it_overrides() -> None:
    for words in (["--preset", "stm", "--top-k", "20"], ["--top-k", "20", "--preset=stm"]):
        found = config(*words)
        assert found.top_k == 20 and found.affinity == "dot" and found.include_last
    assert config("--preset", "stcnbuf", "--pin-prompts").pin_prompts
    assert config("--pres", "stm") == config("--preset", "stm")  # options may be abbreviated
    assert config("--preset", "stcn", "--burn-in-passes", "1", "--seed", "3").burn_in_passes == 1


def test_known_systems() -> None:
    stm, stcnbuf, eamstcn = config("--preset", "stm"), config("--preset", "stcnbuf"), config("--preset", "eamstcn")
    assert (stm.top_k, stm.recent_frames, stm.memory_every, stm.memory_policy) == (0, 1, 5, "unbounded")
    assert (stcnbuf.resolution, stcnbuf.memory_frames, stcnbuf.memory_policy) == (320, 128, "random-token")
    assert not stcnbuf.pin_prompts and not stcnbuf.exclude_own and stcnbuf.burn_in_order == "stcnbuf"
    assert (eamstcn.admission, eamstcn.additional_every) == ("adaptive", 25)


@pytest.mark.parametrize("job", [annotate, plan])
def test_help_says_what_each_sets(job: ModuleType, capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit):
        job.main(["--help"])
    text = capsys.readouterr().out
    for name, preset in PRESETS.items():
        assert f"  {name}: {preset.about}\n" in text
        assert all(option_text(key, value) in text for key, value in preset.settings.items())


def test_a_dry_run_takes_them() -> None:
    assert plan.parser().parse_args(["--manifest", "m", "--preset", "stm"]).include_last


def test_without_a_preset_the_fingerprint_is_what_it_was() -> None:
    """Recorded before there were presets and policies, with the defaults of that time."""
    assert config().fingerprint() == RunConfig("stcn.pth", "ab" * 32).fingerprint()
    changed = ("--memory-policy", "fifo", "--burn-in-order", "priority", "--recent-frames", "2", "--prompt-weight", "1")
    before = config(*changed)
    assert before.fingerprint() == "af29d77801fd2c4f0ac5255d69311678465cb395c6ee5f2c222fea04ce0d179c"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--include-last", "--recent-frames", "0"], "--recent-frames 1"),
        (["--confidence-gate", "1.5"], "--confidence-gate"),
        (["--kernel-sigma", "7", "--top-k", "all"], "--top-k"),
        (["--burn-in-order", "stcnbuf"], "--burn-in-frames all"),
        (["--scales", "480,big"], "'big'"),
        (["--scales", "480:7", "--top-k", "all"], "--scales 480:7: .*--top-k"),  # else the first video would say so
        (["--scales", ","], "names no shorter side"),
        (["--kernel-sigma", "nan"], "--kernel-sigma"),
        (["--additional-every", "-1"], "--additional-every"),
        (["--burn-in-gate", "relabel", "--no-pin-prompts"], "--no-pin-prompts"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(words: list[str], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        config(*words)


def test_steps_of_clean_up_are_kept_in_one_way(capsys: pytest.CaptureFixture) -> None:
    assert config("--clean", "close, small=64").clean == "close=2,small=64"
    with pytest.raises(SystemExit):
        config("--clean", "temporal")
    assert "python -m jobs.clean" in capsys.readouterr().err


def test_scales_set_the_size_that_frames_are_decoded_at() -> None:
    assert config("--scales", "240,600:7", "--resolution", "480").resolution == 600
