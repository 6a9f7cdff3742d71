"""Made-up numbers that are the same on every machine and in every order of calls: hashes of their purpose.

They are not random: two demos write the same bytes, so that a test can compare the results.
"""

import hashlib
import math


def made_up_bytes(count: int, *what: object) -> bytes:
    """Return `count` bytes that no compressor shrinks, always the same ones for the same `what`."""
    return hashlib.shake_256(repr(what).encode()).digest(count)


def fraction(*what: object) -> float:
    """Return a number in [0, 1), always the same one for the same `what`."""
    return int.from_bytes(made_up_bytes(6, *what), "big") / 2**48


def wobble(value: float, spread: float, *what: object) -> float:
    """Return `value` with a normally distributed deviation of about `spread`, rounded as in training logs."""
    # The Box-Muller transform; 1 - fraction is never 0.
    radius = math.sqrt(-2 * math.log(1 - fraction("radius", *what)))
    return round(value + spread * radius * math.cos(2 * math.pi * fraction("angle", *what)), 6)
