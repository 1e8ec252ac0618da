"""What the page asks for and does, apart from HTTP: the manifest, the videos, the proposals."""

import threading
from collections import OrderedDict
from collections.abc import Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

from cluster.frames.decoder import DecoderUnavailable
from cluster.frames.video_error import VideoError
from cluster.inspect.remedy import REMEDIES, RETRY
from jobs.views.pick import prompt_edits
from jobs.views.pick.manifest_file import Conflict, Gone, ManifestFile, PickRow
from jobs.views.pick.open_videos import OpenVideo, OpenVideos
from jobs.views.pick.prompt_items import Item, read_items, rle_record, row_labels
from jobs.views.pick.proposals import Proposals
from jobs.views.pick.run_masks import RunMasks
from schemas.detector_values import as_points
from schemas.manifest import ManifestError
from schemas.manifest_rows import is_unfilled
from schemas.manifest_values import Wrong, as_label, as_whole
from schemas.prompt import KINDS, check_box
from schemas.urls import public_url

KEPT_ITEMS = 8
FEW = 5  # problems of a manifest that are told


class Refused(Exception):
    """A request that is not done: an HTTP status, why, and what to do about it."""

    def __init__(self, status: int, reason: str, remedy: str = "", kind: str = ""):
        super().__init__(reason)
        self.status, self.reason, self.remedy, self.kind = status, reason, remedy, kind

    def to_json(self) -> dict[str, str]:
        return {"error": self.reason, "remedy": self.remedy, "kind": self.kind}


class Session:
    """One manifest at work, for any number of threads. Every method raises Refused, with what the page shows."""

    def __init__(
        self,
        manifest: ManifestFile,
        videos: OpenVideos,
        proposals: Proposals | None = None,
        masks: RunMasks | None = None,
    ):
        self.manifest, self.videos, self.proposals, self.masks = manifest, videos, proposals, masks
        self._lock = threading.Lock()
        self._items: OrderedDict[tuple[int, str], list[Item]] = OrderedDict()
        self._unreadable: dict[int, str] = {}

    def close(self) -> None:
        """Ends the decoders."""
        self.videos.close()

    def overview(self) -> dict[str, Any]:
        """All videos in the file's order, with what is known of each without opening it."""
        complaint = None
        try:
            self.manifest.refresh()
        except ManifestError as error:
            complaint = "; ".join(map(str, error.problems[:FEW]))
        except OSError as error:
            complaint = str(error)
        return {
            "manifest": str(self.manifest.path),
            "proposals": ", ".join(source.name for source in (self.masks, self.proposals) if source) or None,
            "complaint": complaint,
            "videos": [self._summary(row) for row in self.manifest.rows()],
        }

    def video(self, key: int) -> dict[str, Any]:
        """The row with its prompts, and what the video is."""
        with _refusing():
            self.manifest.refresh()
            row = self.manifest.row(key)
            with self._opened(row) as video:
                items = self._items_of(row, video)
                info = video.info
                shown = {
                    "height": info.height, "width": info.width, "frames": video.frames, "fps": info.fps,
                    "images": info.kind == "images", "codec": info.codec,
                }  # fmt: skip
        labels = row_labels(row.record, items)
        return {
            **self._summary(row),
            **shown,
            "start": _range_end(row.record, "start"),
            "end": _range_end(row.record, "end"),
            "items": [item.to_json() for item in items],
            "labels": {str(key): label for key, label in sorted(labels.items())},
        }

    def frame(self, key: int, frame: int) -> tuple[bytes, float | None]:
        """(JPEG of the frame at its full size, seconds since the first frame)."""
        with _refusing(), self._opened(self.manifest.row(key)) as video:
            return video.jpeg(frame), video.time_of(frame)

    def propose(self, key: int, frame: int) -> list[dict[str, Any]]:
        """The masks of the earlier run and the detector's proposals, where there are these."""
        found: list[dict[str, Any]] = []
        with _refusing():
            row = self.manifest.row(key)
            if self.masks is not None:
                with self._opened(row) as video:
                    size = video.size
                try:
                    found += self.masks.on(row.video_id, frame, size)
                except ValueError as error:
                    raise Refused(422, str(error), "give the output folder of a run of these videos") from error

            def picture():
                with self._opened(row) as video:
                    return video.picture(frame)

            if self.proposals is not None:
                found += self.proposals.on(row.video, frame, picture)
        return found

    def edit(self, key: int, request: Mapping[str, Any]) -> dict[str, Any]:
        """Does one edit and saves it. request: `revision`, `do`, and what that needs (see `_edit`)."""
        revision = request.get("revision")
        if not isinstance(revision, str):
            raise Refused(400, "an edit needs the revision it was made on")
        with _refusing(), self._opened(self.manifest.row(key)) as video:

            def edit(row: PickRow) -> Mapping[str, Any]:
                items = self._items_of(row, video)
                return _edit(request, row.record, items, video)

            row = self.manifest.change(key, revision, edit)
        return self._summary(row)

    @contextmanager
    def _opened(self, row: PickRow):
        opened = False
        try:
            with self.videos.use(row.video) as video:
                opened = True
                self._unreadable.pop(row.key, None)
                yield video
        except VideoError as error:
            if not opened:
                self._unreadable[row.key] = error.reason
            remedy = REMEDIES.get(error.error_class, "").removesuffix(f"; {RETRY}")
            raise Refused(422, f"{public_url(row.video)} {error.reason}", remedy, error.error_class) from error
        except OSError as error:
            if not opened:
                self._unreadable[row.key] = str(error)
            raise
        except DecoderUnavailable as error:
            raise Refused(503, str(error), "look at this machine's memory and process limits") from error

    def _items_of(self, row: PickRow, video: OpenVideo) -> list[Item]:
        with self._lock:
            if (row.key, row.revision) in self._items:
                return self._items[row.key, row.revision]
        items = read_items(row.prompts, self.manifest.base, video.size, video.frame_at, video.mask_file)
        with self._lock:
            self._items[row.key, row.revision] = items
            while len(self._items) > KEPT_ITEMS:
                self._items.popitem(last=False)
        return items

    def _summary(self, row: PickRow) -> dict[str, Any]:
        filled = [prompt for prompt in row.prompts if not is_unfilled(prompt)]
        drawn = [p for p in filled if isinstance(p, Mapping) and any(p.get(kind) for kind in KINDS)]
        ids = {prompt.get("object_id") for prompt in drawn}
        problems = self.manifest.problems(row)
        return {
            "key": row.key,
            "video_id": row.video_id,
            "video": public_url(row.video),
            "revision": row.revision,
            "prompts": len(filled),
            "suggested": len(row.prompts) - len(filled),
            "objects": len(ids),
            "problems": [
                f"{p.column}: {p.reason}. {p.remedy}." if p.column else f"{p.reason}. {p.remedy}." for p in problems
            ],
            "unreadable": self._unreadable.get(row.key),
        }


def _edit(
    request: Mapping[str, Any], record: Mapping[str, Any], items: list[Item], video: OpenVideo
) -> Mapping[str, Any]:
    """do: prompt (frame, object_id, and one of counts, box, points, or none), label (object_id, label), id (object_id,
    to), object (object_id), record (position), complete (frame, complete)."""
    try:
        doing = request.get("do")
        whole = partial(_whole, request)
        if doing == "prompt":
            frame = whole("frame", 0)
            if frame >= video.frames:
                raise ValueError(f"there is no frame {frame}; the video has {video.frames}")
            extra = request.get("extra")
            if not isinstance(extra, dict | None):
                raise ValueError("extra is not an object")
            content = _content(request, video.size)
            return prompt_edits.set_prompt(record, items, frame, whole("object_id", 1), content, extra)
        if doing == "label":
            label = request.get("label")
            label = None if label is None else as_label(label)
            return prompt_edits.set_label(record, items, whole("object_id", 1), label)
        if doing == "id":
            return prompt_edits.change_id(record, items, whole("object_id", 1), whole("to", 1), video.size)
        if doing == "object":
            return prompt_edits.remove_object(record, items, whole("object_id", 1))
        if doing == "record":
            return prompt_edits.remove_record(record, items, whole("position", 0))
        if doing == "complete":
            return prompt_edits.set_complete(record, items, whole("frame", 0), request.get("complete") is True)
        raise ValueError("it does not say what to do")
    except Wrong as wrong:
        raise Refused(400, wrong.reason, wrong.remedy) from wrong
    except (ValueError, TypeError) as error:
        raise Refused(400, str(error)) from error


def _content(request: Mapping[str, Any], size: tuple[int, int]) -> dict[str, Any] | None:
    given = [name for name in ("counts", "box", "points") if request.get(name) is not None]
    if not given:
        return None
    if len(given) > 1:
        raise ValueError(f"a prompt is one thing, not {' and '.join(given)}")
    if given == ["counts"]:
        return rle_record(request["counts"], size)
    if given == ["points"]:
        return {"points": [list(point) for point in as_points(request["points"])]}
    box = [round(float(value), 2) for value in request["box"]]
    check_box(tuple(box))
    if box[0] >= size[1] or box[1] >= size[0]:
        raise ValueError("the box lies right of or below the frame")
    return {"box": [int(value) if value == int(value) else value for value in box]}


def _whole(request: Mapping[str, Any], name: str, lowest: int) -> int:
    if name not in request:
        raise ValueError(f"it does not say which {name}")
    return as_whole(request[name], lowest, f"{name} begins there")


def _range_end(record: Mapping[str, Any], name: str) -> int | None:
    value = record.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


@contextmanager
def _refusing():
    """What others raise, as answers."""
    try:
        yield
    except Conflict as error:
        raise Refused(409, str(error), "the page shows the newer state; make your edit again", "conflict") from error
    except Gone as error:
        raise Refused(404, str(error), "reload the page") from error
    except ManifestError as error:
        told = "; ".join(map(str, error.problems[:FEW]))
        raise Refused(
            503, f"{error.name} cannot be read as it is on disk now, nothing was saved: {told}", "", "manifest"
        ) from error
    except FileNotFoundError as error:
        raise Refused(422, str(error), "put the file back, or correct the manifest", "missing") from error
    except PermissionError as error:
        raise Refused(422, str(error), "give this program access to the file", "permission") from error
    except OSError as error:
        raise Refused(503, str(error), "look at the disk and the network, then try again", "storage") from error
