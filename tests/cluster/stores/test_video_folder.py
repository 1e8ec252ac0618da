"""Folders and globs of videos as a manifest, with prompts from a folder of masks."""

import io
import os

import fsspec
import numpy as np
import pytest
from made_videos import real_clips
from PIL import Image

from cluster.stores.source import list_manifest_rows, list_videos
from schemas.manifest import ManifestError


def png(labels, palette=True):
    image = Image.fromarray(np.asarray(labels, np.uint8), "P" if palette else "L")
    if palette:
        image.putpalette([value for number in range(256) for value in (number, 0, 255 - number)])
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def put(root, files, options=None):
    fs, path = fsspec.core.url_to_fs(str(root), **(options or {}))
    for name, data in files.items():
        fs.makedirs(f"{path}/{name}".rpartition("/")[0], exist_ok=True)
        fs.pipe_file(f"{path}/{name}", data)


def prompts_of(row):
    return [(prompt.frame, prompt.object_id, prompt.mask.rpartition("/")[2]) for prompt in row.prompts]


TREE = {
    "v/b.mp4": b"b",
    "v/a.MOV": b"a",
    "v/notes.txt": b"",
    "v/.hidden.mp4": b"",
    "v/clip/00010.jpg": b"",
    "v/clip/00012.jpg": b"",
    "v/clip/00014.jpg": b"",
    "v/other/readme.md": b"",
    "v/thumbs/cover.jpg": b"",
    "m/a.png": png([[0, 1], [2, 2]]),
    "m/b/7.png": png([[0, 255]], palette=False),
    "m/b/frame_00120.png": png([[0, 5]]),
    "m/clip/00012.png": png([[3, 3]]),
}


@pytest.mark.parametrize("kind", ["local", "memory", "s3"])
def test_files_and_image_folders_with_their_prompts(kind, tmp_path, request):
    root, options = str(tmp_path), {}
    if kind == "memory":
        root = f"memory:/{tmp_path}"
    elif kind == "s3":
        root, options = request.getfixturevalue("s3")
    put(root, TREE, options)
    rows = list_manifest_rows(f"{root}/v", prompt_masks=f"{root}/m", options=options)
    assert [(row.row, row.video_id) for row in rows] == [(1, "a"), (2, "b"), (3, "clip")]
    assert [prompts_of(row) for row in rows] == [
        [(0, 1, "a.png"), (0, 2, "a.png")],
        [(7, 1, "7.png"), (120, 5, "frame_00120.png")],
        [(1, 3, "00012.png")],
    ]
    for row in rows:
        for url in (row.video, *(prompt.mask for prompt in row.prompts)):
            fs, path = fsspec.core.url_to_fs(url, **options)
            assert fs.exists(path), url
    (one,) = list_manifest_rows(f"{root}/v/a.MOV", prompt_masks=f"{root}/m", options=options)
    assert (one.video_id, one.video, prompts_of(one)) == ("a", rows[0].video, prompts_of(rows[0]))


def test_glob_chooses(tmp_path):
    put(tmp_path, TREE)
    rows = list_manifest_rows(f"{tmp_path}/v/[bc]*", prompt_masks=f"{tmp_path}/m")
    assert [row.video_id for row in rows] == ["b", "clip"]
    with pytest.raises(ManifestError, match="no videos"):
        list_manifest_rows(f"{tmp_path}/v/*.mkv", prompt_masks=f"{tmp_path}/m")


def test_a_folder_of_images_is_one_video(tmp_path):
    put(tmp_path, TREE)
    (row,) = list_manifest_rows(f"{tmp_path}/v/clip", prompt_masks=f"{tmp_path}/m")
    assert row.video_id == "clip" and row.video == f"{tmp_path}/v/clip"


def test_ground_truth_of_every_frame_prompts_only_new_objects(tmp_path):
    images = {f"v/clip/{number:03d}.jpg": b"" for number in range(5)}
    masks = [[0, 0], [0, 1], [1, 0], [1, 4], [4, 0]]
    put(tmp_path, images | {f"m/clip/{number:03d}.png": png([mask]) for number, mask in enumerate(masks)})
    said = []
    (row,) = list_manifest_rows(f"{tmp_path}/v", prompt_masks=f"{tmp_path}/m", say=said.append)
    assert prompts_of(row) == [(1, 1, "001.png"), (3, 4, "003.png")]
    assert len(said) == 1 and said[0].startswith("5 masks of 'clip' are one for each of its images: taken as its true")
    # With one mask fewer they are prompts, all of them; the empty one says that both objects are absent.
    (tmp_path / "m/clip/004.png").unlink()
    (row,) = list_manifest_rows(f"{tmp_path}/v", prompt_masks=f"{tmp_path}/m")
    absent = [(0, 1, "000.png"), (0, 4, "000.png")]
    later = [(1, 1, "001.png"), (2, 1, "002.png"), (3, 1, "003.png"), (3, 4, "003.png")]
    assert prompts_of(row) == absent + later


@pytest.mark.parametrize(("count", "frames"), [(8, list(range(8))), (9, [0])])
def test_many_masks_in_a_row_of_a_video_file_are_ground_truth(tmp_path, count, frames):
    put(tmp_path, {"v/a.mp4": b""} | {f"m/a/{number}.png": png([[1, 0]]) for number in range(count)})
    (row,) = list_manifest_rows(f"{tmp_path}/v", prompt_masks=f"{tmp_path}/m")
    assert [prompt.frame for prompt in row.prompts] == frames


def test_masks_taken_as_ground_truth_are_said_and_can_all_be_prompts(tmp_path):
    dense = {f"m/{name}/{number}.png": png([[1, 0]]) for name in "ab" for number in range(9)}
    # "one" has a mask for each of its images too, but loses nothing by it.
    other = {"v/c.mp4": b"", "m/c/0.png": png([[1, 0]]), "v/one/0.jpg": b"", "m/one/0.png": png([[1, 0]])}
    put(tmp_path, {"v/a.mp4": b"", "v/b.mp4": b""} | dense | other)
    said = []
    list_manifest_rows(f"{tmp_path}/v", prompt_masks=f"{tmp_path}/m", say=said.append)
    assert len(said) == 1 and said[0].startswith("9 masks of 'a' lie on consecutive frames: taken as its true masks")
    assert "(the same for 1 more videos)" in said[0] and "--every-prompt-mask" in said[0]
    rows = list_manifest_rows(f"{tmp_path}/v", prompt_masks=f"{tmp_path}/m", every_mask=True, say=said.append)
    assert [len(row.prompts) for row in rows] == [9, 9, 1, 1] and len(said) == 1
    list_manifest_rows(f"{tmp_path}/v", prompt_masks=f"{tmp_path}/m", first_masks=True, say=said.append)
    assert len(said) == 1


def test_all_problems_are_reported_together(tmp_path):
    files = {
        **{f"v/{name}": b"" for name in ("none.mp4", "empty.mp4", "torn.mp4", "twin.mp4", "twin.mkv", "odd.mp4")},
        "v/clip/1.jpg": b"",
        "m/empty/3.png": png([[0, 0]]),
        "m/torn/0.png": png([[0, 1]])[:40],
        "m/twin.png": png([[1]]),
        "m/clip/2.png": png([[1]]),
        "m/odd/1_2.png": png([[1]]),
    }
    put(tmp_path, files)
    with pytest.raises(ManifestError) as caught:
        list_manifest_rows(f"{tmp_path}/v", prompt_masks=f"{tmp_path}/m")
    text = str(caught.value)
    assert len(caught.value.problems) == 6
    for part in (
        "m/none/<frame>.png",
        "all 1 masks are empty",
        "torn/0.png is not a readable picture",
        "have one video_id, 'twin'",
        "clip/2.png belongs to no frame: there is no image of that name",
        "odd/1_2.png belongs to no frame: it holds no single number",
    ):
        assert part in text


def test_a_name_that_cannot_be_written_down_is_the_problem_of_its_file(tmp_path):
    put(tmp_path, {"v/good.mp4": b"", "v/clip \n/1.jpg": b"", f"v/{'x' * 210}.mp4": b"", "m/good.png": png([[1]])})
    os.close(os.open(os.fsencode(tmp_path) + b"/v/caf\xe9.mp4", os.O_CREAT))
    for look in (list_videos, lambda url: list_manifest_rows(url, prompt_masks=f"{tmp_path}/m")):
        with pytest.raises(ManifestError) as caught:
            look(f"{tmp_path}/v")
        text = str(caught.value)
        assert len(caught.value.problems) == 3 and text.encode()
        assert f"the name of {tmp_path}/v/caf\\xe9.mp4 makes no video_id: " in text
        assert "is not valid Unicode. Rename it.\n" in text
        assert f"{tmp_path}/v/clip \\x0a makes" in text and "longer than 200 bytes. Rename it, or write a manif" in text
    assert [video_id for video_id, _ in list_videos(f"{tmp_path}/v/g*")] == ["good"]


def test_a_folder_without_prompts_or_that_is_missing_is_said(tmp_path):
    put(tmp_path, TREE)
    with pytest.raises(ManifestError, match="--prompt-masks"):
        list_manifest_rows(f"{tmp_path}/v")
    with pytest.raises(FileNotFoundError, match="nowhere cannot be listed"):
        list_manifest_rows(f"{tmp_path}/nowhere", prompt_masks=f"{tmp_path}/m")


@pytest.mark.real_clips
def test_real_ground_truth_prompts_the_first_frame_only(tmp_path):
    clips = real_clips()
    for kind in ("frames", "masks"):
        (tmp_path / kind).mkdir()
        for clip in sorted(clips.iterdir()):
            if (clip / "frames").is_dir():
                (tmp_path / kind / clip.name).symlink_to(clip / kind)
    rows = list_manifest_rows(f"{tmp_path}/frames", prompt_masks=f"{tmp_path}/masks")
    found = {row.video_id: [(prompt.frame, prompt.object_id) for prompt in row.prompts] for row in rows}
    assert found.pop("cutie_judo") == [(0, 1), (5, 2), (8, 3), (13, 4)]
    assert found.pop("davis17_tennis") == found.pop("davis17_paragliding") == [(0, 1), (0, 2)]
    assert len(found) == 11 and all(prompts == [(0, 1)] for prompts in found.values())
