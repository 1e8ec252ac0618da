"""Side files of a report: pictures and courses of the videos that find no room in the page, in a folder beside it.

Each carries the key of the page that it was drawn for, in its name and in what it says: a page finds a video by its
rank, and another state of the run, or another choice of videos, has other videos at that rank. They are written after
their page, the most doubtful videos first, so that the page can be read long before the last one is drawn; what is not
there (yet) the page says.
"""

import re
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

from cluster.stores.remote import connect, entry_name, list_folder
from cluster.stores.storage_errors import explained
from jobs.views.place import placed
from jobs.views.report import page

NAME = re.compile(r"([0-9a-f]{16}-)?\d{5}\.js")  # without a key: as earlier versions wrote them


@dataclass(frozen=True)
class SideFiles:
    """Of the page to be written to `page`, a path or an fsspec URL."""

    page: str
    key: str = field(default_factory=lambda: secrets.token_hex(8))

    def source(self, number: int) -> str:
        """Where the page finds a file. A URL: a page may be named "run #3: 50%.html"."""
        return f"{quote(self._folder_name, safe='')}/{self._name(number)}"

    def write(self, number: int, details: Iterable[tuple[int, Mapping[str, Any]]]) -> None:
        """details: (rank in the page, what page.js shows). Raises OSError."""
        with placed(f"{self._folder}/{self._name(number)}", ".js") as target:
            target.write_text(page.part_script(self.key, details), encoding="utf-8")

    def remove_others(self) -> None:
        """Removes files of pages that were here before: no page will load them any more. Raises OSError."""
        with explained(self._folder, "cleared"):
            fs, folder = connect(self._folder)
            try:
                entries = list_folder(fs, folder)
            except FileNotFoundError:
                return
            for entry in entries:
                name = entry_name(entry)
                if NAME.fullmatch(name) and not name.startswith(self.key):
                    fs.rm_file(entry["name"])

    def _name(self, number: int) -> str:
        return f"{self.key}-{number:05d}.js"

    @property
    def _folder(self) -> str:
        return self.page.removesuffix(self.page.rpartition("/")[2]) + self._folder_name

    @property
    def _folder_name(self) -> str:
        return Path(self.page.rpartition("/")[2]).stem + ".parts"
