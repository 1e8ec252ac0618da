"""An evaluated output and its true masks, written here."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image
from rlemasklib import RLEMask

from jobs import evaluate
from schemas import masks, videos

SIZE = (24, 32)


def block(x, y, width=8, height=8):
    mask = np.zeros(SIZE, np.uint8)
    mask[y : y + height, x : x + width] = 1
    return mask


def write_output(out, video_id, predicted, **video):
    """predicted: frame -> {object id: mask}."""
    rows = []
    for frame, found in predicted.items():
        for object_id, mask in found.items():
            record = RLEMask.from_array(mask).to_dict()
            row = dict.fromkeys(masks.SCHEMA.names, 0) | {"label": None, "pts": None, "time_s": None}
            row |= {"video_id": video_id, "object_id": object_id, "frame_index": frame, "is_prompt": False}
            rows.append(row | {"height": mask.shape[0], "width": mask.shape[1], "rle_counts": record["counts"]})
    rows.sort(key=lambda row: (row["object_id"], row["frame_index"]))
    count = max(predicted, default=-1) + 1
    video = {
        "status": "done",
        "frames_decoded": count,
        "frames_annotated": count,
        "first_frame": 0,
        "stride": 1,
    } | video
    video = {"video_id": video_id, "height": SIZE[0], "width": SIZE[1]} | video
    schema = pa.schema([field.with_nullable(True) for field in videos.SCHEMA], videos.SCHEMA.metadata)
    for name in ("masks", "videos"):
        (out / name).mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows, schema=masks.SCHEMA), out / "masks" / f"{video_id}.parquet")
    pq.write_table(pa.Table.from_pylist([video], schema=schema), out / "videos" / videos.file_name(video_id))


def write_truth(folder, labels, names=None, mode="P"):
    """labels: a label map per frame."""
    folder.mkdir(parents=True, exist_ok=True)
    for index, label in enumerate(labels):
        name = names[index] if names else f"{index:05d}"
        image = Image.fromarray((label * 255 if mode != "P" else label).astype(np.uint8), "P" if mode == "P" else "L")
        if mode == "P":
            image.putpalette([value for number in range(256) for value in (number, 0, 255 - number)])
        elif mode == "LA":
            image = image.convert("LA")
        image.save(folder / f"{name}.png")


def write_images(folder, names, value=0):
    """A video as a folder of JPEGs of these names; the fields of its `videos` row, as a run writes them."""
    folder.mkdir(parents=True)
    for name in names:
        Image.fromarray(np.full((*SIZE, 3), value, np.uint8)).save(folder / f"{name}.jpg")
    return {"video": str(folder), "codec": "jpg", "frames_decoded": len(names), "frames_declared": len(names)}


def scores(tmp_path, *extra):
    file = tmp_path / "scores.json"
    command = ["--masks", str(tmp_path / "out"), "--truth", str(tmp_path / "truth"), "--json", str(file), *extra]
    assert evaluate.main(command) == 0
    return json.loads(file.read_text())
