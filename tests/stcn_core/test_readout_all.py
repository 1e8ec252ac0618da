"""STM's full softmax and the kernelised memory, against the whole affinity in float64."""

import pytest
import torch
from torch import Tensor

from stcn_core import readout, readout_all
from stcn_core.memory import MemoryBank
from stcn_core.readout import BLOCK, HiddenSpan
from stcn_core.settings import OfflineSettings

GRID = (6, 8)
QUERIES = 48


def rows_columns_values(seed: int, blocks: int = 12, objects: int = 2) -> tuple[Tensor, Tensor, list[Tensor]]:
    draw = torch.Generator().manual_seed(seed)
    rows = torch.randn(blocks * BLOCK, 9, generator=draw)
    rows[:, -1] = -rows[:, :-1].square().sum(1)
    rows[5 * BLOCK - 3 : 5 * BLOCK] = 0
    rows[5 * BLOCK - 3 : 5 * BLOCK, -1] = float("-inf")  # a slot's padding
    columns = torch.cat((torch.randn(8, QUERIES, generator=draw), torch.full((1, QUERIES), 0.35)))
    return rows, columns, [torch.randn(len(rows), 7, generator=draw) for _ in range(objects)]


@pytest.mark.parametrize("piece", [1 << 26, 4 * QUERIES * 5])
def test_full_softmax_equals_the_dense_one(monkeypatch: pytest.MonkeyPatch, piece: int) -> None:
    monkeypatch.setattr(readout_all, "SCORE_BYTES", piece)
    rows, columns, values = rows_columns_values(0)
    columns = columns * 30  # scores far beyond what an exponential without the maximum bears
    runs = [(0, 3 * BLOCK), (4 * BLOCK, 12 * BLOCK)]
    hidden = torch.zeros(len(rows), dtype=torch.bool)
    hidden[70:75] = True
    spans = [HiddenSpan(0, 2 * BLOCK, 10, 20)]
    found = readout_all.read_all(rows, columns, values, runs, hidden, spans)
    scores = rows.double() @ columns.double()
    scores[3 * BLOCK : 4 * BLOCK] = scores[hidden] = float("-inf")
    scores[: 2 * BLOCK, 10:20] = float("-inf")
    expected = torch.stack([torch.softmax(scores, 0).t() @ value.double() for value in values])
    torch.testing.assert_close(found.double(), expected, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("piece", [1 << 26, 4 * QUERIES * 7])
def test_kernel_equals_brute_force(monkeypatch: pytest.MonkeyPatch, piece: int) -> None:
    monkeypatch.setattr(readout_all, "SCORE_BYTES", piece)
    rows, columns, _ = rows_columns_values(1)
    runs, sigma = [(0, 2 * BLOCK), (3 * BLOCK, 12 * BLOCK)], 1.5
    spans = [HiddenSpan(3 * BLOCK, 4 * BLOCK, 0, QUERIES)]
    top = readout_all.kernel_top_k(rows, columns, 6, runs, GRID, sigma, None, spans)
    affinity = (rows.double() @ columns.double()).exp()
    for element in range(len(rows)):
        y, x = divmod(int(affinity[element].argmax()), GRID[1])
        for query in range(QUERIES):
            far = (query // GRID[1] - y) ** 2 + (query % GRID[1] - x) ** 2
            affinity[element, query] *= torch.exp(torch.tensor(-far / (2 * sigma**2), dtype=torch.float64))
    affinity[2 * BLOCK : 4 * BLOCK] = 0
    best = affinity.topk(6, 0)
    assert torch.equal(top.index, best.indices.t())
    weights = (best.values / best.values.sum(0)).t()
    torch.testing.assert_close(top.weight.double(), weights, atol=1e-5, rtol=1e-4)
    plain = readout.top_k(rows, columns, 6, runs, None, spans)
    assert not torch.equal(plain.index, top.index)
    wide = readout_all.kernel_top_k(rows, columns, 6, runs, GRID, 1e6, None, spans)
    assert torch.equal(plain.index, wide.index)  # so wide a kernel changes nothing


@pytest.mark.parametrize("changes", [{"top_k": 0, "affinity": "dot"}, {"top_k": 0}, {"kernel_sigma": 2.0}])
def test_the_bank_reads_so(changes: dict) -> None:
    draw = torch.Generator().manual_seed(3)
    bank = MemoryBank(OfflineSettings(memory_policy="unbounded", **changes), GRID, 2, 8, 5, pinned=0)
    keys, values = torch.randn(4, 8, *GRID, generator=draw), torch.randn(4, 2, 5, *GRID, generator=draw)
    for frame in range(4):
        bank.memorise(bank.admit(frame), frame, keys[frame], values[frame], [True, True])
    query = torch.randn(2, 8, *GRID, generator=draw)
    found = bank.read_batch(query, [3, 9], [0, 1])  # frame 3 does not read its own slot
    for b, held in ((0, 3), (1, 4)):
        memory, asked = keys[:held].transpose(0, 1).flatten(1).double(), query[b].flatten(1).double()
        scores = memory.t() @ asked / 8**0.5
        if changes.get("affinity") != "dot":
            scores = (2 * memory.t() @ asked - memory.square().sum(0)[:, None]) / 8**0.5
        if "kernel_sigma" in changes:
            place = torch.stack((torch.arange(48) // 8, torch.arange(48) % 8), 1)
            far = (place[scores.argmax(1)][:, None] - place[None]).square().sum(2)
            scores = scores - far / 8
            best = scores.topk(20, 0)
            scores = torch.full_like(scores, float("-inf")).scatter_(0, best.indices, best.values)
        seen = values[:held].permute(1, 2, 0, 3, 4).flatten(2).double()  # [K, Cv, N]
        expected = (seen @ torch.softmax(scores, 0)).unflatten(2, GRID)
        torch.testing.assert_close(found[b].double(), expected, atol=1e-4, rtol=1e-3)
