"""Whatever a caller sends, the answer is a request or a refusal that says why; never a crash."""

from __future__ import annotations

import contextlib
import copy
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.dialects.samples import ANTHROPIC, OPENAI, call, target
from tests.dialects.test_anthropic_messages_requests import RICH
from tests.dialects.test_openai_chat_requests import FULL
from tieline.dialects import get
from tieline.types.errors import InvalidRequest

_JUNK = st.recursive(
    st.sampled_from([None, True, 0, -1, 1.5, 10**30, "", "x", "data:,", "text", "tool", [], {}, [None], {"type": "text"}]),
    lambda inner: st.one_of(st.lists(inner, max_size=2), st.dictionaries(st.sampled_from(["type", "a"]), inner, max_size=2)),
    max_leaves=4,
)  # fmt: skip


def _places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [path] if path else []
    if isinstance(value, dict):
        for name, inner in value.items():
            found += _places(inner, (*path, name))
    elif isinstance(value, list):
        for place, inner in enumerate(value):
            found += _places(inner, (*path, place))
    return found


def _spoiled(body: dict[str, Any], path: tuple[Any, ...], junk: Any) -> dict[str, Any]:
    spoiled = copy.deepcopy(body)
    at: Any = spoiled
    for step in path[:-1]:
        at = at[step]
    at[path[-1]] = junk
    return spoiled


SAMPLES = [(OPENAI, FULL, path) for path in _places(FULL)] + [
    (ANTHROPIC, RICH, path) for path in _places(RICH)
]


@settings(max_examples=200, deadline=None)
@given(sample=st.sampled_from(SAMPLES), junk=_JUNK)
def test_spoiled_requests_are_read_or_refused(sample: tuple[str, dict[str, Any], Any], junk: Any) -> None:
    name, body, path = sample
    asked = call(name, _spoiled(body, path, junk))
    speaker = get(name)
    try:
        seen = speaker.peek(asked)
        speaker.forward(asked, seen, target(name))
        request = speaker.decode_request(asked, seen)
    except InvalidRequest:
        return
    for other in (OPENAI, ANTHROPIC):
        with contextlib.suppress(InvalidRequest):
            get(other).encode_request(request, target(other))


@settings(max_examples=100, deadline=None)
@given(body=st.binary(max_size=60))
def test_any_bytes_are_refused(body: bytes) -> None:
    for name in (OPENAI, ANTHROPIC):
        with contextlib.suppress(InvalidRequest):
            get(name).peek(call(name, body))
