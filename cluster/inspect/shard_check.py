"""One shard, checked row by row: what `jobs.verify` does with every file of `masks`."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from rlemasklib import RLEMask

from cluster.inspect.shard_file import local_copy
from cluster.stores.storage import Storage
from cluster.track_totals import SCORE_STEPS
from schemas import masks as masks_schema
from schemas.metadata import check_metadata
from schemas.rows_digest import RowsDigest

BATCH_ROWS = 4096
SAMPLED = 32  # masks decoded per batch, unless all are asked for
AGAIN = "Delete the file and run the same jobs.annotate command again: it makes the shard anew"

DAMAGED, LOST, DOUBLED, UNFINISHED, ORPHAN = "damaged", "lost", "doubled", "unfinished", "orphan"


@dataclass(frozen=True)
class Finding:
    """Something that is wrong (damaged, lost, doubled), not there yet (unfinished) or left over (orphan)."""

    kind: str
    file: str
    what: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.file}: {self.what}. {self.remedy}."


@dataclass(frozen=True)
class Stretch:
    """What a shard may hold of a video: frames start + n * stride, for n from first to before last (None: no end)."""

    video_id: str
    start: int | None = None
    stride: int | None = None
    height: int | None = None
    width: int | None = None
    first: int = 0
    last: int | None = None
    rows: int | None = None
    rows_sha256: str | None = None


@dataclass(frozen=True)
class ShardTask:
    """A shard to check. planned: (unit id, video key, kind, video id, first, last) of its unit, None for no such unit.

    remedy: what to do where it is damaged. config: hashes that its metadata must have.
    """

    storage: Storage
    name: str
    planned: tuple[str, str, str, str, int, int | None] | None = None
    compacted: bool = False
    config: Mapping[str, str] = field(default_factory=dict)
    all_masks: bool = False
    remedy: str = AGAIN


@dataclass
class ObjectRows:
    """Sums over the rows of one object of one video in one shard; scores in steps of 2^-24."""

    n_visible: int = 0
    first_frame: int | None = None
    last_frame: int | None = None
    areas: int = 0
    area_min: int | None = None
    area_max: int | None = None
    scores: int = 0
    prompt_frames: list[int] = field(default_factory=list)


@dataclass
class ShardReport:
    """What was found in a shard. size and sha256 are the file's; None where it is gone. objects: by video, by id."""

    name: str
    size: int | None = None
    sha256: str | None = None
    rows: int = 0
    masks_decoded: int = 0
    video_rows: dict[str, int] = field(default_factory=dict)
    objects: dict[str, dict[int, ObjectRows]] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)


def check_shard(task: ShardTask) -> ShardReport:
    """Never raises for what is wrong with the file; OSError where storage fails."""
    return _Check(task).run()


class _Check:
    def __init__(self, task: ShardTask):
        self.task, self.report = task, ShardReport(task.name)
        self.counted: dict[str, list] = {}  # what is wrong -> [rows, first place]

    def run(self) -> ShardReport:
        try:
            with local_copy(self.task.storage, self.task.name) as (path, size, sha256):
                self.report.size, self.report.sha256 = size, sha256
                self._file(path)
        except FileNotFoundError:
            self._damaged("it vanished while it was checked", kind=LOST)
        for what, (count, place) in self.counted.items():
            rows = "1 row" if count == 1 else f"{count} rows"
            self._damaged(f"{rows}: {what} (first: {place})")
        return self.report

    def _damaged(self, what: str, kind: str = DAMAGED) -> None:
        self.report.findings.append(Finding(kind, self.task.name, what, self.task.remedy))

    def _file(self, path: Path) -> None:
        try:
            with pq.ParquetFile(path) as file:
                stretches = self._metadata(file)
                if stretches is not None:
                    self._rows(file, stretches)
        except (pa.ArrowException, OSError, ValueError, OverflowError, MemoryError) as error:
            text = " ".join(str(error).split())[:200]
            self._damaged(f"it cannot be read as Parquet ({text})")

    def _metadata(self, file: pq.ParquetFile) -> dict[str, Stretch] | None:
        """video_id -> what may be there of it; None where the rows cannot be read."""
        metadata = file.metadata.metadata or {}
        try:
            check_metadata(metadata, masks_schema.NAME, masks_schema.VERSION, "it")
        except ValueError as error:
            self._damaged(str(error))
            return None
        if not masks_schema.is_complete(file.schema_arrow):
            self._damaged("its columns are not those of the masks table")
            return None
        texts = {key.decode("utf-8", "replace"): value.decode("utf-8", "replace") for key, value in metadata.items()}
        if texts.get("rows") != str(file.metadata.num_rows):
            self._damaged(f"it holds {file.metadata.num_rows} rows, its metadata says {texts.get('rows')}")
        for name, wanted in self.task.config.items():
            if texts.get(name) != wanted:
                self._damaged(f"its {name} is {texts.get(name)}, the run's is {wanted}")
        try:
            return self._parts(texts) if self.task.compacted else self._unit(texts)
        except (ValueError, KeyError, TypeError) as error:
            self._damaged(f"its metadata cannot be used ({type(error).__name__}: {error})")
            return None

    def _unit(self, texts: Mapping[str, str]) -> dict[str, Stretch]:
        facts = json.loads(texts["video"])
        video_id, first, last = facts["video_id"], 0, None
        if self.task.planned is not None:
            unit_id, video_key, kind, video_id, first, last = self.task.planned
            wanted = {"unit_id": unit_id, "video_key": video_key, "kind": kind}
            for name, value in wanted.items():
                if texts.get(name) != value:
                    self._damaged(f"it holds {name} {texts.get(name)}, the plan has {value} under this name")
            if facts["video_id"] != video_id:
                self._damaged(f"it holds {facts['video_id']!r}, the plan has {video_id!r} under this name")
        if last is None and (self.task.planned is not None or texts.get("kind") == "whole"):
            last = first + facts["frames_annotated"]
        size = (facts.get("height"), facts.get("width"))
        grid = (facts.get("first_frame"), facts.get("stride"))
        known = Stretch(video_id, *grid, *size, first, last, int(texts["rows"]), texts["rows_sha256"])
        return {video_id: known}

    def _parts(self, texts: Mapping[str, str]) -> dict[str, Stretch]:
        """A compacted shard lists its videos."""
        names = ("start", "stride", "height", "width", "rows", "rows_sha256")
        records = json.loads(texts["videos"])
        return {record["video_id"]: Stretch(record["video_id"], **{n: record[n] for n in names}) for record in records}

    def _rows(self, file: pq.ParquetFile, stretches: Mapping[str, Stretch]) -> None:
        before, video_id, digest = None, None, RowsDigest()
        digests: dict[str, str] = {}
        for batch in file.iter_batches(BATCH_ROWS):
            self.report.rows += batch.num_rows
            for part in _by_video(batch):
                here = part["video_id"][0].as_py()
                if here != video_id:
                    if video_id is not None:
                        digests[video_id] = digest.hexdigest()
                        if here < video_id:
                            self._count("videos not in the order of their ids", 1, f"video {here!r}")
                    before, video_id, digest = None, here, RowsDigest()
                self._check_part(part, stretches.get(here), here, before)
                before = (part["object_id"][-1].as_py(), part["frame_index"][-1].as_py())
                for row in zip(*(part[name].to_pylist() for name in _DIGESTED), strict=True):
                    digest.add(*row)
        if video_id is not None:
            digests[video_id] = digest.hexdigest()
        for name, known in stretches.items():
            rows = self.report.video_rows.get(name, 0)
            if known.rows != rows:
                self._damaged(f"it holds {rows} rows of {name!r}, its metadata says {known.rows}")
            if known.rows_sha256 != digests.get(name, RowsDigest().hexdigest()):
                self._damaged(f"the rows of {name!r} are not those that were written (rows_sha256 differs)")

    def _check_part(self, part: pa.RecordBatch, known: Stretch | None, video_id: str, before: tuple | None) -> None:
        """Rows of one video; before: object and frame of the row before them, where it is of the same video."""
        self.report.video_rows[video_id] = self.report.video_rows.get(video_id, 0) + part.num_rows
        columns = {name: part[name].to_numpy(zero_copy_only=False) for name in _NUMBERS}
        objects, frames = columns["object_id"].astype(np.int64), columns["frame_index"].astype(np.int64)
        if known is None:
            self._count("another video than this shard's", part.num_rows, f"video {video_id!r}")
        keys = (objects << 32) + frames
        last = [] if before is None else [(before[0] << 32) + before[1]]
        step = np.diff(keys, prepend=np.array(last, np.int64))  # an empty list is of floats, which hold 53 bits
        offset = len(keys) - len(step)  # step i leads to row i + offset
        self._flag("the same object and frame twice", columns, np.flatnonzero(step == 0) + offset)
        self._flag("not sorted by object and frame", columns, np.flatnonzero(step < 0) + offset)
        height, width = columns["height"].astype(np.int64), columns["width"].astype(np.int64)
        box = [columns[f"bbox_{name}"].astype(np.int64) for name in "xywh"]
        inside = (box[0] >= 0) & (box[1] >= 0) & (box[0] + box[2] <= width) & (box[1] + box[3] <= height)
        area = columns["area"]
        self._flag("a box that leaves the frame", columns, np.flatnonzero(~inside))
        fits = (area >= 1) & (area <= box[2] * box[3])
        self._flag("an area that does not fit its box", columns, np.flatnonzero(~fits))
        score = columns["score"]
        self._flag("a score outside 0 to 1", columns, np.flatnonzero(~((score >= 0) & (score <= 1.000001))))
        if known is not None:
            if known.height is not None:
                other = (height != known.height) | (width != known.width)
                self._flag(f"a mask that is not {known.width}x{known.height}", columns, np.flatnonzero(other))
            if known.start is not None:
                position, off = np.divmod(frames - known.start, known.stride or 1)
                outside = (off != 0) | (position < known.first)
                if known.last is not None:
                    outside |= position >= known.last
                self._flag("a frame outside the unit's stretch", columns, np.flatnonzero(outside))
        self._decode(part, columns)
        self._sum(video_id, columns, objects, frames)

    def _decode(self, part: pa.RecordBatch, columns: Mapping[str, np.ndarray]) -> None:
        count = part.num_rows
        chosen = range(count) if self.task.all_masks else _sample(count, self.report.name)
        counts = part["rle_counts"]
        for row in chosen:
            self.report.masks_decoded += 1
            record = {"size": [int(columns["height"][row]), int(columns["width"][row])], "counts": counts[row].as_py()}
            try:
                mask = RLEMask.from_dict(record)
            except ValueError as error:
                self._flag(f"a mask that does not decode ({error})", columns, [row])
                continue
            box = tuple(int(value) for value in mask.bbox())
            if int(mask.area()) != columns["area"][row]:
                self._flag("an area other than its mask's", columns, [row])
            if box != tuple(int(columns[f"bbox_{name}"][row]) for name in "xywh"):
                self._flag("a box other than its mask's", columns, [row])

    def _sum(self, video_id: str, columns: Mapping[str, np.ndarray], objects: np.ndarray, frames: np.ndarray) -> None:
        for object_id in np.unique(objects).tolist():
            mine = objects == object_id
            sums = self.report.objects.setdefault(video_id, {}).setdefault(object_id, ObjectRows())
            seen, area = frames[mine], columns["area"][mine]
            low, high = int(seen.min()), int(seen.max())
            sums.n_visible += int(mine.sum())
            sums.first_frame = low if sums.first_frame is None else min(sums.first_frame, low)
            sums.last_frame = high if sums.last_frame is None else max(sums.last_frame, high)
            sums.areas += int(area.sum())
            sums.area_min = int(area.min()) if sums.area_min is None else min(sums.area_min, int(area.min()))
            sums.area_max = int(area.max()) if sums.area_max is None else max(sums.area_max, int(area.max()))
            score = columns["score"][mine].astype(np.float64)
            sums.scores += int(np.rint(np.nan_to_num(score) * SCORE_STEPS).sum())
            sums.prompt_frames += frames[mine & columns["is_prompt"]].tolist()

    def _flag(self, what: str, columns: Mapping[str, np.ndarray], rows: Sequence[int] | np.ndarray) -> None:
        if len(rows):
            place = f"object {columns['object_id'][rows[0]]} on frame {columns['frame_index'][rows[0]]}"
            self._count(what, len(rows), place)

    def _count(self, what: str, count: int, place: str) -> None:
        self.counted.setdefault(what, [0, place])[0] += count


_DIGESTED = ("object_id", "frame_index", "height", "width", "is_prompt", "rle_counts")
_NUMBERS = (
    "object_id", "frame_index", "height", "width", "area", "bbox_x", "bbox_y", "bbox_w", "bbox_h", "score", "is_prompt",
)  # fmt: skip


def _by_video(batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    """Slices of equal video_id, in order."""
    ids = batch["video_id"].to_pylist()
    start = 0
    for row in range(1, len(ids) + 1):
        if row == len(ids) or ids[row] != ids[start]:
            yield batch.slice(start, row - start)
            start = row


def _sample(count: int, seed: str) -> list[int]:
    """Some rows, the first and last among them; the same ones for the same shard."""
    if count <= SAMPLED:
        return list(range(count))
    chosen = np.random.default_rng(list(seed.encode())).choice(count, SAMPLED, replace=False)
    return sorted({0, count - 1, *chosen.tolist()})
