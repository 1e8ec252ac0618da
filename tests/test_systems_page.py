"""docs/systems.md: all 39 rows, every test that it names is there, every option that it names is one."""

import re
from pathlib import Path

from jobs import annotate, clean, evaluate, export, manifest, plan, train

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "systems.md").read_text()
LINK = re.compile(r'\[[^\]]+\]\((\.\./tests/[\w/]+\.py) "(test_\w+)"\)')


def rows() -> dict[int, list[str]]:
    found = {}
    for line in PAGE.splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split(" | ")]
        if cells[0].isdecimal():
            found[int(cells[0])] = cells
    return found


def test_every_row_is_there_and_names_tests_that_are_there() -> None:
    assert list(rows()) == list(range(1, 40))
    for number, cells in rows().items():
        assert LINK.search(cells[4]), f"row {number} names no test"
    named = LINK.findall(PAGE)
    assert len(named) == PAGE.count("](../tests/") > 80
    for path, name in named:
        source = (ROOT / "docs" / path).resolve().read_text()
        assert re.search(rf"^def {name}\(", source, re.MULTILINE), f"{path} has no {name}"


def test_every_place_is_there() -> None:
    for number, cells in rows().items():
        folder = ROOT
        for place in re.split(r",\s*| and ", cells[2]):
            if place.endswith(".py"):
                if "/" in place:
                    folder = (ROOT / place).parent
                assert (ROOT / place).exists() or (folder / place).exists(), f"row {number}: {place}"


def test_every_option_is_one() -> None:
    helps = "".join(module.parser().format_help() for module in (annotate, evaluate, plan, export, clean, manifest))
    helps += train.build_parser().format_help()
    options = set(re.findall(r"(?<![\w-])--[a-z][\w-]+", PAGE))
    assert len(options) > 30
    unknown = [option for option in options if not re.search(rf"{re.escape(option)}\b(?!-)", helps)]
    assert not unknown, unknown
