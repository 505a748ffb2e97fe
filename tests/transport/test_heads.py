"""The head of a request is the same whether its headers were seen before or not."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import httptools
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tieline.transport.base import TransportError, UpstreamRequest
from tieline.transport.exchange import Exchange, headers_of
from tieline.transport.origin import split_url
from tieline.transport.target import Heads, request_head

URL = "https://api.example.com/v1/chat/completions"
HEADERS = ((b"content-type", b"application/json"), (b"authorization", b"Bearer k"))


def test_a_kept_head_equals_one_made_anew() -> None:
    _, rest = split_url(URL)
    heads = Heads(rest)
    for body in (b"{}", b"x" * 1234, b""):
        asked = UpstreamRequest(url=URL, headers=HEADERS, body=body)
        assert heads.of(asked) == request_head(rest, asked)


def test_equal_headers_of_another_key_are_not_mistaken() -> None:
    _, rest = split_url(URL)
    heads = Heads(rest)
    for number in range(100):
        headers = ((b"authorization", b"Bearer %d" % number),)
        assert b"Bearer %d\r\n" % number in heads.of(UpstreamRequest(url=URL, headers=headers, body=b"{}"))


def test_a_line_break_is_refused_each_time() -> None:
    _, rest = split_url(URL)
    heads = Heads(rest)
    smuggled = UpstreamRequest(url=URL, headers=((b"x", b"1\r\ny: 2"),), body=b"{}")
    for _ in range(2):
        with pytest.raises(TransportError):
            heads.of(smuggled)


def test_a_list_is_never_kept() -> None:
    _, rest = split_url(URL)
    heads = Heads(rest)
    headers = [(b"a", b"1")]
    first = heads.of(UpstreamRequest(url=URL, headers=headers, body=b"{}"))
    headers[0] = (b"a", b"2")
    assert heads.of(UpstreamRequest(url=URL, headers=headers, body=b"{}")) != first


_NAMES = st.text(alphabet="abcXYZ019-_.!~", min_size=1, max_size=12).map(str.encode)
_VALUES = st.text(alphabet=' \t:;,=aZ9"é', max_size=16).map(lambda text: text.encode("latin-1"))


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(_NAMES, st.sampled_from([b":", b": ", b":\t"]), _VALUES), max_size=8))
def test_headers_are_read_as_the_parser_reads_them(fields: list[tuple[bytes, bytes, bytes]]) -> None:
    head = b"\r\n".join([b"HTTP/1.1 200 OK", *(name + colon + value for name, colon, value in fields)])
    seen: list[tuple[bytes, bytes]] = []
    parser = httptools.HttpResponseParser(
        SimpleNamespace(on_header=lambda name, value: seen.append((name.lower(), value.strip())))
    )
    parser.feed_data(head + b"\r\n\r\n")
    assert headers_of(head, head.lower()) == seen
    loop = asyncio.new_event_loop()
    looked_up = Exchange(None, loop, False)  # type: ignore[arg-type]
    looked_up.on_head(200, head)
    for name, _ in seen:
        assert looked_up.header(name) == dict(reversed(seen))[name]
    assert looked_up.header(b"200 ok") is None
    assert looked_up.headers == seen
    loop.close()
