"""The helper that runs a page's code blocks: what it takes for code, and that it notices what is wrong."""

from pathlib import Path

import pytest
from made_markdown import Block, blocks, checkout, run

PAGE = """# A page

```python
print("one")
raise_later = 1
```

```text
one
```

Text `between`.

```bash
echo two
```

```text
not its output: there is text before it
```

<!-- not run: needs a cluster -->
```sh
ray up
```

- in a list

   ~~~python
   print(1 / 0)
   ~~~
"""


def page(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "page.md"
    path.write_text(text)
    return path


def test_blocks_of_a_page(tmp_path):
    found = blocks(page(tmp_path, PAGE.replace("```text\nnot", "And then:\n\n```text\nnot")))
    assert [(block.language, block.line) for block in found] == [
        ("python", 4), ("bash", 15), ("text", 21), ("bash", 26), ("python", 32)
    ]  # fmt: skip
    assert found[0].prints == "one\n" and found[1].prints is None
    assert [block.not_run for block in found] == [None, None, None, "needs a cluster", None]
    assert found[4].code == "print(1 / 0)\n"
    with pytest.raises(ValueError, match="page.md:1: the block is never closed"):
        blocks(page(tmp_path, "```python\nprint()\n"))


def test_what_runs_and_what_is_noticed(tmp_path):
    found = blocks(page(tmp_path, PAGE))
    assert run(found[0], tmp_path) == "one\n"
    with pytest.raises(AssertionError, match="echo|prints"):
        run(found[1], tmp_path)  # now the text right behind it counts as its output
    with pytest.raises(ZeroDivisionError) as error:
        run(found[-1], tmp_path)
    assert error.traceback[-1].lineno + 1 == found[-1].line
    for code, text in (
        ("false", "ends with 1"),
        ("nobody-has-this | cat", "ends with 127"),
        ("echo $NOPE", "ends with"),
    ):
        with pytest.raises(AssertionError, match=text):
            run(Block(tmp_path / "x.md", 1, "bash", code), tmp_path)


def test_a_checkout_has_python_and_the_project(tmp_path):
    folder = checkout(tmp_path / "here")
    code = "from schemas import read_masks; print(read_masks.__module__)"
    assert run(Block(tmp_path / "x.md", 1, "bash", f"cd .\n.venv/bin/python -c '{code}'"), folder) == "schemas.reader\n"
