"""The head of a request is the same whether its headers were seen before or not."""

from __future__ import annotations

import pytest

from tieline.transport.base import TransportError, UpstreamRequest
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
