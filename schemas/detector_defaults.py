"""What a run says about detectors, for the prompts that leave it open."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from schemas.prompt import Prompt
from schemas.video_row import VideoRow

USUAL = "mask-rcnn"


@dataclass(frozen=True)
class DetectorDefaults:
    """The command line's choice; None: left open. Names and meanings are those of `Prompt`.

    detector also serves rows without prompts, which it then has to find the objects of; match_given: masks and boxes
    only say which of its detections are meant.
    """

    detector: str | None = None
    classes: tuple[str, ...] | None = None
    min_score: float | None = None
    max_objects: int | None = None
    matching: str | None = None
    frames: tuple[int, ...] | None = None
    candidates: int | None = None
    match_given: bool = False

    def fill(self, row: VideoRow) -> VideoRow:
        """The row with every detector named and every setting that was left open taken from here."""
        if not row.prompts and self.detector is not None:
            return replace(row, prompts=(self._complete(Prompt(detector=self.detector)),))
        return replace(row, prompts=tuple(self._complete(prompt) for prompt in row.prompts))

    def _complete(self, prompt: Prompt) -> Prompt:
        given = prompt.mask is not None or prompt.box is not None
        if self.match_given and given and prompt.detector is None:
            prompt = replace(prompt, detector=self.detector)
        if not prompt.detects:
            return prompt
        values: dict[str, object] = {"detector": prompt.detector or self.detector or USUAL}
        names = ["classes", "min_score"]
        names += ["max_objects"] if prompt.finds else ["matching"] if prompt.points is None else []
        values |= {name: getattr(prompt, name) if getattr(prompt, name) is not None else getattr(self, name)
                   for name in names}  # fmt: skip
        placed = (prompt.frame, prompt.time_s, prompt.frames, prompt.candidates)
        if prompt.finds and all(place is None for place in placed):
            values |= {"frames": self.frames, "candidates": self.candidates}
        return replace(prompt, **values)


def needed_detectors(rows: Sequence[VideoRow]) -> dict[str, set[str]]:
    """Name of each detector that the rows' prompts name -> the classes that they ask it for."""
    needed: dict[str, set[str]] = {}
    for row in rows:
        for prompt in row.prompts:
            if prompt.detector is not None:
                needed.setdefault(prompt.detector, set()).update(prompt.classes or ())
    return needed


def with_weights(rows: Sequence[VideoRow], sha256: Mapping[str, str]) -> list[VideoRow]:
    """The rows with the SHA-256 of each detector's weights in the prompts that use it.

    Raises ValueError where a row asks for other weights.
    """
    filled = []
    for row in rows:
        prompts = []
        for prompt in row.prompts:
            if prompt.detector is not None:
                ours = sha256[prompt.detector]
                if prompt.detector_sha256 not in (None, ours):
                    raise ValueError(
                        f"row {row.row} ({row.video_id}) wants weights {prompt.detector_sha256[:12]} of "
                        f"{prompt.detector}, but --detector-weights has {ours[:12]}"
                    )
                prompt = replace(prompt, detector_sha256=ours)
            prompts.append(prompt)
        filled.append(replace(row, prompts=tuple(prompts)))
    return filled
