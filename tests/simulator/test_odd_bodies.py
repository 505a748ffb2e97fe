"""Whatever is sent, a simulated provider answers as its vendor would: a 400 of its own, never a traceback or a hang."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests import odd
from tieline.simulator import SimulatorServer
from tieline.simulator.shapes import misfit
from tieline.simulator.wire import HttpRequest

_VERTEX = "/v1/projects/simulated-project/locations/us/publishers"
_COUNTED = {
    name: value
    for name, value in odd.MESSAGES.items()
    if name in ("model", "messages", "system", "tools", "tool_choice", "thinking")
}
_CLAUDE = {name: value for name, value in odd.MESSAGES.items() if name != "model"}
_VERSION = {"anthropic_version": "vertex-2023-10-16"}
_CASES: list[tuple[str, dict[str, Any]]] = [
    ("/v1/chat/completions", odd.CHAT),
    ("/v1/chat/completions", odd.CHAT_FORMAT | odd.STREAM),
    ("/v1/responses", odd.RESPONSES),
    ("/v1/responses", odd.RESPONSES | {"stream": True}),
    ("/v1/completions", odd.COMPLETIONS),
    ("/v1/completions", odd.COMPLETIONS | odd.STREAM),
    ("/v1/embeddings", odd.EMBEDDINGS),
    ("/openai/v1/chat/completions", odd.CHAT),
    ("/v1/messages", odd.MESSAGES),
    ("/v1/messages", odd.MESSAGES_FORMAT | {"stream": True}),
    ("/v1/messages/count_tokens", _COUNTED),
    ("/v1beta/models/sim-echo:generateContent", odd.CONTENTS),
    ("/v1beta/models/gemini-3-pro:streamGenerateContent", odd.CONTENTS),
    ("/v1beta/models/sim-echo:generateContent", odd.CONTENTS_FORMAT),
    ("/v1beta/models/sim-echo:countTokens", odd.COUNT_GEMINI),
    ("/v1beta/models/sim-echo:embedContent", odd.EMBED_GEMINI),
    ("/v1beta/models/sim-echo:batchEmbedContents", odd.BATCH_GEMINI),
    ("/model/sim-echo/converse", odd.CONVERSE),
    ("/model/sim-echo/converse-stream", odd.CONVERSE),
    ("/model/titan/invoke", odd.TITAN),
    ("/model/cohere/invoke", odd.COHERE_ON_BEDROCK),
    ("/v2/chat", odd.COHERE),
    ("/v2/chat", odd.COHERE | {"stream": True}),
    ("/v2/embed", odd.EMBED_COHERE),
    (f"{_VERTEX}/google/models/gemini-embedding:embedContent", odd.EMBED_VERTEX),
    (f"{_VERTEX}/google/models/text:predict", odd.PREDICT),
    (f"{_VERTEX}/google/models/gemini-2:generateContent", odd.CONTENTS),
    (f"{_VERTEX}/google/models/gemini-2:countTokens", {"contents": odd.CONTENTS["contents"]}),
    (f"{_VERTEX}/anthropic/models/claude:rawPredict", _CLAUDE | _VERSION),
    (f"{_VERTEX}/anthropic/models/count-tokens:rawPredict", _COUNTED | _VERSION),
]
_HEADERS = {
    "authorization": "Bearer eyJk",
    "x-api-key": "k",
    "x-goog-api-key": "k",
    "anthropic-version": "2023-06-01",
}
_NONE = (
    b"",
    b"[]",
    b'{"model": "\xff"}',
    b"[" * 100_000,
    b'{"model": "sim-echo", "a": ' + b'{"b":' * 100_000,
)


class _Wire:
    """Takes an answer without a socket; what the simulator raises is raised here."""

    def __init__(self) -> None:
        self.status = 0
        self.body = b""
        self.split = 0

    async def start(self, status: int, headers: Any, length: int | None) -> None:
        self.status = status

    async def write(self, data: bytes) -> None:
        self.body += data

    async def end(self) -> None:
        pass


async def _ask(simulator: SimulatorServer, path: str, body: bytes) -> _Wire:
    wire = _Wire()
    await simulator._handle(HttpRequest("POST", f"/x{path}", path, {}, _HEADERS, body), wire)  # type: ignore[arg-type]
    return wire


@pytest.mark.parametrize(("path", "body"), _CASES, ids=[f"{path}-{len(b)}" for path, b in _CASES])
async def test_a_wrong_type_anywhere_is_answered(
    path: str, body: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    simulator = SimulatorServer()
    monkeypatch.setattr(simulator.clouds, "check_token", lambda *_: None)
    right = await _ask(simulator, path, json.dumps(body).encode())
    assert right.status == 200, right.body
    refused = 0
    for name, raw in [*odd.every(body), *((repr(raw[:20]), raw) for raw in _NONE)]:
        try:
            heard = await _ask(simulator, path, raw)
        except Exception as error:
            raise AssertionError(f"{name}: {error!r}") from error
        assert heard.status in (200, 400, 404), (name, heard.body)
        if heard.status == 400:
            assert json.loads(heard.body), name
            refused += 1
    assert refused > 20


async def test_a_wrong_type_in_a_schema_that_is_text() -> None:
    """Converse takes the schema of an answer as a string."""
    simulator = SimulatorServer()
    at = ("outputConfig", "textFormat", "structure", "jsonSchema", "schema")
    for name, raw in odd.every(odd.SCHEMA):
        body = odd.spoiled(odd.CONVERSE, at, raw.decode())
        heard = await _ask(simulator, "/model/sim-echo/converse", json.dumps(body).encode())
        assert heard.status in (200, 400), name


@pytest.mark.parametrize(
    ("path", "body", "says"),
    [
        ("/v1/chat/completions", odd.spoiled(odd.CHAT, ("tools", 0, "function", "parameters", "required"), 7), "tools[0].function.parameters.required"),
        ("/v1/chat/completions", odd.CHAT | {"n": 129}, "<= 128"),
        ("/v1/responses", odd.RESPONSES | {"include": 7}, "Invalid type for 'include': expected an array, but got an integer"),
        ("/v1/messages", odd.spoiled(odd.MESSAGES, ("tools", 0, "input_schema", "properties"), 7), "tools.0.input_schema.properties: Input should be a valid dictionary"),
        ("/v1beta/models/m:generateContent", odd.spoiled(odd.CONTENTS, ("generationConfig", "stopSequences"), 7), "'generation_config.stop_sequences' (TYPE_ARRAY), 7"),
        ("/v1beta/models/m:generateContent", odd.spoiled(odd.CONTENTS, ("generationConfig", "candidateCount"), 9), "candidate_count"),
        ("/model/m/converse", odd.spoiled(odd.CONVERSE, ("messages", 1, "content", 1, "toolUse"), []), "messages.1.content.1.toolUse is of type array, not object"),
        ("/v2/chat", odd.COHERE | {"temperature": "x"}, "parameter temperature is of type string but should be of type number"),
    ],
)  # fmt: skip
async def test_the_vendors_words(path: str, body: dict[str, Any], says: str) -> None:
    heard = await _ask(SimulatorServer(), path, json.dumps(body).encode())
    assert heard.status == 400
    assert says in heard.body.decode().replace('\\"', '"')


def test_a_schema_that_leads_to_itself_ends() -> None:
    from random import Random

    from tieline.simulator.samples import sample

    assert sample({"anyOf": [{"$ref": "#"}]}, Random(1)) is None
    assert sample({"allOf": [{"$ref": "#"}]}, Random(1)) is None


def test_null_is_as_good_as_none_and_true_is_no_integer() -> None:
    assert misfit({"a": None}, {"a": int}) is None
    wrong = misfit({"a": [{"b": True}]}, {"a": [{"b": int}]})
    assert wrong is not None
    assert (wrong.indexed, wrong.dotted, wrong.found) == ("a[0].b", "a.0.b", "boolean")
    assert misfit([None], [str]) is not None
