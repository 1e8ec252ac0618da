import os
import resource
import subprocess
import sys
import textwrap

import numpy as np
import pytest

from cluster.frames.frame_store import FrameStore

SHAPE = (12, 16, 3)
BYTES = 12 * 16 * 3


def picture(number: int) -> np.ndarray:
    return np.random.default_rng(number).integers(0, 256, SHAPE, dtype=np.uint8)


@pytest.mark.parametrize("kept", [0, 1, 5, 100])
def test_frames_come_back_from_memory_and_from_the_spill_file(tmp_path, kept):
    with FrameStore(kept * BYTES, tmp_path) as store:
        for index in range(40):
            store.put(index * 7, picture(index))
        assert len(store) == 40
        assert store.spill_bytes == max(40 - kept, 0) * BYTES
        for index in np.random.default_rng(0).permutation(40):
            assert (store.get(int(index) * 7) == picture(index)).all()


def test_a_random_history_agrees_with_a_dictionary(tmp_path):
    rng = np.random.default_rng(3)
    model: dict[int, int] = {}
    most = 0
    with FrameStore(4 * BYTES + 17, tmp_path) as store:
        for step in range(2000):
            index = int(rng.integers(0, 30))
            action = rng.random()
            if action < 0.5:
                store.put(index, picture(step))
                model[index] = step
            elif action < 0.8:
                store.discard(index)
                model.pop(index, None)
            elif index in model:
                assert (store.get(index) == picture(model[index])).all()
            else:
                with pytest.raises(KeyError, match=str(index)):
                    store.get(index)
            most = max(most, len(model))
            assert len(store) == len(model) and (index in store) == (index in model)
        assert 0 < store.spill_bytes <= most * BYTES, "slots of discarded frames are used again"


def test_what_is_given_and_taken_is_copied(tmp_path):
    for ram in (BYTES, 0):
        with FrameStore(ram, tmp_path) as store:
            frame = picture(1)
            store.put(0, frame)
            frame[...] = 0
            taken = store.get(0)
            assert (taken == picture(1)).all()
            taken[...] = 9
            assert (store.get(0) == picture(1)).all()


def test_frames_of_another_shape_or_type_are_refused(tmp_path):
    with FrameStore(BYTES, tmp_path) as store:
        store.put(0, picture(0))
        with pytest.raises(ValueError, match="one shape"):
            store.put(1, np.zeros((12, 17, 3), np.uint8))
        with pytest.raises(ValueError, match="uint8"):
            store.put(1, np.zeros(SHAPE, np.float32))
    with pytest.raises(ValueError, match="closed"):
        store.put(1, picture(0))


def test_strided_frames_are_kept_right(tmp_path):
    turned = picture(5)[::-1, ::-1]
    with FrameStore(0, tmp_path) as store:
        store.put(0, turned)
        assert (store.get(0) == turned).all()


def test_nothing_is_left_on_disk_even_while_open(tmp_path):
    with FrameStore(0, tmp_path) as store:
        store.put(0, picture(0))
        assert os.listdir(tmp_path) == []


def test_a_full_disk_is_an_error_that_names_the_folder_and_leaves_the_store_sound(tmp_path):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with FrameStore(0, tmp_path) as store:
        for index in range(4):
            store.put(index, picture(index))
        try:  # a limit on the file size stands in for a full disk; Python ignores SIGXFSZ
            resource.setrlimit(resource.RLIMIT_FSIZE, (4 * BYTES + 100, hard))
            with pytest.raises(OSError, match=tmp_path.name):
                store.put(4, picture(4))
            assert 4 not in store and len(store) == 4
            store.discard(2)
            store.put(5, picture(5))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert [bool((store.get(index) == picture(index)).all()) for index in (0, 1, 3, 5)] == [True] * 4


def test_memory_stays_flat_past_the_cap(tmp_path):
    # In a process of its own: 8 MB are allowed, 200 MB go through.
    script = """
        import sys, numpy as np
        from pathlib import Path
        from cluster.frames.frame_store import FrameStore
        def anonymous():
            return next(int(l.split()[1]) for l in open("/proc/self/status") if l.startswith("RssAnon")) / 1024
        frame = np.zeros((500, 667, 3), np.uint8)
        store = FrameStore(8 * frame.nbytes, Path(sys.argv[1]))
        for index in range(10):
            store.put(index, frame)
        before = anonymous()
        for index in range(10, 200):
            frame[...] = index
            store.put(index, frame)
        assert all(store.get(index)[0, 0, 0] == index for index in range(10, 200))
        print(anonymous() - before, store.spill_bytes // frame.nbytes)
    """
    if not os.path.exists("/proc/self/status"):
        pytest.skip("needs /proc to measure anonymous memory")
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), str(tmp_path)], capture_output=True, text=True, check=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    grown, slots = done.stdout.split()
    assert float(grown) < 6 and int(slots) == 192
