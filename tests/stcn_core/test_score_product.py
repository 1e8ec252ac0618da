"""The bfloat16 product against the float32 one: the same elements, whatever the keys are like."""

import pytest
import torch
from torch import Tensor

from stcn_core import memory, readout, score_product
from stcn_core.memory import MemoryBank
from stcn_core.readout import BLOCK, HiddenSpan
from stcn_core.score_product import HalfProduct
from stcn_core.settings import OfflineSettings

K = 20
CHANNELS = 64


def keys_of(kind: str, elements: int, queries: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Keys [Ck, elements] and queries [Ck, queries], bfloat16."""
    draw = torch.Generator().manual_seed(seed)

    def noise(count: int) -> Tensor:
        return torch.randn(CHANNELS, count, generator=draw)

    if kind == "random":
        keys, query = noise(elements), noise(queries)
    elif kind == "still":  # frames that are equal to the last bit: whole blocks tie
        keys, query = noise(elements // 16).repeat(1, 16), noise(queries)
    elif kind == "found":  # the queries are in the memory, many times, and nearly
        query = 3 * noise(queries)
        keys = query.repeat(1, -(-elements // queries))[:, :elements].clone()
        keys[:, elements // 2 :] += 0.02 * noise(elements - elements // 2)
    elif kind == "far":  # a common part much larger than the differences
        keys, query = 100 + noise(elements), 100 + noise(queries)
    else:
        assert kind == "sphere"  # all nearly equally far from every query
        steps = torch.randint(0, 2, (CHANNELS, elements), generator=draw)
        keys, query = 1 + steps / 128, 0.05 * noise(queries)
    return keys.bfloat16(), query.bfloat16()


KINDS = ["random", "still", "found", "far", "sphere"]


def both(keys: Tensor, query: Tensor, **options: object) -> tuple[readout.TopK, readout.TopK]:
    """By the full product and by the half one."""
    rows = readout.key_rows(keys)
    options.setdefault("runs", [(0, len(rows))])
    columns = readout.query_columns(query)
    return readout.top_k(rows, columns, K, **options), readout.top_k(rows, columns, K, half=query, **options)


def assert_same(full: readout.TopK, half: readout.TopK) -> None:
    """Bit for bit, except for the last of the k where float32 itself cannot tell which: there the full product, which
    rounds sums of large terms, may leave out a block that the half one, which sums distances, does not."""
    finite = full.score[full.score.isfinite()]
    rounding = 4e-6 * finite.abs().max()
    assert torch.equal(full.score.isfinite(), half.score.isfinite())
    assert (finite - half.score[half.score.isfinite()]).abs().max() <= rounding
    other = full.index != half.index
    assert not (other & (full.score > full.score[:, -1:] + 2 * rounding)).any()
    assert other.float().mean() < 0.01


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("kind", KINDS)
def test_the_same_elements_are_read(kind: str, seed: int) -> None:
    assert_same(*both(*keys_of(kind, 4096, 150, seed)))


@pytest.mark.parametrize("kind", KINDS)
def test_hidden_elements_stay_hidden(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Single elements, spans of some columns, gaps between the runs; query pixels read in turns."""
    keys, query = keys_of(kind, 4096, 150)
    hidden = torch.rand(4096, generator=torch.Generator().manual_seed(1)) < 0.3
    spans = [HiddenSpan(512, 1024, 0, 50), HiddenSpan(2048, 4096, 40, 120)]
    monkeypatch.setattr(readout, "RANK_BYTES", 2 * 256 * 70)
    assert_same(*both(keys, query, runs=[(0, 1024), (1040, 4096)], hidden=hidden, spans=spans))


def test_hardly_anything_may_be_read() -> None:
    """Fewer elements than k, and slots that were never filled."""
    keys, query = keys_of("random", 64, 10)
    rows = readout.key_rows(keys)
    rows[10:] = 0
    rows[10:, -1] = float("-inf")
    columns = readout.query_columns(query)
    full, half = (readout.top_k(rows, columns, K, [(0, 64)], half=h) for h in (None, query))
    assert_same(full, half)
    assert (half.weight[:, 10:] == 0).all()
    assert half.weight[:, :10].sum(1).allclose(torch.ones(10))


@pytest.mark.parametrize("kind", ["still", "sphere"])
def test_without_its_doubts_it_would_err(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the test above can find: rounding alone does take the wrong elements."""
    monkeypatch.setattr(
        HalfProduct, "doubtful", lambda self, worst, left, columns: torch.zeros_like(left, dtype=torch.bool)
    )
    full, half = both(*keys_of(kind, 4096, 150))
    assert (full.index != half.index).any()


def test_doubt_is_rare() -> None:
    """Otherwise it would cost more than it saves. (Random keys are the worst case that is not made on purpose.)"""
    doubted = []
    judged = HalfProduct.doubtful

    def noted(self: HalfProduct, worst: Tensor, left: Tensor, columns: Tensor) -> Tensor:
        doubted.append(judged(self, worst, left, columns))
        return doubted[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(HalfProduct, "doubtful", noted)
        both(*keys_of("random", 50_000, 200))
    assert doubted
    assert doubted[0].float().mean() < 0.1


def test_a_still_picture_takes_bounded_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything ties and is in doubt: it is read in full at once, in pieces that fit."""
    keys, query = keys_of("still", 4096, 150)
    keys = keys[:, :1].expand(-1, 4096).contiguous()
    seen = []
    made = readout.FullProduct.__init__
    monkeypatch.setattr(
        readout.FullProduct, "__init__", lambda self, rows, part: seen.append(part.shape[1]) or made(self, rows, part)
    )
    tried = []
    chosen = readout._best_blocks
    monkeypatch.setattr(readout, "_best_blocks", lambda ranks, k, *rest: tried.append(k) or chosen(ranks, k, *rest))
    monkeypatch.setattr(readout, "RANK_BYTES", 4 * 256 * 40)
    rows = readout.key_rows(keys)
    half = readout.top_k(rows, readout.query_columns(query), K, [(0, 4096)], half=query)
    assert half.index.tolist() == [list(range(K))] * 150
    assert max(seen) == 40 and sum(seen) == 150
    assert set(tried) == {25, K}  # no second round


def test_many_columns_are_chosen_for_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    keys, query = keys_of("found", 4096, 150)
    whole = both(keys, query)[1]
    monkeypatch.setattr(readout, "CHOICE_BYTES", 8 * 25 * readout.SUPERBLOCK * 40)
    pieces = both(keys, query)[1]
    assert torch.equal(whole.index, pieces.index)
    assert torch.equal(whole.score, pieces.score)


def test_a_key_that_is_no_number_elsewhere_changes_nothing() -> None:
    """Not a number in a slot that is not read: what is read is read with care."""
    keys, query = keys_of("sphere", 4096, 150)
    keys[:, 4000] = float("nan")
    assert_same(*both(keys, query, runs=[(0, 3968)]))


def test_parts_add_up() -> None:
    numbers = torch.cat((torch.randn(1000).exp() * 1000, torch.tensor([0.0, 1.0, float("inf"), float("-inf")])))
    parts = score_product._parts(numbers)
    assert parts.dtype == torch.bfloat16
    assert torch.equal(parts.float().sum(0), numbers)


def test_ranks_are_those_of_the_distances() -> None:
    keys, query = keys_of("random", 320, 30)
    rows = readout.key_rows(keys)
    ranks = torch.empty(20, 30, dtype=torch.int16)
    HalfProduct(rows, query).rank_blocks(0, 320, None, ranks)
    distance = (keys.double()[:, :, None] - query.double()[:, None]).square().sum(0) / 2  # [N, Q]
    nearest = distance.view(20, BLOCK, 30).amin(1)
    assert torch.equal(ranks.bitwise_not().view(torch.bfloat16), nearest.bfloat16())


@pytest.mark.parametrize("policy", ["fifo", "random-token"])
def test_a_bank_of_bfloat16_keys_reads_by_it(policy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The readout is that of the same keys in float32; other types and affinities do not use it."""
    used = []
    made = HalfProduct.__init__
    monkeypatch.setattr(HalfProduct, "__init__", lambda self, *args: used.append(1) or made(self, *args))
    monkeypatch.setattr(score_product, "computes_in", lambda dtype, device: dtype == torch.bfloat16)
    draw = torch.Generator().manual_seed(0)

    def readouts(dtype: torch.dtype, affinity: str = "l2") -> Tensor:
        draw.manual_seed(0)
        settings = OfflineSettings(memory_frames=4, memory_policy=policy, affinity=affinity)
        bank = MemoryBank(settings, (6, 7), 2, CHANNELS, 8, pinned=1)
        for frame in range(9):
            key = torch.randn(CHANNELS, 6, 7, generator=draw).bfloat16().to(dtype)
            values = torch.randn(2, 8, 6, 7, generator=draw)
            if frame:
                bank.memorise(bank.admit(frame), frame, key, values, [True, True])
            else:
                bank.pin(frame, key, values, [True, True])
        queries = torch.randn(3, CHANNELS, 6, 7, generator=draw).bfloat16().to(dtype)
        return bank.read_batch(queries, [8, 20, 21], range(2))

    full = readouts(torch.float32)
    readouts(torch.bfloat16, affinity="dot")
    assert not used
    assert torch.equal(readouts(torch.bfloat16), full)
    assert used


def test_a_bank_with_other_keys_is_read_in_full(monkeypatch: pytest.MonkeyPatch) -> None:
    """One key that bfloat16 cannot hold is enough; a bank that was loaded is looked at."""
    monkeypatch.setattr(score_product, "computes_in", lambda dtype, device: True)
    used = []
    made = HalfProduct.__init__
    monkeypatch.setattr(HalfProduct, "__init__", lambda self, *args: used.append(1) or made(self, *args))
    bank = MemoryBank(OfflineSettings(memory_frames=4, recent_frames=2), (3, 4), 1, 8, 2, pinned=1)
    key, values = torch.randn(8, 3, 4).bfloat16(), torch.randn(1, 2, 3, 4)
    query = torch.randn(1, 8, 3, 4).bfloat16()
    bank.pin(0, key.float(), values, [True])
    bank.memorise(bank.admit(1), 1, key, values, [True])
    bank.read_batch(query, [7], [0])
    assert len(used) == 1

    other = MemoryBank(OfflineSettings(memory_frames=4, recent_frames=2), (3, 4), 1, 8, 2, pinned=1)
    other.arrange(bank.layout())
    for index in range(2):
        for mine, theirs in zip(other.contents(index)[:2], bank.contents(index)[:2], strict=True):
            mine.copy_(theirs)
    other.read_batch(query, [7], [0])
    assert len(used) == 2
    other.arrange(bank.layout())
    other.contents(0)[0].copy_(torch.randn(12, 9))
    other.read_batch(query, [7], [0])
    assert len(used) == 2

    bank.remember_recent(2, key.float() + 1e-4, values, [True])
    bank.read_batch(query, [7], [0])
    assert len(used) == 2


def test_where_it_does_not_pay(monkeypatch: pytest.MonkeyPatch) -> None:
    half = torch.zeros(1, CHANNELS, 2, 2, dtype=torch.bfloat16)
    monkeypatch.setattr(score_product, "computes_in", lambda dtype, device: False)
    assert not memory.pays(half, "l2")
    monkeypatch.setattr(score_product, "computes_in", lambda dtype, device: True)
    assert memory.pays(half, "l2")
    assert not memory.pays(half.float(), "l2")
    assert not memory.pays(half.half(), "l2")
    assert not memory.pays(half, "dot")
