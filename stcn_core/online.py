"""Frame by frame, without seeing the future: STCN's own way, on the same memory and propagation."""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from stcn_core.aggregate import soft_aggregate
from stcn_core.memory import MemoryBank
from stcn_core.propagation import EncodedFrames, Propagation
from stcn_core.settings import OfflineSettings


class OnlineSegmenter:
    """Feed frames in order with `step`; objects begin where they are first prompted.

    objects is how many there will be in all. Of the frames fed, the first and every `memory_every`-th after it are
    memorised beside the pinned prompts and the ring of recent frames. STCN's published run is `unbounded` with
    recent_frames 0.
    """

    def __init__(
        self, propagation: Propagation, settings: OfflineSettings, objects: int, *, name: str = "", prompts: int = 1
    ) -> None:
        config = propagation.network.config
        self.propagation = propagation
        self.settings = settings
        self._steps = 0
        self.memory = MemoryBank(
            settings,
            propagation.grid,
            objects,
            config.key_dim,
            config.value_dim,
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
        are given, the other objects' predictions yield to them (STCN's rule for late objects).
        """
        given, seeds = dict(given or {}), dict(seeds or {})
        encoded = self.propagation.encode([frame], [picture])
        told = {**seeds, **given}
        active = [k for k, known in enumerate(self.memory.known()) if known and k not in told]
        full = torch.zeros(self.memory.objects, *self.propagation.padded_size, device=self.propagation.device)
        if active:
            full[active] = self.propagation.segment(encoded, self.memory, active)[0, 1:]
        if told:
            masks = torch.stack([torch.as_tensor(mask) for mask in told.values()])
            padded = self.propagation.padding.add(masks.to(full.device).float())
            full[:, padded.any(0)] = 0
            full[list(told)] = padded
            begun = sorted({*active, *told})  # the others stay exactly zero
            full[begun] = soft_aggregate(full[begun])[1:]
        self._memorise(encoded, full, given, seeds, active)
        self._steps += 1
        background = (1 - full.sum(0, keepdim=True)).clamp(min=0)
        return self.propagation.unpad(torch.cat((background, full)))

    def _memorise(self, encoded: EncodedFrames, full: Tensor, given: dict, seeds: dict, active: list[int]) -> None:
        frame, objects = encoded.frames[0], range(self.memory.objects)
        known = [k in active or k in given or k in seeds for k in objects]
        # Counted in frames fed: a stride of 5 would otherwise memorise each of them, or with another start none.
        every = self._steps % self.settings.memory_every == 0
        if not any(known) or not (given or seeds or every or self.settings.recent_frames):
            return
        values = self.propagation.value(encoded, full)
        key = encoded.features.key[0]
        if given:
            self.memory.pin(frame, key, values, [k in given for k in objects])
        if seeds:
            self.memory.seed(frame, key, values, [k in seeds for k in objects])
        if given or seeds:
            return
        if every:
            position = self.memory.admit(frame)
            if position is not None:
                self.memory.memorise(position, frame, key, values, known)
        else:
            self.memory.remember_recent(frame, key, values, known)
