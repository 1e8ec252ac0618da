"""Settings are refused with the option's name."""

import pytest

from stcn_core.seeds import named_seed
from stcn_core.settings import OfflineSettings


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("burn_in_passes", -1),
        ("burn_in_frames", -1),
        ("memory_frames", 0),
        ("memory_policy", "lru"),
        ("memory_every", 0),
        ("recent_frames", -1),
        ("group_frames", 0),
        ("segment_frames", 0),
        ("segment_frames", 1001),
        ("top_k", -1),
        ("affinity", "cosine"),
    ],
)
def test_wrong_values_name_the_option(name: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"--{name.replace('_', '-')}"):
        OfflineSettings(**{name: value})


def test_visited_frames() -> None:
    assert OfflineSettings(memory_frames=10).visited_frames == 40
    assert OfflineSettings(burn_in_frames=7).visited_frames == 7
    assert OfflineSettings(burn_in_frames=0).visited_frames is None


def test_named_seeds_are_fixed_for_ever() -> None:
    """They are part of every mask: a change here changes results."""
    assert named_seed(0, "video", "burn-in", 0, 17) == 2182624114656716624
    assert named_seed(1, "video", "burn-in", 0, 17) != named_seed(0, "video", "burn-in", 0, 17)
    assert named_seed(0, "a", "b") != named_seed(0, "ab")
