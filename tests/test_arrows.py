"""Who may import whom: jobs -> cluster -> stcn_core, all may use schemas, nothing points back. Read, not run."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROOMS = ("jobs", "cluster", "schemas", "stcn_core")
# What a room must not import: rooms above it, and what belongs in another room.
FORBIDDEN = {
    "stcn_core": {"ray", "fsspec", "s3fs", "pyarrow", "cluster", "jobs"},
    "schemas": {"torch", "torchvision", "ray", "cluster", "jobs", "stcn_core"},
    "cluster": {"jobs"},
    "jobs": set(),
}
LONGEST = 400


def sources(room: str) -> list[Path]:
    return sorted((ROOT / room).rglob("*.py"))


def imported(source: str) -> Iterator[tuple[int, str]]:
    """Line and top-level name of every import, also inside functions, and by import_module with a literal name."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name.split(".")[0]) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: relative imports hide where they point"
            yield node.lineno, node.module.split(".")[0]
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if name in ("import_module", "__import__", "importorskip"):
                yield node.lineno, str(node.args[0].value).split(".")[0]


def violations(room: str, source: str) -> list[tuple[int, str]]:
    return [(line, name) for line, name in imported(source) if name in FORBIDDEN[room]]


@pytest.mark.parametrize("room", ROOMS)
def test_arrows(room: str) -> None:
    files = sources(room)
    assert files
    wrong = [
        f"{file.relative_to(ROOT)}:{line} imports {name}"
        for file in files
        for line, name in violations(room, file.read_text())
    ]
    assert not wrong, "\n".join(wrong)


def test_the_check_sees_every_kind_of_import() -> None:
    source = """
import os, ray.train as train
from pyarrow import parquet
def late():
    import fsspec
    from cluster.plan import Unit
    importlib.import_module("jobs.annotate")
    __import__("ray")
import stcn_core.rays, torch
"""
    names = sorted(name for _, name in violations("stcn_core", source))
    assert names == ["cluster", "fsspec", "jobs", "pyarrow", "ray", "ray"]
    assert sorted(name for _, name in violations("schemas", source)) == [
        "cluster",
        "jobs",
        "ray",
        "ray",
        "stcn_core",
        "torch",
    ]


def test_files_are_short_and_named_after_something() -> None:
    files = [file for room in ROOMS for file in sources(room)]
    lengths = {str(file.relative_to(ROOT)): len(file.read_text().splitlines()) for file in files}
    long = {name: length for name, length in lengths.items() if length > LONGEST}
    assert not long, f"over {LONGEST} lines: {long}"
    assert not [file for file in files if file.stem in ("utils", "util", "helpers", "common", "misc")]
    assert not list((ROOT / "tests").rglob("__init__.py"))
