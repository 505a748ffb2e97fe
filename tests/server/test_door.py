"""The door over raw sockets: framing, order, and a clear refusal in the caller's dialect for whatever is wrong."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from tests.served import Raw, Served, chat, chunked, get, post, serving

CHAT = "/v1/chat/completions"
MESSAGES = "/v1/messages"
GEMINI = "/v1beta/models/demo:generateContent"


def openai_error(answer: Any) -> tuple[str, str]:
    return answer["error"]["code"], answer["error"]["message"]


# what is asked ----------------------------------------------------------------------------------------------------


async def test_an_answer_says_who_served_it(raw: Raw) -> None:
    raw.send(post(CHAT, chat()))
    heard = await raw.hear()
    assert heard.status == 200
    assert heard.json["choices"][0]["message"]["content"]
    assert heard.headers["tieline-provider"] == "sim-openai"
    assert heard.headers["tieline-request-id"].startswith("req_")
    assert "date" in heard.headers


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"{", "JSON"),
        (b"", "JSON"),
        (b"[]", "object"),
        (b'{"model": "demo"', "JSON"),
        (b'{"model": 5, "messages": [{"role": "user", "content": "x"}]}', "model"),
        (b'{"messages": [{"role": "user", "content": "x"}]}', "model"),
        (b'{"model": "demo"}', "messages"),
        (b'{"model": "demo", "messages": []}', "messages"),
        (b'{"model": "demo", "messages": "hello"}', "messages"),
        (b'{"model": "demo", "messages": [{"role": "user", "content": "x"}], "stream": "yes"}', "stream"),
        (b'{"model": "demo", "messages": [{"role": "user", "content": "\xff\xfe"}]}', "UTF-8"),
        (b'{"model":"demo","messages":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "deep"),
        (
            b'{"model":"demo","messages":[{"role":"user","content":"x"}],"metadata":'
            + b'{"a":' * 50_000
            + b"1"
            + b"}" * 50_000
            + b"}",
            "deep",
        ),
    ],
)
@pytest.mark.parametrize("path", [CHAT, MESSAGES])
async def test_a_bad_body_is_a_400_that_names_what_is_wrong(
    raw: Raw, path: str, body: bytes, says: str
) -> None:
    raw.send(post(path, body))
    heard = await raw.hear()
    assert heard.status == 400, heard.body
    error = heard.json["error"]
    assert says.lower() in error["message"].lower()
    assert "Traceback" not in error["message"]
    if path == MESSAGES:
        assert heard.json["type"] == "error"
        assert error["type"] == "invalid_request_error"
    raw.send(post(CHAT, chat()))  # and the connection goes on
    assert (await raw.hear()).status == 200


async def test_an_unknown_model_names_the_nearest(raw: Raw) -> None:
    raw.send(post(CHAT, chat("dem")))
    heard = await raw.hear()
    assert heard.status == 404
    code, message = openai_error(heard.json)
    assert code == "model_not_found"
    assert "demo" in message


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "OPTIONS", "PATCH"])
async def test_another_method_on_a_data_plane_path_is_405(raw: Raw, method: str) -> None:
    for path, look in ((CHAT, "error"), (MESSAGES, "type"), (GEMINI, "error")):
        raw.send(get(path, method=method))
        heard = await raw.hear()
        assert heard.status == 405
        assert heard.headers["allow"] == "POST"
        assert look in heard.json
        assert method in heard.json["error"]["message"]


async def test_head_has_no_body(raw: Raw) -> None:
    raw.send(get(CHAT, method="HEAD") + get("/health/live", method="HEAD") + get("/v1/models"))
    assert (await raw.hear(head=True)).status == 405
    live = await raw.hear(head=True)
    assert live.status == 200
    assert int(live.headers["content-length"]) > 0
    assert (await raw.hear()).json["object"] == "list"


@pytest.mark.parametrize(
    ("path", "near"),
    [("/v1/chat/completion", CHAT), ("/v1/v1/messages", MESSAGES), ("/v1/model", "/v1/models"), ("/x", "/")],
)
async def test_an_unknown_path_is_404_with_a_hint(raw: Raw, path: str, near: str) -> None:
    raw.send(post(path, b"{}"))
    heard = await raw.hear()
    assert heard.status == 404
    assert near in heard.json["error"]["message"]
    assert ("type" in heard.json) == (near == MESSAGES)


# how it is framed -------------------------------------------------------------------------------------------------


async def test_bytes_may_come_one_at_a_time(raw: Raw) -> None:
    for byte in post(CHAT, chat()):
        raw.send(bytes([byte]))
        await asyncio.sleep(0)
    assert (await raw.hear()).status == 200


async def test_many_requests_in_one_segment_are_answered_in_order(served: Served, raw: Raw) -> None:
    raw.send(
        post(CHAT, chat())
        + get("/health/live")
        + post(CHAT, chat(stream=True))
        + get("/nowhere")
        + get(CHAT)
        + post(MESSAGES, chat(max_tokens=9))
        + get("/v1/models")
    )
    heard = [await raw.hear() for _ in range(7)]
    assert [one.status for one in heard] == [200, 200, 200, 404, 405, 200, 200]
    assert heard[1].json["status"] == "alive"
    assert heard[2].body.endswith(b"data: [DONE]\n\n")
    assert heard[5].json["type"] == "message"
    raw.send(post(CHAT, chat()))
    assert (await raw.hear()).status == 200
    await served.settled()


async def test_planes_alternate_on_one_connection(raw: Raw) -> None:
    for _ in range(3):
        raw.send(get("/health/ready"))
        assert (await raw.hear()).json["ready"]
        raw.send(post(CHAT, chat()))
        assert (await raw.hear()).status == 200
        raw.send(get("/v1/models", "anthropic-version: 2023-06-01"))
        assert (await raw.hear()).json["has_more"] is False


async def test_more_pipelined_requests_than_the_bound_end_in_a_close(raw: Raw) -> None:
    raw.send(get("/health/live") * 200)
    answered = 0
    while not raw.reader.at_eof():
        try:
            assert (await raw.hear()).status == 200
        except asyncio.IncompleteReadError:
            break
        answered += 1
    assert 64 <= answered <= 200


async def test_many_that_are_refused_at_once_wait_behind_one_that_is_not(served: Served, raw: Raw) -> None:
    """Each begins where the one before it ended: no call within a call, however many."""
    raw.send(post(CHAT, chat()) + post(CHAT, b"{") * 60)
    heard = [await raw.hear() for _ in range(61)]
    assert [one.status for one in heard] == [200] + [400] * 60
    raw.send(post(CHAT, b"{") * 60 + post(CHAT, chat()))
    assert [(await raw.hear()).status for _ in range(61)] == [400] * 60 + [200]
    await served.settled()


@pytest.mark.parametrize("size", [1, 7, 1000])
async def test_a_chunked_body_is_read(raw: Raw, size: int) -> None:
    raw.send(chunked(CHAT, chat(), size))
    assert (await raw.hear()).status == 200


async def test_connection_close_is_kept(raw: Raw) -> None:
    raw.send(post(CHAT, chat(), "Connection: close"))
    heard = await raw.hear()
    assert heard.headers["connection"] == "close"
    assert await raw.at_end()


async def test_close_in_the_second_of_two_answers_both(raw: Raw) -> None:
    raw.send(post(CHAT, chat()) + post(CHAT, chat(stream=True), "Connection: close") + get("/health/live"))
    first, second = await raw.hear(), await raw.hear()
    assert "connection" not in first.headers
    assert second.headers["connection"] == "close"
    assert await raw.at_end()


async def test_http_1_0_gets_no_chunks(served: Served) -> None:
    async with await served.connect() as raw:
        raw.send(post(CHAT, chat(stream=True), version="1.0"))
        heard = await raw.hear()
        assert "transfer-encoding" not in heard.headers
        assert heard.body.endswith(b"data: [DONE]\n\n")
    async with await served.connect() as raw:
        raw.send(post(CHAT, chat(), "Connection: keep-alive", version="1.0"))
        assert (await raw.hear()).headers["connection"] == "keep-alive"
        raw.send(get("/health/live", version="1.0"))
        assert (await raw.hear()).status == 200
        assert await raw.at_end()


async def test_expect_is_answered_before_the_body_is_sent(raw: Raw) -> None:
    body = chat()
    raw.send(post(CHAT, b"", "Expect: 100-continue", length=len(body)))
    assert await raw.reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    raw.send(body)
    assert (await raw.hear()).status == 200


async def test_expect_behind_another_request_waits_for_its_turn(raw: Raw) -> None:
    body = chat()
    raw.send(post(CHAT, chat(stream=True)) + post(CHAT, b"", "Expect: 100-continue", length=len(body)))
    assert (await raw.hear()).body.endswith(b"data: [DONE]\n\n")
    assert await raw.reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    raw.send(body)
    assert (await raw.hear()).status == 200


async def test_an_offer_to_upgrade_is_not_taken(raw: Raw) -> None:
    raw.send(
        get("/health/live", "Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABk")
    )
    assert (await raw.hear()).status == 200
    raw.send(post(CHAT, chat(), "Connection: Upgrade", "Upgrade: websocket") + get("/health/live"))
    assert (await raw.hear()).status == 200
    assert (await raw.hear()).status == 200
    raw.send(get("proxied.example:443", method="CONNECT"))
    assert (await raw.hear()).status == 405


async def test_the_absolute_form_of_a_proxy_is_understood(raw: Raw) -> None:
    raw.send(post(f"http://tieline.example{CHAT}", chat()) + get("http://tieline.example/health/live"))
    assert (await raw.hear()).status == 200
    assert (await raw.hear()).status == 200


async def test_a_query_does_not_hide_the_path(raw: Raw) -> None:
    raw.send(post(f"{CHAT}?api-version=2024-10-21", chat()))
    assert (await raw.hear()).status == 200


# what goes too far ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", [CHAT, MESSAGES, "/v1/tieline/explain"])
async def test_fifty_megabytes_are_refused_before_they_are_read(served: Served, path: str) -> None:
    async with await served.connect() as raw:
        raw.send(post(path, b"", length=50 * 1024 * 1024))
        heard = await raw.hear()
        assert heard.status == 413
        assert heard.headers["connection"] == "close"
        assert "20 MB" in heard.json["error"]["message"]
        if path == MESSAGES:
            assert heard.json["error"]["type"] == "request_too_large"


@pytest.mark.parametrize("framing", ["length", "chunked"])
async def test_a_client_that_sends_fifty_megabytes_all_the_same_sees_the_answer(
    served: Served, framing: str
) -> None:
    async with await served.connect() as raw:
        body = b"x" * (50 * 1024 * 1024)
        raw.send(post(CHAT, body) if framing == "length" else chunked(CHAT, body, 1024 * 1024))
        heard = await raw.hear(timeout=30)
        assert heard.status == 413
        assert await raw.at_end()


@pytest.mark.parametrize("framing", ["length", "chunked"])
async def test_a_large_body_is_taken_only_with_a_good_key(served: Served, framing: str) -> None:
    """Whoever has none cannot fill the memory either."""
    accounts = served.gateway.accounts
    assert accounts is not None and served.gateway.watch is not None
    _, secret = await asyncio.to_thread(accounts.create_key, "default", "ci")
    await served.gateway.watch.look()
    body = chat(user="x" * 3_000_000)
    for key, status in (("tl-wrong", 401), (None, 401), (secret, 200)):
        headers = [f"Authorization: Bearer {key}"] if key else []
        async with await served.connect() as raw:
            if framing == "length":
                raw.send(post(CHAT, body[:1_500_000], *headers, length=len(body)))
            else:
                raw.send(chunked(CHAT, body, 100_000, *headers)[:1_500_000])
            if status == 401:
                heard = await raw.hear()
                assert heard.status == 401
                assert heard.json["error"]["code"] == "invalid_api_key"
                assert await raw.at_end()
                continue
            raw.send(
                body[1_500_000:]
                if framing == "length"
                else chunked(CHAT, body, 100_000, *headers)[1_500_000:]
            )
            assert (await raw.hear(timeout=30)).status == 200


async def test_a_large_body_elsewhere_is_413(raw: Raw) -> None:
    raw.send(post("/nowhere", b"x" * 1_200_000, length=5_000_000))
    heard = await raw.hear()
    assert heard.status == 413
    assert "No model is asked at this path" in heard.json["error"]["message"]


async def test_a_header_flood_is_431(served: Served) -> None:
    whole = get("/health/live", *(f"X-{number}: {'y' * 90}" for number in range(1000)))
    endless = b"GET / HTTP/1.1\r\nX: " + b"y" * 300_000
    many = b"POST /v1/messages HTTP/1.1\r\n" + b"A: b\r\n" * 50_000
    for flood in (whole, endless, many):
        async with await served.connect() as raw:
            for at in range(0, len(flood), 30_000):
                raw.send(flood[at : at + 30_000])
                await asyncio.sleep(0.001)
            heard = await raw.hear()
            assert heard.status == 431
            assert "64 KiB" in heard.json["error"]["message"]
            assert await raw.at_end()


@pytest.mark.parametrize("before", [b"0\r\n", b"5;", b""], ids=["trailers", "extension", "size"])
async def test_what_stands_between_pieces_of_body_has_the_bound_of_a_head(raw: Raw, before: bytes) -> None:
    """It is no body, so that ``server.max_body_mb`` does not see it."""
    raw.send(chunked(CHAT, chat(), 20)[:-5] + before)
    for _ in range(20):
        raw.send(
            b"0" * 30_000 if not before else b"X: y\r\n" * 5_000 if before[:1] == b"0" else b"y" * 30_000
        )
        await asyncio.sleep(0.001)
    heard = await raw.hear()
    assert heard.status == 431
    assert await raw.at_end()


async def test_a_large_body_in_small_pieces_is_no_head(raw: Raw) -> None:
    body = chat(user="x" * 20_000)
    raw.send(chunked(CHAT, body, 1))
    assert (await raw.hear(timeout=30)).status == 200


async def test_trailers_are_no_headers(raw: Raw) -> None:
    """Whoever stands in front and decides about headers has not seen them (RFC 9110, 6.5.1)."""
    raw.send(
        chunked(CHAT, chat(), 20)[:-2] + b"Tieline-Max-Cost-USD: 0\r\nAuthorization: Bearer tl-x\r\n\r\n"
    )
    raw.send(
        chunked("/v1/models/demo", b"", 20).replace(b"POST", b"GET")[:-2] + b"Anthropic-Version: 1\r\n\r\n"
    )
    assert (await raw.hear()).status == 200
    assert (await raw.hear()).json["object"] == "model"


@pytest.mark.parametrize(
    "sent", [b"P", b"POST /v1/mess", post(MESSAGES, b'{"mod', length=500), post(MESSAGES, chat(), length=500)]
)
async def test_a_request_that_never_ends_is_408(tmp_path: Path, sent: bytes) -> None:
    async with serving(tmp_path, receive_timeout_s=0.5) as served, await served.connect() as raw:
        raw.send(sent)
        heard = await raw.hear()
        assert heard.status == 408
        assert "0.5 s" in heard.json["error"]["message"]
        assert await raw.at_end()
        assert served.gateway.in_flight == 0


async def test_a_slow_loris_that_keeps_dripping_is_408_too(tmp_path: Path) -> None:
    async with serving(tmp_path, receive_timeout_s=0.5) as served, await served.connect() as raw:

        async def drip() -> None:
            while True:
                raw.send(b"X-Slow: yes\r\n")
                await asyncio.sleep(0.05)

        raw.send(b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\n")
        dripping = asyncio.create_task(drip())
        heard = await raw.hear()
        dripping.cancel()
        assert heard.status == 408


@pytest.mark.parametrize(
    ("sent", "says"),
    [
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 60, "TLS"),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "HTTP/2"),
        (b"\x00\x01\x02\x03\r\n\r\n", "HTTP/1.1"),
        (b"NONSENSE / HTTP/1.1\r\n\r\n", "HTTP/1.1"),
        (b"GET / HTTP/1.1\r\nbad header line\r\n\r\n", "HTTP/1.1"),
        (b"POST /v1/chat/completions HTTP/1.1\r\nContent-Length: -5\r\n\r\n", "HTTP/1.1"),
        (
            b"POST /v1/chat/completions HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
            "HTTP/1.1",
        ),
        (b"POST /v1/chat/completions HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", "HTTP/1.1"),
        (
            b"POST /v1/chat/completions HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
            "HTTP/1.1",
        ),
    ],
)
async def test_what_is_not_http_is_400_and_closed(raw: Raw, sent: bytes, says: str) -> None:
    raw.send(sent)
    heard = await raw.hear()
    assert heard.status == 400
    assert says in heard.json["error"]["message"]
    assert await raw.at_end()


async def test_a_length_of_thousands_of_digits_is_413(raw: Raw) -> None:
    raw.send(post(CHAT, b"").replace(b"Content-Length: 0", b"Content-Length: " + b"0" * 6_000 + b"5"))
    assert (await raw.hear()).status == 413


PAGES = (
    "https://evil.example",
    "http://tieline.evil.example:8787",
    "null",
    "http://[",
    "http://127.0.0.1.evil.example",
)
OURS = (
    "http://127.0.0.1:8787",
    "http://localhost:3000",
    "http://[::1]:1",
    "http://app.localhost",
    "app://obsidian.md",
)


@pytest.mark.parametrize("path", [CHAT, MESSAGES])
async def test_pages_of_other_sites_are_not_served_without_a_key(served: Served, path: str) -> None:
    """A browser sends them everywhere; a page could spend the money of whoever looks at it, also by a name of its own that
    resolves to this machine."""
    for origin in PAGES:
        async with await served.connect() as raw:
            raw.send(post(path, chat(), "Content-Type: text/plain", f"Origin: {origin}"))
            heard = await raw.hear()
            assert heard.status == 403, origin
            assert "virtual key" in heard.json["error"]["message"]
            assert await raw.at_end()
    for origin in OURS:
        async with await served.connect() as raw:
            raw.send(post(path, chat(), f"Origin: {origin}"))
            assert (await raw.hear()).status != 403, origin
    assert len(await served.records()) == len(OURS)


ANYBODYS = ("evil.example", "evil.example:8787", "127.0.0.1.evil.example", "localhost.", "notinternal.", "[")
THIS_MACHINES = (
    "127.0.0.1:8787",
    "LOCALHOST",
    "[::1]:8787",
    "192.168.1.7",
    "app.localhost:3000",
    "host.docker.internal:8787",
    "upstream",
    "",
)
PLACES = (
    CHAT,
    "/v1/models",
    "/v1/requests/req_1",
    "/metrics",
    "/",
    "/health/ready",
    "/admin/api/docs",
    "/nowhere",
)


def to_name(host: str, request: bytes) -> bytes:
    return request.replace(b"Host: x", f"Host: {host}".encode(), 1)


@pytest.mark.parametrize("path", PLACES)
async def test_pages_by_a_name_of_their_own_read_nothing_without_a_key(served: Served, path: str) -> None:
    """DNS rebinding: to its browser the page is no other site's, and a GET has no ``Origin``."""
    request = post(path, chat()) if path == CHAT else get(path)
    for host in ANYBODYS:
        async with await served.connect() as raw:
            raw.send(to_name(host, request))
            heard = await raw.hear()
            assert heard.status == 403, host
            assert "localhost" in heard.json["error"]["message"]
            assert await raw.at_end()
    for host in THIS_MACHINES:
        async with await served.connect() as raw:
            raw.send(to_name(host, request))
            assert (await raw.hear()).status != 403, host
    assert len(await served.records()) == (len(THIS_MACHINES) if path == CHAT else 0)


async def test_a_name_is_looked_at_in_a_connection_that_was_served_before(raw: Raw) -> None:
    for host, status in (("localhost", 200), ("localhost", 200), ("evil.example", 403)):
        raw.send(to_name(host, post(CHAT, chat())))
        assert (await raw.hear()).status == status


async def test_pages_are_served_where_anyone_is(tmp_path: Path) -> None:
    async with serving(tmp_path, open=True) as served, await served.connect() as raw:
        raw.send(to_name("chat.example", post(CHAT, chat(), "Origin: https://chat.example")))
        assert (await raw.hear()).status == 200
        raw.send(to_name("chat.example", get("/v1/models")))
        assert (await raw.hear()).status == 200


async def test_pages_are_served_with_a_key(served: Served, raw: Raw) -> None:
    accounts = served.gateway.accounts
    assert accounts is not None and served.gateway.watch is not None
    _, secret = await asyncio.to_thread(accounts.create_key, "default", "page")
    await served.gateway.watch.look()
    keyed = post(CHAT, chat(), "Origin: https://chat.example", f"Authorization: Bearer {secret}")
    raw.send(to_name("chat.example", keyed))
    assert (await raw.hear()).status == 200
    raw.send(to_name("chat.example", post(CHAT, chat(), "Origin: https://chat.example")))
    assert (await raw.hear()).status == 401
    raw.send(to_name("chat.example", get("/health/ready")))
    assert (await raw.hear()).status == 200


async def test_garbage_behind_a_good_request_does_not_spoil_its_answer(raw: Raw) -> None:
    raw.send(post(CHAT, chat(stream=True)) + b"\x00garbage\r\n\r\n")
    assert (await raw.hear()).body.endswith(b"data: [DONE]\n\n")
    assert (await raw.hear()).status == 400
    assert await raw.at_end()


async def test_a_compressed_body_is_415(raw: Raw) -> None:
    raw.send(post(CHAT, b"\x1f\x8b\x08", "Content-Encoding: gzip"))
    heard = await raw.hear()
    assert heard.status == 415
    assert "compressed" in heard.json["error"]["message"]


# who goes away ----------------------------------------------------------------------------------------------------


async def test_a_body_that_ends_early_leaves_nothing_behind(served: Served) -> None:
    for end in ("close", "abort"):
        raw = await served.connect()
        raw.send(post(CHAT, chat()[:20], length=500))
        await asyncio.sleep(0.05)
        getattr(raw, end)()
    raw = await served.connect()
    raw.send(post(CHAT, chat()))
    assert (await raw.hear()).status == 200
    raw.close()
    await served.settled()
    assert len(await served.records()) == 1
    assert not [task for task in asyncio.all_tasks() if "handle" in repr(task)]


async def test_a_caller_that_leaves_at_once_is_recorded(served: Served) -> None:
    for _ in range(20):
        raw = await served.connect()
        raw.send(post(CHAT, chat()))
        await raw.writer.drain()
        raw.abort()
    await asyncio.sleep(0.3)
    await served.settled()
    found = await served.records()
    assert {record.outcome for record in found} <= {"success", "caller_gone"}
    assert len(found) == served.gateway.recorder.health().accepted


async def test_the_openai_shape_is_whole(raw: Raw) -> None:
    raw.send(post(CHAT, b"{"))
    error = (await raw.hear()).json["error"]
    assert set(error) >= {"message", "type", "param", "code"}
    raw.send(post(GEMINI, b"{"))
    error = (await raw.hear()).json["error"]
    assert error["code"] == 400
    assert error["status"] == "INVALID_ARGUMENT"
