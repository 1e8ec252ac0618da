"""Frames kept for random access: in memory up to a cap, in one spill file past it."""

import os
import tempfile
from pathlib import Path

import numpy as np


class FrameStore:
    """Frames uint8 of one shape [h, w, 3], by their frame index; for the burn-in, which visits them in random order.

    The first `ram_bytes` of frames stay in memory, the rest goes to slots of one file in the folder `scratch`. Slots
    of discarded frames are used again, so the file never holds more than the most frames kept at one time. The file
    has no name (it is unlinked when made): nothing is left behind however the process ends. Not for several threads.

    It is written and read at offsets, not memory-mapped: on a full disk that is an OSError instead of a SIGBUS.
    """

    def __init__(self, ram_bytes: int, scratch: Path):
        if ram_bytes < 0:
            raise ValueError(f"ram_bytes must not be negative, got {ram_bytes}")
        self._ram_bytes, self._scratch = ram_bytes, Path(scratch)
        self._shape: tuple[int, ...] | None = None
        self._frame_bytes = 0
        self._ram: dict[int, np.ndarray] = {}
        self._ram_free: list[np.ndarray] = []
        self._spilled: dict[int, int] = {}  # frame index -> slot of the file
        self._spill_free: list[int] = []
        self._spill_slots = 0
        self._file: int | None = None
        self._closed = False

    def put(self, index: int, frame: np.ndarray) -> None:
        """Keep a copy of `frame` uint8 [h, w, 3] as frame `index`, replacing an earlier one.

        Raises ValueError for another shape or dtype, OSError (naming the folder) when the scratch disk is full.
        """
        self._check(frame)
        index = int(index)
        if index in self._ram:
            self._ram[index][...] = frame
        elif index in self._spilled:
            self._write(self._spilled[index], frame)
        elif self._ram_free or (len(self._ram) + 1) * self._frame_bytes <= self._ram_bytes:
            slot = self._ram_free.pop() if self._ram_free else np.empty(self._shape, np.uint8)
            slot[...] = frame
            self._ram[index] = slot
        else:
            slot = self._spill_free[-1] if self._spill_free else self._spill_slots
            self._write(slot, frame)  # before the books, so that a full disk leaves them right
            if self._spill_free:
                self._spill_free.pop()
            else:
                self._spill_slots += 1
            self._spilled[index] = slot

    def get(self, index: int) -> np.ndarray:
        """A copy of frame `index`, uint8 [h, w, 3]. Raises KeyError when it is not kept."""
        if index in self._ram:
            return self._ram[index].copy()
        if index not in self._spilled:
            raise KeyError(f"frame {index} is not in the store")
        frame = np.empty(self._shape, np.uint8)
        view = memoryview(frame.reshape(-1))
        offset, done = self._spilled[index] * self._frame_bytes, 0
        while done < len(view):
            count = os.preadv(self._file, [view[done:]], offset + done)
            if count == 0:
                raise OSError(f"{self._scratch}: the spill file ended inside frame {index}")
            done += count
        return frame

    def discard(self, index: int) -> None:
        """Forget frame `index` and free its slot; nothing happens when it is not kept."""
        if index in self._ram:
            self._ram_free.append(self._ram.pop(index))
        elif index in self._spilled:
            self._spill_free.append(self._spilled.pop(index))

    def __contains__(self, index: int) -> bool:
        return index in self._ram or index in self._spilled

    def __len__(self) -> int:
        return len(self._ram) + len(self._spilled)

    @property
    def spill_bytes(self) -> int:
        """Size of the spill file in bytes."""
        return self._spill_slots * self._frame_bytes

    def close(self) -> None:
        """Free the memory and the file; the store is empty and unusable afterwards. May be called twice."""
        self._closed = True
        self._ram.clear()
        self._ram_free.clear()
        self._spilled.clear()
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def __enter__(self) -> "FrameStore":
        return self

    def __exit__(self, *_exc) -> None:
        self.close()

    def __del__(self):
        if getattr(self, "_file", None) is not None:
            self.close()

    def _check(self, frame: np.ndarray) -> None:
        if self._closed:
            raise ValueError("the frame store is closed")
        if frame.dtype != np.uint8:
            raise ValueError(f"frames must be uint8, got {frame.dtype}")
        if self._shape is None:
            self._shape, self._frame_bytes = frame.shape, frame.nbytes
        elif frame.shape != self._shape:
            raise ValueError(f"all frames of a store have one shape: {self._shape}, got {frame.shape}")

    def _write(self, slot: int, frame: np.ndarray) -> None:
        view = memoryview(np.ascontiguousarray(frame).reshape(-1))
        offset, done = slot * self._frame_bytes, 0
        try:
            if self._file is None:
                self._file, name = tempfile.mkstemp(prefix="frames-", suffix=".spill", dir=self._scratch)
                os.unlink(name)
            while done < len(view):
                done += os.pwrite(self._file, view[done:], offset + done)
        except OSError as error:
            raise OSError(
                error.errno,
                f"cannot spill frames to {self._scratch} ({error.strerror}); free space there, or allow more memory "
                "or fewer burn-in frames",
            ) from error
