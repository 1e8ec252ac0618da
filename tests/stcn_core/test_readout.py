"""The readout against a dense float64 top-k softmax written from the paper's equations."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from stcn_core import readout

ROOT = Path(__file__).parents[2]


def laid_out(keys: list[Tensor], affinity: str = "l2") -> tuple[Tensor, list[int]]:
    """Frames' keys [Ck, T] -> rows as the memory bank lays them out, and where each real element lies."""
    tokens = keys[0].shape[1]
    padded = -(-tokens // readout.BLOCK) * readout.BLOCK
    rows = torch.zeros(len(keys), padded, keys[0].shape[0] + 1)
    rows[:, :, -1] = float("-inf")
    for slot, key in enumerate(keys):
        rows[slot, :tokens] = readout.key_rows(key, affinity)
    positions = [slot * padded + t for slot in range(len(keys)) for t in range(tokens)]
    return rows.flatten(0, 1), positions


def dense(keys: list[Tensor], query: Tensor, k: int, affinity: str = "l2", readable: Tensor | None = None) -> Tensor:
    """Weights [N, Q] float64 over all elements of all frames; ties go to the first element."""
    query = query.flatten(1).double()  # [Ck, Q]
    scores = []
    for key in keys:  # frame by frame: one product over all might round equal elements differently, and untie them
        score = key.double().t() @ query  # [T, Q]
        scores.append(score if affinity == "dot" else 2 * score - key.double().square().sum(0)[:, None])
    scores = torch.cat(scores) / len(query) ** 0.5  # [N, Q]
    if readable is not None:
        scores[~readable] = float("-inf")
    order = scores.sort(dim=0, descending=True, stable=True).indices[:k]
    kept = torch.full_like(scores, float("-inf")).scatter_(0, order, scores.gather(0, order))
    return torch.softmax(kept, 0)


def as_dense(top: readout.TopK, positions: list[int], total: int) -> Tensor:
    """Weights [N, Q] over the real elements."""
    full = torch.zeros(len(top.index), total, dtype=torch.float64)
    full.scatter_add_(1, top.index, top.weight.double())
    return full.t()[positions]


def everything(rows: Tensor) -> list[tuple[int, int]]:
    return [(0, len(rows))]


def random_keys(kind: str, frames: int, channels: int, tokens: int, seed: int) -> tuple[list[Tensor], Tensor]:
    """Keys of each frame [Ck, T] and a query [Ck, 1, T]."""
    draw = torch.Generator().manual_seed(seed)
    if kind == "random":
        keys = [torch.randn(channels, tokens, generator=draw) for _ in range(frames)]
        return keys, torch.randn(channels, 1, tokens, generator=draw)
    if kind == "clustered":  # a still video: every frame nearly repeats the first, the k best lie in few places
        first = 2 * torch.randn(channels, tokens, generator=draw)
        keys = [first + 0.05 * torch.randn(channels, tokens, generator=draw) for _ in range(frames)]
        return keys, (first + 0.05 * torch.randn(channels, tokens, generator=draw))[:, None]
    assert kind == "one-frame"  # all that is near lies in one frame's neighbouring elements, several to a block
    near = 0.1 * torch.randn(channels, tokens, generator=draw)
    far = [3 + torch.randn(channels, tokens, generator=draw) for _ in range(frames - 1)]
    return [*far, near], 0.1 * torch.randn(channels, 1, tokens, generator=draw)


@pytest.mark.parametrize("affinity", ["l2", "dot"])
@pytest.mark.parametrize("kind", ["random", "clustered", "one-frame"])
@pytest.mark.parametrize(("frames", "tokens"), [(1, 54), (5, 33), (40, 100), (3, 32), (70, 7)])
def test_equal_to_dense_top_k(kind: str, affinity: str, frames: int, tokens: int) -> None:
    keys, query = random_keys(kind, frames, 16, tokens, seed=frames)
    rows, positions = laid_out(keys, affinity)
    top = readout.top_k(rows, readout.query_columns(query, affinity), 20, everything(rows))
    expected = dense(keys, query, 20, affinity)
    torch.testing.assert_close(as_dense(top, positions, len(rows)), expected, atol=2e-5, rtol=0)
    assert (top.score.diff(dim=1) <= 0).all()  # best first

    values = [torch.randn(len(rows), 6), torch.randn(len(rows), 6)]
    gathered = readout.gather_values(values, top)  # [2, Q, 6]
    for k in range(2):
        wanted = expected.t() @ values[k][positions].double()
        torch.testing.assert_close(gathered[k].double(), wanted, atol=2e-4, rtol=0)


def test_chunks_do_not_change_what_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    keys, query = random_keys("clustered", 50, 16, 60, seed=1)
    rows, _ = laid_out(keys)
    columns = readout.query_columns(query)
    whole = readout.top_k(rows, columns, 20, everything(rows))
    monkeypatch.setattr(readout, "SCORE_BYTES_CPU", 4 * 60 * 96)
    monkeypatch.setattr(readout, "CANDIDATE_BYTES_CPU", 100_000)
    monkeypatch.setattr(readout, "RANK_BYTES", 20_000)
    parts = readout.top_k(rows, columns, 20, everything(rows))
    torch.testing.assert_close(whole.score, parts.score)
    assert (whole.index == parts.index).float().mean() > 0.999


@pytest.mark.parametrize("channels", [8, 16, 64])
@pytest.mark.parametrize("copies", [2, 30])
def test_ties_go_to_the_lowest_element(channels: int, copies: int) -> None:
    """The same frame many times: of equal elements always the first ones are read."""
    draw = torch.Generator().manual_seed(channels)
    key = torch.randn(channels, 45, generator=draw)
    rows, positions = laid_out([key] * copies)
    query = torch.randn(channels, 3, 7, generator=draw)
    top = readout.top_k(rows, readout.query_columns(query), 7, everything(rows))
    expected = dense([key] * copies, query, 7)
    torch.testing.assert_close(as_dense(top, positions, len(rows)), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("seed", range(5))
def test_ties_everywhere(seed: int) -> None:
    """Keys of -1, 0 and 1: scores are small whole numbers, so that nearly all tie, within blocks and across them."""
    draw = torch.Generator().manual_seed(seed)
    keys = [torch.randint(-1, 2, (4, 50), generator=draw).float() for _ in range(12)]
    rows, positions = laid_out(keys)
    query = torch.randint(-1, 2, (4, 6, 6), generator=draw).float()
    top = readout.top_k(rows, readout.query_columns(query), 20, everything(rows))
    torch.testing.assert_close(as_dense(top, positions, len(rows)), dense(keys, query, 20), atol=1e-6, rtol=0)


def test_all_elements_equal() -> None:
    """Even where everything ties, the first k are read."""
    keys = [torch.full((8, 40), 0.5)] * 6
    rows, positions = laid_out(keys)
    top = readout.top_k(rows, readout.query_columns(torch.ones(8, 2, 2)), 20, everything(rows))
    assert top.index.tolist() == [positions[:20]] * 4
    torch.testing.assert_close(top.weight, torch.full((4, 20), 0.05))


@pytest.mark.parametrize("tokens", [1, 3, 19, 20])
def test_fewer_elements_than_k(tokens: int) -> None:
    keys, query = random_keys("random", 1, 8, tokens, seed=2)
    rows, positions = laid_out(keys)
    top = readout.top_k(rows, readout.query_columns(query), 20, everything(rows))
    torch.testing.assert_close(as_dense(top, positions, len(rows)), dense(keys, query, 20), atol=1e-5, rtol=0)
    gathered = readout.gather_values([torch.ones(len(rows), 3)], top)
    torch.testing.assert_close(gathered, torch.ones(1, tokens, 3))


def test_k_of_one_and_of_more_than_there_are() -> None:
    keys, query = random_keys("random", 4, 8, 10, seed=3)
    rows, positions = laid_out(keys)
    for k in (1, 40, 500):
        top = readout.top_k(rows, readout.query_columns(query), k, everything(rows))
        torch.testing.assert_close(as_dense(top, positions, len(rows)), dense(keys, query, k), atol=1e-5, rtol=0)


def test_runs_with_gaps_read_nothing_between() -> None:
    keys, query = random_keys("random", 9, 16, 40, seed=4)
    rows, positions = laid_out(keys)
    read = [0, 1, 3, 7, 8]
    slot = len(rows) // 9
    runs = [(0, 2 * slot), (3 * slot, 4 * slot), (7 * slot, 9 * slot)]
    top = readout.top_k(rows, readout.query_columns(query), 20, runs)
    readable = torch.tensor([p // slot in read for p in positions])
    expected = dense(keys, query, 20, readable=readable)
    torch.testing.assert_close(as_dense(top, positions, len(rows)), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("frames", [9, 90])
@pytest.mark.parametrize("which", ["some", "best"])
def test_hidden_elements_are_not_read(frames: int, which: str) -> None:
    keys, query = random_keys("clustered", frames, 16, 40, seed=5)
    rows, positions = laid_out(keys)
    hidden = torch.rand(len(rows), generator=torch.Generator().manual_seed(0)) < 0.7
    if which == "best":  # whole frames that are nearer than all others
        keys[2:] = [key + 1 for key in keys[2:]]
        rows, _ = laid_out(keys)
        hidden = torch.arange(len(rows)) < 2 * (len(rows) // frames)
    top = readout.top_k(rows, readout.query_columns(query), 20, everything(rows), hidden)
    expected = dense(keys, query, 20, readable=~hidden[positions])
    torch.testing.assert_close(as_dense(top, positions, len(rows)), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("frames", [2, 9, 60])
@pytest.mark.parametrize("maxima_bytes", [96 << 20, 3_000])
def test_a_span_is_hidden_from_its_columns_only(
    frames: int, maxima_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The query pixels of a frame that lies in the memory itself, beside those of a frame that does not."""
    monkeypatch.setattr(readout, "RANK_BYTES", maxima_bytes)
    keys, query = random_keys("clustered", frames, 16, 40, seed=8)
    rows, positions = laid_out(keys)
    slot = len(rows) // frames
    both = torch.cat((query, keys[1][:, None]), 2)  # [Ck, 1, 80]
    span = readout.HiddenSpan(slot, 2 * slot, 40, 80)
    top = readout.top_k(rows, readout.query_columns(both), 20, everything(rows), spans=[span])
    found = as_dense(top, positions, len(rows))
    readable = torch.tensor([p // slot != 1 for p in positions])
    torch.testing.assert_close(found[:, :40], dense(keys, query, 20), atol=2e-5, rtol=0)
    expected = dense(keys, keys[1][:, None], 20, readable=readable)
    torch.testing.assert_close(found[:, 40:], expected, atol=2e-5, rtol=0)


def test_nothing_readable_is_an_error() -> None:
    rows, _ = laid_out([torch.ones(8, 4)])
    columns = readout.query_columns(torch.ones(8, 1, 1))
    with pytest.raises(ValueError, match="holds nothing"):
        readout.top_k(rows, columns, 20, [])


@pytest.mark.parametrize("size", [1e2, 1e4, 1e12, 1e18])
def test_huge_keys_give_no_nan(size: float) -> None:
    """STCN's own exponential overflows above 88; here only |k|^2 must stay a float32."""
    draw = torch.Generator().manual_seed(6)
    keys = [size * torch.randn(8, 40, generator=draw) for _ in range(3)]
    rows, _ = laid_out(keys)
    for query in (keys[1][:, None], torch.randn(8, 1, 40, generator=draw)):
        top = readout.top_k(rows, readout.query_columns(query), 20, everything(rows))
        weights = top.weight
        assert not weights.isnan().any()
        assert not readout.gather_values([torch.ones(len(rows), 2)], top).isnan().any()


def test_half_precision_keys_are_scored_in_float32() -> None:
    keys, query = random_keys("random", 4, 64, 50, seed=7)
    half = [key.bfloat16() for key in keys]
    rows, positions = laid_out(half)
    assert rows.dtype == torch.float32
    top = readout.top_k(rows, readout.query_columns(query.bfloat16()), 20, everything(rows))
    expected = dense([key.float() for key in half], query.bfloat16().float(), 20)
    torch.testing.assert_close(as_dense(top, positions, len(rows)), expected, atol=1e-5, rtol=0)


MEASURE = """
import resource, sys, threading, time
import torch
from stcn_core import readout

torch.set_num_threads(1)
frames, tokens = int(sys.argv[1]), 30 * 54
padded = -(-tokens // readout.BLOCK) * readout.BLOCK
rows = torch.randn(frames * padded, 65) * 0.5
values = [torch.zeros(frames * padded, 64)]
query = readout.query_columns(torch.randn(64, 30, 54))
readout.gather_values(values, readout.top_k(rows[:readout.BLOCK], query, 20, [(0, readout.BLOCK)]))  # libraries load

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()

before, peak, done = resident(), 0, False
def watch():
    global peak
    while not done:
        peak = max(peak, resident())
        time.sleep(0.001)
watcher = threading.Thread(target=watch)
watcher.start()
start = time.perf_counter()
readout.gather_values(values, readout.top_k(rows, query, 20, [(0, len(rows))]))
seconds = time.perf_counter() - start
done = True
watcher.join()
print((peak - before) / 2**20, seconds)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_extra_memory_at_480p_against_128_frames() -> None:
    """480x864 against 128 frames: the dense affinity alone would be 1,281 MiB."""
    run = subprocess.run(
        [sys.executable, "-c", MEASURE, "128"], cwd=ROOT, capture_output=True, text=True, check=True, timeout=120
    )
    peak, seconds = map(float, run.stdout.split())
    print(f"peak {peak:.0f} MiB, {seconds:.2f} s")
    assert peak <= 256
