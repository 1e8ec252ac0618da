"""Every command of this project that a page's code block shows is one that its own parser takes."""

import importlib
import re
import shlex

import pytest
from made_markdown import ROOT, blocks

PAGES = [ROOT / "README.md", ROOT / "cluster/README.md", *sorted((ROOT / "docs").glob("*.md"))]
COMMAND = re.compile(r"python\d? -m jobs\.(\w+)(.*)")
# What a shell would take for the end of the command.
ENDS = ("|", ">", ">>", "&&", ";", "&", "2>")


def commands(text: str) -> list[tuple[str, list[str]]]:
    """(job, its arguments) of each command in a block; lines that end in a backslash go on."""
    found = []
    for line in text.replace("\\\n", " ").splitlines():
        match = COMMAND.search(line.replace("…", "..."))
        if match:
            words = shlex.split(match[2], comments=True)
            end = next((number for number, word in enumerate(words) if word in ENDS), len(words))
            found.append((match[1], words[:end]))
    return found


SHOWN = [
    pytest.param(job, words, id=f"{page.name}:{block.line}-{job}-{number}")
    for page in PAGES
    for block in blocks(page)
    if block.language in ("bash", "")
    for number, (job, words) in enumerate(commands(block.code))
]


@pytest.mark.parametrize(("job", "words"), SHOWN)
def test_its_parser_takes_it(job: str, words: list[str], capsys: pytest.CaptureFixture):
    if "..." in words:
        words = [word for word in words if word != "..."]
    try:
        importlib.import_module(f"jobs.{job}").parser().parse_args(words)
    except SystemExit:
        pytest.fail(capsys.readouterr().err)


def test_there_are_such_commands():
    assert len(SHOWN) > 40 and len({param.values[0] for param in SHOWN}) > 12
