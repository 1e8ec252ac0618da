"""Every class of failure has a remedy of its own."""

from cluster import failure
from cluster.frames.video_error import ERROR_CLASSES
from cluster.inspect.remedy import REMEDIES, remedy


def test_every_class_has_its_remedy():
    deaths = {"actor-died", "node-lost", "out-of-memory", "deadline"}
    others = {"prompt", "missing", "internal", failure.BANK}
    known = {*ERROR_CLASSES, *failure.ENVIRONMENT_CLASSES, *failure.STRIKE_CLASSES, *deaths, *others}
    assert known <= set(REMEDIES)
    assert len(set(REMEDIES.values())) == len(REMEDIES)
    assert all("--retry-failed" in text and "\n" not in text for text in REMEDIES.values())


def test_what_is_taken_out_of_the_manifest_must_be_forgotten_too():
    for text in REMEDIES.values():
        assert ("out of the manifest" in text) == ("--forget-missing" in text)


def test_an_unknown_class_points_to_the_message():
    assert "failures table" in remedy("something-new")
