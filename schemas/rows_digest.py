"""A digest over the rows of a shard: recorded when it is written, computed again when it is verified."""

import hashlib


class RowsDigest:
    """Hex SHA-256 over object_id, frame_index, height, width, is_prompt and rle_counts of every row.

    Rows of one object must come in the order of the file; objects may be interleaved (as they are while a video is
    segmented), and the digest is that of the file, which has one object after the other.
    """

    def __init__(self) -> None:
        self._objects: dict[int, hashlib._Hash] = {}

    def add(self, object_id: int, frame: int, height: int, width: int, is_prompt: bool, counts: bytes) -> None:
        """One row."""
        digest = self._objects.setdefault(object_id, hashlib.sha256())
        digest.update(f"{frame} {height} {width} {int(is_prompt)} {len(counts)} ".encode())
        digest.update(counts)

    def hexdigest(self) -> str:
        """64 hex digits; that of no bytes where there is no row."""
        total = hashlib.sha256()
        for object_id in sorted(self._objects):
            total.update(f"{object_id} ".encode() + self._objects[object_id].digest())
        return total.hexdigest()
