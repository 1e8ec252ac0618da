"""Damaged containers by seeded mutation: a right answer or a VideoError, never a crash, a hang or another exception."""

import os
import subprocess
import sys
import textwrap

import pytest
from made_mutations import MUTATIONS, SOURCES, mutated, write_sources

CHILD = """
    import sys
    from pathlib import Path
    from cluster.frames.video import FrameReader, VideoError, frame_times, probe_video

    for path in map(Path, sys.argv[1:]):
        said = []
        for step in (
            lambda: probe_video(path),
            lambda: frame_times(path),
            lambda: sum(1 for _ in FrameReader(path, probe_video(path), (24, 32))),
            lambda: sum(1 for _ in FrameReader(path, probe_video(path), (24, 32), start=270)),
        ):
            try:
                step()
                said.append("ok")
            except VideoError as error:
                assert path.name in str(error)
                said.append(error.error_class)
        print(path.name, *said, flush=True)
"""


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    return write_sources(tmp_path_factory.mktemp("sources"))


@pytest.mark.parametrize("mutation", MUTATIONS)
def test_mutated_containers(sources, tmp_path, mutation):
    inputs = []
    for name, data in sources.items():
        path = tmp_path / name
        path.write_bytes(mutated(name, data, mutation))
        inputs.append(path)
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(CHILD), *map(str, inputs)], capture_output=True, text=True, timeout=60,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    answers = dict(line.split(" ", 1) for line in done.stdout.splitlines())
    assert done.returncode == 0, f"after {list(answers)}: {done.stderr[-2000:]}"
    assert list(answers) == list(SOURCES)
