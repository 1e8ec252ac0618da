"""STCN_evaluation's tables: STCN itself (T1), first frames by detectors (T2), boxes of Something-Else (T3)."""

from collections.abc import Mapping, Sequence
from typing import Any

from jobs.protocols.davis import LAYOUT
from jobs.protocols.protocol import Protocol, Published, TruthPlace, VideoTruth, mean_over_objects
from jobs.protocols.something_else import box_masks, read_boxes
from schemas.urls import public_url

REPORT = "STCN_evaluation"
COLUMNS = ("J&F", "J", "F", "FPS")


def _row(system: str, scores: tuple[float, float, float, float], source: str = REPORT) -> Published:
    return Published(system, dict(zip(COLUMNS, scores, strict=True)), source)


def find_boxes(place: TruthPlace, video: Mapping[str, Any]) -> VideoTruth | None:
    """Filled boxes of Something-Else as true masks. Raises ValueError, OSError."""
    frames = read_boxes(place.url, place.options).get(video["video_id"])
    if not frames:
        return None
    size = (video["height"], video["width"])
    return VideoTruth(
        by="number",
        example=public_url(place.url),
        frames=tuple(sorted(frames.items())),
        read=lambda boxes: box_masks(boxes, size),
    )


def row(videos: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Means over objects, and frames per second of the final passes where every video says how long its took."""
    scores = mean_over_objects(videos)
    seconds = [video["seconds_final"] for video in videos]
    if all(seconds):
        scores["FPS"] = sum(video["frames_annotated"] for video in videos) / sum(seconds)
    return scores


T1 = Protocol(
    "stcn-evaluation-t1",
    "DAVIS 2017 val",
    LAYOUT
    + ". Make the masks with jobs.manifest davis --split val.txt, jobs.annotate --preset stcn --checkpoint stcn.pth.",
    columns=COLUMNS,
    first_objects=True,
    row=row,
    published=(
        _row("STCN", (85.3, 82.0, 88.6, 20.2), "STCN paper"),
        _row("STCN, again", (85.3, 82.0, 88.6, 16.9)),
    ),
    note="FPS: annotated frames in all by the seconds of the final passes, on what machine ever; GPUs differ.",
)
T2 = Protocol(
    "stcn-evaluation-t2",
    "DAVIS 2017, first frame by",
    LAYOUT + ". Make the masks as for stcn-evaluation-t1 and with --detector NAME --detector-weights FILE "
    "--detector-matching nearest: each true first mask's box then chooses a detection (without --detector: the row "
    "GT). For LOST: --manifest JPEGIMAGES --detector lost-crf --detector-frames 0 instead of that manifest.",
    columns=COLUMNS,
    first_objects=True,
    row=row,
    published=(
        _row("GT", (85.3, 82.0, 88.6, 16.9)),
        _row("Mask R-CNN", (69.9, 67.9, 72.0, 17.0)),
        _row("PointRend", (71.1, 68.6, 73.6, 14.9)),
        _row("LOST+CRF", (25.7, 23.9, 27.6, 19.9)),
    ),
    note="LOST finds one object per video: all further true objects score about 0.",
)
T3 = Protocol(
    "stcn-evaluation-t3",
    "Something-Else, boxes",
    "--truth is the JSON of boxes (a file, not a folder). Make the masks with jobs.annotate --manifest VIDEOS "
    "--prompt-boxes JSON, and --detector NAME --detector-weights FILE --detector-matching nearest for the rows by "
    "detector (without: the row GT boxes; for LOST: --detector lost --detector-frames 0 without --prompt-boxes). "
    "--video-id names the 13 videos, if the folder has more.",
    columns=COLUMNS,
    first_objects=True,
    row=row,
    find=find_boxes,
    published=(
        _row("GT boxes", (41.4, 53.0, 29.8, 19.3)),
        _row("Mask R-CNN", (29.2, 39.7, 18.8, 25.8)),
        _row("PointRend", (27.0, 35.1, 18.9, 23.4)),
        _row("LOST", (17.2, 20.9, 13.5, 28.8)),
    ),
    note="Compared at the video's own size; STCN_evaluation scaled masks to a height of 480, and filled LOST's box.",
)
PROTOCOLS = (T1, T2, T3)
