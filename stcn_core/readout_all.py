"""Readouts that are not a top-k of plain affinities: STM's full softmax, and the kernelised memory of STCN's ms branch.

Both are streamed over the memory, so that the whole affinity never exists.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from stcn_core.readout import HiddenSpan, TopK, _largest

# Bytes of scores that live at a time.
SCORE_BYTES = 64 << 20


def read_all(
    rows: Tensor,
    columns: Tensor,
    values: Sequence[Tensor],
    runs: Sequence[tuple[int, int]],
    hidden: Tensor | None = None,
    spans: Sequence[HiddenSpan] = (),
    handicap: Tensor | None = None,
) -> Tensor:
    """STM (Oh et al. 2019, equation 2): a softmax over every readable element weighs the values.

    Arguments as of readout.top_k; values: K maps [N, Cv] -> [K, Q, Cv] in the values' dtype, summed in float32. A
    running maximum keeps the sums in range (Milakov and Gimelshein 2018). handicap [N]: taken off the affinities.
    """
    queries = columns.shape[1]
    largest = torch.full((queries,), float("-inf"), device=rows.device)
    weight = torch.zeros(queries, device=rows.device)
    total = torch.zeros(len(values), queries, values[0].shape[1], device=rows.device)
    for start, end in _pieces(runs, queries):
        scores = _scores(rows, columns, start, end, hidden, spans)  # [n, Q]
        if handicap is not None:
            scores = scores - handicap[start:end, None]
        larger = torch.maximum(largest, scores.amax(0))
        shift = torch.where(larger.isinf(), 0.0, larger)  # nothing readable so far
        kept = torch.exp(largest - shift)
        share = torch.exp(scores - shift)
        weight = weight * kept + share.sum(0)
        total = total * kept[None, :, None] + torch.stack([share.t() @ value[start:end].float() for value in values])
        largest = larger
    return (total / weight[None, :, None]).to(values[0].dtype)


def kernel_top_k(
    rows: Tensor,
    columns: Tensor,
    k: int,
    runs: Sequence[tuple[int, int]],
    grid: tuple[int, int],
    sigma: float,
    hidden: Tensor | None = None,
    spans: Sequence[HiddenSpan] = (),
) -> TopK:
    """The k best elements under a kernelised affinity (Seong, Hyun, Kim 2020): each element's affinities are
    multiplied, before top-k, by a Gaussian of `sigma` feature pixels around the query pixel that it fits best.

    columns [C, Q] of ONE frame whose query pixels lie on grid (h, w), Q = h * w. Ties go to the lowest element.
    """
    height, width = grid
    queries = columns.shape[1]
    if queries != height * width:
        raise ValueError(f"{queries} query pixels are not one frame of {height} x {width}")
    y = (torch.arange(queries, device=rows.device) // width).float()
    x = (torch.arange(queries, device=rows.device) % width).float()
    best = torch.full((queries, 0), 0.0, device=rows.device)
    index = torch.zeros((queries, 0), dtype=torch.int64, device=rows.device)
    for start, end in _pieces(runs, queries):
        scores = _scores(rows, columns, start, end, None, ())
        centre = scores.argmax(1)  # [n]
        distance = (y[centre, None] - y).square() + (x[centre, None] - x).square()
        scores = scores - distance / (2 * sigma * sigma)  # in the exponent
        scores = _masked(scores, start, end, hidden, spans)
        elements = torch.arange(start, end, device=rows.device).expand(queries, -1)
        best, index = torch.cat((best, scores.t()), 1), torch.cat((index, elements), 1)
        chosen = _largest(best, min(k, best.shape[1]))
        best, index = best.gather(1, chosen), index.gather(1, chosen)
    return TopK(index, torch.softmax(best, 1), best)


def _pieces(runs: Sequence[tuple[int, int]], queries: int) -> list[tuple[int, int]]:
    step = max(1, SCORE_BYTES // (4 * queries))
    return [(start, min(start + step, last)) for first, last in runs for start in range(first, last, step)]


def _scores(
    rows: Tensor, columns: Tensor, start: int, end: int, hidden: Tensor | None, spans: Sequence[HiddenSpan]
) -> Tensor:
    return _masked(rows[start:end] @ columns, start, end, hidden, spans)


def _masked(scores: Tensor, start: int, end: int, hidden: Tensor | None, spans: Sequence[HiddenSpan]) -> Tensor:
    """Scores [n, Q] of the elements start to end, -inf where they are not to be read."""
    if hidden is not None:
        scores = scores.masked_fill(hidden[start:end, None], float("-inf"))
    for span in spans:
        first, last = max(span.first, start), min(span.last, end)
        if first < last:
            scores[first - start : last - start, span.first_column : span.last_column] = float("-inf")
    return scores
