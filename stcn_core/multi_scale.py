"""Multi-scale and flip testing (STCN's branch ms): several runs of one video, their probabilities averaged.

Every run has a size, a memory and, if asked for, a mirrored view of its own; they share the network. Before the
decision each frame's probabilities are brought to the source's size and averaged there, frame by frame, so that nothing
grows with the video. Each run sees its own predictions only, as in the branch, which averages finished runs.
"""

import io
import tarfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from itertools import tee, zip_longest
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from stcn_core.behind import behind
from stcn_core.labels import begin_labels
from stcn_core.masks import MaskScores, ObjectMask
from stcn_core.offline import Labelled, OfflineSegmenter, Picture, Prediction, decided
from stcn_core.prompts import FramePrompts, PromptSet
from stcn_core.propagation import Propagation
from stcn_core.settings import OfflineSettings, Scale, parse_scales


@dataclass(frozen=True)
class _Run:
    """One of the runs that are averaged."""

    segmenter: OfflineSegmenter
    mirrored: bool

    def view(self, picture: np.ndarray) -> np.ndarray:
        """uint8 [h, w, 3] of any size -> as this run sees it."""
        height, width = self.segmenter.size
        if picture.shape[:2] != (height, width):
            picture = np.asarray(Image.fromarray(picture).resize((width, height), Image.Resampling.BICUBIC))
        return picture[:, ::-1].copy() if self.mirrored else picture

    def views(self, pictures: Iterable[Picture]) -> Iterator[Picture]:
        for frame, picture in pictures:
            yield frame, self.view(picture)


class MultiScaleSegmenter:
    """Takes the place of one OfflineSegmenter, with the same calls.

    settings.scales and settings.flip say which runs there are; without scales all are at the pictures' own size.
    propagation_of makes a Propagation for frames of a size (h, w). source (H, W) is the size of the masks, size (h, w)
    that of the pictures that are given.
    """

    def __init__(
        self,
        propagation_of: Callable[[tuple[int, int]], Propagation],
        settings: OfflineSettings,
        prompts: PromptSet,
        *,
        source: tuple[int, int],
        size: tuple[int, int],
        video_id: str,
        visited: int | None = None,
    ) -> None:
        self.settings, self.prompts, self.source = settings, prompts, source
        plain = replace(settings, scales="", flip=False)
        scales = parse_scales(settings.scales)
        shapes = [(scaled_size(source, scale), scale.kernel_sigma) for scale in scales] or [(size, 0.0)]
        self.runs: list[_Run] = []
        for shape, sigma in shapes:
            own = replace(plain, kernel_sigma=sigma or settings.kernel_sigma)
            for mirrored in (False, True) if settings.flip else (False,):
                self.runs.append(
                    _Run(
                        OfflineSegmenter(
                            propagation_of(shape),
                            own,
                            _mirrored(prompts) if mirrored else prompts,
                            source=source,
                            size=shape,
                            video_id=video_id,
                            visited=visited,
                        ),
                        mirrored,
                    )
                )

    @property
    def late(self) -> int:
        """As of each run."""
        return self.runs[0].segmenter.late

    @property
    def ring_frames(self) -> int:
        """As of each run."""
        return self.runs[0].segmenter.ring_frames

    def memorise_prompts(self, picture: Callable[[int], np.ndarray]) -> None:
        """picture(frame) gives each prompted frame."""
        for run in self.runs:
            run.segmenter.memorise_prompts(_viewed(run, picture))

    def burn_in(self, order: Iterable[int], picture: Callable[[int], np.ndarray]) -> Iterator[int]:
        """Visits the frames in that order, in all runs; yields each when it is done."""
        orders = tee(order, len(self.runs))
        passes = [
            run.segmenter.burn_in(numbers, _viewed(run, picture))
            for run, numbers in zip(self.runs, orders, strict=True)
        ]
        # Runs may visit frames that others do not: a gate judges each run's own masks.
        for visited in zip_longest(*passes):
            yield next(frame for frame in visited if frame is not None)

    def final_pass(
        self, pictures: Iterable[Picture], before: Iterable[Picture] = ()
    ) -> Iterator[tuple[int, list[ObjectMask]]]:
        """All frames in order -> their masks in order, as OfflineSegmenter's."""
        before = list(before)
        streams = tee(pictures, len(self.runs))
        predictions = [
            run.segmenter.final_predictions(run.views(stream), list(run.views(before)))
            for run, stream in zip(self.runs, streams, strict=True)
        ]
        return self._masks(predictions)

    def causal_pass(self, pictures: Iterable[Picture]) -> Iterator[tuple[int, list[ObjectMask]]]:
        """Frame by frame, as OfflineSegmenter's."""
        streams = tee(pictures, len(self.runs))
        predictions = [
            run.segmenter.causal_predictions(run.views(stream)) for run, stream in zip(self.runs, streams, strict=True)
        ]
        return self._masks(predictions)

    def save_bank(self, path: Path) -> None:
        """The runs' banks in one tar file. Raises OSError."""
        with tarfile.open(path, "w") as archive:
            for number, run in enumerate(self.runs):
                part = path.with_name(f"{path.name}.{number}")
                run.segmenter.save_bank(part)
                archive.add(part, arcname=str(number))
                part.unlink()

    def load_bank(self, path: Path) -> None:
        """What `save_bank` wrote. Raises ValueError that says what is wrong with the file, OSError."""
        try:
            with tarfile.open(path) as archive:
                for number, run in enumerate(self.runs):
                    part = path.with_name(f"{path.name}.{number}")
                    try:
                        with archive.extractfile(str(number)) as source, part.open("wb") as target:
                            while block := source.read(io.DEFAULT_BUFFER_SIZE * 64):
                                target.write(block)
                        run.segmenter.load_bank(part)
                    finally:
                        part.unlink(missing_ok=True)
        except (tarfile.TarError, KeyError, EOFError) as error:
            raise ValueError(f"{path} is no whole archive of {len(self.runs)} banks ({error}): do it again") from error

    def _masks(self, predictions: list[Iterator[Prediction]]) -> Iterator[tuple[int, list[ObjectMask]]]:
        labelled = map(self._labelled, zip(*predictions, strict=True))
        return behind(labelled, partial(decided, self.prompts), self.late)

    def _labelled(self, results: tuple[Prediction, ...]) -> Labelled:
        """All runs' predictions of one frame, averaged; as OfflineSegmenter's."""
        with torch.inference_mode():
            total: Tensor | None = None
            for run, result in zip(self.runs, results, strict=True):
                probabilities = result.probabilities.flip(-1) if run.mirrored else result.probabilities
                enlarged = _at_size(probabilities, self.source)
                total = enlarged if total is None else total + enlarged
            labels = begin_labels(total / len(self.runs), self.source)
        return results[0].frame, labels, partial(_averaged, [result.scores for result in results])


def scaled_size(source: tuple[int, int], scale: Scale) -> tuple[int, int]:
    """(h, w) with the scale's shorter side; the other is rounded. Small videos are enlarged."""
    shorter = min(source)
    return tuple(max(1, (2 * side * scale.resolution + shorter) // (2 * shorter)) for side in source)


def _viewed(run: _Run, picture: Callable[[int], np.ndarray]) -> Callable[[int], np.ndarray]:
    return lambda frame: run.view(picture(frame))


def _mirrored(prompts: PromptSet) -> PromptSet:
    frames = {
        frame: FramePrompts(*({number: mask[:, ::-1].copy() for number, mask in masks.items()} for masks in both))
        for frame, both in ((frame, (here.given, here.seeds)) for frame, here in prompts.frames.items())
    }
    return PromptSet(prompts.object_ids, frames)


def _at_size(probabilities: Tensor, size: tuple[int, int]) -> Tensor:
    """[1 + K, h, w] -> [1 + K, H, W]."""
    if tuple(probabilities.shape[-2:]) == tuple(size):
        return probabilities.clone()
    return F.interpolate(probabilities[None], size, mode="bilinear", align_corners=False)[0]


def _averaged(runs: Sequence[Callable[[], list[MaskScores]]]) -> list[MaskScores]:
    """The objects' scores in each run -> their means."""
    return [_mean(known) for known in zip(*(scores() for scores in runs), strict=True)]


def _mean(scores: tuple[MaskScores, ...]) -> MaskScores:
    """Each score as the mean of the runs that know it."""
    found = {}
    for field in fields(MaskScores):
        known = [value for value in (getattr(one, field.name) for one in scores) if value is not None]
        found[field.name] = sum(known) / len(known) if known else None
    return MaskScores(**found)
