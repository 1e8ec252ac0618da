"""The pick page in a real browser: Debian's chromium, driven headless. Skipped where there is none."""

import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_pick import SIZE, Finder, read_lines, served, square, write_rows
from made_videos import read_number, write_video

from jobs.views.pick.proposals import Proposals
from schemas.manifest import parse_manifest
from stcn_core.prompts import resolve_prompts

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
WAIT_S = 120
FIRST = 1000  # what the first frame says

pytestmark = pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="no chromium: the pick page is not tested")


@pytest.fixture(scope="module")
def driver() -> Iterator[Any]:
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    arguments = [
        "--headless=new",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--window-size=1400,900",
        "--no-first-run",
    ]
    # Chromium has no sandbox as root and in most containers, and the only page that it opens here is ours.
    arguments += ["--no-sandbox"]
    for argument in arguments:
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    browser = webdriver.Chrome(options=options, service=Service(DRIVER))
    yield browser
    browser.quit()


class Page:
    """A person at the page: points, drags and types."""

    def __init__(self, driver: Any):
        self.driver = driver

    def find(self, css: str) -> Any:
        return self.driver.find_element("css selector", css)

    def text(self, css: str) -> str:
        """What is to be read there; at once, as the page may make its elements anew at any time."""
        return self.driver.execute_script("return document.querySelector(arguments[0])?.innerText ?? ''", css)

    def until(self, what: Callable[[], Any], message: str) -> Any:
        deadline = time.monotonic() + WAIT_S
        while True:
            found = what()
            if found:
                return found
            assert time.monotonic() < deadline, f"{message}; the page says: {self.text('body')[-600:]}"
            time.sleep(0.03)

    def keys(self, *keys: str) -> None:
        from selenium.webdriver.common.action_chains import ActionChains

        ActionChains(self.driver).send_keys(*keys).perform()

    def chord(self, *keys: str) -> None:
        from selenium.webdriver.common.action_chains import ActionChains

        chain = ActionChains(self.driver)
        for key in keys[:-1]:
            chain.key_down(key)
        chain.send_keys(keys[-1])
        for key in keys[:-1]:
            chain.key_up(key)
        chain.perform()

    def place(self, x: float, y: float) -> tuple[int, int]:
        """Pixel of the video -> window position, the frame being fitted into the canvas with a margin of 20."""
        box = self.driver.execute_script("return document.getElementById('stage').getBoundingClientRect().toJSON()")
        scale = min((box["width"] - 40) / SIZE[1], (box["height"] - 40) / SIZE[0])
        left = box["x"] + (box["width"] - SIZE[1] * scale) / 2
        top = box["y"] + (box["height"] - SIZE[0] * scale) / 2
        return round(left + x * scale), round(top + y * scale)

    def drag(self, *points: tuple[float, float], click: bool = False) -> None:
        """Along points of the video; click: presses and releases at each instead."""
        from selenium.webdriver.common.actions.action_builder import ActionBuilder
        from selenium.webdriver.common.actions.pointer_input import PointerInput

        builder = ActionBuilder(self.driver, mouse=PointerInput("mouse", "mouse"), duration=20)
        for number, point in enumerate(points):
            builder.pointer_action.move_to_location(*self.place(*point))
            if number == 0 or click:
                builder.pointer_action.pointer_down()
            if click or number == len(points) - 1:
                builder.pointer_action.pointer_up()
        builder.perform()

    def picture(self) -> np.ndarray:
        """uint8 [H, W, 3]: what the canvas shows of the frame, one sample per pixel of the video."""
        script = """
            const [height, width] = arguments, canvas = document.getElementById('stage'), ratio = devicePixelRatio;
            const scale = Math.min((canvas.clientWidth - 40) / width, (canvas.clientHeight - 40) / height);
            const left = (canvas.clientWidth - width * scale) / 2, top = (canvas.clientHeight - height * scale) / 2;
            const image = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height), found = [];
            for (let y = 0; y < height; y++) for (let x = 0; x < width; x++) {
              const px = Math.floor((left + (x + .5) * scale) * ratio);
              const py = Math.floor((top + (y + .5) * scale) * ratio);
              found.push(...image.data.subarray(4 * (py * image.width + px)).subarray(0, 3));
            }
            return found;"""
        found = self.driver.execute_script(script, *SIZE)
        whole = len(found) == 3 * SIZE[0] * SIZE[1]  # otherwise the canvas has not got its size yet
        return np.array(found if whole else [0] * (3 * SIZE[0] * SIZE[1]), np.uint8).reshape(*SIZE, 3)

    def shows(self, frame: int) -> None:
        self.until(lambda: read_number(self.picture()) == FIRST + frame, f"frame {frame} is not shown")

    def saved(self) -> None:
        self.until(lambda: self.text("#saved") == "All changes saved", "the edits are not saved")

    def shot(self, name: str) -> None:
        """A screenshot, where PICK_SCREENSHOTS names a folder for them."""
        if folder := os.environ.get("PICK_SCREENSHOTS"):
            self.driver.save_screenshot(str(Path(folder) / f"{name}.png"))

    def complaints(self) -> list[str]:
        """What the browser's console holds against the page."""
        return [entry["message"] for entry in self.driver.get_log("browser") if entry["level"] == "SEVERE"]


def numbers(count: int) -> list[int]:
    """What the pictures of a video say: an empty canvas says 0."""
    return [FIRST + frame for frame in range(count)]


@pytest.fixture
def page(driver, tmp_path):
    write_video(tmp_path / "a.mp4", numbers(40), size=SIZE, rate=10)
    write_video(tmp_path / "b.mp4", numbers(12), size=SIZE)
    rows = [
        {"video": "a.mp4", "keep": [1, {"x": 2}]},
        {"video": "b.mp4", "prompts": []},
        {"video": "gone.mp4", "video_id": "lost"},
    ]
    manifest = write_rows(tmp_path / "videos.jsonl", rows)
    with served(manifest) as server:
        driver.get(server.address)
        page = Page(driver)
        page.manifest = manifest
        page.server = server
        page.shows(0)
        yield page
        driver.get("about:blank")


def read_row(manifest: Path, number: int) -> Any:
    """The row as `schemas` reads it; fields that it does not know are left out first."""
    row = read_lines(manifest)[number]
    line = json.dumps({key: value for key, value in row.items() if key != "keep"}).encode()
    return parse_manifest("row.jsonl", line, str(manifest.parent))[0]


def prompts_of(manifest: Path, number: int) -> Any:
    """The row's prompts as annotate resolves them."""
    return resolve_prompts(read_row(manifest, number).prompts, SIZE, lambda seconds: 0, lambda url: b"")


def test_a_person_prompts_two_videos(page):
    from selenium.webdriver.common.keys import Keys

    assert "token" not in page.driver.current_url
    # A box, dragged; then its right edge, dragged further.
    page.keys("r")
    page.drag((10, 50), (30, 60), (50, 80))
    page.saved()
    page.drag((50, 65), (60, 65))
    page.saved()
    assert read_lines(page.manifest)[0]["prompts"] == [{"frame": 0, "object_id": 1, "box": [10, 50, 50, 30]}]
    # Its name.
    page.keys(Keys.ENTER, "dog", Keys.ENTER)
    page.saved()
    # Another frame: by key, by a typed number, by the slider; the picture is that frame.
    page.chord(Keys.SHIFT, Keys.ARROW_RIGHT)
    page.keys(Keys.ARROW_RIGHT)
    page.shows(11)
    page.keys("t", "33", Keys.ENTER)
    page.shows(33)
    page.keys(Keys.ARROW_LEFT)
    page.shows(32)
    # A second object: a mask, painted, with something erased, and a polygon added to it.
    page.keys("n", "b")
    page.driver.execute_script(
        "const size = document.getElementById('size'); size.value = Math.round(100 * Math.log(20) / Math.log(400));"
        "size.dispatchEvent(new Event('input'))"
    )
    page.drag((30, 60), (60, 60), (90, 60))
    page.saved()
    painted = prompts_of(page.manifest, 0).frames[32].given[2]
    assert painted[60, 30:90].all() and painted[52, 40] and not painted[45, 40] and not painted[60, 110]
    page.keys("e")
    page.drag((60, 50), (60, 72))
    page.saved()
    erased = prompts_of(page.manifest, 0).frames[32].given[2]
    assert not erased[60, 60] and erased[60, 40] and erased[60, 80] and (erased <= painted).all()
    page.keys("g")
    page.drag((100, 70), (120, 70), (120, 90), (100, 90), click=True)
    page.keys(Keys.ENTER)
    page.saved()
    filled = prompts_of(page.manifest, 0).frames[32].given[2]
    assert filled[71:89, 101:119].all() and filled.sum() == pytest.approx(erased.sum() + 400, abs=45)
    # What is drawn is what is saved: the tint, green, lies on the mask.
    page.until(lambda: np.ptp(page.picture()[80, 110].astype(int)) > 40, "the polygon is not drawn")
    on, off = page.picture()[80, 110].astype(int), page.picture()[80, 125].astype(int)
    assert on[1] - on[0] > 40 and np.ptp(off) < 10
    page.shot("painted")
    # Undo takes back the polygon, then the eraser; redo brings the eraser back.
    page.chord(Keys.CONTROL, "z")
    page.saved()
    assert (prompts_of(page.manifest, 0).frames[32].given[2] == erased).all()
    page.chord(Keys.CONTROL, "z")
    page.saved()
    assert (prompts_of(page.manifest, 0).frames[32].given[2] == painted).all()
    page.chord(Keys.CONTROL, Keys.SHIFT, "z")
    page.saved()
    assert (prompts_of(page.manifest, 0).frames[32].given[2] == erased).all()
    page.keys("c")  # objects not given on this frame are absent
    page.saved()
    # The next video, with the button.
    page.find("#next").click()
    page.until(lambda: page.text("#facts").startswith("128 × 96 · 30 fps"), "the second video is not shown")
    page.shows(0)
    page.keys("r")
    page.drag((70, 40), (100, 65))
    page.saved()

    row = read_row(page.manifest, 0)
    assert row.label_of(1) == "dog" and [prompt.frame for prompt in row.prompts] == [0, 32]
    found = prompts_of(page.manifest, 0)
    assert found.object_ids == (1, 2) and not found.frames[32].given[1].any(), "object 1 is absent on frame 32"
    assert list(found.frames[0].seeds) == [1] and found.frames[0].seeds[1][50:80, 10:60].all()
    assert prompts_of(page.manifest, 1).frames[0].seeds[1][40:65, 70:100].all()
    assert read_lines(page.manifest)[0]["keep"] == [1, {"x": 2}] and len(read_lines(page.manifest)) == 3
    assert page.text("#progress-text") == "2 of 3 videos prompted"
    page.shot("second")
    nameless = """return [...document.querySelectorAll('button, input, select, canvas:not([aria-hidden])')].filter(
      (element) => !(element.ariaLabel || element.textContent.trim() || element.labels?.length)
    ).map((element) => element.outerHTML)"""
    assert page.driver.execute_script(nameless) == []
    assert page.complaints() == []


def test_objects_are_renumbered_absent_removed_and_brought_back(page):
    from selenium.webdriver.common.keys import Keys

    def prompts() -> list[Any]:
        page.saved()
        return read_lines(page.manifest)[0]["prompts"]

    rows = read_lines(page.manifest)
    detector = {"detector": "mask-rcnn", "frame": 1, "classes": ["dog"]}
    one = {"frame": 0, "object_id": 1, "box": [10, 50, 20, 20], "detector": "mask-rcnn", "min_score": 0.2}
    rows[0]["prompts"] = [one, detector, {"frame": 2, "object_id": 2, "points": [[60, 70, 1], [5, 60, 0]]}]
    write_rows(page.manifest, rows)
    page.driver.get(page.server.address + "#0")
    page.shows(0)
    page.until(lambda: "detector mask-rcnn" in page.text("#others"), "the detector's prompt is not listed")
    page.keys("i", "7", Keys.ENTER)
    page.until(
        lambda: page.driver.find_elements("css selector", "[aria-label='Name of object 7']"), "object 1 is not object 7"
    )
    assert prompts() == [one | {"object_id": 7}, *rows[0]["prompts"][1:]]
    # Absent on another frame; then removed there, and undone.
    page.keys(Keys.ARROW_RIGHT)
    page.shows(1)
    page.keys("7", "a")
    absent = {"frame": 1, "object_id": 7, "absent": True}
    assert prompts()[3:] == [absent]
    page.keys(Keys.DELETE)
    assert len(prompts()) == 3
    page.chord(Keys.CONTROL, "z")
    assert prompts()[3:] == [absent]
    # Removed from every frame, and undone: what a prompt says beside its box comes back, too.
    page.chord(Keys.SHIFT, Keys.DELETE)
    assert prompts() == [detector, rows[0]["prompts"][2]]
    page.chord(Keys.CONTROL, "z")
    assert sorted(prompts()[2:], key=lambda prompt: prompt["frame"]) == [one | {"object_id": 7}, absent]
    # Points are shown, and come back as they were.
    page.keys(".", "2", Keys.DELETE)
    page.shows(2)
    page.keys(Keys.DELETE)
    assert all("points" not in prompt for prompt in prompts())
    page.chord(Keys.CONTROL, "z")
    assert rows[0]["prompts"][2] in prompts()
    page.find("#others button").click()
    page.until(lambda: not page.find("#others-section").is_displayed(), "the detector's prompt is still listed")
    assert detector not in prompts() and len(prompts()) == 3
    assert page.complaints() == []


def test_what_cannot_be_shown_says_why(page):
    page.keys("k")
    page.until(lambda: "first video" in page.text("#toast"), "nothing is said at the beginning of the list")
    page.keys("j")
    page.until(lambda: "30 fps" in page.text("#facts"), "J does not lead to the second video")
    page.keys("j")
    page.until(lambda: "does not exist" in page.text("#notice"), "the missing video is not explained")
    assert "Put the file" in page.text("#notice")
    page.shot("missing")
    page.until(lambda: page.find("#list li:nth-child(3) button").get_attribute("class") == "bad", "it is not marked")
    write_video(page.manifest.parent / "gone.mp4", numbers(5), size=SIZE)
    page.find("#notice button").click()
    page.shows(0)
    assert not page.find("#notice").is_displayed()
    page.keys("?")
    assert page.find("#help").is_displayed() and "undo" in page.text("#keys")
    page.shot("help")


def test_edits_elsewhere_are_taken_over(page):
    def has(object_id: int) -> bool:
        return bool(page.driver.find_elements("css selector", f"[aria-label='Name of object {object_id}']"))

    # A page that is not looked at does not look either: the edit is the first to find out. It is refused. Said before
    # the first edit, so that no look is on its way when the manifest is changed.
    page.driver.execute_script("Object.defineProperty(document, 'hidden', {configurable: true, get: () => true})")
    page.keys("r")
    page.drag((10, 50), (50, 80))
    page.saved()
    rows = read_lines(page.manifest)
    rows[0]["prompts"].append({"frame": 5, "object_id": 6, "box": [1, 2, 30, 40]})
    write_rows(page.manifest, rows)
    page.drag((60, 50), (90, 80))
    page.until(lambda: has(6), "object 6 is not shown")
    page.saved()
    assert read_lines(page.manifest) == rows and "changed elsewhere" in page.text("#toast")
    page.drag((60, 50), (90, 80))
    page.saved()
    rows = read_lines(page.manifest)
    assert [prompt["object_id"] for prompt in rows[0]["prompts"]] == [1, 6, 2]
    # One that is looked at finds out by itself.
    rows[0]["prompts"][1]["object_id"] = 9
    write_rows(page.manifest, rows)
    page.driver.execute_script("delete document.hidden")
    page.until(lambda: has(9) and not has(6), "object 9 is not shown")


def test_proposals_are_taken_by_click_and_by_key(driver, tmp_path):
    from selenium.webdriver.common.keys import Keys

    write_video(tmp_path / "a.mp4", numbers(8), size=SIZE)
    manifest = write_rows(tmp_path / "videos.jsonl", [{"video": "a.mp4"}])
    with served(manifest, Proposals("finder", Finder())) as server:
        driver.get(server.address)
        page = Page(driver)
        page.until(lambda: "square" in page.text("#proposals"), "no proposal is listed")
        page.drag((8, 8), click=True)
        page.until(lambda: "1 object" in page.text("#list"), "the click took nothing")
        assert "All are taken" in page.text("#proposals")
        page.keys(Keys.ARROW_RIGHT, Keys.ARROW_RIGHT)
        page.shows(2)
        page.until(lambda: "square" in page.text("#proposals"), "no proposal is listed on frame 2")
        page.keys("p", Keys.ENTER)
        page.until(lambda: "2" in page.text("#marks"), "the key took nothing")
        page.saved()
        page.shot("proposals")
        driver.get("about:blank")
    found = prompts_of(manifest, 0)
    assert found.object_ids == (1,) and read_row(manifest, 0).label_of(1) == "square"
    assert all((found.frames[frame].given[1] == square(4, 4)).all() for frame in (0, 2))


def test_without_the_token_nothing_is_shown(page, driver):
    driver.execute_script("sessionStorage.clear()")
    driver.get(f"http://127.0.0.1:{page.server.server_port}/")
    page.until(lambda: "token is missing" in page.text("#notice"), "it is not said that the token is missing")
    assert "a.mp4" not in driver.page_source
