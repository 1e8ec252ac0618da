"""Masks written as shards and read back, checked against pycocotools."""

import io
import random
import weakref

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pycocotools import mask as coco
from rlemasklib import RLEMask

import schemas
from schemas import masks, metadata, reader, videos


def mask_row(video_id, object_id, frame, mask):
    record = RLEMask.from_array(mask).to_dict()
    return {
        "video_id": video_id,
        "object_id": object_id,
        "label": None,
        "frame_index": frame,
        "pts": frame * 512,
        "time_s": frame / 25,
        "height": mask.shape[0],
        "width": mask.shape[1],
        "rle_counts": record["counts"],
        "area": int(mask.sum()),
        **dict.fromkeys(("bbox_x", "bbox_y", "bbox_w", "bbox_h"), 0),
        "score": 0.5,
        "is_prompt": False,
    }


def write_shard(path, rows, group_rows=50, schema=masks.SCHEMA):
    rows = sorted(rows, key=lambda row: (row["video_id"], row["object_id"], row["frame_index"]))
    path.parent.mkdir(parents=True, exist_ok=True)
    with pq.ParquetWriter(path, schema, **masks.write_options()) as writer:
        writer.write_table(pa.Table.from_pylist(rows, schema=schema), row_group_size=group_rows)


def write_video(out, video_id, status, message=None, shards=None):
    row = {field.name: None for field in videos.SCHEMA} | {"video_id": video_id, "status": status, "message": message}
    empty = {"rows": 1, "bytes": 1, "sha256": ""}
    row["shards"] = None if shards is None else [empty | shard for shard in shards]
    schema = pa.schema([field.with_nullable(True) for field in videos.SCHEMA], videos.SCHEMA.metadata)
    path = out / "videos" / videos.file_name(video_id)
    path.parent.mkdir(exist_ok=True)
    pq.write_table(pa.Table.from_pylist([row], schema=schema), path)


def random_mask(generator, size=(23, 31)):
    return (generator.random(size) < generator.random()).astype(np.uint8)


def test_frames_come_in_order_with_every_object_bit_equal(tmp_path):
    generator = np.random.default_rng(0)
    truth = {}
    for object_id in (1, 3, 40):
        for frame in random.Random(object_id).sample(range(300), 130):
            truth[frame, object_id] = random_mask(generator)
    rows = [mask_row("a", object_id, frame, mask) for (frame, object_id), mask in truth.items()]
    other = [mask_row("b", 1, frame, random_mask(generator)) for frame in range(40)]
    # Two segments of one video lie in two shards, one of which holds another video too.
    write_shard(tmp_path / "masks/x.parquet", [row for row in rows if row["frame_index"] >= 150])
    write_shard(tmp_path / "masks/y.parquet", [row for row in rows if row["frame_index"] < 150] + other)
    frames = []
    for frame, found in schemas.read_masks(str(tmp_path), "a"):
        frames.append(frame)
        for object_id, mask in found.items():
            assert mask.dtype == np.uint8 and mask.flags.c_contiguous
            np.testing.assert_array_equal(mask, truth.pop((frame, object_id)))
    assert frames == sorted(frames) and not truth
    assert len(list(schemas.read_masks(f"file://{tmp_path}", "b"))) == 40


def test_counts_equal_pycocotools(tmp_path):
    generator = np.random.default_rng(1)
    shapes = [(1, 1), (1, 9), (9, 1), (7, 13), (480, 854)]
    made = [random_mask(generator, shape) for shape in shapes] + [np.ones((5, 4), np.uint8)]
    rows = [mask_row("a", 1, frame, mask) for frame, mask in enumerate(made)]
    write_shard(tmp_path / "masks/x.parquet", rows)
    read = pq.read_table(tmp_path / "masks/x.parquet")
    for row, mask in zip(read.to_pylist(), made, strict=True):
        assert row["rle_counts"] == coco.encode(np.asfortranarray(mask))["counts"]
        np.testing.assert_array_equal(
            coco.decode({"size": [row["height"], row["width"]], "counts": row["rle_counts"]}), mask
        )
    for (_, found), mask in zip(schemas.read_masks(str(tmp_path)), made, strict=True):
        np.testing.assert_array_equal(found[1], mask)


def test_only_video_needs_no_name_and_several_do(tmp_path):
    square = np.ones((4, 4), np.uint8)
    write_shard(tmp_path / "masks/x.parquet", [mask_row("a", 1, 5, square)])
    assert [frame for frame, _ in schemas.read_masks(str(tmp_path))] == [5]
    write_shard(tmp_path / "masks/y.parquet", [mask_row("b", 1, 6, square)])
    with pytest.raises(LookupError, match="a, b"):
        schemas.read_masks(str(tmp_path))
    with pytest.raises(LookupError, match="no masks of 'c'"):
        schemas.read_masks(str(tmp_path), "c")
    write_video(tmp_path, "b", "failed", "decode: it is damaged")
    assert [frame for frame, _ in schemas.read_masks(str(tmp_path))] == [5]
    with pytest.raises(LookupError, match="it is damaged"):
        schemas.read_masks(str(tmp_path), "b")


def test_video_without_any_mask_yields_nothing(tmp_path):
    write_shard(tmp_path / "masks/x.parquet", [])
    write_video(tmp_path, "a", "done")
    assert list(schemas.read_masks(str(tmp_path), "a")) == []


def test_plan_names_the_shards_of_a_video(tmp_path):
    square = np.ones((4, 4), np.uint8)
    write_shard(tmp_path / "masks/u1.parquet", [mask_row("a", 1, 5, square)])
    (tmp_path / "masks/u2.parquet").write_bytes(b"not looked at")
    (tmp_path / "_run").mkdir()
    pq.write_table(pa.table({"unit_id": ["u1", "u2"], "video_id": ["a", "b"]}), tmp_path / "_run/plan.parquet")
    assert len(list(schemas.read_masks(str(tmp_path), "a"))) == 1
    with pytest.raises(ValueError, match="masks/u2.parquet is damaged"):
        schemas.read_masks(str(tmp_path), "b")


def test_what_cannot_be_read_is_said(tmp_path):
    with pytest.raises(FileNotFoundError, match="--output"):
        schemas.read_masks(str(tmp_path))
    square = np.ones((4, 4), np.uint8)
    double = [mask_row("a", 1, 5, square)] * 2
    write_shard(tmp_path / "masks/x.parquet", double)
    with pytest.raises(ValueError, match="two masks of object 1 on frame 5"):
        list(schemas.read_masks(str(tmp_path)))
    write_shard(tmp_path / "masks/x.parquet", [mask_row("a", 1, 5, square) | {"rle_counts": b"zz"}])
    with pytest.raises(ValueError, match="object 1 of a on frame 5 is damaged"):
        list(schemas.read_masks(str(tmp_path)))
    newer = masks.SCHEMA.with_metadata(metadata.file_metadata(masks.NAME, "2.0.0"))
    write_shard(tmp_path / "masks/x.parquet", [], schema=newer)
    with pytest.raises(ValueError, match="version 2.0.0"):
        schemas.read_masks(str(tmp_path), "a")


def test_output_on_memory_storage():
    import fsspec

    square = np.ones((4, 4), np.uint8)
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist([mask_row("a", 1, 5, square)], schema=masks.SCHEMA), sink)
    fs = fsspec.filesystem("memory")
    fs.pipe_file("/reader/out/masks/x.parquet", sink.getvalue())
    assert [frame for frame, _ in schemas.read_masks("memory://reader/out")] == [5]


def test_one_segment_of_a_long_video_is_held_at_a_time(tmp_path, monkeypatch):
    square = np.ones((4, 4), np.uint8)
    for segment in range(6):
        frames = range(50 * segment, 50 * segment + 50)
        rows = [mask_row("a", object_id, frame, square) for object_id in (1, 2) for frame in frames]
        write_shard(tmp_path / f"masks/{9 - segment}.parquet", rows)  # names do not tell the order
    live, most = weakref.WeakSet(), []

    class Watched(reader._Group):
        def __init__(self, table):
            super().__init__(table)
            live.add(self)
            most.append(sum(group.table.num_rows for group in live))

    monkeypatch.setattr(reader, "_Group", Watched)
    frames = [frame for frame, found in schemas.read_masks(str(tmp_path), "a") if sorted(found) == [1, 2]]
    assert frames == list(range(300))
    assert len(most) >= 6 and max(most) <= 200  # one segment has 100 rows; the last one goes when the next has come
    video = reader.open_masks(str(tmp_path), "a")
    assert [row.frame for row in video.track(2)] == list(range(300))
    assert list(video.track(3)) == []


def test_segments_whose_frames_overlap_are_merged(tmp_path):
    square = np.ones((4, 4), np.uint8)
    write_shard(tmp_path / "masks/x.parquet", [mask_row("a", 1, frame, square) for frame in range(0, 20, 2)])
    write_shard(tmp_path / "masks/y.parquet", [mask_row("a", 1, frame, square) for frame in range(5, 30, 2)])
    write_shard(tmp_path / "masks/z.parquet", [mask_row("a", 2, frame, square) for frame in range(3)])
    found = [(frame, sorted(masks)) for frame, masks in schemas.read_masks(str(tmp_path), "a")]
    ones, twos = {*range(0, 20, 2), *range(5, 30, 2)}, set(range(3))
    assert found == [(f, [1] * (f in ones) + [2] * (f in twos)) for f in sorted(ones | twos)]


def test_a_filesystem_of_the_callers_own(tmp_path):
    from fsspec.implementations.dirfs import DirFileSystem
    from fsspec.implementations.local import LocalFileSystem

    write_shard(tmp_path / "deep/out/masks/x.parquet", [mask_row("a", 1, 5, np.ones((4, 4), np.uint8))])
    fs = DirFileSystem(str(tmp_path / "deep"), fs=LocalFileSystem())
    assert [frame for frame, _ in schemas.read_masks("out", filesystem=fs)] == [5]


def test_a_shard_that_a_videos_row_names_but_is_gone(tmp_path):
    write_shard(tmp_path / "masks/x.parquet", [mask_row("a", 1, 5, np.ones((4, 4), np.uint8))])
    write_video(tmp_path, "a", "done", shards=[{"unit_id": name} for name in ("x", "gone")])
    with pytest.raises(FileNotFoundError, match=r"masks/gone\.parquet is lost"):
        list(schemas.read_masks(str(tmp_path), "a"))


def test_shards_are_listed_only_where_no_row_names_them(tmp_path, monkeypatch):
    from fsspec.implementations.local import LocalFileSystem

    listed, ls = [], LocalFileSystem.ls
    monkeypatch.setattr(LocalFileSystem, "ls", lambda fs, path, **more: listed.append(path) or ls(fs, path, **more))
    square = np.ones((4, 4), np.uint8)
    for number in range(5):
        write_shard(tmp_path / f"masks/{number}.parquet", [mask_row(f"v{number}", 1, 5, square)])
        write_video(tmp_path, f"v{number}", "done", shards=[{"unit_id": str(number)}])
    for number in range(5):
        assert [frame for frame, _ in schemas.read_masks(str(tmp_path), f"v{number}")] == [5]
    assert listed == []
    row = {"status": "done", "message": None, "shards": [{"unit_id": "3"}]}
    (tmp_path / "videos").rename(tmp_path / "not-looked-at")
    assert [frame for frame, _ in schemas.read_masks(str(tmp_path), "v3", row=row)] == [5]
    assert listed == []
    with pytest.raises(LookupError, match="it is damaged"):
        schemas.read_masks(str(tmp_path), "v3", row=row | {"status": "failed", "message": "it is damaged"})
    assert [frame for frame, _ in schemas.read_masks(str(tmp_path), "v3")] == [5]
    assert [path for path in listed if path.endswith("/masks")] == [f"{tmp_path}/masks"]
