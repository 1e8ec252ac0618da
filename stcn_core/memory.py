"""The memory bank: preallocated keys and values in three parts, pinned | bank | recent.

Invariants. A slot is one frame: its key elements, one value map per object, its frame number and a validity per object
(False = nothing is known of that object there). All slots lie in one tensor, each padded to a multiple of the readout's
block, so that leaving a slot out of a read costs nothing. Pinned slots are never evicted. A frame holds at most one
slot of the bank; a second visit renews it. Unless `exclude_own` is off, a frame never reads its own unpinned slot: its
best match is itself, and it would only read back its own label, right or wrong.
Under `random-token` a bank slot is a mosaic once the bank is full: every element then carries its own frame number.
"""

import math
from collections.abc import Collection, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from stcn_core import readout, readout_all
from stcn_core.bank_layout import EMPTY, MOSAIC, BankLayout, Slot, slot_runs
from stcn_core.eviction import eviction_of, random_tokens
from stcn_core.match import MatchMaps
from stcn_core.mosaic import Mosaic
from stcn_core.score_product import is_exact, pays
from stcn_core.seeds import named_seed
from stcn_core.settings import OfflineSettings

PROMPT_COPY = 1 << 40  # added to the number of a prompted frame in the bank, which no frame of a video has
USUAL_TOP_K = 20
GROWTH = 32  # slots that an unbounded bank starts with; it doubles when they are full


class MemoryBank:
    """Keys [slots, T, Ck + 1] float32 and values [K, slots, T, Cv] for `objects` objects of one video.

    grid is (h, w) at stride 16, pinned the number of frames that may be pinned, bank at most that many frames
    (fewer where the video is shorter). name is part of every random draw's seed (the video's id).
    """

    def __init__(
        self,
        settings: OfflineSettings,
        grid: tuple[int, int],
        objects: int,
        key_dim: int,
        value_dim: int,
        *,
        pinned: int,
        bank: int | None = None,
        name: str = "",
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.settings = settings
        self.objects = objects
        self.grid = grid
        self.tokens = grid[0] * grid[1]
        self.padded = -(-self.tokens // readout.BLOCK) * readout.BLOCK
        self.unbounded = settings.memory_policy == "unbounded"
        self.capacity = max(1, settings.memory_frames if bank is None else min(settings.memory_frames, bank))
        self._device, self._dtype = torch.device(device), dtype
        self.keys = torch.zeros(0, self.padded, key_dim + 1, device=device)
        self.values = torch.zeros(objects, 0, self.padded, value_dim, device=device, dtype=dtype)
        self.slots: list[Slot] = []
        self.inserted = 0
        self._ring = 0
        # Taken off the affinities of predicted slots before they are weighed: [slots], on the device.
        self._handicap = math.log(settings.prompt_weight)
        self._handicaps = torch.zeros(0, device=device)
        self._keys_exact: bool | None = True  # in the half product's type; None: not known
        self._eviction = eviction_of(settings.memory_policy)
        self._draw = np.random.default_rng(named_seed(settings.seed, name, "eviction"))
        self._mosaic = Mosaic(self.padded, self._device) if settings.memory_policy == "random-token" else None
        ring, bank_slots = settings.recent_frames, min(self.capacity, GROWTH) if self.unbounded else self.capacity
        slots = self._grow(pinned + ring + bank_slots)  # at once: growing copies
        self._pinned, self._recent, self._bank = slots[:pinned], slots[pinned : pinned + ring], slots[pinned + ring :]

    def bank_frames(self) -> list[int]:
        """The frames in the bank, by slot."""
        return [self.slots[index].frame for index in self._bank if self.slots[index].frame != EMPTY]

    def second_half(self) -> frozenset[int]:
        """What a second opinion does without: the ring, and every other slot of the bank. Given masks stay."""
        return frozenset((*self._recent, *self._bank[1::2]))

    def pinned_frames(self) -> list[int]:
        """The frames that are never evicted."""
        return [slot.frame for slot in self.slots if slot.pinned]

    def pin(self, frame: int, key: Tensor, values: Tensor, valid: Sequence[bool], absent: Sequence[bool] = ()) -> None:
        """A frame with given masks, never evicted. key [Ck, h, w], values [K, Cv, h, w]. absent: objects of which the
        frame says that they are not there (the others may be)."""
        self._put_pinned(Slot(frame, True, tuple(valid), tuple(absent), True), key, values)

    def pin_guess(self, frame: int, key: Tensor, values: Tensor, valid: Sequence[bool]) -> None:
        """As `pin`, but with masks that were not given: they stay, and weigh no more than any predicted ones."""
        self._put_pinned(Slot(frame, True, tuple(valid)), key, values)

    def memorise_given(self, frame: int, key: Tensor, values: Tensor, valid: Sequence[bool]) -> None:
        """A prompted frame as stcnbuf keeps it: in the bank, to be evicted like any other, beside what may later be
        predicted of that frame. A reservoir that would turn it away takes it all the same: nothing else may ever show
        its objects."""
        frame += PROMPT_COPY
        position = self.admit(frame)
        if position is None:
            position = int(self._draw.integers(self.capacity))
        self.memorise(position, frame, key, values, valid)

    def seed(self, frame: int, key: Tensor, values: Tensor, valid: Sequence[bool]) -> None:
        """A guessed first mask (a box): kept like a pinned slot until `settle_seed`, but its frame does not read it."""
        self._put_pinned(Slot(frame, False, tuple(valid)), key, values)

    def seeds(self) -> list[int]:
        """The slots that `seed` filled, as `read_batch` may go without."""
        return [i for i in self._pinned if self.slots[i].frame != EMPTY and not self.slots[i].pinned]

    def known_without(self, slots: Collection[int]) -> list[bool]:
        """Per object: is it valid in any other slot?"""
        others = [slot for i, slot in enumerate(self.slots) if i not in slots and slot.frame != EMPTY]
        return [any(slot.valid[k] for slot in others) for k in range(self.objects)]

    def settle_seed(self, frame: int, lost: Collection[int] = ()) -> None:
        """Empties the frame's seed. lost: objects that the memory does not find without it; for these the seed is
        pinned, and what the bank says of them on this frame is not known any more."""
        for index in (index for index in self.seeds() if self.slots[index].frame == frame):
            kept = tuple(valid and k in lost for k, valid in enumerate(self.slots[index].valid))
            if any(kept):
                self._hold(index, replace(self.slots[index], pinned=True, valid=kept))
            else:
                self._clear(index)
        for index in (index for index in self._bank if self.slots[index].frame == frame):
            valid = tuple(valid and k not in lost for k, valid in enumerate(self.slots[index].valid))
            self._hold(index, replace(self.slots[index], valid=valid))
        if lost and self._mosaic is not None:
            before = self._mosaic.partly_known.get(frame, (True,) * self.objects)
            self._mosaic.note(frame, tuple(valid and k not in lost for k, valid in enumerate(before)))

    def admit(self, frame: int) -> int | None:
        """The bank slot that `memorise` must be given for this frame, or None where the policy turns it away.

        Every call counts as one offer; a frame already in the bank keeps its slot and does not count.
        """
        for position, index in enumerate(self._bank):
            if self.slots[index].frame == frame:
                return position
        position = self._eviction.slot(self.inserted, self.capacity, self._draw)
        self.inserted += 1
        return position

    def withdraw(self, frame: int) -> None:
        """Takes the last `admit` back: the frame is not memorised after all (a slot that it had it keeps)."""
        if frame not in self.bank_frames():
            self.inserted -= 1

    def keep_bank(self, frames: Collection[int]) -> None:
        """Empties the bank's slots of all other frames; eviction goes on as if these were the first ones offered."""
        kept = [index for index in self._bank if self.slots[index].frame in frames]
        others = [index for index in self._bank if index not in kept]
        for index in others:
            self._clear(index)
        self._bank, self.inserted = kept + others, len(kept)

    def memorise(self, position: int, frame: int, key: Tensor, values: Tensor, valid: Sequence[bool]) -> None:
        """Writes a frame into the bank slot that `admit` gave. key [Ck, h, w], values [K, Cv, h, w]."""
        if position >= len(self._bank):
            self._bank += self._grow(max(position + 1 - len(self._bank), len(self._bank)))
        index = self._bank[position]
        if self._mosaic is not None and self.slots[index].frame not in (EMPTY, frame):
            self._scatter(frame, key, values, valid)
        else:
            self._write(index, Slot(frame, False, tuple(valid)), key, values)

    def remember_recent(self, frame: int, key: Tensor, values: Tensor, valid: Sequence[bool]) -> None:
        """Puts a frame into the ring in place of its oldest."""
        if self._recent:
            self._write(self._recent[self._ring], Slot(frame, False, tuple(valid)), key, values)
            self._ring = (self._ring + 1) % len(self._recent)

    def clear_recent(self) -> None:
        """Empties the ring; its next slot is the first, so that a rebuilt ring is the same ring."""
        for index in self._recent:
            self._clear(index)
        self._ring = 0

    def layout(self) -> BankLayout:
        """The layout as it is after `clear_recent`: the ring belongs to a place in the video, not to the bank."""
        slots = [Slot() if index in self._recent else slot for index, slot in enumerate(self.slots)]
        parts = tuple(self._pinned), tuple(self._recent), tuple(self._bank)
        return BankLayout(*parts, tuple(slots), {} if self._mosaic is None else dict(self._mosaic.partly_known))

    def contents(self, index: int) -> tuple[Tensor, Tensor, Tensor | None]:
        """Views of one slot: keys [T, Ck + 1], values [K, T, Cv], under random-token its elements' frames [T] int64."""
        frames = None if self._mosaic is None else self._mosaic.frames[index, : self.tokens]
        return self.keys[index, : self.tokens], self.values[:, index, : self.tokens], frames

    def arrange(self, layout: BankLayout) -> None:
        """Takes over another bank's layout; whoever calls writes the held slots' `contents`. From here on the bank
        may be read, not filled further: the random draws made so far are not part of a layout."""
        if len(layout.slots) != len(self.slots):
            # The old storage goes before the new one comes.
            self.keys = self.keys.new_zeros(0, *self.keys.shape[1:])
            self.values = self.values.new_zeros(self.objects, 0, *self.values.shape[2:])
            if self._mosaic is not None:
                self._mosaic = Mosaic(self.padded, self._device)
            self.slots, self._handicaps = [], self._handicaps[:0]
            self._grow(len(layout.slots))
        for index in range(len(self.slots)):
            self._clear(index)
        self._pinned, self._recent, self._bank = list(layout.pinned), list(layout.recent), list(layout.bank)
        for index, slot in enumerate(layout.slots):
            self._hold(index, replace(slot))
        if self._mosaic is not None:
            self._mosaic.partly_known = dict(layout.partly_known)
        self._ring, self._keys_exact = 0, None

    def known(self) -> list[bool]:
        """Per object: is there any slot in which it is valid?"""
        return self.known_without(())

    def read(self, query: Tensor, frame: int, objects: Sequence[int]) -> Tensor:
        """query [Ck, h, w] of `frame` -> readout [len(objects), Cv, h, w], as `read_batch`."""
        return self.read_batch(query[None], [frame], objects)[0]

    def read_batch(
        self,
        queries: Tensor,
        frames: Sequence[int],
        objects: Sequence[int],
        match: MatchMaps | None = None,
        without: Collection[int] = (),
    ) -> Tensor:
        """queries [B, Ck, h, w] of `frames` -> readouts [B, len(objects), Cv, h, w].

        Objects whose readable slots are the same share one affinity, and all frames are read in one go, each with its
        own slots hidden from it. match [B, len(objects), T] is filled where it is given. without: slots that are not
        read, unless nothing else is known of an object. Raises ValueError where an object is known in no slot.
        """
        channels = self.values.shape[-1]
        result = self.values.new_empty(len(frames), len(objects), self.tokens, channels)
        groups: dict[tuple, list[int]] = {}
        for position, k in enumerate(objects):
            held = self._held(k)
            held = tuple(slot for slot in held if slot not in without) or held
            own = tuple(self._own(frame, held, k) for frame in frames)
            unknown = () if self._mosaic is None else self._mosaic.unknown(k)
            groups.setdefault((held, own, unknown), []).append(position)
        # Elements of a mosaic are hidden one by one, frame by frame; kernels are fitted to one frame.
        alone = self._mosaic is not None or self.settings.kernel_sigma
        together = [[b] for b in range(len(frames))] if alone else [range(len(frames))]
        for (slots, own, unknown), positions in groups.items():
            values = [self.values[objects[position]].flatten(0, 1) for position in positions]  # views [slots * T, Cv]
            for members in together:
                span = slice(members[0], members[-1] + 1)
                asked = self._question(queries[span], frames[span], slots, own[span], unknown)
                top = self._top(asked) if match is not None or self.settings.top_k else None
                if match is not None:
                    match.add(span, positions, top, queries[span], self.settings.affinity)
                gathered = self._gathered(asked, values, top)  # [k, B * T, Cv]
                for position, value in zip(positions, gathered, strict=True):
                    result[span, position] = value.view(len(members), self.tokens, channels)
        return result.transpose(2, 3).unflatten(3, self.grid)  # channels last in memory

    def _gathered(self, asked: readout.Question, values: Sequence[Tensor], top: readout.TopK | None) -> Tensor:
        """values: views [slots * T, Cv] -> [k, B * T, Cv], weighted by the best matches or (top_k 0) by all."""
        if self.settings.top_k:
            return readout.gather_values(values, top)
        rows, handicap = self.keys.flatten(0, 1), None
        if self._handicap:
            handicap = self._handicap_of(torch.arange(len(rows), device=rows.device))
        return readout_all.read_all(rows, asked.columns, values, asked.runs, asked.hidden, asked.spans, handicap)

    def _top(self, asked: readout.Question) -> readout.TopK:
        """The best matches, given ones weighing more; where all are read, the usual number of them, for the scores."""
        k, sigma = self.settings.top_k or USUAL_TOP_K, self.settings.kernel_sigma
        rows = self.keys.flatten(0, 1)  # [slots * T, Ck + 1]
        if sigma:
            around = (self.grid, sigma, asked.hidden, asked.spans)
            top = readout_all.kernel_top_k(rows, asked.columns, k, asked.runs, *around)
        else:
            top = readout.top_k(rows, asked.columns, k, asked.runs, asked.hidden, asked.spans, asked.half)
        if not self._handicap:
            return top
        return replace(top, weight=torch.softmax(top.score - self._handicap_of(top.index), 1))

    def _handicap_of(self, elements: Tensor) -> Tensor:
        """What is taken off the affinities of these elements, of any shape."""
        found = self._handicaps[elements // self.padded]
        if self._mosaic is not None:
            found = found.masked_fill(self._mosaic.frames.flatten()[elements] >= PROMPT_COPY, 0.0)
        return found

    def _question(
        self,
        queries: Tensor,
        frames: Sequence[int],
        slots: tuple[int, ...],
        own: Sequence[tuple[int, ...]],
        unknown: tuple[int, ...],
    ) -> readout.Question:
        """queries [B, Ck, h, w] against these slots, one after the other: B * T query pixels. own: each frame's own."""
        columns = torch.cat([readout.query_columns(query, self.settings.affinity) for query in queries], 1)
        half = None
        if pays(queries, self.settings.affinity) and self._exact_keys():
            half = queries.transpose(0, 1).flatten(1)  # [Ck, B * T]
        if len(frames) == 1:
            slots, own = tuple(i for i in slots if i not in own[0]), ()
        spans = [
            readout.HiddenSpan(i * self.padded, (i + 1) * self.padded, b * self.tokens, (b + 1) * self.tokens)
            for b, indices in enumerate(own)
            for i in indices
        ]
        hidden = None
        if self._mosaic is not None:
            frame = frames[0] if self.settings.exclude_own else None
            hidden = self._mosaic.hidden(frame, slots, unknown, [*self._pinned, *self._recent])
        return readout.Question(columns, half, slot_runs(slots, self.padded), hidden, spans)

    def _exact_keys(self) -> bool:
        """Whether all keys are exact in the half product's type, as those of a network that computes in it are."""
        if self._keys_exact is None:
            self._keys_exact = all(is_exact(slot[:, :-1]) for slot in self.keys)
        return self._keys_exact

    def _held(self, k: int) -> tuple[int, ...]:
        """The slots that say something about object k."""
        held = tuple(i for i, s in enumerate(self.slots) if s.frame != EMPTY and s.valid[k])
        if not held:
            raise ValueError(f"object {k} is known in no slot of the memory")
        return held

    def _own(self, frame: int, slots: Sequence[int], k: int) -> tuple[int, ...]:
        """Those of the slots that the frame itself filled and does not read about object k."""
        if not self.settings.exclude_own:
            return ()
        own = tuple(i for i in slots if self.slots[i].frame == frame and not self.slots[i].pinned)
        # A box prompt may be all that shows its object, alone or beside frames on which it is absent.
        others = (self.slots[i] for i in slots if i not in own)
        return own if any(not slot.absent or not slot.absent[k] for slot in others) else ()

    def _put_pinned(self, slot: Slot, key: Tensor, values: Tensor) -> None:
        free = [index for index in self._pinned if self.slots[index].frame == EMPTY]
        if not free:
            free = self._grow(1)
            self._pinned += free
        self._write(free[0], slot, key, values)

    def _write(self, index: int, slot: Slot, key: Tensor, values: Tensor) -> None:
        self._keys_exact = self._keys_exact and is_exact(key)
        self.keys[index, : self.tokens] = readout.key_rows(key, self.settings.affinity)
        self.values[:, index, : self.tokens] = values.flatten(2).transpose(1, 2)  # [K, T, Cv]
        self._hold(index, slot)
        if self._mosaic is not None:
            self._mosaic.frames[index, : self.tokens] = slot.frame
            if index in self._bank:
                self._mosaic.note(slot.frame, slot.valid)

    def _scatter(self, frame: int, key: Tensor, values: Tensor, valid: Sequence[bool]) -> None:
        """stcnbuf's replacement: the frame's elements overwrite as many of the bank, chosen at random."""
        drawn = random_tokens(len(self._bank), self.tokens, self._draw)
        slot = torch.from_numpy(np.asarray(self._bank)[drawn // self.tokens]).to(self._device)
        element = torch.from_numpy(drawn % self.tokens).to(self._device)
        self._keys_exact = self._keys_exact and is_exact(key)
        self.keys[slot, element] = readout.key_rows(key, self.settings.affinity)
        self.values[:, slot, element] = values.flatten(2).transpose(1, 2).to(self.values.dtype)  # [K, T, Cv]
        self._mosaic.frames[slot, element] = frame
        self._mosaic.note(frame, tuple(valid))
        found = self._mosaic.validity(self._bank, self.objects)
        for index, knows in zip(self._bank, found, strict=True):
            self._hold(index, Slot(MOSAIC, False, knows))

    def _clear(self, index: int) -> None:
        self.keys[index] = 0
        self.keys[index, :, -1] = float("-inf")
        self._hold(index, Slot())
        if self._mosaic is not None:
            self._mosaic.frames[index] = EMPTY

    def _hold(self, index: int, slot: Slot) -> None:
        self.slots[index] = slot
        self._handicaps[index] = 0.0 if slot.given or slot.frame >= PROMPT_COPY else self._handicap

    def _grow(self, more: int) -> list[int]:
        """Appends empty slots and returns their indices."""
        keys = self.keys.new_zeros(more, *self.keys.shape[1:])
        keys[:, :, -1] = float("-inf")
        self.keys = torch.cat((self.keys, keys))
        shape = (self.objects, more, *self.values.shape[2:])
        self.values = torch.cat((self.values, self.values.new_zeros(shape)), 1)
        if self._mosaic is not None:
            self._mosaic.grow(more)
        self._handicaps = torch.cat((self._handicaps, self._handicaps.new_zeros(more)))
        self.slots += [Slot() for _ in range(more)]
        return list(range(len(self.slots) - more, len(self.slots)))
