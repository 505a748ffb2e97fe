"""Several headers may hold the caller's key: both planes must take the same one."""

from __future__ import annotations

from pathlib import Path

from tests.admin.client import administered
from tieline.types.call import secret_of

BEARER, CLAUDE, GOOGLE, AZURE = "Authorization: Bearer", "x-api-key:", "x-goog-api-key:", "api-key:"


async def test_of_several_headers_the_same_one_counts_everywhere(tmp_path: Path) -> None:
    body = {"model": "demo", "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 5}
    async with administered(tmp_path) as admin:
        keys = [(await admin.ask("POST", "/keys", {"name": name}))[1] for name in ("one", "two")]
        one, two = (key["secret"] for key in keys)
        for lines in (
            (f"{BEARER} {one}", f"{CLAUDE} {two}"),
            (f"{CLAUDE} {two}", f"{BEARER} {one}"),
            (f"{AZURE} {two}", f"{GOOGLE} {one}"),
            (f"{CLAUDE} {one}", BEARER),
            (f"{CLAUDE} {one}", "Authorization: Bearer  ", f"{AZURE} "),
            (f"{CLAUDE} ", f"{AZURE} {one}"),
            ("Authorization: Basic dXNlcjpwYXNz", f"{CLAUDE} {one}"),
            (f"{CLAUDE} {one}", "Authorization: Basic dXNlcjpwYXNz"),
        ):
            answer = await admin.raw("POST", "/v1/chat/completions", body, *lines, token=None)
            assert answer.status == 200, lines
            assert admin.gateway.database is not None
            assert admin.gateway.recorder.flush(5.0)
            path = f"/v1/requests/{answer.headers['tieline-request-id']}"
            record = (await admin.raw("GET", path, None, *lines, token=None)).json
            assert record["key_id"] == keys[0]["key"]["id"], lines
            assert (await admin.raw("GET", path, None, f"{CLAUDE} {two}", token=None)).status != 200


def test_a_key_without_its_scheme_is_one() -> None:
    assert secret_of([(b"authorization", b"tl-x")]) == "tl-x"
    assert secret_of([(b"authorization", b"bearer  tl-x ")]) == "tl-x"
    assert secret_of([(b"authorization", b"Bearer"), (b"other", b"tl-y")]) is None
