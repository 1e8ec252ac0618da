"""Files that take their place when they are complete, and what is said where they cannot."""

import errno
from pathlib import Path

import fsspec
import pytest

from jobs.views.place import keep_existing, placed


def test_whole_or_not_at_all(tmp_path: Path) -> None:
    made = tmp_path / "new" / "a.txt"
    with placed(str(made), ".txt") as target:
        target.write_text("whole")
        assert not made.exists()
    with pytest.raises(RuntimeError), placed(str(made), ".txt") as target:
        target.write_text("ha")
        raise RuntimeError("broken off")
    assert made.read_text() == "whole" and [path.name for path in made.parent.iterdir()] == ["a.txt"]
    with placed("memory://place/a.txt", ".txt") as target:
        target.write_text("far")
    assert fsspec.filesystem("memory").cat_file("place/a.txt") == b"far"


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("folder", "a file and a folder are mixed up"),
        ("file/a.txt", "a file and a folder"),
        ("no://a.txt", "not known"),
    ],
)
def test_where_nothing_can_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, url: str, words: str) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=words) as caught, placed(url, ".txt"):
        raise AssertionError("nothing is drawn for a place that cannot be")
    assert url in str(caught.value) and ".rendering" not in str(caught.value)


def test_a_full_disk_while_it_is_written(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="a.html cannot be written: the disk is full.*Free some space"):
        with placed(str(tmp_path / "a.html"), ".html"):
            raise OSError(errno.ENOSPC, "No space left on device")
    with pytest.raises(FileNotFoundError, match="^clip.mp4$"), placed(str(tmp_path / "a.html"), ".html"):
        raise FileNotFoundError("clip.mp4")  # another file's trouble is told as it is
    assert not list(tmp_path.iterdir())


def test_what_people_may_have_worked_on_is_kept(tmp_path: Path) -> None:
    keep_existing(str(tmp_path / "a.jsonl"))
    (tmp_path / "a.jsonl").touch()
    with pytest.raises(FileExistsError, match="a.jsonl is there already.*--overwrite replaces it"):
        keep_existing(str(tmp_path / "a.jsonl"))
    keep_existing("memory://kept/a.jsonl")
    fsspec.filesystem("memory").pipe_file("kept/a.jsonl", b"far")
    with pytest.raises(FileExistsError, match="memory://kept/a.jsonl is there already"):
        keep_existing("memory://kept/a.jsonl")
