"""Every random draw comes from a seed with a name, so that masks never depend on the order of work."""

import hashlib


def named_seed(seed: int, *names: str | int) -> int:
    """A 64-bit seed from the run's seed and what the draw is for, equal on every machine and Python version."""
    text = "\x1f".join([str(seed), *map(str, names)])
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")
