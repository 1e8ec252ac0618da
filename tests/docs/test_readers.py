"""Every block of docs/readers.md, in a folder with the small output that the page speaks of."""

from pathlib import Path

import pytest
from made_markdown import ROOT, Block, blocks, run
from made_output import MadeVideo, write_output

PAGE = blocks(ROOT / "docs/readers.md")


@pytest.fixture(scope="module")
def folder(tmp_path_factory, request) -> Path:
    """Holds `masks`, as the page says."""
    place = tmp_path_factory.mktemp("readers")
    write_output(place / "masks", (MadeVideo("dog", 12, objects=(1, 2)), MadeVideo("run", 7, objects=(1,))))
    patch = pytest.MonkeyPatch()
    request.addfinalizer(patch.undo)
    patch.setenv("HF_HUB_OFFLINE", "1")
    import datasets

    patch.setattr(datasets.config, "HF_DATASETS_CACHE", place / "cache")
    return place


@pytest.mark.parametrize("block", PAGE, ids=str)
def test_a_block_prints_what_the_page_shows(block: Block, folder: Path):
    assert block.language in ("python", "bash") and block.not_run is None
    assert block.language == "bash" or block.prints
    run(block, folder)


def test_every_reader_is_there():
    code = "".join(block.code for block in PAGE)
    for name in ("read_masks", "pycocotools", "duckdb", "pandas", "polars", "pyarrow.dataset", "load_dataset"):
        assert name in code, name
