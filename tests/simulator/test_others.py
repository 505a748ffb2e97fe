from __future__ import annotations

import json
import struct
import zlib
from typing import Any

import httpx2
import pytest

from tieline.simulator import SimulatorServer, expected_text

from .conftest import SEED

PROMPT = "Tell me about harbours"
TEXT = expected_text(PROMPT, 48, SEED)
AWS = {"authorization": "Bearer bedrock-api-key-x"}
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}


def frames(data: bytes) -> list[tuple[dict[str, str], Any]]:
    found = []
    while data:
        total, size, crc = struct.unpack(">III", data[:12])
        assert zlib.crc32(data[:8]) == crc
        assert zlib.crc32(data[: total - 4]) == struct.unpack(">I", data[total - 4 : total])[0]
        head, headers = data[12 : 12 + size], {}
        while head:
            length = head[0]
            name = head[1 : 1 + length].decode()
            kind, value = struct.unpack(">BH", head[1 + length : 4 + length])
            assert kind == 7
            headers[name] = head[4 + length : 4 + length + value].decode()
            head = head[4 + length + value :]
        found.append((headers, json.loads(data[12 + size : total - 4])))
        data = data[total:]
    return found


async def post(simulator: SimulatorServer, path: str, body: Any, headers: Any = AWS) -> httpx2.Response:
    async with httpx2.AsyncClient() as client:
        return await client.post(f"{simulator.url}{path}", json=body, headers=headers)


async def test_converse_whole_and_streamed(simulator: SimulatorServer) -> None:
    body = {"messages": [{"role": "user", "content": [{"text": PROMPT}]}]}
    whole = (await post(simulator, "/aws/model/anthropic.claude-v1:0/converse", body)).json()
    assert whole["output"]["message"]["content"] == [{"text": TEXT}]
    assert whole["usage"]["outputTokens"] == 48
    streamed = await post(simulator, "/aws/model/sim-echo%3Achunk=5/converse-stream", body)
    assert streamed.headers["content-type"] == "application/vnd.amazon.eventstream"
    events = frames(streamed.content)
    kinds = [headers[":event-type"] for headers, _ in events]
    assert (kinds[0], kinds[-2:]) == ("messageStart", ["messageStop", "metadata"])
    assert "".join(b["delta"]["text"] for h, b in events if h[":event-type"] == "contentBlockDelta") == TEXT


async def test_converse_tools_errors_and_strictness(simulator: SimulatorServer) -> None:
    tools = {"tools": [{"toolSpec": {"name": "get_weather", "inputSchema": {"json": SCHEMA}}}]}
    body: Any = {"messages": [{"role": "user", "content": [{"text": PROMPT}]}], "toolConfig": tools}
    events = frames((await post(simulator, "/aws/model/sim-tools/converse-stream", body)).content)
    parts = [b["delta"]["toolUse"]["input"] for h, b in events if h[":event-type"] == "contentBlockDelta"]
    assert set(json.loads("".join(parts))) == {"city"}
    refused = await post(simulator, "/aws/model/sim-fail-429/converse", body)
    assert refused.status_code == 429
    assert refused.headers["x-amzn-errortype"].startswith("ThrottlingException")
    cut = frames((await post(simulator, "/aws/model/sim-stream-error:after=2/converse-stream", body)).content)
    assert cut[-1][0][":exception-type"] == "serviceUnavailableException"
    for change in (
        {"tieline": 1},
        {"messages": [{"role": "user", "content": [{"text": " "}]}]},
        {"inferenceConfig": {"n": 1}},
    ):
        assert (await post(simulator, "/aws/model/m/converse", body | change)).status_code == 400
    assert (await post(simulator, "/aws/model/m/converse", body, {})).status_code == 403
    vector = (await post(simulator, "/aws/model/amazon.titan-embed/invoke", {"inputText": "a b"})).json()
    assert (len(vector["embedding"]), vector["inputTextTokenCount"]) == (64, 2)


async def test_cohere(simulator: SimulatorServer) -> None:
    body: Any = {"model": "command-a", "messages": [{"role": "user", "content": PROMPT}]}
    whole = (await post(simulator, "/cohere/v2/chat", body)).json()
    assert whole["message"]["content"] == [{"type": "text", "text": TEXT}]
    streamed = (await post(simulator, "/cohere/v2/chat", body | {"stream": True})).text
    events = [json.loads(line[6:]) for line in streamed.splitlines() if line.startswith("data: {")]
    assert (
        "".join(e["delta"]["message"]["content"]["text"] for e in events if e["type"] == "content-delta")
        == TEXT
    )
    assert events[-1]["delta"]["usage"]["tokens"]["output_tokens"] == 48
    tools = [{"type": "function", "function": {"name": "f", "parameters": SCHEMA}}]
    called = (await post(simulator, "/cohere/v2/chat", body | {"model": "sim-tools", "tools": tools})).json()
    assert called["finish_reason"] == "TOOL_CALL"
    assert (await post(simulator, "/cohere/v2/chat", body | {"tieline": 1})).status_code == 400
    assert (await post(simulator, "/cohere/v2/chat", body | {"model": "sim-fail-quota"})).status_code == 402
    embedded = await post(
        simulator,
        "/cohere/v2/embed",
        {"model": "e", "texts": ["a"], "input_type": "search_query", "embedding_types": ["float"]},
    )
    assert len(embedded.json()["embeddings"]["float"][0]) == 64


@pytest.mark.parametrize(
    "path",
    ["/v1/chat/completions", "/v1/messages", "/v1beta/models/m:generateContent", "/v2/chat", "/nothing"],
)
async def test_bad_json_and_missing_keys_never_break_it(simulator: SimulatorServer, path: str) -> None:
    async with httpx2.AsyncClient() as client:
        assert (await client.post(f"{simulator.url}/x{path}", content=b"{")).status_code in (401, 403)
        headers = {"authorization": "Bearer k", "x-api-key": "k", "x-goog-api-key": "k"}
        for content in (b"{", b"[]", b"null", b"{}", b'{"model": 5}', b"\xff"):
            answer = await client.post(f"{simulator.url}/x{path}", content=content, headers=headers)
            assert answer.status_code in (400, 404)
            assert answer.json()
