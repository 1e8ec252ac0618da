"""The report as one HTML file: its style and script inlined, its data as JSON that a browser parses when it is needed.

Names of videos, labels and messages are foreign input: they enter the page as JSON only, in which every character that
means something to HTML is escaped, and the script puts them there as text. The Content-Security-Policy allows the
page's own script and style (by a nonce), data URIs as pictures, and nothing from elsewhere.
"""

import html
import json
import secrets
from collections.abc import Iterable, Mapping
from importlib.resources import files
from typing import Any, TextIO

ESCAPED = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026"}


def begin(out: TextIO, title: str, head: Mapping[str, Any]) -> str:
    """Writes the page up to its details; returns the nonce that `end` needs. head: what page.js reads as HEAD."""
    nonce = secrets.token_urlsafe(16)
    page = _part("page.html").replace("@NONCE@", nonce).replace("@STYLE@", _part("page.css"))
    out.write(page.replace("@TITLE@", html.escape(title)))
    out.write(_data("head", head))
    return nonce


def add_details(out: TextIO, index: int, details: Mapping[str, Any]) -> int:
    """Writes one video's details into the page; returns how many characters that took."""
    return out.write(_data(f"v{index}", details))


def end(out: TextIO, nonce: str) -> None:
    """The script, and the end."""
    out.write(f'<script nonce="{nonce}">{_part("page.js")}</script>\n</body>\n</html>\n')


def part_script(key: str, details: Iterable[tuple[int, Mapping[str, Any]]]) -> str:
    """A side file with the details of further videos, for the page whose head has this key.

    A script, because a page from a disk may read nothing else.
    """
    return f"reportPart({as_json(key)},{as_json([[index, record] for index, record in details])});\n"


def as_json(value: Any) -> str:
    """JSON that may stand in a <script>: ASCII, without <, > and &."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    for character, code in ESCAPED.items():
        text = text.replace(character, code)
    return text


def _data(name: str, value: Mapping[str, Any]) -> str:
    return f'<script type="application/json" id="{name}">{as_json(value)}</script>\n'


def _part(name: str) -> str:
    return files("jobs.views.report").joinpath("page", name).read_text("utf-8")
