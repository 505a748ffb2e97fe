"""Plain requests through a running gateway, for what SDKs hide: headers, records, bodies."""

from __future__ import annotations

import json
from typing import Any

import httpx2
from msgspec import Struct

from tests.conformance.world import World
from tieline.store import queries
from tieline.types.record import Record

PROMPT = "Why do ships carry bells?"


class Heard(Struct):
    status: int
    headers: dict[str, str]
    text: str

    @property
    def json(self) -> Any:
        return json.loads(self.text)

    @property
    def error(self) -> Any:
        return self.json["error"]


def post(world: World, path: str, body: Any, **headers: str) -> Heard:
    """``headers`` with underscores for dashes."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    with httpx2.Client(timeout=20) as client:
        answer = client.post(
            world.url + path, content=content, headers={"content-type": "application/json", **named}
        )
    return Heard(answer.status_code, dict(answer.headers), answer.text)


def record_of(world: World, heard: Heard) -> Record:
    """What is written down of a request, which happens after it is answered."""
    database, found = world.gateway.database, []

    def written() -> bool:
        assert world.gateway.recorder.flush(5.0)
        assert database is not None
        found[:] = [queries.show(database, heard.headers["tieline-request-id"])]
        return found[0] is not None

    assert world.wait_for(written), "it was not recorded"
    assert found[0] is not None
    return found[0]


def chat(model: str, text: str = PROMPT, **more: Any) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": text}], **more}


def messages(model: str, text: str = PROMPT, **more: Any) -> dict[str, Any]:
    return {"model": model, "max_tokens": 100, "messages": [{"role": "user", "content": text}], **more}


def responses(model: str, text: str = PROMPT, **more: Any) -> dict[str, Any]:
    return {"model": model, "input": text, "store": False, **more}


def contents(text: str = PROMPT, **more: Any) -> dict[str, Any]:
    return {"contents": [{"role": "user", "parts": [{"text": text}]}], **more}
