"""Exact top-k memory readout that never holds the whole affinity.

STCN (Cheng et al. 2021, equations 2 to 4 and section 3.4): the affinity of memory element i and query pixel j is the
negative squared distance without the query's own term, (2 k_i . q_j - |k_i|^2) / sqrt(C); a softmax over the k largest
per query pixel weighs the values. STM's affinity is the plain dot product.

How it stays small and exact: the term -|k_i|^2 is one more key channel, so a score is one matrix product. Scores are
made chunk by chunk, small enough to stay in a CPU's cache, and only the maximum of each block of BLOCK elements is
kept. The k best elements of a query lie in the k blocks with the largest maxima (a block outside them is beaten by k
elements, one from each), and those blocks, for the same reason, in the k superblocks with the largest maxima. So only
k * BLOCK candidates per query pixel are scored a second time and sorted. Values are gathered, not multiplied densely.
Where the network computes in bfloat16 the first product does, too (stcn_core/score_product.py).
"""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from stcn_core.score_product import FullProduct, HalfProduct

BLOCK = 16  # elements per block
SUPERBLOCK = 16  # blocks per superblock
# Bytes of scores made per matrix product: on a CPU they stay in the cache; on a device larger is better. Tuned at 480p
# on two cores: 3 MiB took 1.2 times as long, 16 MiB 1.7 times.
SCORE_BYTES_CPU = 8 << 20
SCORE_BYTES_DEVICE = 64 << 20
# Bytes of block ranks that may live at a time; more query pixels than that are read in turns.
RANK_BYTES = 96 << 20
# Bytes of ranks of chosen blocks, as integers of 64 bits, that are made at a time.
CHOICE_BYTES = 32 << 20
# Bytes of candidate keys gathered at a time.
CANDIDATE_BYTES_CPU = 2 << 20
CANDIDATE_BYTES_DEVICE = 32 << 20
# Bytes of packed integers made at a time while sorting; about four arrays of this size live at once.
PACKED_BYTES = 8 << 20

Affinity = Literal["l2", "dot"]


@dataclass(frozen=True)
class TopK:
    """For each of Q query pixels the k best memory elements.

    index [Q, k] int64 into the flattened elements, weight [Q, k] float32 (softmax over the k scores; 0 where there
    were fewer than k readable elements), score [Q, k] float32, best first.
    """

    index: Tensor
    weight: Tensor
    score: Tensor


def key_rows(key: Tensor, affinity: Affinity = "l2") -> Tensor:
    """key [Ck, h, w] or [Ck, T] -> rows [T, Ck + 1] float32, the last channel holding -|k|^2 (0 for dot)."""
    rows = key.flatten(1).t().float()  # [T, Ck]
    square = -rows.square().sum(1, keepdim=True) if affinity == "l2" else torch.zeros_like(rows[:, :1])
    return torch.cat((rows, square), 1)


def query_columns(query: Tensor, affinity: Affinity = "l2") -> Tensor:
    """query [Ck, h, w] -> columns [Ck + 1, Q] float32, scaled so that rows @ columns is the affinity."""
    flat = query.flatten(1).float()  # [Ck, Q]
    scale = flat.shape[0] ** -0.5
    factor = 2 * scale if affinity == "l2" else scale
    return torch.cat((flat * factor, torch.full_like(flat[:1], scale)), 0)


@dataclass(frozen=True)
class HiddenSpan:
    """Elements [first, last) that the query columns [first_column, last_column) do not read; multiples of BLOCK."""

    first: int
    last: int
    first_column: int
    last_column: int


@dataclass(frozen=True)
class Question:
    """What a memory is asked: columns [C, Q], and which elements may answer; all as `top_k` has them."""

    columns: Tensor
    half: Tensor | None
    runs: list[tuple[int, int]]
    hidden: Tensor | None
    spans: list[HiddenSpan]


def top_k(
    rows: Tensor,
    columns: Tensor,
    k: int,
    runs: Sequence[tuple[int, int]],
    hidden: Tensor | None = None,
    spans: Sequence[HiddenSpan] = (),
    half: Tensor | None = None,
) -> TopK:
    """The k largest of rows @ columns for each column, over the elements in `runs`.

    rows [N, C] float32, N a multiple of BLOCK, elements that must never be read having -inf in the last channel.
    columns [C, Q]. runs: half-open element ranges, multiples of BLOCK. hidden [N] bool: elements not to be read by
    any column; spans: by some of them, each of which must be left something to read. half [C - 1, Q] bfloat16: the
    queries themselves, where all keys are exact in that type and `score_product.pays`: less time, the same result but
    for elements that float32 cannot tell apart. Ties go to the lowest element.
    """
    blocks = sum(end - start for start, end in runs) // BLOCK
    if blocks == 0:
        raise ValueError("the memory holds nothing that may be read")
    size = torch.float32.itemsize if half is None else torch.int16.itemsize
    step = max(1, RANK_BYTES // (size * blocks))
    found = []
    for start in range(0, columns.shape[1], step):
        some = slice(start, min(start + step, columns.shape[1]))
        part = columns[:, some].contiguous()
        product = FullProduct(rows, part) if half is None else HalfProduct(rows, half[:, some])
        found.append(_top_k(product, part, k, runs, hidden, _clipped(spans, range(some.start, some.stop))))
    index, score = (torch.cat(parts) for parts in zip(*found, strict=True))
    # exp(score - max): the published code leaves the maximum in and overflows above 88.
    return TopK(index, torch.softmax(score, 1), score)


def _top_k(
    product: FullProduct | HalfProduct,
    columns: Tensor,
    k: int,
    runs: Sequence[tuple[int, int]],
    hidden: Tensor | None,
    spans: Sequence[HiddenSpan],
) -> tuple[Tensor, Tensor]:
    """index and score [Q, k] for columns whose block ranks fit into memory together."""
    rows = product.rows
    ids = torch.cat([torch.arange(start // BLOCK, end // BLOCK, device=rows.device) for start, end in runs])
    ranks = _block_ranks(product, runs, hidden)  # [blocks, Q]
    for span in spans:
        inside = (ids >= span.first // BLOCK) & (ids < span.last // BLOCK)
        ranks[: len(ids), span.first_column : span.last_column].masked_fill_(inside[:, None], product.nothing)
    if isinstance(product, FullProduct):
        return _chosen(product, ranks, columns, k, k, ids, hidden)[:2]
    queries = columns.shape[1]
    index = torch.empty(queries, min(k, len(ids) * BLOCK), dtype=torch.int64, device=rows.device)
    score = columns.new_empty(index.shape)
    asked = torch.arange(queries, device=rows.device)
    for count in product.candidates(k):
        doubted = []
        for some in asked.split(max(1, CHOICE_BYTES // (8 * count * SUPERBLOCK))):
            whole = len(some) == queries  # then nothing is copied
            part, ranked = (columns, ranks) if whole else (columns[:, some].contiguous(), ranks[:, some])
            index[some], score[some], left = _chosen(product, ranked, part, k, count, ids, hidden)
            doubted.append(some[product.doubtful(score[some, -1], left, some)])
        asked = torch.cat(doubted)
        if not len(asked):
            return index, score
        if len(asked) > queries // 2:
            break  # a still picture, whose blocks tie: more of them would not tell
    del ranks, ranked
    for some in asked.split(max(1, RANK_BYTES // (torch.float32.itemsize * len(ids)))):
        part = columns[:, some].contiguous()
        index[some], score[some] = _top_k(
            FullProduct(rows, part), part, k, runs, hidden, _clipped(spans, some.tolist())
        )
    return index, score


def _chosen(
    product: FullProduct | HalfProduct,
    ranks: Tensor,
    columns: Tensor,
    k: int,
    count: int,
    ids: Tensor,
    hidden: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Index and score [Q, k] of the best elements of the `count` blocks that rank highest, and the highest rank of the
    others [Q]. ids: where the blocks that are ranked lie."""
    best, position, left = _best_blocks(ranks, count, len(ids), product.nothing)
    unread = best == product.nothing
    # Where scores are NaN, the fill behind the last block may rank above them: it stands for no block.
    blocks = ids[position.clamp(max=len(ids) - 1)]
    return *_best_candidates(product.rows, columns, blocks, unread, k, hidden), left


def _clipped(spans: Sequence[HiddenSpan], columns: Sequence[int]) -> list[HiddenSpan]:
    """The spans as seen by these columns, ascending, alone."""
    return [
        replace(
            span,
            first_column=bisect_left(columns, span.first_column),
            last_column=bisect_left(columns, span.last_column),
        )
        for span in spans
    ]


def gather_values(values: Sequence[Tensor], top: TopK) -> Tensor:
    """values: K maps [N, Cv] -> weighted sums [K, Q, Cv] in the values' dtype."""
    weight = top.weight.to(values[0].dtype)
    return torch.stack([F.embedding_bag(top.index, v, per_sample_weights=weight, mode="sum") for v in values])


def _block_ranks(product: FullProduct | HalfProduct, runs: Sequence[tuple[int, int]], hidden: Tensor | None) -> Tensor:
    """[blocks, Q], the blocks of all runs in turn, filled up with `nothing` to whole superblocks."""
    queries, device = product.columns.shape[1], product.rows.device
    score_bytes = SCORE_BYTES_CPU if device.type == "cpu" else SCORE_BYTES_DEVICE
    chunk = max(1, score_bytes // (product.itemsize * queries * BLOCK)) * BLOCK
    blocks = sum(end - start for start, end in runs) // BLOCK
    ranks = torch.empty(-(-blocks // SUPERBLOCK) * SUPERBLOCK, queries, dtype=product.ranks, device=device)
    ranks[blocks:] = product.nothing
    done = 0
    for first, last in runs:
        for start in range(first, last, chunk):
            end = min(start + chunk, last)
            size = (end - start) // BLOCK
            product.rank_blocks(start, end, hidden, ranks[done : done + size])
            done += size
    return ranks


def _best_blocks(ranks: Tensor, k: int, blocks: int, nothing: float) -> tuple[Tensor, Tensor, Tensor]:
    """ranks [blocks, Q] in whole superblocks -> the k largest [Q, k'], their positions, ascending by position, and the
    largest one that is not among them [Q] (`nothing`: none is left)."""
    queries = ranks.shape[1]
    grouped = ranks.view(-1, SUPERBLOCK, queries)
    chosen, left = _split_largest(grouped.amax(1).t(), min(k, len(grouped)), nothing)  # [Q, s], [Q]
    within = torch.arange(SUPERBLOCK, device=ranks.device)
    position = (chosen[:, :, None] * SUPERBLOCK + within).flatten(1)  # [Q, s * SUPERBLOCK], ascending
    column = torch.arange(queries, device=ranks.device)[:, None]
    candidates = ranks.flatten()[position * queries + column]
    best, also_left = _split_largest(candidates, min(k, blocks), nothing)
    return candidates.gather(1, best), position.gather(1, best), torch.maximum(left, also_left)


def _split_largest(score: Tensor, k: int, nothing: float) -> tuple[Tensor, Tensor]:
    """score [Q, n] -> positions [Q, k] of the k largest, ascending, so that ties fall to the lowest, and the largest of
    the others [Q] (`nothing`: there are no others)."""
    order = _largest(score.float(), min(k + 1, score.shape[1]))
    if order.shape[1] == k:
        return order.sort(1).values, score.new_full((len(score),), nothing)
    return order[:, :k].sort(1).values, score.gather(1, order[:, k:])[:, 0]


def _best_candidates(
    rows: Tensor, columns: Tensor, blocks: Tensor, unread: Tensor, k: int, hidden: Tensor | None
) -> tuple[Tensor, Tensor]:
    """blocks [Q, k'] -> index and score [Q, k] of the best of their elements, scored again. unread [Q, k'] bool: blocks
    that the column may not read, whatever their elements score."""
    channels, queries = columns.shape
    wanted = columns.t().contiguous()  # [Q, C]
    blocked = rows.view(-1, BLOCK * channels)
    candidate_bytes = CANDIDATE_BYTES_CPU if rows.device.type == "cpu" else CANDIDATE_BYTES_DEVICE
    step = max(1, candidate_bytes // (4 * blocks.shape[1] * BLOCK * channels))
    buffer = torch.empty(min(step, queries) * blocks.shape[1], BLOCK * channels, device=rows.device)
    score = torch.empty(queries, blocks.shape[1] * BLOCK, device=rows.device)
    for start in range(0, queries, step):
        part = blocks[start : start + step]
        keys = torch.index_select(blocked, 0, part.flatten(), out=buffer[: part.numel()])
        keys = keys.view(len(part), -1, channels)  # [q, k' * BLOCK, C]
        # A batched product of a matrix and one vector is several times slower.
        torch.sum(keys.mul_(wanted[start : start + step, None]), 2, out=score[start : start + step])
    element = (blocks[:, :, None] * BLOCK + torch.arange(BLOCK, device=rows.device)).flatten(1)
    score.view(queries, -1, BLOCK).masked_fill_(unread[:, :, None], float("-inf"))
    if hidden is not None:
        score.masked_fill_(hidden[element], float("-inf"))
    position = _largest(score, min(k, score.shape[1]))
    return element.gather(1, position), score.gather(1, position)


def _largest(score: Tensor, k: int) -> Tensor:
    """Positions [Q, k] of the k largest of score [Q, n], descending, the lowest position first among equals.

    torch.topk leaves ties open, so score and position are packed into one integer that has none.
    """
    step = max(1, PACKED_BYTES // (8 * score.shape[1]))
    return torch.cat([_largest_packed(part, k) for part in score.split(step)])


def _largest_packed(score: Tensor, k: int) -> Tensor:
    bits = score.contiguous().view(torch.int32).to(torch.int64)
    ordered = torch.where(bits < 0, bits ^ 0x7FFFFFFF, bits)  # integers in the order of the floats
    position = torch.arange(score.shape[1], device=score.device)
    packed = (ordered << 32) | (0xFFFFFFFF - position)
    return 0xFFFFFFFF - (packed.topk(k, 1).values & 0xFFFFFFFF)
