"""Exact top-k memory readout that never holds the whole affinity.

STCN (Cheng et al. 2021, equations 2 to 4 and section 3.4): the affinity of memory element i and query pixel j is the
negative squared distance without the query's own term, (2 k_i . q_j - |k_i|^2) / sqrt(C); a softmax over the k largest
per query pixel weighs the values. STM's affinity is the plain dot product.

How it stays small and exact: the term -|k_i|^2 is one more key channel, so a score is one matrix product. Scores are
made chunk by chunk and only the maximum of each block of BLOCK elements is kept. The k best elements of a query lie in
the k blocks with the largest maxima (a block outside them is beaten by k elements, one from each), so only k * BLOCK
candidates per query pixel are scored a second time and sorted. Values are gathered, not multiplied densely.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

# Elements per block. At 480p with 128 frames on two CPU cores blocks of 16, 32, 64 took 1.10, 0.60, 0.56 s; 32 gathers
# half of the candidates of 64.
BLOCK = 32
# Memory elements per matrix product: on a CPU their scores stay in the cache; on a device larger is better.
CHUNK_CPU = 1024
CHUNK_DEVICE = 32768
# Bytes of candidate keys gathered at a time.
CANDIDATE_BYTES = 32 << 20
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


def top_k(
    rows: Tensor,
    columns: Tensor,
    k: int,
    runs: Sequence[tuple[int, int]],
    hidden: Tensor | None = None,
) -> TopK:
    """The k largest of rows @ columns for each column, over the elements in `runs`.

    rows [N, C] float32, N a multiple of BLOCK, elements that must never be read having -inf in the last channel.
    columns [C, Q]. runs: half-open element ranges, multiples of BLOCK. hidden [N] bool: elements not to be read.
    Ties go to the lowest element.
    """
    count = sum(end - start for start, end in runs)
    if count == 0:
        raise ValueError("the memory holds nothing that may be read")
    maxima, ids = _block_maxima(rows, columns, runs, hidden)  # [Q, blocks], [blocks]
    chosen = _largest(maxima, min(k, maxima.shape[1]))  # [Q, k']
    return _best_candidates(rows, columns, ids[chosen], k, hidden)


def gather_values(values: Sequence[Tensor], top: TopK) -> Tensor:
    """values: K maps [N, Cv] -> weighted sums [K, Q, Cv] in the values' dtype."""
    weight = top.weight.to(values[0].dtype)
    return torch.stack([F.embedding_bag(top.index, v, per_sample_weights=weight, mode="sum") for v in values])


def _block_maxima(
    rows: Tensor, columns: Tensor, runs: Sequence[tuple[int, int]], hidden: Tensor | None
) -> tuple[Tensor, Tensor]:
    chunk = CHUNK_CPU if rows.device.type == "cpu" else CHUNK_DEVICE
    blocks = sum(end - start for start, end in runs) // BLOCK
    maxima = torch.empty(blocks, columns.shape[1], device=rows.device)
    ids = torch.empty(blocks, dtype=torch.int64, device=rows.device)
    done = 0
    for first, last in runs:
        for start in range(first, last, chunk):
            end = min(start + chunk, last)
            scores = rows[start:end] @ columns  # [chunk, Q]
            if hidden is not None:
                scores.masked_fill_(hidden[start:end, None], float("-inf"))
            size = (end - start) // BLOCK
            torch.amax(scores.view(size, BLOCK, -1), 1, out=maxima[done : done + size])
            ids[done : done + size] = torch.arange(start // BLOCK, end // BLOCK, device=rows.device)
            done += size
    return maxima.t().contiguous(), ids


def _best_candidates(rows: Tensor, columns: Tensor, blocks: Tensor, k: int, hidden: Tensor | None) -> TopK:
    """blocks [Q, k'] -> the k best of their elements, scored again."""
    queries = columns.t().contiguous()  # [Q, C]
    within = torch.arange(BLOCK, device=rows.device)
    per_query = blocks.shape[1] * BLOCK * rows.shape[1] * 4
    step = max(1, CANDIDATE_BYTES // per_query)
    indices, scores = [], []
    for start in range(0, len(queries), step):
        block = blocks[start : start + step].sort(1).values  # ascending, so that ties fall to the lowest
        element = (block[:, :, None] * BLOCK + within).flatten(1)  # [q, k' * BLOCK]
        candidates = rows.index_select(0, element.flatten()).view(*element.shape, -1)  # [q, k' * BLOCK, C]
        score = torch.bmm(candidates, queries[start : start + step, :, None]).squeeze(2)
        if hidden is not None:
            score.masked_fill_(hidden[element], float("-inf"))
        best = _largest(score, min(k, score.shape[1]))
        indices.append(element.gather(1, best))
        scores.append(score.gather(1, best))
    index, score = torch.cat(indices), torch.cat(scores)
    # exp(score - max): the published code leaves the maximum in and overflows above 88.
    return TopK(index, torch.softmax(score, 1), score)


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
