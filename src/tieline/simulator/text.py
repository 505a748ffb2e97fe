"""Text and tokens that anybody can compute again: the answer to a prompt is a pure function of prompt, length and seed."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from hashlib import blake2b
from random import Random

_PIECE = re.compile(r" ?\w{1,6}|\s+|[^\w\s]")
_WORDS = (
    "the a of in that which under over between signal harbour relay carrier window ledger river morning "
    "measure answer question pattern station bridge distance current weather machine language evidence method "
    "steady narrow patient bright careful ordinary distant open several always seldom perhaps therefore because "
    "carries follows explains holds turns reaches counts listens returns begins remains suggests café naïve "
    "Übergang señal 東京 données “quoted” isn't don't half-open 42 1987"
)
_VOCABULARY = tuple(_WORDS.split())
_ANCHOR_CHARS = 40
_MAX_ANCHOR_CHARS = 200
_RESUME = re.compile(
    r"(?is)\b(continu|resum|go on|carry on|pick up|finish)\w*.*\b(repeat|cut|interrupt|broke|last|left off|stopped|where|exact)"
    r"|\b(repeat|cut|interrupt|broke|last|left off|stopped|where|exact)\w*.*\b(continu|resum|go on|carry on|pick up|finish)"
)


def pieces(text: str) -> list[str]:
    """The tokens of ``text``; joined they are ``text`` again."""
    return _PIECE.findall(text)


def count_tokens(text: str) -> int:
    """Deterministic, about four characters a token."""
    return len(_PIECE.findall(text))


def seeded(*parts: object) -> Random:
    """A random generator that depends on ``parts`` alone, the same on every machine."""
    digest = blake2b("\x1f".join(map(str, parts)).encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return Random(int.from_bytes(digest, "big"))


def expected_text(prompt: str, tokens: int, seed: int = 0) -> str:
    """The first ``tokens`` tokens of the answer to ``prompt`` (the first user message; white space does not count)."""
    return "".join(_expected_pieces(" ".join(prompt.split()), tokens, seed))


@lru_cache(maxsize=512)
def _expected_pieces(prompt: str, tokens: int, seed: int) -> tuple[str, ...]:
    found: list[str] = []
    for sentence in _sentences(prompt, seed):
        found.extend(pieces(sentence))
        if len(found) >= tokens:
            break
    return tuple(found[:tokens])


def _sentences(prompt: str, seed: int) -> Iterator[str]:
    random = seeded("text", seed, prompt)
    topics = sorted(set(re.findall(r"[^\W\d_]{4,12}", prompt[:400])))[:8]
    words = list(_VOCABULARY) + topics * 3
    space = ""
    while True:
        chosen = [random.choice(words) for _ in range(random.randint(6, 13))]
        if random.random() < 0.4:
            chosen[len(chosen) // 2] += ","
        chosen[0] = chosen[0][:1].upper() + chosen[0][1:]
        end = "." if random.random() < 0.9 else " 🙂."
        yield space + " ".join(chosen) + end
        space = "\n\n" if random.random() < 0.1 else " "


def asks_to_resume(instruction: str, partial: str) -> bool:
    """Whether ``instruction``, following the assistant's ``partial``, asks to go on with it."""
    return bool(partial) and bool(_RESUME.search(instruction))


def resumed(full: str, partial: str, instruction: str, manner: str = "anchor") -> str:
    """What a model answers to a resume instruction: ``anchor`` repeats the end of ``partial`` and goes on in ``full``."""
    if manner == "restart":
        return full
    if manner == "ignore":
        return "Certainly! Let me know what else you would like to talk about. " + full[::-1][:80]
    rest = full[len(partial) :] if full.startswith(partial) else full
    anchor = _quoted_anchor(partial, instruction)
    if manner == "ws":
        return " " + anchor.replace(" ", "  ", 1).replace("“", '"').replace("”", '"').replace("'", "’") + rest
    return anchor + rest


def _quoted_anchor(partial: str, instruction: str) -> str:
    """The longest end of ``partial`` that the instruction quotes, else its last 40 characters."""
    for length in range(min(_MAX_ANCHOR_CHARS, len(partial)), 11, -1):
        if partial[-length:] in instruction:
            return partial[-length:]
    return partial[-_ANCHOR_CHARS:]
