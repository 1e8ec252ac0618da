"""What a shard says of each object: sums from which the rows of `tracks` follow, however a video was split."""

from collections.abc import Iterable, Mapping

SCORE_STEPS = 1 << 24  # scores are summed as whole numbers: the same sum in any order, split or not


class TrackTotals:
    """Sums per object over the mask rows of a unit."""

    def __init__(self) -> None:
        self._totals: dict[int, dict] = {}

    def add(self, row: Mapping[str, object]) -> None:
        """One mask row; an object's rows come in frame order."""
        frame, area = row["frame_index"], row["area"]
        total = self._totals.get(row["object_id"])
        if total is None:
            total = self._totals[row["object_id"]] = {"n_visible": 0, "first_frame": frame, "areas": 0, "scores": 0,
                                                      "area_min": area, "area_max": area}  # fmt: skip
        total["n_visible"] += 1
        total["last_frame"] = frame
        total["areas"] += area
        total["scores"] += round(row["score"] * SCORE_STEPS)
        total["area_min"] = min(total["area_min"], area)
        total["area_max"] = max(total["area_max"], area)

    def of(self, object_id: int) -> dict:
        """The object's sums; {} where it is nowhere visible. Plain numbers, for JSON."""
        return dict(self._totals.get(object_id, {}))


def track_row(video_id: str, parts: Iterable[Mapping]) -> dict:
    """One row of `tracks` from an object's record in each of a video's shards, in order of frames."""
    parts = list(parts)
    seen = [part for part in parts if part.get("n_visible")]
    visible = sum(part["n_visible"] for part in seen)
    return {
        "video_id": video_id,
        "object_id": parts[0]["object_id"],
        "label": parts[0]["label"],
        "prompt_frames": parts[0]["prompt_frames"],
        "n_visible": visible,
        "first_frame": seen[0]["first_frame"] if seen else None,
        "last_frame": seen[-1]["last_frame"] if seen else None,
        "area_min": min(part["area_min"] for part in seen) if seen else None,
        "area_max": max(part["area_max"] for part in seen) if seen else None,
        "area_mean": sum(part["areas"] for part in seen) / visible if visible else None,
        "score_mean": sum(part["scores"] for part in seen) / SCORE_STEPS / visible if visible else None,
        **{name: parts[0].get(name) for name in ("found_by", "found_class", "found_score", "found_frame")},
    }
