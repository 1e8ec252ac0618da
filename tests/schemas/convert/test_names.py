"""Video ids as names of files: nothing leaves the folder, every id comes back."""

import random

import pytest

from schemas.convert.names import LONGEST, safe_name, video_id_of

NASTY = ["..", ".", "../../etc/passwd", "/abs", "a/b", "a\\b", "a\0b", "C:", "con%2Fx", "%", "%2E", ".hidden", "end.",
         " blank ", "tab\tline\n", "dög", "日本語", "e\u0301", "a*?<>|\"", "\u202eabc", "~"]  # fmt: skip


@pytest.mark.parametrize("video_id", NASTY)
def test_one_plain_component_that_leads_back(video_id):
    name = safe_name(video_id)
    assert "/" not in name and "\\" not in name and "\0" not in name and name.isprintable()
    assert name not in (".", "..") and name[0] not in ". " and name[-1] not in ". "
    assert video_id_of(name) == video_id


def test_plain_names_stay_as_they_are():
    for video_id in ("bear", "00_cat-1.take 2", "dög"):
        assert safe_name(video_id) == video_id == video_id_of(video_id)
    # A file that somebody else named so is not ours to read otherwise.
    assert video_id_of("a%41") == "a%41" and video_id_of("100%") == "100%" and video_id_of("%ff") == "%ff"


def test_different_ids_have_different_names():
    generator = random.Random(0)
    ids = {"".join(generator.choices("aB/%.~ 2F5ö", k=generator.randrange(1, 9))) for _ in range(5000)}
    assert len({safe_name(video_id) for video_id in ids}) == len(ids)
    assert all(video_id_of(safe_name(video_id)) == video_id for video_id in ids)


def test_long_ids_are_cut_and_told_apart():
    one, other = "ö/" * 400 + "1", "ö/" * 400 + "2"
    for name in (safe_name(one), safe_name(other)):
        assert len(name.encode()) <= LONGEST and "/" not in name
    assert safe_name(one) != safe_name(other)
