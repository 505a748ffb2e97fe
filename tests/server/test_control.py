"""Everything that is not the data plane."""

from __future__ import annotations

import asyncio
import json
import shutil
from html.parser import HTMLParser
from pathlib import Path

import pytest

from tests.served import Raw, Served, chat, get, post, serving


async def test_models_in_the_callers_shape(raw: Raw) -> None:
    raw.send(get("/v1/models") + get("/v1/models", "anthropic-version: 2023-06-01"))
    openai, anthropic = (await raw.hear()).json, (await raw.hear()).json
    assert {"id", "object", "created", "owned_by"} <= set(openai["data"][0])
    assert {"id", "type", "display_name", "created_at"} <= set(anthropic["data"][0])
    assert anthropic["first_id"] == anthropic["data"][0]["id"]
    names = [model["id"] for model in openai["data"]]
    assert names == [model["id"] for model in anthropic["data"]]
    assert "demo" in names
    assert "sim-openai/gpt-sim" in names


async def test_one_model(raw: Raw) -> None:
    raw.send(
        get("/v1/models/sim-openai/gpt-sim")
        + get("/v1/models/sim-openai%2Fgpt-sim")
        + get("/v1/models/nonsense")
    )
    assert (await raw.hear()).json["id"] == "sim-openai/gpt-sim"
    assert (await raw.hear()).json["id"] == "sim-openai/gpt-sim"
    assert (await raw.hear()).status == 404


async def test_health(served: Served, raw: Raw) -> None:
    raw.send(get("/health/live") + get("/health/ready"))
    assert (await raw.hear()).json["status"] == "alive"
    ready = await raw.hear()
    assert ready.status == 200
    assert "sim-openai" in ready.json["providers"]
    served.gateway.intake.draining = True
    raw.send(get("/health/ready"))
    assert (await raw.hear()).status == 503
    served.gateway.intake.draining = False


async def test_metrics(served: Served, raw: Raw) -> None:
    raw.send(post("/v1/chat/completions", chat()))
    await raw.hear()
    await served.records()
    raw.send(get("/metrics"))
    heard = await raw.hear()
    assert heard.headers["content-type"].startswith("text/plain")
    assert heard.headers["content-type"].count("charset=") == 1
    assert b"tieline_requests_total{" in heard.body
    assert b'provider="sim-openai"' in heard.body
    assert b"tieline_in_flight" in heard.body


async def test_a_request_is_found_by_its_id(served: Served, raw: Raw) -> None:
    raw.send(post("/v1/chat/completions", chat(stream=True)))
    request_id = (await raw.hear()).headers["tieline-request-id"]
    await served.records()
    raw.send(get(f"/v1/requests/{request_id}") + get("/v1/requests/req_nothing"))
    found = (await raw.hear()).json
    assert found["id"] == request_id
    assert float(found["cost_usd"]) > 0
    assert found["attempts"][0]["deployment"] == "sim-openai/gpt-sim"
    assert (await raw.hear()).status == 404


async def test_explain_tells_every_candidate_and_sends_nothing(served: Served, raw: Raw) -> None:
    raw.send(
        post(
            "/v1/tieline/explain",
            json.dumps({"model": "demo", "input_tokens": 500, "features": ["tools"]}).encode(),
        )
    )
    heard = await raw.hear()
    assert heard.status == 200
    names = [candidate["deployment"] for candidate in heard.json["candidates"]]
    assert names[0] == "sim-openai/gpt-sim"
    assert "sim-anthropic/claude-sim" in names
    assert served.simulator.log == []


async def test_explain_of_a_past_request_replays_its_decision(served: Served, raw: Raw) -> None:
    raw.send(post("/v1/chat/completions", chat("demo")))
    request_id = (await raw.hear()).headers["tieline-request-id"]
    raw.send(post("/v1/tieline/explain", json.dumps({"model": request_id}).encode()))
    heard = await raw.hear()
    assert heard.status == 200, heard.body
    assert heard.json["request"]["id"] == request_id
    assert heard.json["request"]["outcome"] == "success"
    assert [one["deployment"] for one in heard.json["tried"]] == ["sim-openai/gpt-sim"]
    assert [one["outcome"] for one in heard.json["attempts"]] == ["success"]
    assert len(served.simulator.log) == 1
    raw.send(post("/v1/tieline/explain", b'{"model": "req_NOBODY"}'))
    assert (await raw.hear()).status == 404


@pytest.mark.parametrize(
    ("body", "status", "says"),
    [
        (b"{", 400, "JSON"),
        (b"{}", 400, "model"),
        (b'{"model": "demo", "tokens": 5}', 400, "input_tokens"),
        (b'{"model": "demo", "input_tokens": "many"}', 400, "input_tokens"),
        (b'{"model": "demo", "dialect": "klingon"}', 400, "dialect"),
        (b'{"model": "dmeo"}', 404, "demo"),
        (
            b'{"model": "demo", "intent": "nonsense"}',
            400,
            "'nonsense'. One of agentic_coding, average, coding",
        ),
        (b'{"model": "demo", "intent": ""}', 400, "One of agentic_coding"),
    ],
)
async def test_explain_refuses_clearly(raw: Raw, body: bytes, status: int, says: str) -> None:
    raw.send(post("/v1/tieline/explain", body))
    heard = await raw.hear()
    assert heard.status == status, heard.body
    assert says in heard.json["error"]["message"]


class Links(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [value for name, value in attrs if tag == "a" and name == "href" and value]


async def test_the_landing_page_and_its_links(raw: Raw) -> None:
    raw.send(get("/"))
    heard = await raw.hear()
    assert heard.headers["content-type"].startswith("text/html")
    links = Links()
    links.feed(heard.body.decode())
    assert links.found
    for link in links.found:
        raw.send(get(link))
        assert (await raw.hear()).status == 200, link
    assert b"sim-openai" in heard.body


async def test_the_landing_page_in_a_browser(served: Served, tmp_path: Path) -> None:
    browser = shutil.which("chromium")
    if browser is None:
        pytest.skip("chromium is not installed: LEFT OUT")
    found: dict[str, str] = {}
    for scheme, flags in (
        ("light", []),
        ("dark", ["--force-dark-mode", "--blink-settings=preferredColorScheme=0"]),
    ):
        process = await asyncio.create_subprocess_exec(
            browser, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path}/{scheme}", *flags,
            f"--screenshot={tmp_path}/{scheme}.png", "--window-size=900,700", "--dump-dom", served.url,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        out, _ = await asyncio.wait_for(process.communicate(), 60)
        found[scheme] = out.decode()
        assert served.url in found[scheme]  # the script ran
        assert (tmp_path / f"{scheme}.png").stat().st_size > 5_000
    assert (tmp_path / "light.png").read_bytes() != (tmp_path / "dark.png").read_bytes()


async def test_control_requests_are_bounded_like_others(tmp_path: Path) -> None:
    async with serving(tmp_path, max_body_mb=1) as served, await served.connect() as raw:
        raw.send(post("/v1/tieline/explain", b"x" * (2 * 1024 * 1024)))
        assert (await raw.hear()).status == 413
