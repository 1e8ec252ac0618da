"""A stand-in for the network that needs no torch: cheap, deterministic, and honest about order.

It computes nothing of use, but its masks depend on all that the real masks depend on: the prompts, the settings, each
picture's bytes, the pictures that the burn-in visited and their order, and the ring of recent frames as STCN's final
pass fills it. A lost, doubled or swapped frame, another video's bank or a ring that was not rebuilt changes the rows.
For rehearsals of a cluster and for tests of the machine room.
"""

import hashlib
import json
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict
from itertools import islice
from pathlib import Path

import numpy as np

from cluster.segmenter import FrameMasks, Picture, VideoFacts
from schemas.run_config import RunConfig
from stcn_core.masks import frame_masks
from stcn_core.prompts import FramePrompts, PromptSet
from stcn_core.settings import OfflineSettings

NOTHING = FramePrompts()
LARGEST_SHIFT = 16  # pixels by which a prompt's mask is moved, less than this in each direction


class StandInSegmenters:
    """seconds_per_frame: how long each visited or segmented frame takes (asleep, not at work)."""

    def __init__(self, seconds_per_frame: float = 0.0) -> None:
        self.seconds_per_frame = seconds_per_frame

    def load(self, config: RunConfig, device: str, threads: int, scratch: Path, input_options: dict) -> None:
        """Nothing to load."""

    def begin(self, settings: OfflineSettings, prompts: PromptSet, video: VideoFacts) -> "StandInSegmenter":
        """How many frames a bank would be made for does not matter here."""
        return StandInSegmenter(
            settings,
            prompts,
            source=video.source,
            size=video.size,
            video_id=video.video_id,
            seconds=self.seconds_per_frame,
        )

    def device_profile(self) -> str:
        """The same everywhere: the masks depend on no device."""
        return json.dumps({"device": "stand-in"})

    def error_class(self, error: BaseException) -> str | None:
        """No error is its own."""
        return None


class StandInSegmenter:
    """Masks are the objects' prompts, moved by a few pixels that a digest tells. See `cluster.segmenter.Segmenter`."""

    def __init__(
        self,
        settings: OfflineSettings,
        prompts: PromptSet,
        *,
        source: tuple[int, int],
        size: tuple[int, int],
        video_id: str,
        seconds: float = 0.0,
    ) -> None:
        self.settings, self.prompts = settings, prompts
        self._source, self._size, self._seconds = source, size, seconds
        masks = {name: value for name, value in asdict(settings).items() if name != "second_opinion"}
        self._facts = {"video": video_id, "source": source, "size": size, "settings": masks}
        self._start = digest_of(json.dumps(self._facts, sort_keys=True).encode(), prompts_digest(prompts))
        self._bank = self._start
        self._ring: deque[bytes] = deque(maxlen=settings.recent_frames)

    @property
    def ring_frames(self) -> int:
        """As many as the real one needs."""
        return self.settings.recent_frames * self.settings.group_frames

    def memorise_prompts(self, picture: Callable[[int], np.ndarray]) -> None:
        """Takes the prompted pictures into the bank."""
        for frame in self.prompts.frames:
            self._bank = digest_of(self._bank, b"prompt", self._bytes(frame, picture(frame)))

    def burn_in(self, order: Iterable[int], picture: Callable[[int], np.ndarray]) -> Iterator[int]:
        """Takes the visited pictures into the bank, except pinned ones."""
        for frame in order:
            if self._here(frame).given:
                continue
            self._bank = digest_of(self._bank, b"visit", self._bytes(frame, picture(frame)))
            time.sleep(self._seconds)
            yield frame

    def final_pass(self, pictures: Iterable[Picture], before: Iterable[Picture] = ()) -> Iterator[FrameMasks]:
        """Groups that read one bank and one ring; the ring advances once per whole group."""
        stream, group, position = iter(pictures), self.settings.group_frames, 0
        last = deque(before, maxlen=self.ring_frames)
        while members := list(islice(stream, group)):
            if position % self.settings.segment_frames == 0:
                self._ring.clear()
                for frame, picture in list(last)[group - 1 :: group] if self.settings.recent_frames else ():
                    self._advance(frame, self._look(frame, picture))
            for frame, picture in members:
                seen = self._look(frame, picture)
                time.sleep(self._seconds)
                yield frame, self._masks(frame, seen, self.prompts.object_ids)
            if len(members) == group:
                self._advance(frame, seen)
            last.extend(members)
            position += len(members)

    def causal_pass(self, pictures: Iterable[Picture]) -> Iterator[FrameMasks]:
        """Every frame depends on all before it; objects begin where they are prompted."""
        state, begun = self._start, set()
        for frame, picture in pictures:
            here = self._here(frame)
            begun |= {*here.given, *here.seeds}
            state = digest_of(state, self._bytes(frame, picture))
            time.sleep(self._seconds)
            yield frame, self._masks(frame, state, sorted(begun))

    def save_bank(self, path: Path) -> None:
        """A line of JSON with the bank's digest and a checksum."""
        path.write_text(json.dumps({"bank": self._bank.hex(), "sum": self._sum(self._bank)}))

    def load_bank(self, path: Path) -> None:
        """Raises ValueError where the file is damaged or belongs to another video, other prompts or settings."""
        try:
            record = json.loads(path.read_bytes())
            bank, check = bytes.fromhex(record["bank"]), record["sum"]
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path} is no whole saved bank ({error}): do the burn-in again") from error
        if check != self._sum(bank):
            raise ValueError(f"{path} is damaged, or the bank of another video, other prompts or settings")
        self._bank = bank

    def _sum(self, bank: bytes) -> str:
        return digest_of(self._start, bank).hex()

    def _here(self, frame: int) -> FramePrompts:
        return self.prompts.frames.get(frame, NOTHING)

    def _bytes(self, frame: int, picture: np.ndarray) -> bytes:
        if picture.shape != (*self._size, 3) or picture.dtype != np.uint8:
            raise ValueError(f"frame {frame}: {picture.dtype} {picture.shape}, not uint8 {(*self._size, 3)}")
        return digest_of(str(frame).encode(), np.ascontiguousarray(picture).data)

    def _look(self, frame: int, picture: np.ndarray) -> bytes:
        return digest_of(self._bank, *self._ring, self._bytes(frame, picture))

    def _advance(self, frame: int, seen: bytes) -> None:
        if not self._here(frame).given:
            self._ring.append(seen)

    def _masks(self, frame: int, seen: bytes, object_ids: Iterable[int]) -> list:
        """The masks of these objects, the prompt's moved; given ones as they are."""
        object_ids = list(object_ids)
        labels = np.zeros(self._source, np.int32)
        scores = np.zeros(len(object_ids))
        for k, object_id in enumerate(object_ids):
            drawn = digest_of(seen, str(object_id).encode())
            shift = drawn[0] % LARGEST_SHIFT, drawn[1] % LARGEST_SHIFT
            labels[np.roll(self._shape_of(object_id), shift, (0, 1)) != 0] = k + 1
            scores[k] = 0.5 + int.from_bytes(drawn[2:4], "big") / (1 << 17)
        return frame_masks(labels, scores, object_ids, self._here(frame).given)

    def _shape_of(self, object_id: int) -> np.ndarray:
        """The object's first prompt that shows it, uint8 [H, W]."""
        told = (mask for here in self.prompts.frames.values() for i, mask in _told(here) if i == object_id)
        return next(mask for mask in told if mask.any())


def _told(here: FramePrompts) -> list[tuple[int, np.ndarray]]:
    return [*here.given.items(), *here.seeds.items()]


def prompts_digest(prompts: PromptSet) -> bytes:
    """Over every object, frame and mask, and whether it is given or guessed."""
    parts = [json.dumps(prompts.object_ids).encode()]
    for frame, here in prompts.frames.items():
        for kind, masks in (("given", here.given), ("seed", here.seeds)):
            for object_id, mask in masks.items():
                parts += [f"{frame} {kind} {object_id}".encode(), np.ascontiguousarray(mask).data]
    return digest_of(*parts)


def digest_of(*parts: bytes | memoryview) -> bytes:
    """16 bytes over all parts, each with its length, so that no two lists of parts are alike."""
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        digest.update(memoryview(part).nbytes.to_bytes(8, "big"))
        digest.update(part)
    return digest.digest()
