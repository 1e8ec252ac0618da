"""The pick page's server, asked by hand: who may ask, what is saved, and what is left alone."""

import io
import json
import os
import socket
import threading

import numpy as np
import pytest
from made_detectors import tiny_weights
from made_export import Clip, write_clips
from made_pick import SIZE, TOKEN, Client, Finder, read_lines, served, square, write_rows
from made_videos import read_number, write_video
from PIL import Image

from jobs.pick import parser, proposals
from jobs.views.pick.prompt_items import counts_of
from jobs.views.pick.proposals import Proposals
from jobs.views.pick.run_masks import RunMasks
from jobs.views.pick.server import MOST_BODY, PickServer, is_loopback
from schemas.manifest import parse_manifest
from stcn_core.prompts import resolve_prompts


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("videos")
    write_video(folder / "a.mp4", 40, size=SIZE, rate=10)
    write_video(folder / "b.mp4", 8, size=SIZE)
    labels = np.zeros(SIZE, np.uint8)
    labels[:8, :8], labels[20:30, 20:30] = 2, 5
    image = Image.fromarray(labels, mode="P")
    image.putpalette([0, 0, 0] * 6)
    image.save(folder / "b.png")
    return folder


@pytest.fixture
def manifest(videos, tmp_path):
    rows = [
        {"note": {"by": "hand"}, "video": f"{videos}/a.mp4", "video_id": "a", "prompts": [], "weight": 1.5},
        {"video": f"{videos}/b.mp4", "prompts": [{"frame": 2, "mask": f"{videos}/b.png", "remark": "from afar"}]},
        {"video": "gone.mp4"},
    ]
    path = write_rows(tmp_path / "videos.jsonl", rows)
    path.write_text(path.read_text().replace("\n", "\n\n", 1))  # a blank line is nobody's row, and stays
    return path


@pytest.fixture
def server(manifest):
    with served(manifest, Proposals("finder", Finder())) as one:
        yield one


@pytest.fixture
def client(server):
    return Client(server)


def test_nothing_of_the_manifest_without_the_token(client):
    for path in ("/api/manifest", "/api/videos/0", "/api/videos/0/frames/0", "/api/videos/0/frames/0/proposals", "/x"):
        for token in (None, "", TOKEN[:-1], TOKEN + "x", "ü"):
            status, _, data = client.ask(path, token=token and token.encode().decode("latin-1"))
            assert status == 403 and b"a.mp4" not in data
    assert client.ask("/?token=wrong", token=None)[0] == 403
    assert client.edit(0, {"do": "prompt", "revision": "x"}, X_Pick_Token="wrong")[0] == 403
    status, headers, page = client.ask(f"/?token={TOKEN}", token=None)
    assert status == 200 and b"<canvas" in page and TOKEN.encode() not in page
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy and headers["cache-control"] == "no-store"
    assert headers["x-content-type-options"] == "nosniff" and headers["referrer-policy"] == "no-referrer"


def test_only_under_its_own_names(client, server):
    port = server.server_port
    for host in (f"localhost:{port}", f"127.0.0.1:{port}", f"[::1]:{port}", "localhost:9000"):
        assert client.ask("/api/manifest", Host=host)[0] == 200, host
    for host in (
        "evil.example",
        f"evil.example:{port}",
        "10.0.0.1",
        "",
        "127.0.0.1.evil.example",
        "a b",
        "localhost@x",
    ):
        status, _, data = client.ask("/api/manifest", Host=host)
        assert status == 421 and b"video" not in data, host
    assert is_loopback("127.0.0.1") and is_loopback("::1") and not is_loopback("0.0.0.0") and not is_loopback("x.org")


def test_writes_only_from_the_page_itself(client, manifest):
    before = manifest.read_bytes()
    edit = {"do": "prompt", "frame": 0, "object_id": 1, "box": [1, 2, 3, 4]}
    foreign = [{"Origin": origin} for origin in (None, "null", "http://evil.example", f"https://{client.host}")]
    for headers in [*foreign, {"Sec_Fetch_Site": "cross-site"}]:
        assert client.edit(0, edit, **headers)[0] == 403
    assert client.edit(0, edit, Content_Type="text/plain")[0] == 415
    assert client.edit(0, edit, Content_Length=None)[0] == 411
    assert client.edit(0, edit, Content_Length="-1")[0] == 411
    assert client.edit(0, edit, Content_Length=str(MOST_BODY + 1))[0] == 413
    assert client.ask("/api/videos/0", "PUT")[0] == 501
    assert manifest.read_bytes() == before


def test_no_path_leads_anywhere(client, videos):
    for path in (
        "/page/../session.py", "/page/%2e%2e/session.py", "/page//etc/passwd", "/../../etc/passwd", "/page/",
        f"/api/videos/{videos}/a.mp4", "/api/videos/0/../1", "/api/videos/-1", "/api/videos/99",
        "/api/videos/0/frames/x", "//[x", "//evil.example/", "/api/videos/0/frames/-1",
    ):  # fmt: skip
        status, headers, data = client.ask(path)
        assert status == 404 and headers["content-type"] == "application/json", path
        assert b"import" not in data and b"root:" not in data
    assert client.ask("/page/app.js", token=None)[1]["content-type"].startswith("text/javascript")


def test_frames_are_the_ones_asked_for(client):
    told = client.get("/api/videos/0")
    assert (told["width"], told["height"], told["frames"], told["fps"]) == (128, 96, 40, 10)
    for frame in (0, 39, 3, 2, 30, 31):
        status, headers, data = client.ask(f"/api/videos/0/frames/{frame}")
        assert status == 200 and read_number(np.asarray(Image.open(io.BytesIO(data)))) == frame
        assert float(headers["x-frame-time"]) == pytest.approx(frame / 10)
    assert client.ask("/api/videos/0/frames/40")[0] == 422


def test_an_unreadable_video_says_why_and_what_to_do(client):
    status, _, data = client.ask("/api/videos/2")
    told = json.loads(data)
    assert status == 422 and "gone.mp4" in told["error"] and "put the file" in told["remedy"]
    assert "--retry" not in told["remedy"]
    assert client.get("/api/manifest")["videos"][2]["unreadable"] == "does not exist"


def test_masks_and_boxes_are_saved_and_read_back(client, manifest):
    untouched = manifest.read_bytes().split(b"\n")
    mask = square(30, 40)
    assert client.edit(0, {"do": "prompt", "frame": 7, "object_id": 3, "counts": counts_of(mask)})[0] == 200
    assert client.edit(0, {"do": "prompt", "frame": 9, "object_id": 4, "box": [10.4, 5, 20, 30]})[0] == 200
    assert client.edit(0, {"do": "label", "object_id": 3, "label": "square"})[0] == 200
    status, told = client.edit(0, {"do": "complete", "frame": 9, "complete": True})
    assert status == 200 and (told["prompts"], told["objects"], told["problems"][0][:4]) == (2, 2, "note")
    lines = manifest.read_bytes().split(b"\n")
    assert lines[1:] == untouched[1:], "other rows, and the blank line, are as they were, byte by byte"
    row = json.loads(lines[0])
    assert list(row)[:2] == ["note", "video"] and row["note"] == {"by": "hand"} and row["weight"] == 1.5
    clean = json.dumps({key: value for key, value in row.items() if key not in ("note", "weight")}).encode()
    (read,) = parse_manifest("m.jsonl", clean, str(manifest.parent))
    assert read.label_of(3) == "square"
    prompts = resolve_prompts(read.prompts, SIZE, lambda seconds: 0, lambda url: b"")
    assert (prompts.frames[7].given[3] == mask).all() and list(prompts.frames[9].seeds) == [4]
    assert not prompts.frames[9].given[3].any(), "complete: object 3 is absent on frame 9"
    items = client.get("/api/videos/0")["items"]
    assert items[0]["counts"] == list(counts_of(mask)) and items[1]["box"] == [10.4, 5, 20, 30]


def test_what_makes_no_sense_is_refused_and_not_saved(client, manifest):
    before = manifest.read_bytes()
    prompt = {"do": "prompt", "frame": 0, "object_id": 1}
    for edit in (
        {}, {"do": "else"}, prompt | {"frame": 40, "box": [1, 1, 2, 2]}, prompt | {"frame": -1, "box": [1, 1, 2, 2]},
        prompt | {"object_id": 0, "box": [1, 1, 2, 2]}, prompt | {"box": [1, 1, 0, 2]}, prompt | {"box": [1, 1]},
        prompt | {"box": [500, 1, 2, 2]}, prompt | {"box": "x"}, prompt | {"counts": [1, 2]}, prompt | {"counts": "x"},
        prompt | {"counts": [SIZE[0] * SIZE[1] + 1, -1]}, prompt | {"counts": [[1]]},
        prompt | {"box": [1, 1, float("nan"), 1]}, prompt | {"object_id": True, "box": [1, 1, 2, 2]},
        prompt | {"counts": list(counts_of(square(1, 1))), "box": [1, 1, 2, 2]},
        {"do": "label", "object_id": 9, "label": "x"}, {"do": "label", "object_id": 9, "label": " "},
        {"do": "id", "object_id": 9, "to": 1}, {"do": "record", "position": 5}, {"do": "complete", "frame": 3},
        prompt | {"points": [[1]]}, prompt | {"extra": 3},
    ):  # fmt: skip
        status, told = client.edit(0, edit)
        assert status == 400 and told["error"], edit
    assert client.edit(0, prompt | {"revision": 3})[0] == 400
    sent = {"Origin": f"http://{client.host}", "Content_Type": "application/json", "Content_Length": "2"}
    assert client.ask("/api/videos/0", "POST", b"[[", **sent)[0] == 400
    assert manifest.read_bytes() == before


def test_a_png_of_several_objects_is_edited_one_by_one(client, manifest, videos):
    told = client.get("/api/videos/1")
    assert [(item["object_id"], item["frame"]) for item in told["items"]] == [(2, 2), (5, 2)]
    assert client.edit(1, {"do": "prompt", "frame": 2, "object_id": 5, "box": [1, 2, 3, 4]})[0] == 200
    png = {"frame": 2, "mask": f"{videos}/b.png", "remark": "from afar"}
    prompts = read_lines(manifest)[1]["prompts"]
    assert prompts == [{"frame": 2, "object_id": 5, "box": [1, 2, 3, 4], "remark": "from afar"}, png | {"object_id": 2}]
    assert client.edit(1, {"do": "id", "object_id": 2, "to": 7})[0] == 200
    items = client.get("/api/videos/1")["items"]
    assert items[1]["object_id"] == 7 and items[1]["counts"] == told["items"][0]["counts"]
    assert client.edit(1, {"do": "object", "object_id": 5})[0] == 200
    assert [item["object_id"] for item in client.get("/api/videos/1")["items"]] == [7]


def test_what_others_write_is_noticed_and_never_overwritten(client, manifest):
    edit = {"do": "prompt", "frame": 1, "object_id": 1, "box": [1, 2, 3, 4]}
    old = client.get("/api/videos/0")["revision"]
    rows = read_lines(manifest)
    rows[0]["start"] = 1
    rows.insert(0, {"video": "new.mp4"})
    write_rows(manifest, rows)
    status, told = client.edit(0, edit | {"revision": old})
    assert status == 409 and told["kind"] == "conflict"
    assert client.get("/api/videos/0")["start"] == 1 and read_lines(manifest) == rows
    # Another row's revision holds, wherever the row stands now.
    assert client.edit(1, edit)[0] == 200 and client.edit(0, edit)[0] == 200
    assert [len(row.get("prompts", [])) for row in read_lines(manifest)] == [0, 1, 2, 0]
    # A file that someone is in the middle of writing.
    good = manifest.read_bytes()
    revision = client.get("/api/videos/0")["revision"]
    manifest.write_bytes(good[:-20])
    status, told = client.edit(0, edit | {"revision": revision, "box": [5, 5, 5, 5]})
    assert status == 503 and "row 4" in told["error"] and manifest.read_bytes() == good[:-20]
    assert "row 4" in client.get("/api/manifest")["complaint"]
    manifest.write_bytes(good)
    assert client.edit(0, edit | {"revision": revision, "box": [5, 5, 5, 5]})[0] == 200
    assert client.get("/api/manifest")["complaint"] is None


def test_edits_from_many_threads_are_all_there(client, manifest):
    failures = []

    def edit(number: int) -> None:
        key = number % 2
        while True:
            box = {"do": "prompt", "frame": number % 8, "object_id": 10 + number, "box": [number, 1, 5, 5]}
            status, told = client.edit(key, box)
            if status != 409:
                break
        if status != 200:
            failures.append(told)

    threads = [threading.Thread(target=edit, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    rows = read_lines(manifest)
    ids = {prompt.get("object_id") for row in rows[:2] for prompt in row["prompts"]}
    assert not failures and ids >= set(range(10, 22))
    assert [path.name for path in manifest.parent.iterdir()] == [manifest.name], "no temporary file is left"


def test_a_write_that_fails_leaves_the_old_file(client, manifest, monkeypatch):
    before = manifest.read_bytes()

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    status, told = client.edit(0, {"do": "prompt", "frame": 0, "object_id": 1, "box": [1, 2, 3, 4]})
    assert status == 503 and "No space" in told["error"]
    assert manifest.read_bytes() == before and len(list(manifest.parent.iterdir())) == 1
    monkeypatch.undo()
    manifest.chmod(0o640)
    assert client.edit(0, {"do": "prompt", "frame": 0, "object_id": 1, "box": [1, 2, 3, 4]})[0] == 200
    assert manifest.stat().st_mode & 0o777 == 0o640


def test_proposals_are_asked_for_once(client, server):
    found = client.get("/api/videos/0/frames/3/proposals")["proposals"]
    assert found == [{"name": "square", "score": 0.9, "box": [4, 4, 10, 10], "counts": list(counts_of(square(4, 4)))}]
    assert client.get("/api/videos/0/frames/3/proposals")["proposals"] == found
    assert server.session.proposals.detector.asked == 1
    assert client.get("/api/manifest")["proposals"] == "finder"


def test_proposals_of_a_real_detector(manifest, tmp_path):
    """Random weights find random things; with a least score of 0 there are some."""
    weights = tiny_weights(tmp_path, "mask-rcnn")
    command = ["--manifest", str(manifest), "--proposals", "mask-rcnn", "--detector-weights", str(weights)]
    with pytest.raises(ValueError, match="cat"):
        proposals(parser().parse_args([*command, "--detector-classes", "cat"]))
    chosen = parser().parse_args([*command, "--detector-classes", "dog", "--detector-score", "0"])
    with served(manifest, proposals(chosen)) as server:
        client = Client(server)
        found = client.get("/api/videos/0/frames/3/proposals")["proposals"]
        assert found and all(one["name"] == "dog" and sum(one["counts"]) == SIZE[0] * SIZE[1] for one in found)
        assert client.edit(0, {"do": "prompt", "frame": 3, "object_id": 1, "counts": found[0]["counts"]})[0] == 200


def test_masks_of_an_earlier_run_are_there_to_be_taken(manifest, tmp_path):
    masks = {frame: {object_id: square(8 * object_id, frame) for object_id in (1, 2)} for frame in (3, 4)}
    write_clips(tmp_path / "out", [Clip("a", range(5), masks, {1: "dog", 2: None}, 40, size=SIZE)])
    with served(manifest, masks=RunMasks(str(tmp_path / "out"))) as server:
        client = Client(server)
        found = client.get("/api/videos/0/frames/4/proposals")["proposals"]
        assert [(one["object_id"], one["name"]) for one in found] == [(1, "dog"), (2, "")]
        assert found[1]["counts"] == list(counts_of(square(16, 4))) and found[1]["box"] == [4, 16, 10, 10]
        assert client.get("/api/videos/0/frames/5/proposals")["proposals"] == []
        assert client.get("/api/videos/1/frames/4/proposals")["proposals"] == []
        # A run of other videos under the same name.
        write_clips(
            tmp_path / "other", [Clip("a", range(5), {4: {1: square(1, 1)[:50]}}, {1: None}, 40, size=(50, 128))]
        )
        server.session.masks = RunMasks(str(tmp_path / "other"))
        status, _, data = client.ask("/api/videos/0/frames/4/proposals")
        assert status == 422 and b"128x50" in data
    with pytest.raises(FileNotFoundError, match="holds no masks"):
        RunMasks(str(tmp_path / "none"))


def test_suggestions_are_shown_filled_in_and_come_back(client, manifest):
    rows = read_lines(manifest)
    suggestion = {"frame": 4, "object_id": 1, "suggested": "the score is low"}
    rows[0]["prompts"] = [{"frame": 0, "object_id": 1, "box": [1, 2, 3, 4]}, suggestion]
    write_rows(manifest, rows)
    told = client.get("/api/videos/0")
    assert (told["prompts"], told["suggested"]) == (1, 1)
    assert told["items"][1]["kind"] == "suggested" and told["items"][1]["message"] == "the score is low"
    edit = {"do": "prompt", "frame": 4, "object_id": 1}
    assert client.edit(0, edit | {"counts": counts_of(square(1, 1))})[1]["suggested"] == 0
    assert client.get("/api/videos/0")["items"][1]["kind"] == "mask"
    assert client.edit(0, edit)[0] == 200
    assert read_lines(manifest)[0]["prompts"][1] == suggestion


def test_a_connection_that_says_nothing_holds_up_nobody(server, client):
    with socket.create_connection(("127.0.0.1", server.server_port)) as silent:
        silent.sendall(b"POST /api/videos/0 HTTP/1.1\r\nContent-Length: 100\r\n")
        assert client.ask("/api/manifest")[0] == 200


def test_a_port_that_is_taken(server):
    with pytest.raises(OSError):
        PickServer(server.session, TOKEN, port=server.server_port)
