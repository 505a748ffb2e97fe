"""Bodies with a wrong type somewhere, through a running gateway: always an answer, in the caller's dialect, never a 500."""

from __future__ import annotations

import http.client
import json
from typing import Any

import pytest

from tests import odd
from tests.conformance.world import World

_CASES: list[tuple[str, dict[str, Any], tuple[str, ...]]] = [
    ("/v1/chat/completions", odd.CHAT, ("chat", "claude", "gemini", "bedrock")),
    ("/v1/chat/completions", odd.CHAT_FORMAT | odd.STREAM, ("chat",)),
    ("/v1/completions", odd.COMPLETIONS | odd.STREAM | {"prompt": "Once"}, ("chat",)),
    ("/v1/embeddings", odd.EMBEDDINGS, ("chat", "gemini", "cohere")),
    ("/v1/responses", odd.RESPONSES | {"stream": True}, ("responses", "chat", "claude")),
    ("/v1/messages", odd.MESSAGES, ("claude", "chat", "gemini")),
    ("/v1/messages", odd.MESSAGES_FORMAT | {"stream": True}, ("claude", "gemini")),
    ("/v1beta/models/{}/sim-echo:generateContent", odd.CONTENTS, ("gemini",)),
    ("/v1beta/models/{}/sim-echo:streamGenerateContent", odd.CONTENTS_FORMAT, ("gemini", "chat")),
    ("/v1beta/models/{}/sim-echo:countTokens", odd.COUNT_GEMINI, ("gemini", "chat")),
]
_EVERY = 11
"""Of the bodies; the dialects' own tests take all of them."""


def _is_refusal(path: str, status: int, text: str) -> bool:
    body = json.loads(text)
    error = (body[0] if isinstance(body, list) else body)["error"]
    if path.startswith("/v1/messages"):
        return bool(body["type"] == "error" and error["type"] and error["message"])
    if path.startswith("/v1beta"):
        return bool(error["code"] == status and error["status"] and error["message"])
    return bool(error["message"] and error["type"] and "param" in error)


@pytest.mark.parametrize(("path", "body", "hosts"), _CASES, ids=[f"{p}-{len(b)}" for p, b, _ in _CASES])
def test_a_wrong_type_anywhere_is_answered(
    world: World, path: str, body: dict[str, Any], hosts: tuple[str, ...]
) -> None:
    line = http.client.HTTPConnection(world.url.removeprefix("http://"), timeout=10)
    heard: set[int] = set()
    for offset, host in enumerate(hosts):
        named = body | {"model": f"{host}/sim-echo"} if "model" in body else body
        for name, raw in list(odd.every(named))[offset::_EVERY]:
            line.request("POST", path.format(host), raw, {"content-type": "application/json"})
            answer = line.getresponse()
            text = answer.read().decode()
            heard.add(answer.status)
            assert answer.status in (200, 400, 404), (host, name, text)
            assert answer.status == 200 or _is_refusal(path, answer.status, text), (host, name, text)
            assert "internal_error" not in text, (host, name, text)
    line.close()
    assert {200, 400} <= heard
