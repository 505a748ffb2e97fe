"""Embeddings that mean something: texts that share words are near one another, the same text is the same vector."""

from __future__ import annotations

import base64
import re
import struct
from functools import lru_cache
from math import sqrt

from tieline.simulator.text import seeded

DEFAULT_DIMENSIONS = 64
MAX_DIMENSIONS = 4096


def embed(text: str, dimensions: int = DEFAULT_DIMENSIONS) -> list[float]:
    """A unit vector: the normalised sum of a fixed random direction for each word."""
    total = [0.0] * dimensions
    for word in re.findall(r"\w+", text.lower()) or [text]:
        for index, value in enumerate(_direction(word, dimensions)):
            total[index] += value
    length = sqrt(sum(value * value for value in total)) or 1.0
    return [value / length for value in total]


@lru_cache(maxsize=4096)
def _direction(word: str, dimensions: int) -> tuple[float, ...]:
    random = seeded("embed", word)
    return tuple(random.gauss(0.0, 1.0) for _ in range(dimensions))


def as_base64(vector: list[float]) -> str:
    """Little-endian float32, as OpenAI packs it."""
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
