"""Offline segmentation: the memory sees the whole video first, then the video is segmented in order.

1. `memorise_prompts`: given masks are pinned, boxes seed.
2. `burn_in`: frames in a random order are segmented with the bank as it is and memorised.
3. `final_pass`: in order, the bank frozen, with a ring of recent frames. Frames come in groups on a grid anchored at
   the first frame; all frames of a group read the same memory, and the ring advances once per group. At every multiple
   of `segment_frames` the ring is rebuilt from the few frames before it, so that a segment's masks do not depend on
   whether the segments before it were computed in the same run.
A causal run (`burn_in_passes` 0) replaces 1 to 3 by `causal_pass`.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from stcn_core.admission import confidence
from stcn_core.bank_file import load_bank, save_bank
from stcn_core.behind import behind
from stcn_core.gate import Gate, stages, surest
from stcn_core.host_copy import HostCopy
from stcn_core.labels import begin_labels
from stcn_core.masks import MaskScores, ObjectMask, frame_masks
from stcn_core.match import MatchMaps
from stcn_core.memory import MemoryBank
from stcn_core.online import OnlineSegmenter
from stcn_core.prompts import FramePrompts, PromptError, PromptSet, shrink_mask
from stcn_core.propagation import EncodedFrames, Propagation
from stcn_core.score import FrameScores, score_frames
from stcn_core.settings import OfflineSettings

Picture = tuple[int, np.ndarray]  # frame number, uint8 RGB [h, w, 3] of the working size
# Frame number, its labels and their scores, and the objects' other scores: to be waited for.
Labelled = tuple[int, HostCopy, Callable[[], list[MaskScores]]]
NOTHING = FramePrompts()


@dataclass(frozen=True)
class Prediction:
    """One frame before the decision: aggregated probabilities [1 + K, h, w] of the working size, and the objects'
    scores, which may have to be waited for."""

    frame: int
    probabilities: Tensor
    scores: Callable[[], list[MaskScores]]


class OfflineSegmenter:
    """One video's way through the three steps.

    source is the (height, width) of the masks to be written; size that of the pictures. visited is how many frames
    the burn-in will visit, so that a short video does not pay for a large bank.
    """

    def __init__(
        self,
        propagation: Propagation,
        settings: OfflineSettings,
        prompts: PromptSet,
        *,
        source: tuple[int, int],
        size: tuple[int, int],
        video_id: str,
        visited: int | None = None,
    ) -> None:
        if propagation.regions != settings.region_decoding:
            raise ValueError(f"region_decoding is {settings.region_decoding}, the propagation's {propagation.regions}")
        self.propagation, self.settings, self.prompts = propagation, settings, prompts
        self.source, self.size = source, size
        self.video_id = video_id
        self.positions = {object_id: k for k, object_id in enumerate(prompts.object_ids)}
        config = propagation.network.config
        self._everyone = [True] * len(self.positions)
        self.batch = settings.group_frames  # frames per call of the network; halved when the device is full
        # Masks are encoded while a device computes the next group; a CPU has nothing to do meanwhile.
        self.late = settings.group_frames if propagation.device.type != "cpu" else 0
        self.gate = Gate(propagation, settings, len(self.positions)) if settings.gates else None
        self.memory = None
        if settings.burn_in_passes:
            self.memory = MemoryBank(
                settings,
                propagation.grid,
                len(self.positions),
                config.key_dim,
                propagation.value_dim,
                pinned=sum(bool(here.given) + bool(here.seeds) for here in prompts.frames.values()),
                bank=visited,
                name=video_id,
                device=propagation.device,
            )

    def memorise_prompts(self, picture: Callable[[int], np.ndarray]) -> None:
        """picture(frame) gives each prompted frame at the working size.

        Raises PromptError where, unpinned, the prompts of one object have already pushed out those of another.
        """
        for frame, here in self.prompts.frames.items():
            encoded = self.propagation.encode([frame], [picture(frame)])
            masks = self._small({**here.seeds, **here.given})
            full = np.zeros((len(self.positions), *self.size), np.uint8)
            full[list(masks)] = np.stack(list(masks.values()))
            values = self.propagation.value(encoded, self.propagation.given(full))
            absent = [not mask.any() for mask in full]
            keep = partial(self.memory.pin, absent=absent) if self.settings.pin_prompts else self.memory.memorise_given
            if self.gate is not None:
                self.gate.add_given(encoded, full, [self.positions[i] for i in here.given])
            for ids, put in ((here.given, keep), (here.seeds, self.memory.seed)):
                if ids:
                    put(frame, encoded.features.key[0], values, [i in ids for i in self.prompts.object_ids])
        lost = [i for i, known in zip(self.prompts.object_ids, self.memory.known(), strict=True) if not known]
        if lost:
            raise PromptError(
                f"object {lost[0]}: its given masks do not fit into a bank of {self.memory.capacity} frames beside the "
                "other prompts: give a larger --memory-frames, or --pin-prompts"
            )

    def burn_in(self, order: Iterable[int], picture: Callable[[int], np.ndarray]) -> Iterator[int]:
        """Visits the frames in that order; yields each when it is done. At the end the seeds are dropped of all objects
        that the memory finds again without them.

        A gate (stcn_core/gate.py) may change the order and visit frames again.
        """
        visited = 0
        for stage in stages(list(order), self.settings, self.prompts.shown_frames, self.video_id):
            if stage.restart:
                self.memory.keep_bank(surest(self.gate.certain, self.memory.bank_frames()))
            for frame in self.memory.bank_frames() if stage.frames is None else stage.frames:
                if self.settings.pin_prompts and self.prompts.frames.get(frame, NOTHING).given:
                    continue  # pinned already: a frame holds one slot
                visited += 1
                self._visit(frame, picture, stage.rehearsal)
                yield frame
            if stage.rehearsal:
                self.memory.keep_bank(())
        if visited:
            for frame, here in self.prompts.frames.items():
                if here.seeds:
                    self.memory.settle_seed(frame, self._lost(frame, picture, self._small(here.seeds)))

    def _lost(self, frame: int, picture: Callable[[int], np.ndarray], guesses: Mapping[int, np.ndarray]) -> list[int]:
        """Which of the guessed masks (position -> uint8 [h, w]) the memory does not find again on their frame without
        them: an object that is seen for seconds of an hour may be on none of the frames that were visited. Seeds that
        are still to be judged do not vouch for each other."""
        seeds = self.memory.seeds()
        known = self.memory.known_without(seeds)
        asked = {k: mask for k, mask in guesses.items() if known[k]}
        found = set()
        if asked:
            encoded = self.propagation.encode([frame], [picture(frame)])
            found = self.propagation.finds(encoded, self.memory, range(len(self.positions)), asked, seeds)
        return [k for k in guesses if k not in found]

    def _visit(self, frame: int, picture: Callable[[int], np.ndarray], rehearsal: bool) -> None:
        position = self.memory.admit(frame)
        if position is None and not rehearsal:
            return  # only frames that will be memorised are computed
        encoded = self.propagation.encode([frame], [picture(frame)])
        probabilities = self.propagation.segment(encoded, self.memory, range(len(self.positions)))
        if not self._sure(probabilities[0]):
            if position is not None:
                self.memory.withdraw(frame)
            return
        key, values = encoded.features.key[0], self.propagation.value(encoded, probabilities[0, 1:])
        known = self._everyone
        if rehearsal:
            self.gate.note(frame, probabilities[0])
        elif self.gate is not None:
            known = self.gate.trusted(frame, key, values, probabilities[0])
        if position is None:
            return  # of a rehearsal, which notes every frame: another order may keep it
        if any(known):
            self.memory.memorise(position, frame, key, values, known)
        else:
            self.memory.withdraw(frame)

    def _sure(self, probabilities: Tensor) -> bool:
        """Whether these [1 + K, H, W] pass the confidence gate."""
        gate = self.settings.confidence_gate
        return not gate or confidence(self.propagation.unpad(probabilities)) >= gate

    @property
    def ring_frames(self) -> int:
        """How many frames before a segment its ring is rebuilt from (fewer at the video's start)."""
        return self.settings.recent_frames * self.settings.group_frames

    def final_pass(
        self, pictures: Iterable[Picture], before: Iterable[Picture] = ()
    ) -> Iterator[tuple[int, list[ObjectMask]]]:
        """All frames in order -> their masks in order.

        A run that begins at a later segment (a multiple of `segment_frames` into the video) gives the last
        `ring_frames` frames before it, and gets the masks that the whole run would have made.
        """
        yield from self._masks(self.final_predictions(pictures, before))

    def final_predictions(self, pictures: Iterable[Picture], before: Iterable[Picture] = ()) -> Iterator[Prediction]:
        """The final pass up to the decision."""
        stream, group = iter(pictures), self.settings.group_frames
        last = deque(before, maxlen=self.ring_frames)
        position = 0
        while members := list(islice(stream, group)):
            if position % self.settings.segment_frames == 0:
                self.rebuild_ring(last)
            yield from self._group(members)
            last.extend(members)
            position += len(members)

    def save_bank(self, path: Path) -> None:
        """What the burn-in left, as a file. Raises OSError."""
        save_bank(self.memory, path, self._bank_facts())

    def load_bank(self, path: Path) -> None:
        """In place of `memorise_prompts` and `burn_in`: the final pass of any segment gives the masks that it would
        have given before saving. Raises ValueError where the file is damaged or belongs to another run or video."""
        load_bank(self.memory, path, self._bank_facts())

    def _bank_facts(self) -> dict[str, object]:
        if self.memory is None:
            raise ValueError("a causal run (--burn-in-passes 0) has no bank to save or load")
        return {"video": self.video_id, "object ids": list(self.prompts.object_ids), "working size": list(self.size)}

    def rebuild_ring(self, before: Iterable[Picture]) -> None:
        """Fills the ring from the last frame of each group before a segment's first frame; empty at the start."""
        self.memory.clear_recent()
        group = self.settings.group_frames
        for frame, picture in list(before)[group - 1 :: group] if self.settings.recent_frames else ():
            encoded = self.propagation.encode([frame], [picture])
            self._advance(encoded, self.propagation.segment(encoded, self.memory, range(len(self.positions))))

    def causal_pass(self, pictures: Iterable[Picture]) -> Iterator[tuple[int, list[ObjectMask]]]:
        """Frame by frame: objects begin where they are prompted, and nothing later is known."""
        yield from self._masks(self.causal_predictions(pictures))

    def causal_predictions(self, pictures: Iterable[Picture]) -> Iterator[Prediction]:
        """The causal pass up to the decision, as `final_predictions`."""
        online = OnlineSegmenter(
            self.propagation,
            self.settings,
            len(self.positions),
            name=self.video_id,
            prompts=len(self.prompts.frames),
        )
        for frame, picture in pictures:
            here = self.prompts.frames.get(frame, NOTHING)
            probabilities = online.step(frame, picture, self._small(here.given), self._small(here.seeds))
            padding = self.propagation.padding
            scores = score_frames(padding.add(probabilities)[None], padding, online.match)
            yield Prediction(frame, probabilities, partial(scores.__getitem__, 0))

    def _group(self, members: list[Picture]) -> Iterator[Prediction]:
        """A group in micro-batches that all read the same memory; only then does the ring advance.

        Where the device has too little memory for the batch it is halved, here and for the rest of the video.
        """
        done = 0
        while done < len(members):
            part = members[done : done + self.batch]
            probabilities = None
            try:
                encoded = self.propagation.encode([frame for frame, _ in part], [picture for _, picture in part])
                probabilities, scores = self._segment(encoded)
            except torch.OutOfMemoryError:
                if self.batch == 1:
                    raise
                self.batch = (self.batch + 1) // 2
            if probabilities is None:  # not above: there the error still holds what the attempt made
                encoded = None
                torch.cuda.empty_cache()
                continue
            done += len(part)
            for index, (frame, _) in enumerate(part):
                found = self.propagation.unpad(probabilities[index])
                yield Prediction(frame, found, partial(scores.__getitem__, index))
        if len(members) == self.settings.group_frames:
            self._advance(encoded[len(part) - 1], probabilities[-1:])

    def _segment(self, encoded: EncodedFrames) -> tuple[Tensor, FrameScores]:
        """Probabilities [B, 1 + K, H, W] and the objects' scores on each frame."""
        objects = range(len(self.positions))
        match = MatchMaps.unread(len(encoded.frames), len(objects), self.memory.tokens, self.propagation.device)
        probabilities = self.propagation.segment(encoded, self.memory, objects, match)
        second = None
        if self.settings.second_opinion:
            second = self.propagation.segment(encoded, self.memory, objects, without=self.memory.second_half())
        return probabilities, score_frames(probabilities, self.propagation.padding, match, second)

    def _advance(self, encoded: EncodedFrames, probabilities: Tensor) -> None:
        """Puts one frame into the ring, unless it is pinned and so remembered anyway."""
        frame = encoded.frames[0]
        pinned = self.settings.pin_prompts and self.prompts.frames.get(frame, NOTHING).given
        if self.settings.recent_frames and not pinned:
            values = self.propagation.value(encoded, probabilities[0, 1:])
            self.memory.remember_recent(frame, encoded.features.key[0], values, self._everyone)

    def _masks(self, predictions: Iterable[Prediction]) -> Iterator[tuple[int, list[ObjectMask]]]:
        return behind(map(self._labelled, predictions), partial(decided, self.prompts), self.late)

    def _labelled(self, prediction: Prediction) -> Labelled:
        """Begins what the device does for the decision, behind what it did for the prediction."""
        with torch.inference_mode():
            labels = begin_labels(prediction.probabilities, self.source)
        return prediction.frame, labels, prediction.scores

    def _small(self, masks: Mapping[int, np.ndarray]) -> dict[int, np.ndarray]:
        """By object id at the source's size -> by position at the working size."""
        return {self.positions[i]: shrink_mask(mask, self.size) for i, mask in masks.items()}


def decided(prompts: PromptSet, labelled: Labelled) -> tuple[int, list[ObjectMask]]:
    """The host's part of the decision, in a thread of its own where there is a device. Raises what the scores raise."""
    frame, copy, more = labelled
    labels, scores = copy.arrays()
    given = prompts.frames.get(frame, NOTHING).given
    return frame, frame_masks(labels, scores, prompts.object_ids, given, more())
