"""The matrix products by which blocks of memory elements are ranked for each query pixel, chunk by chunk.

`FullProduct` makes the affinities in float32. `HalfProduct` takes about half of the time where the network computes in
bfloat16: its keys are then exact in that type, products of two of them are summed in float32, and only the sum is
rounded. What it makes is |q - k|^2 / 2, all three terms in the product, because the best matches are then the numbers
next to zero, which are rounded least. Rounding still leaves a doubt which elements are the best k; so some
blocks more are scored again in float32, and `HalfProduct.doubtful` says for which query pixels even these may not hold
all of them.
"""

import torch
from torch import Tensor

from stcn_core.precision import computes_in

HALF = torch.bfloat16  # float16 ends at 65504, which a squared norm may pass
PARTS = 3  # numbers of that type that add up to one of float32: 3 x 8 bits are its 24
# Sums of n products in float32 are off by at most n * 2^-24 of the terms' absolute sum, whatever the order (Higham
# 2002, section 3.1); twice that, because processors that add pairs first round differently.
ROUNDING = 2 * 2**-24
# Blocks scored again per k wanted, and, where that leaves a doubt, before all are. Of random keys in 64 dimensions 2 %
# of the query pixels are left in doubt by 1.25 (by 1.0 74 %, by 1.5 none), of a noisy still picture's, 26 times over,
# 14 %, of those of real clips none. Frames that are equal bit by bit leave all in doubt, and are read in full after
# all, which takes longer than the full product alone.
CANDIDATES = (1.25, 6)


class FullProduct:
    """rows [N, C] @ columns [C, Q], float32: the affinity itself. A block's rank is its largest affinity."""

    itemsize = torch.float32.itemsize  # of the products
    ranks = torch.float32
    nothing = float("-inf")  # rank of a block that nothing may be read from

    def __init__(self, rows: Tensor, columns: Tensor) -> None:
        self.rows, self.columns = rows, columns
        self._buffer = columns.new_empty(0, columns.shape[1])

    def rank_blocks(self, first: int, last: int, hidden: Tensor | None, out: Tensor) -> None:
        """Ranks of the blocks of elements [first, last) into out [blocks, Q]. hidden [N] bool: not to be read."""
        # One buffer for all products: fresh memory for each costs as much as the product.
        if len(self._buffer) < last - first:
            self._buffer = self._buffer.new_empty(last - first, self.columns.shape[1])
        scores = torch.mm(self.rows[first:last], self.columns, out=self._buffer[: last - first])
        if hidden is not None:
            scores.masked_fill_(hidden[first:last, None], float("-inf"))
        torch.amax(scores.unflatten(0, (len(out), -1)), 1, out=out)


class HalfProduct:
    """d = |q - k|^2 / 2 in bfloat16, for rows as `readout.key_rows` makes them and a query [Ck, Q] in bfloat16, in
    which the rows' keys must be exact, too.

    A block's rank is the complement of the bits of its smallest d: numbers that are not negative are ordered like their
    bits, and integers are compared several times faster.
    """

    itemsize = HALF.itemsize
    ranks = torch.int16
    nothing = ~0x7F80  # d is infinite

    def __init__(self, rows: Tensor, query: Tensor) -> None:
        self.rows = rows
        self.square = query.float().square().sum(0) / 2  # [Q]
        squares = rows[:, -1]
        self._longest = (-squares.masked_fill(squares.isinf(), 0).amin()).sqrt()  # of the keys
        self.columns = torch.cat((-query, _parts(self.square), torch.ones_like(query[:PARTS])))  # [Ck + 6, Q]
        self._keys = query.new_ones(0, len(self.columns))
        self._buffer = query.new_empty(0, query.shape[1])

    def rank_blocks(self, first: int, last: int, hidden: Tensor | None, out: Tensor) -> None:
        """As of FullProduct."""
        count, channels = last - first, self.rows.shape[1] - 1
        if len(self._buffer) < count:
            self._buffer = self._buffer.new_empty(count, self.columns.shape[1])
            self._keys = self._keys.new_ones(count, len(self.columns))
        keys, rows = self._keys[:count], self.rows[first:last]
        keys[:, :channels] = rows[:, :-1]
        keys[:, channels + PARTS :] = _parts(rows[:, -1] / -2).t()
        distances = torch.mm(keys, self.columns, out=self._buffer[:count])
        if hidden is not None:
            distances.masked_fill_(hidden[first:last, None], float("inf"))
        bits = distances.view(torch.int16).unflatten(0, (len(out), -1))
        torch.amin(bits, 1, out=out).bitwise_not_()

    def candidates(self, k: int) -> tuple[int, ...]:
        """How many of the best blocks are scored again, and how many where that leaves a doubt."""
        return tuple(int(k * times) for times in CANDIDATES)

    def doubtful(self, worst: Tensor, left: Tensor, columns: Tensor) -> Tensor:
        """[q] bool: an element outside of the chosen blocks may belong to the k best of these columns.

        worst [q]: the k-th best affinity as scored again; left [q]: the highest rank of a block that was not chosen.
        """
        channels = self.rows.shape[1] - 1
        square = self.square[columns]
        terms = (self._longest + (2 * square).sqrt()).square() / 2
        # Here, where `worst` was scored, and once more: of two numbers below zero the bits take the wrong one.
        summing = 3 * ROUNDING * len(self.columns) * terms
        left = left.bitwise_not().view(HALF).float()
        least = left - left.abs() * torch.finfo(HALF).eps / 2 - torch.finfo(HALF).tiny - summing
        # Not finite, or not a number: nothing is left, or nothing is known.
        return left.isfinite() & ~(least > square - worst * (channels**0.5 / 2))


def pays(queries: Tensor, affinity: str) -> bool:
    """Whether the half product is exact enough for keys of this type, and its device faster at it."""
    return queries.dtype == HALF and affinity == "l2" and computes_in(HALF, queries.device)


def is_exact(keys: Tensor) -> bool:
    """Whether rounding to the half product's type changes nothing."""
    return keys.dtype == HALF or torch.equal(keys.to(HALF).float(), keys.float())


def _parts(numbers: Tensor) -> Tensor:
    """float32 [n] -> [3, n] bfloat16 whose sum they are; infinite numbers are in the first part alone."""
    rest, parts = numbers, []
    for _ in range(PARTS):
        part = rest.to(HALF)
        parts.append(part)
        rest = torch.where(part.isinf(), 0.0, rest - part.float())
    return torch.stack(parts)
