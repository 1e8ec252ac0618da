"""What a format could not hold, counted on the way."""

import threading
from collections import Counter


class Losses:
    """Counts by name, such as `scores`; several threads may count."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._lock = threading.Lock()

    def add(self, what: str, count: int = 1) -> None:
        """what: a plural that reads after the number."""
        if count:
            with self._lock:
                self._counts[what] += count

    def __bool__(self) -> bool:
        return bool(self._counts)

    def line(self) -> str:
        """`31 scores, 2 labels`, in order of the first count; empty where nothing was lost."""
        return ", ".join(f"{count} {what}" for what, count in self._counts.items())
