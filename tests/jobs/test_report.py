"""The report: what it says, what it weighs, what foreign names may do to it (nothing), and the page in a browser."""

import base64
import errno
import io
import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import pytest
from fsspec.implementations.local import LocalFileSystem
from made_output import MadeVideo, write_failure, write_output, write_progress
from made_runs import run_here
from made_videos import write_video
from PIL import Image

from cluster.stores.storage import Storage
from jobs import report as report_job
from jobs.report import main
from jobs.views.report import page as page_writer
from jobs.views.report.thumbnails import GREY, webp
from schemas.manifest import VideoRow
from schemas.prompt import Prompt
from schemas.run_config import RunConfig

EVIL = '</script><img src=x onerror=alert(1)>&"\u2028'
CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")


class Page(HTMLParser):
    """What a browser would see of the page: its scripts by id, tags, and attributes that load something."""

    def __init__(self, text: str):
        super().__init__()
        self.scripts: dict[str, str] = {}
        self.tags: list[str] = []
        self.loads: list[str] = []
        self._script: str | None = None
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        named = dict(attrs)
        self.loads += [value for name, value in attrs if name in ("src", "href", "srcset", "data", "action") and value]
        if tag == "script":
            self._script = named.get("id", "program")
            self.scripts[self._script] = ""

    def handle_endtag(self, tag: str) -> None:
        self._script = None if tag == "script" else self._script

    def handle_data(self, data: str) -> None:
        if self._script is not None:
            self.scripts[self._script] += data

    @property
    def head(self) -> dict[str, Any]:
        return json.loads(self.scripts["head"])


def page_of(path: Path) -> Page:
    return Page(path.read_text(encoding="utf-8"))


def picture(uri: str) -> np.ndarray:
    assert uri.startswith("data:image/webp;base64,")
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))).convert("RGB"))


@pytest.fixture
def made(tmp_path: Path) -> Path:
    long = MadeVideo("long", 35, split=True, start=4, stride=3)
    videos = [MadeVideo("good", 12), long, MadeVideo(EVIL, 7, objects=(1,)), MadeVideo("bad")]
    storage = write_output(tmp_path / "out", videos, ["bad"])
    write_failure(storage, MadeVideo("bad"))
    write_progress(storage, "done")
    return tmp_path


def test_totals_failures_and_order(made: Path, capsys: pytest.CaptureFixture):
    assert main([str(made / "out"), "--to", str(made / "r.html")]) == 0
    head = page_of(made / "r.html").head
    assert (head["totals"]["videos"], head["totals"]["done"], head["totals"]["failed"]) == (4, 3, 1)
    assert head["totals"]["frames"] == 12 + 35 + 7 and head["totals"]["masks"] == sum(
        v["masks"] for v in head["videos"]
    )
    (failure,) = head["failures"]
    assert failure["error_class"] == "decode" and "re-encode" in failure["remedy"]
    assert head["videos"][0]["id"] == "bad" and head["videos"][0]["status"] == "failed"
    shares = [video["share"] for video in head["videos"][1:]]
    assert all(share is not None for share in shares) and head["pace"]["seconds"]["total"] == 3.0
    out = capsys.readouterr()
    assert "4 videos" in out.out and "3 videos show masks alone on grey" in out.err


def test_courses_and_strips(made: Path):
    assert main([str(made / "out"), "--to", str(made / "r.html"), "--frames-per-video", "6"]) == 0
    page = page_of(made / "r.html")
    index = next(n for n, video in enumerate(page.head["videos"]) if video["id"] == "long")
    details = json.loads(page.scripts[f"v{index}"])
    frames = [one["f"] for one in details["strip"]]
    assert frames == sorted(set(frames)) and len(frames) == 6 and all((frame - 4) % 3 == 0 for frame in frames)
    assert details["strip"][0]["k"] == "given" and any(one["k"] == "doubtful" for one in details["strip"])
    assert details["course"]["bins"] == 35 and {one["id"] for one in details["course"]["objects"]} == {2, 5}
    hidden = next(one for one in details["course"]["objects"] if one["id"] == 2)
    assert [n for n, share in enumerate(hidden["v"]) if share == 0] == list(range(3, 35, 4))  # as made_output hides it
    assert hidden["a"][3] == hidden["s"][3] == -1 and max(hidden["a"]) == 100 and hidden["given"] == [4]
    drawn = picture(details["strip"][0]["src"])
    assert drawn.shape == (24, 32, 3) and details["masks_only"].startswith("the source is not reachable")
    assert (np.abs(drawn.astype(int) - GREY).max(-1) > 40).any()  # a mask
    assert (np.abs(drawn.astype(int) - GREY).max(-1) < 12).any()  # and grey


def test_foreign_names_stay_text(made: Path):
    assert main([str(made / "out"), "--to", str(made / "r.html")]) == 0
    page = page_of(made / "r.html")
    assert {video["id"] for video in page.head["videos"]} == {"good", "long", "bad", EVIL}
    assert page.tags.count("script") == 5  # head, three videos, the program: nothing that a name brought
    assert page.loads == []  # nothing is loaded from anywhere
    text = (made / "r.html").read_text(encoding="utf-8")
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', text)[1]
    assert "default-src 'none'" in policy and "unsafe" not in policy and "http" not in policy
    assert "innerHTML" not in page.scripts["program"] and "https://" not in text


def test_many_videos_lie_in_side_files(made: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(report_job, "INLINE", 1)
    monkeypatch.setattr(report_job, "PER_PART", 1)
    assert main([str(made / "out"), "--to", str(made / "to" / "r #1: 50%.html")]) == 0
    page = page_of(made / "to" / "r #1: 50%.html")
    parts, key = parts_of(page), page.head["key"]
    assert parts == [f"r #1: 50%.parts/{key}-00001.js", f"r #1: 50%.parts/{key}-00002.js"]
    sources = [video["part"] for video in page.head["videos"] if video["part"]]
    assert not set(sources[0]) & set("#: ")  # they are URLs
    assert len(page.scripts) == 3
    script = (made / "to" / parts[0]).read_text()
    said, ((number, details),) = json.loads(f"[{script.removeprefix('reportPart(').rpartition(')')[0]}]")
    assert said == key and page.head["videos"][number]["part"] == sources[0] and details["strip"]


def parts_of(page: Page) -> list[str]:
    """Side files that the page will load, as paths beside it."""
    return [unquote(video["part"]) for video in page.head["videos"] if video["part"]]


def test_a_later_report_shares_no_side_file_with_an_earlier_one(
    made: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
):
    monkeypatch.setattr(report_job, "INLINE", 1)
    monkeypatch.setattr(report_job, "PER_PART", 1)
    monkeypatch.chdir(made)
    folder = made / "r.parts"
    folder.mkdir()
    for name in ("00001.js", "notes.txt", "jquery.js"):  # the first as earlier versions named them
        (folder / name).touch()
    assert main(["out", "--to", "r.html"]) == 0
    earlier = parts_of(page_of(made / "r.html"))
    assert {path.name for path in folder.iterdir()} == {"notes.txt", "jquery.js", *(Path(p).name for p in earlier)}

    def full(*_: object) -> str:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(page_writer, "part_script", full)
    assert main(["out", "--to", "r.html"]) == 2
    page = page_of(made / "r.html")  # it has the most doubtful videos, and no side file that it could take for its own
    assert "v1" in page.scripts and len(parts_of(page)) == 2 and not set(parts_of(page)) & set(earlier)
    assert {path.name for path in folder.iterdir()} == {"notes.txt", "jquery.js"}
    assert "the disk is full" in capsys.readouterr().err


def test_earlier_side_files_that_cannot_be_removed(
    made: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
):
    monkeypatch.setattr(report_job, "INLINE", 2)
    assert main([str(made / "out"), "--to", str(made / "r.html")]) == 0

    def denied(*_: object) -> None:
        raise PermissionError("no")

    monkeypatch.setattr(LocalFileSystem, "rm_file", denied)
    assert main([str(made / "out"), "--to", str(made / "r.html")]) == 0
    assert "r.parts cannot be cleared: permission is denied" in capsys.readouterr().err
    (part,) = parts_of(page_of(made / "r.html"))
    assert (made / part).exists() and len(list((made / "r.parts").iterdir())) == 2


def test_a_picture_keeps_to_its_budget():
    draw = np.random.default_rng(0).integers(0, 256, (20, 36, 3), dtype=np.uint8)
    noise = np.asarray(Image.fromarray(draw).resize((288, 160), Image.Resampling.BICUBIC))
    assert len(webp(noise, 4000)) < len(webp(noise, 20_000)) <= 20_000


def test_only_some_videos_and_none_that_is_not_there(made: Path, capsys: pytest.CaptureFixture):
    assert main([str(made / "out"), "--to", str(made / "r.html"), "--only", "good"]) == 0
    assert [video["id"] for video in page_of(made / "r.html").head["videos"]] == ["good"]
    assert main([str(made / "out"), "--to", str(made / "r.html"), "--only", "x"]) == 2
    assert main([str(made / "none"), "--to", str(made / "r.html")]) == 2
    assert main([str(made / "out"), "--to", str(made / "out" / "masks" / "r.html")]) == 2
    assert not (made / "out" / "masks" / "r.html").exists()
    assert "does not exist" in capsys.readouterr().err


@pytest.fixture
def real(tmp_path: Path) -> Storage:
    """A run of the stand-in over a video, a folder of images, and a video that is gone afterwards."""
    config = RunConfig("tiny", "ab" * 32, segment_frames=10, recent_frames=2, memory_frames=4, burn_in_frames=8)
    box = (Prompt(frame=0, object_id=1, box=(10.0, 10.0, 40.0, 30.0), label="red block"),)
    film = write_video(tmp_path / "film.mp4", 30)
    images = tmp_path / "images"
    images.mkdir()
    for n in range(12):
        Image.fromarray(np.full((96, 128, 3), 20 * n, np.uint8)).save(images / f"{n:03d}.png")
    gone = tmp_path / "gone.mp4"
    gone.write_bytes(film.read_bytes())
    rows = [VideoRow(n, str(path), path.stem, box) for n, path in enumerate((film, images, gone), 1)]
    storage = Storage(str(tmp_path / "out"))
    run_here(storage, [replace(row) for row in rows], config, tmp_path / "scratch")
    gone.unlink()
    return storage


def test_pictures_come_from_the_sources(real: Storage, tmp_path: Path):
    assert main([real.url, "--to", str(tmp_path / "r.html")]) == 0
    page = page_of(tmp_path / "r.html")
    found = {video["id"]: json.loads(page.scripts[f"v{n}"]) for n, video in enumerate(page.head["videos"])}
    assert found["film"]["masks_only"] is None and found["images"]["masks_only"] is None
    assert "not reachable" in found["gone"]["masks_only"]
    for one in found["images"]["strip"]:
        corner = picture(one["src"])[-4:, -4:].astype(int).mean()  # where no mask is
        assert abs(corner - 20 * one["f"]) < 8
    assert {one["label"] for one in found["film"]["course"]["objects"]} == {"red block"}
    assert main([real.url, "--to", str(tmp_path / "r.html"), "--no-frames"]) == 0
    assert json.loads(page_of(tmp_path / "r.html").scripts["v0"])["masks_only"] == "frames were not asked for"


@pytest.fixture
def browser() -> Iterator[Any]:
    if not (CHROMIUM and DRIVER):
        pytest.skip("no chromium: the report is not looked at in a browser")
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for argument in (
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--window-size=1200,900",
    ):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(DRIVER))
    yield driver
    driver.quit()


def test_in_a_browser(made: Path, browser: Any, monkeypatch: pytest.MonkeyPatch):
    from selenium.webdriver.common.by import By
    from selenium.webdriver.support.ui import WebDriverWait

    monkeypatch.setattr(report_job, "INLINE", 2)  # the third lies in a side file
    assert main([str(made / "out"), "--to", str(made / "r #1: 50%.html")]) == 0
    browser.get((made / "r #1: 50%.html").as_uri())
    wait = WebDriverWait(browser, 10)

    def all_of(selector: str) -> list:
        return browser.find_elements(By.CSS_SELECTOR, selector)

    def press(key: str) -> None:
        browser.switch_to.active_element.send_keys(key)

    ids = [video["id"].strip() for video in page_of(made / "r #1: 50%.html").head["videos"]]
    assert [one.text for one in all_of(".video h3")] == ids
    wait.until(lambda _: len(all_of(".strip")) == 3)
    first = all_of(".strip img")[0]  # those far along the strip are decoded when they are scrolled to
    wait.until(lambda _: first.get_property("naturalWidth") == 32)
    assert len(all_of(".course svg")) == 2 + 2 + 1 and len(all_of(".failure")) == 1
    press("j")
    press("j")
    assert browser.switch_to.active_element.get_attribute("data-index") == "1"
    press("/")
    press("long")
    wait.until(lambda _: [one.text for one in all_of(".video h3")] == ["long"])
    press("\ue00c")  # Escape
    wait.until(lambda _: len(all_of(".video")) == 4)
    before = browser.execute_script("return getComputedStyle(document.body).backgroundColor")
    press("t")
    assert browser.execute_script("return getComputedStyle(document.body).backgroundColor") != before
    all_of(".strip button")[0].click()
    assert browser.find_element(By.ID, "large").get_attribute("open")
    said = [entry["message"] for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]
    assert said == []  # no error, no violation of the policy


def test_side_files_of_another_state_are_not_shown(made: Path, browser: Any, monkeypatch: pytest.MonkeyPatch):
    """A tab that was left open, and side files that came under the names of others."""
    from selenium.webdriver.common.by import By
    from selenium.webdriver.support.ui import WebDriverWait

    monkeypatch.setattr(report_job, "INLINE", 2)
    where = made / "r.html"
    assert main([str(made / "out"), "--to", str(where)]) == 0
    page = where.read_text(encoding="utf-8")
    (expected,) = parts_of(page_of(where))
    assert main([str(made / "out"), "--to", str(where), "--videos", "3"]) == 0
    (other,) = parts_of(page_of(where))
    where.write_text(page, encoding="utf-8")  # as the tab has it
    wait = WebDriverWait(browser, 10)

    def all_of(selector: str) -> list[str]:
        return [one.text for one in browser.find_elements(By.CSS_SELECTOR, selector)]

    for copied in (False, True):
        if copied:
            shutil.copy(made / other, made / expected)
        browser.get(where.as_uri())
        wait.until(lambda _: len(all_of(".strip")) == 2 and "…" not in all_of(".loading"))
        (said,) = all_of(".loading")
        assert f"{expected} is not there yet" in said and "Load the page again" in said


def test_from_storage_to_storage(capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch):
    import fsspec

    url = "memory://report-test"
    write_output(f"{url}/out", [MadeVideo("good", 12), MadeVideo("other", 12)])
    monkeypatch.setattr(report_job, "INLINE", 1)
    for _ in range(2):
        assert main([f"{url}/out", "--to", f"{url}/page/r.html"]) == 0
        page = Page(fsspec.open(f"{url}/page/r.html", "rt").open().read())
        assert {video["id"] for video in page.head["videos"]} == {"good", "other"} and "v0" in page.scripts
        (part,) = parts_of(page)
        assert fsspec.filesystem("memory").ls(f"{url}/page/r.parts", detail=False) == [f"/report-test/page/{part}"]
