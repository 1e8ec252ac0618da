"""The settings that are locked for an output folder."""

import hashlib
import json
from dataclasses import fields, replace

import pytest

from cluster.workbench import offline_settings
from schemas.run_config import BEFORE, RunConfig
from stcn_core import settings
from stcn_core.settings import OfflineSettings

CONFIG = RunConfig("stcn.pth", "ab" * 32)


def test_round_trip():
    config = replace(CONFIG, seed=3, burn_in_frames=0, end=10, exclude_own=False)
    assert RunConfig.from_json(config.to_json()) == config


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"schema": "other", "version": "1.0.0"}', "null"])
def test_other_files_are_refused(text: str):
    with pytest.raises(ValueError, match="not a run config"):
        RunConfig.from_json(text)


def test_a_later_major_version_is_refused():
    with pytest.raises(ValueError, match=r"version 2\.0\.0"):
        RunConfig.from_json(json.dumps(json.loads(CONFIG.to_json()) | {"version": "2.0.0"}))


def test_a_config_of_the_version_before_is_the_same_run():
    """1.0.0 knew no region decoding; its settings' hash stays what it was, whatever the defaults are now."""
    same = replace(CONFIG, **BEFORE)
    record = {name: value for name, value in json.loads(same.to_json()).items() if name not in BEFORE}
    before = RunConfig.from_json(json.dumps({**record, "version": "1.0.0"}))
    assert before == same
    names = [f.name for f in fields(RunConfig) if f.name not in ("checkpoint", *BEFORE)]
    text = json.dumps({name: getattr(same, name) for name in names}, sort_keys=True)
    assert same.fingerprint() == hashlib.sha256(text.encode()).hexdigest()


def test_every_setting_shows_in_fingerprint_and_differences_but_the_checkpoints_name():
    assert replace(CONFIG, checkpoint="copy.pth").fingerprint() == CONFIG.fingerprint()
    assert replace(CONFIG, checkpoint="copy.pth").differences(CONFIG) == []
    for field in fields(RunConfig):
        if field.name == "checkpoint":
            continue
        old = getattr(CONFIG, field.name)
        changed = replace(CONFIG, **{field.name: "other" if isinstance(old, str) else 7 if old is None else old + 1})
        assert changed.fingerprint() != CONFIG.fingerprint(), field.name
        (line,) = changed.differences(CONFIG)
        assert line.startswith(f"--{field.name.replace('_', '-')}: ") and " -> " in line


def test_every_setting_of_the_algorithm_is_locked():
    assert {field.name for field in fields(OfflineSettings)} <= {field.name for field in fields(RunConfig)}
    assert offline_settings(replace(CONFIG, top_k=7, affinity="dot")).top_k == 7


def test_earlier_values_are_those_of_the_algorithm() -> None:
    """Two tables: schemas and stcn_core do not import each other."""
    defaults = OfflineSettings()
    for name, before in BEFORE.items():
        if hasattr(defaults, name):
            assert before == settings.BEFORE.get(name, getattr(defaults, name))
    assert set(settings.BEFORE) <= set(BEFORE)
