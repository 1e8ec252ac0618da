"""One thing that is wrong with a manifest."""

from typing import NamedTuple


class Problem(NamedTuple):
    """What is wrong with one row: row 0 is the file as a whole, column may be empty."""

    row: int
    column: str
    reason: str
    remedy: str

    def __str__(self) -> str:
        place = f"row {self.row}" if self.row else "the file"
        return f"{place}{', ' + self.column if self.column else ''}: {self.reason}. {self.remedy}."
