"""Frame by frame, without seeing the future: STCN's own way, on the same memory and propagation."""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from stcn_core.admission import FrameChange, admission_of, confidence, mask_change
from stcn_core.aggregate import soft_aggregate
from stcn_core.image_change import image_change
from stcn_core.match import MatchMaps
from stcn_core.memory import MemoryBank
from stcn_core.propagation import EncodedFrames, Propagation
from stcn_core.settings import OfflineSettings


class OnlineSegmenter:
    """Feed frames in order with `step`; objects begin where they are first prompted.

    objects is how many there will be in all. Which of the frames fed are memorised, beside the pinned prompts and the
    ring of recent frames, `admission` says (stcn_core/admission.py). On a frame with given masks all objects that have
    begun are pinned, as in STCN's generic protocol: the others' predictions have just yielded to a fact there. STCN's
    published run is `unbounded` with recent_frames 0.
    """

    def __init__(
        self, propagation: Propagation, settings: OfflineSettings, objects: int, *, name: str = "", prompts: int = 1
    ) -> None:
        config = propagation.network.config
        self.propagation = propagation
        self.settings = settings
        self._rule = admission_of(settings)
        self._before: tuple[np.ndarray, Tensor] | None = None  # picture and objects' probabilities of the last step
        self.match: MatchMaps | None = None  # of the frame of the last step, [1, objects, T]
        self.memory = MemoryBank(
            settings,
            propagation.grid,
            objects,
            config.key_dim,
            propagation.value_dim,
            pinned=prompts,
            name=name,
            device=propagation.device,
        )

    @torch.inference_mode()
    def step(
        self,
        frame: int,
        picture: np.ndarray,
        given: Mapping[int, np.ndarray] | None = None,
        seeds: Mapping[int, np.ndarray] | None = None,
    ) -> Tensor:
        """Probabilities [1 + objects, h, w] float32 of one frame; objects not begun yet have zero.

        picture uint8 RGB [h, w, 3]; given and seeds: object position (0-based) -> uint8 mask [h, w]. Where masks
        are given, the other objects' predictions yield to them (STCN's rule for late objects). Seeds (boxes) only start
        their objects: the masks of this frame are predicted.
        """
        given, seeds = dict(given or {}), dict(seeds or {})
        encoded = self.propagation.encode([frame], [picture])
        prompted = bool(given or seeds)
        if given and not self.settings.pin_prompts:
            self._memorise_given(encoded, given)
            given = {}
        if seeds:
            self._seed(encoded, {**seeds, **given}, seeds)
        active = [k for k, known in enumerate(self.memory.known()) if known and k not in given]
        full = torch.zeros(self.memory.objects, *self.propagation.padded_size, device=self.propagation.device)
        self.match = MatchMaps.unread(1, self.memory.objects, self.memory.tokens, self.propagation.device)
        if active:
            found = MatchMaps.unread(1, len(active), self.memory.tokens, self.propagation.device)
            segmented = self.propagation.segment(encoded, self.memory, active, found)[0, 1:]
            for n, k in enumerate(active):  # a list as an index would be copied to the device, and waited for
                full[k] = segmented[n]
                self.match.entropy[:, k], self.match.distance[:, k] = found.entropy[:, n], found.distance[:, n]
        if given:
            padded = self._padded(given)
            full[:, padded.any(0)] = 0
            full[list(given)] = padded
            begun = sorted({*active, *given})  # the others stay exactly zero
            full[begun] = soft_aggregate(full[begun])[1:]
        change = self._change(picture, full)
        wanted = self._rule.wants(change, len({*active, *given}), prompted)
        self._memorise(encoded, full, given, active, wanted)
        background = (1 - full.sum(0, keepdim=True)).clamp(min=0)
        return self.propagation.unpad(torch.cat((background, full)))

    def _padded(self, masks: Mapping[int, np.ndarray]) -> Tensor:
        """uint8 masks [h, w] -> float [len(masks), H, W]."""
        stack = torch.stack([torch.as_tensor(mask) for mask in masks.values()])
        return self.propagation.padding.add(stack.to(self.propagation.device).float())

    def _seed(self, encoded: EncodedFrames, told: Mapping[int, np.ndarray], seeds: Mapping[int, np.ndarray]) -> None:
        """Boxes start their objects, and stay in memory. Where the memory does not find an object without its box, the
        box is read on its own frame too; where it does, that would only give back the filled box."""
        found = self._found_again(encoded, seeds)
        full = torch.zeros(self.memory.objects, *self.propagation.padded_size, device=self.propagation.device)
        full[list(told)] = self._padded(told)
        key, values = encoded.features.key[0], self.propagation.value(encoded, soft_aggregate(full)[1:])
        for put, ids in ((self.memory.seed, found), (self.memory.pin_guess, seeds.keys() - found)):
            if ids:
                put(encoded.frames[0], key, values, [k in ids for k in range(self.memory.objects)])

    def _found_again(self, encoded: EncodedFrames, seeds: Mapping[int, np.ndarray]) -> set[int]:
        """Those of the objects that the memory finds where their boxes are."""
        known = [k for k, begun in enumerate(self.memory.known()) if begun]
        if not seeds.keys() & set(known):
            return set()
        return self.propagation.finds(encoded, self.memory, known, seeds)

    def _memorise_given(self, encoded: EncodedFrames, given: Mapping[int, np.ndarray]) -> None:
        """stcnbuf: the given masks go into the bank, and this frame too is predicted."""
        full = torch.zeros(self.memory.objects, *self.propagation.padded_size, device=self.propagation.device)
        full[list(given)] = self._padded(given)
        values = self.propagation.value(encoded, soft_aggregate(full)[1:])
        valid = [k in given for k in range(self.memory.objects)]
        self.memory.memorise_given(encoded.frames[0], encoded.features.key[0], values, valid)

    def _change(self, picture: np.ndarray, full: Tensor) -> FrameChange:
        if self.settings.admission != "adaptive":
            return FrameChange(0.0, 0.0)
        before, self._before = self._before, (picture, full)
        if before is None:
            return FrameChange(0.0, 0.0)
        return FrameChange(image_change(picture, before[0]), mask_change(full, before[1]))

    def _memorise(self, encoded: EncodedFrames, full: Tensor, given: Mapping, active: list[int], wanted: bool) -> None:
        frame, objects = encoded.frames[0], range(self.memory.objects)
        known = [k in active or k in given for k in objects]
        if not any(known) or not (given or wanted or self.settings.recent_frames):
            return
        if not given and self.settings.confidence_gate and not self._sure(full):
            return
        position = self.memory.admit(frame) if wanted and not given else None
        if not given and position is None and not self.settings.recent_frames:
            return  # a reservoir has turned it away, and there is no ring
        key, values = encoded.features.key[0], self.propagation.value(encoded, full)
        if given:
            for put, ids in ((self.memory.pin, given.keys()), (self.memory.pin_guess, set(active) - given.keys())):
                if ids:
                    put(frame, key, values, [k in ids for k in objects])
        elif position is not None:
            self.memory.memorise(position, frame, key, values, known)
        else:  # also what a reservoir turns away
            self.memory.remember_recent(frame, key, values, known)
        if self.settings.include_last and (given or position is not None):
            self.memory.clear_recent()  # this frame is the previous one, and kept

    def _sure(self, full: Tensor) -> bool:
        background = (1 - full.sum(0, keepdim=True)).clamp(min=0)
        certain = confidence(self.propagation.unpad(torch.cat((background, full))))
        return certain >= self.settings.confidence_gate
