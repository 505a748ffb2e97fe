"""The admin API as a user meets it: what it does, what it refuses, and that nothing is half-written."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from pathlib import Path
from typing import Any

import pytest

from tests.admin.client import TOKEN, Admin, administered
from tests.browser import browsing
from tests.served import Raw
from tieline.store import queries


async def refused(answer: tuple[int, Any], status: int, param: str | None, *words: str) -> None:
    found, body = answer
    assert found == status, body
    assert body["error"]["param"] == param, body
    text = body["error"]["message"] + (body["error"]["hint"] or "")
    assert all(word in text for word in words), body


async def test_a_key_from_creation_to_revocation(tmp_path: Path) -> None:
    async with administered(tmp_path) as admin:
        status, made = await admin.ask(
            "POST", "/keys", {"name": "ci", "rules": {"budgets": [{"amount_usd": "1.5", "period": "day"}]}}
        )
        assert status == 201
        secret, key = made["secret"], made["key"]
        assert key["hints"] == [secret[-4:]]
        assert (await admin.chat(secret)).status == 200
        assert (await admin.chat(None)).status == 401
        status, rotated = await admin.ask("POST", "/keys/ci/rotate", {"overlap_s": 0})
        assert (await admin.chat(secret)).status == 401
        assert (await admin.chat(rotated["secret"])).status == 200
        await admin.ask("PATCH", "/keys/ci", {"rules": {"models": ["other-*"]}})
        assert (await admin.chat(rotated["secret"])).status == 403
        status, edited = await admin.ask("PATCH", "/keys/ci", {"name": "cd", "rules": {"models": None}})
        assert edited["name"] == "cd"
        assert edited["rules"]["budgets"][0]["amount_usd"] == "1.5"
        await admin.ask("POST", f"/keys/{key['id']}/revoke")
        assert (await admin.chat(rotated["secret"])).status == 401
        assert await asyncio.to_thread(admin.gateway.recorder.flush)
        _, [shown] = await admin.ask("GET", "/keys")
        assert shown["revoked_ms"]
        assert float(shown["spent_usd"]) > 0
        assert secret not in str(shown)
        _, [budget] = await admin.ask("GET", "/budgets")
        assert (budget["period"], budget["spent_usd"]) == ("day", shown["spent_usd"])
        _, changes = await admin.ask("GET", "/audit")
        assert [one["action"] for one in changes] == [
            "key.revoke",
            "key.edit",
            "key.edit",
            "key.rotate",
            "key.create",
            "project.create",
        ]
        assert {one["actor"] for one in changes} == {"admin"}


@pytest.mark.parametrize("way", ["body", "header", "openrouter"])
async def test_a_key_reaches_no_other_model_by_listing_it(tmp_path: Path, way: str) -> None:
    async with administered(tmp_path) as admin:
        _, made = await admin.ask("POST", "/keys", {"name": "ci", "rules": {"models": ["failing"]}})
        listed = {
            "body": {"tieline": {"models": ["sim-anthropic/claude-sim"]}},
            "openrouter": {"models": ["sim-anthropic/claude-sim"]},
        }
        body = {
            "model": "failing",
            "messages": [{"role": "user", "content": "Hello"}],
            "max_tokens": 20,
            **listed.get(way, {}),
        }
        headers = ["tieline-models: sim-anthropic/claude-sim"] if way == "header" else []
        heard = await admin.raw("POST", "/v1/chat/completions", body, *headers, token=made["secret"])
        assert heard.status == 403, heard.body
        assert b"sim-anthropic/claude-sim" in heard.body


async def test_what_is_explained_to_a_key_is_what_it_would_get(tmp_path: Path) -> None:
    async with administered(tmp_path) as admin:
        rules = {"models": ["demo", "sim-openai/*"], "policy": {"deny_providers": ["sim-backup"]}}
        _, made = await admin.ask("POST", "/keys", {"name": "ci", "rules": rules})
        secret = made["secret"]

        async def explained(model: str, token: str | None) -> Any:
            return await admin.raw("POST", "/v1/tieline/explain", {"model": model}, token=token)

        told = (await explained("demo", secret)).json
        usable = [one["deployment"] for one in told["candidates"] if one["order"]]
        assert usable == ["sim-openai/gpt-sim"]
        assert told["excluded"]["sim-backup/gpt-sim"] == "policy: provider sim-backup is denied"
        assert (await explained("sim-anthropic/claude-sim", secret)).status == 403
        assert (await admin.chat(secret, "sim-anthropic/claude-sim")).status == 403
        assert (await explained("demo", None)).status == 401


async def test_a_key_sees_the_models_it_may_use_and_no_other(tmp_path: Path) -> None:
    async with administered(tmp_path) as admin:

        async def seen(secret: str | None, *headers: str) -> list[str]:
            heard = await admin.raw("GET", "/v1/models", None, *headers, token=secret)
            assert heard.status == 200, heard.body
            return [one["id"] for one in heard.json["data"]]

        everything = await seen(None)
        await admin.ask(
            "POST", "/projects", {"name": "web", "rules": {"models": ["demo", "long", "gpt-sim", "sim-o*"]}}
        )
        narrow = {"models": ["demo", "slow", "gpt-sim", "sim-openai/gpt*"]}
        _, made = await admin.ask("POST", "/keys", {"name": "ci", "project": "web", "rules": narrow})
        secret = made["secret"]
        usable = await seen(secret)
        assert sorted(usable) == ["demo", "gpt-sim", "sim-openai/gpt-sim"]
        assert await seen(secret, "anthropic-version: 2023-06-01") == usable
        for name in usable:
            heard = await admin.raw("GET", f"/v1/models/{name}", token=secret)
            assert (heard.status, heard.json["id"]) == (200, name)
            assert (await admin.chat(secret, name)).status == 200, name
        for name in ("long", "slow", "sim-anthropic/claude-sim"):
            assert name in everything
            hidden = await admin.raw("GET", f"/v1/models/{name}", token=secret)
            assert (hidden.status, hidden.json["error"]["code"]) == (404, "model_not_found"), hidden.body
            hidden = await admin.raw(
                "GET", f"/v1/models/{name}", None, "anthropic-version: 2023-06-01", token=secret
            )
            assert (hidden.status, hidden.json["type"]) == (404, "error"), hidden.body
            assert hidden.json["error"]["type"] == "not_found_error"
            assert (await admin.chat(secret, name)).status == 403
        await admin.ask("PATCH", "/projects/web", {"rules": {"models": ["*"]}})
        await admin.ask("PATCH", "/keys/ci", {"rules": {"models": None}})
        assert await seen(secret) == everything
        await admin.ask("PATCH", "/keys/ci", {"rules": {"models": []}})
        assert await seen(secret) == []
        assert (await admin.raw("GET", "/v1/models", token=None)).status == 401
        assert (await admin.raw("GET", "/v1/models/demo", token="tl-wrong")).status == 401


async def test_records_of_keys_are_not_for_strangers(tmp_path: Path) -> None:
    """An open gateway lets anybody in, but what a key asked stays the key's; a beginning of an id is easily guessed."""
    async with administered(tmp_path) as admin:
        admin.gateway.admission.open = True
        _, made = await admin.ask("POST", "/keys", {"name": "ci"})
        _, other = await admin.ask("POST", "/keys", {"name": "other"})
        ids = []
        for secret in (made["secret"], None):
            heard = await admin.chat(secret)
            ids.append(heard.headers["tieline-request-id"])
        assert await asyncio.to_thread(admin.gateway.recorder.flush)
        for secret, seen in ((made["secret"], [200, 404]), (other["secret"], [404, 404]), (None, [404, 200])):
            found = [(await admin.raw("GET", f"/v1/requests/{one}", token=secret)).status for one in ids]
            assert found == seen


async def test_projects_credits_and_spend(tmp_path: Path) -> None:
    async with administered(tmp_path) as admin:
        _, project = await admin.ask("POST", "/projects", {"name": "web", "rules": {"tags": {"team": "a"}}})
        _, key = await admin.ask("POST", "/keys", {"name": "ci", "project": "web"})
        _, project = await admin.ask(
            "POST", "/projects/web/credits", {"amount_usd": "0.5", "note": "invoice 7"}
        )
        assert (project["credit_usd"], project["credit_left_usd"]) == ("0.5", "0.5")
        for _ in range(3):
            assert (await admin.chat(key["secret"])).status == 200
        assert await asyncio.to_thread(admin.gateway.recorder.flush)
        _, page = await admin.ask("GET", "/records?limit=2&project=" + project["id"])
        assert len(page["records"]) == 2
        _, rest = await admin.ask("GET", f"/records?limit=2&tag=team%3Da&before={page['next']}")
        assert len(rest["records"]) == 1
        assert rest["next"] is None
        _, one = await admin.ask("GET", f"/records/{page['records'][0]['id']}")
        assert one["attempts"][0]["cost_usd"] == one["cost_usd"]
        _, [line] = await admin.ask("GET", "/spend?by=project")
        assert (line["group"], line["name"], line["requests"]) == (project["id"], "web", 3)
        _, [line] = await admin.ask("GET", "/spend?by=key")
        assert line["name"] == "ci"
        _, [line] = await admin.ask("GET", "/spend?by=tag&tag_name=team")
        assert line["group"] == "a"
        await admin.ask("POST", "/projects/web/archive")
        assert (await admin.chat(key["secret"])).status == 401
        _, restored = await admin.ask("POST", "/projects/web/restore")
        assert restored["archived_ms"] is None
        assert (await admin.chat(key["secret"])).status == 200


async def test_bad_input_names_the_field_and_writes_nothing(tmp_path: Path) -> None:
    async with administered(tmp_path) as admin:
        await admin.ask("POST", "/keys", {"name": "ci"})
        _, before = await admin.ask("GET", "/audit")
        rules: Any = {"budgets": [{"amount_usd": "-1"}]}
        await refused(
            await admin.ask("POST", "/keys", {"name": "x", "rules": rules}), 400, "budgets[0].amount_usd"
        )
        rules = {"budgets": [{"amount_usd": "1e999999999"}]}
        await refused(
            await admin.ask("POST", "/keys", {"name": "x", "rules": rules}), 400, "budgets[0].amount_usd"
        )
        rules = {"budgets": [{"amount_usd": "1"}, {"amount_usd": "2"}]}
        await refused(
            await admin.ask("POST", "/keys", {"name": "x", "rules": rules}), 400, "budgets", "smaller"
        )
        rules = {"policy": {"deny_providers": ["openai", "sim-antropic"]}}
        for method, path in (
            ("POST", "/keys"),
            ("PATCH", "/keys/ci"),
            ("POST", "/projects"),
            ("PATCH", "/projects/default"),
        ):
            answer = await admin.ask(method, path, {"name": "x", "rules": rules})
            await refused(answer, 400, "policy.deny_providers[1]", "Did you mean sim-anthropic?")
        rules = {"limits": {"concurrency": 0}}
        await refused(
            await admin.ask("PATCH", "/keys/ci", {"name": "new", "rules": rules}), 400, "limits.concurrency"
        )
        await refused(
            await admin.ask("POST", "/keys", {"name": "x", "project": "none"}), 404, "project", "default"
        )
        await refused(await admin.ask("POST", "/projects", {"name": "default"}), 400, "name", "another")
        await refused(await admin.ask("POST", "/keys", {"name": "x", "expires_ms": 5}), 400, "expires_ms")
        await refused(await admin.ask("POST", "/keys", {"name": "x", "colour": 1}), 400, "colour")
        await refused(await admin.ask("GET", "/keys/none"), 404, "key")
        await refused(await admin.ask("GET", "/records?limit=0"), 400, "limit")
        await refused(await admin.ask("GET", "/spend?by=tag"), 400, "tag_name")
        assert (await admin.ask("POST", "/keys", b"{"))[0] == 400
        assert (await admin.ask("DELETE", "/keys"))[0] == 405
        assert (await admin.ask("GET", "/nothing"))[0] == 404
        assert (await admin.ask("GET", "/audit"))[1] == before
        _, [key] = await admin.ask("GET", "/keys")
        assert key["name"] == "ci"


async def test_models_that_nothing_has_are_warned_of(tmp_path: Path) -> None:
    async with administered(tmp_path) as admin:
        rules = {"models": ["demo", "dmeo", "sim-openai/*"]}
        said = ["models[1]: no model is called 'dmeo' here, so it allows nothing. Did you mean demo?"]
        _, made = await admin.ask("POST", "/keys", {"name": "ci", "rules": rules})
        assert made["key"]["warnings"] == said
        _, project = await admin.ask("POST", "/projects", {"name": "web", "rules": rules})
        assert project["warnings"] == said
        for path in ("/keys/ci", "/projects/web"):
            assert (await admin.ask("PATCH", path, {"rules": rules}))[1]["warnings"] == said
            assert (await admin.ask("PATCH", path, {"rules": {"tags": {"a": "b"}}}))[1]["warnings"] == []
        policy = {"deny_providers": ["openai", "sim-anthropic"]}
        status, edited = await admin.ask("PATCH", "/keys/ci", {"rules": {"policy": policy}})
        assert (status, edited["rules"]["policy"]["deny_providers"]) == (200, policy["deny_providers"])


async def test_who_may(tmp_path: Path) -> None:
    async with administered(tmp_path) as admin:
        for token in (None, "wrong", "tla-wrong", "x" * 2_000):
            assert (await admin.ask("GET", "/keys", token=token))[0] == 401
        _, made = await admin.ask("POST", "/keys", {"name": "ci"})
        assert (await admin.ask("GET", "/keys", token=made["secret"]))[0] == 403
        assert (await admin.chat(admin.token)).status == 401


async def test_without_any_token_it_may_be_read_from_here_only(tmp_path: Path) -> None:
    async with administered(tmp_path, environ={}) as admin:
        admin.token = None
        assert (await admin.ask("GET", "/health"))[0] == 200
        assert (await admin.ask("POST", "/keys", {"name": "x"}))[0] == 401
        for header in (
            "X-Forwarded-For: 10.0.0.1",
            "Origin: https://evil.example",
            "Sec-Fetch-Site: cross-site",
            "Host: host.docker.internal",
        ):
            assert (await admin.ask("GET", "/health", None, header))[0] == 401, header
        assert (await admin.ask("GET", "/health", None, "Host: evil.example"))[0] == 403
        reader, writer = await asyncio.open_connection("127.0.0.1", admin.port)
        async with Raw(reader, writer) as raw:
            raw.send(f"GET /admin/api/health HTTP/1.0\r\nHost: 127.0.0.1:{admin.port}\r\n\r\n".encode())
            assert (await raw.hear()).status == 401
        assert (await admin.ask("GET", "/health", None, "Origin: http://["))[0] == 401
        from tieline.store.admin import make_token

        assert admin.gateway.database is not None
        token = await asyncio.to_thread(make_token, admin.gateway.database, "test")
        assert (await admin.ask("GET", "/health"))[0] == 401
        assert (await admin.ask("POST", "/keys", {"name": "x"}, token=token))[0] == 201


async def test_credentials_are_in_use_without_a_restart(tmp_path: Path) -> None:
    async with administered(tmp_path) as admin:
        await refused(
            await admin.ask("POST", "/credentials", {"provider": "openay", "secret": "sk-x"}),
            400,
            "provider",
            "openai",
        )
        await refused(
            await admin.ask("POST", "/credentials", {"provider": "openai", "secret": "a\u0001b"}),
            400,
            "secret",
        )
        assert "openai" not in admin.gateway.fleet.hosts
        status, made = await admin.ask(
            "POST", "/credentials", {"provider": "openai", "label": "team", "secret": "sk-one"}
        )
        assert status == 201
        assert "sk-one" not in str(made)
        [credential] = admin.gateway.fleet.hosts["openai"].credentials
        assert credential.label == "stored/team"
        assert credential.secret == "sk-one"
        await admin.ask("POST", "/credentials", {"provider": "openai", "label": "second", "secret": "sk-two"})
        await admin.ask("POST", "/credentials", {"provider": "openai", "label": "team", "secret": "sk-new"})
        secrets = [one.secret for one in admin.gateway.fleet.hosts["openai"].credentials]
        assert sorted(secrets) == ["sk-new", "sk-two"]
        await admin.ask("PATCH", f"/credentials/{made['id']}", {"enabled": False})
        assert [one.secret for one in admin.gateway.fleet.hosts["openai"].credentials] == ["sk-two"]
        _, listed = await admin.ask("GET", "/credentials")
        assert [one["label"] for one in listed] == ["second", "team"]
        for one in listed:
            assert (await admin.ask("DELETE", f"/credentials/{one['id']}"))[0] == 204
        assert "openai" not in admin.gateway.fleet.hosts


async def test_the_configuration_is_validated_replaced_and_remembered(tmp_path: Path) -> None:
    async with administered(tmp_path) as admin:
        _, read = await admin.ask("GET", "/config")
        path = tmp_path / "tieline.yaml"
        assert read["path"] == str(path)
        assert "simulated" not in read["text"]
        assert "simulated" not in str(read["effective"])
        before = path.read_text()
        await refused(await admin.ask("PUT", "/config", {"text": read["text"]}), 400, "text", "masked")
        text = before.replace("api_key: simulated", "api_key: ${SIM_KEY}")
        await refused(await admin.ask("PUT", "/config", {"text": text}), 400, "text", "SIM_KEY")
        admin.gateway.environ = {**admin.gateway.environ, "SIM_KEY": "sk-canary"}
        faulty = text + "rooting: {}\n"
        _, verdict = await admin.ask("POST", "/config/validate", {"text": faulty})
        assert not verdict["ok"]
        assert "routing" in verdict["errors"][0]["hint"]
        assert path.read_text() == before
        text += "routing: {max_attempts: 3}\n"
        await refused(await admin.ask("PUT", "/config", {"text": text, "digest": "0"}), 409, "digest")
        status, verdict = await admin.ask("PUT", "/config", {"text": text, "digest": read["digest"]})
        assert status == 200, verdict
        assert any("max_attempts" in line for line in verdict["changes"])
        assert admin.gateway.config.routing.max_attempts == 3
        assert path.read_text() == text
        assert [one.name for one in tmp_path.iterdir() if "yaml" in one.name] == ["tieline.yaml"]
        _, [version] = await admin.ask("GET", "/config/history")
        _, kept = await admin.ask("GET", f"/config/history/{version['id']}")
        assert kept["text"] == text
        assert (await admin.chat(None)).status == 200


async def test_health_and_verification(tmp_path: Path) -> None:
    async with administered(tmp_path) as admin:
        assert (await admin.chat(None)).status == 200
        assert await asyncio.to_thread(admin.gateway.recorder.flush)
        _, health = await admin.ask("GET", "/health")
        lanes = {one["deployment"]: one for one in health["deployments"]}
        assert lanes["sim-openai/gpt-sim"]["state"] == "closed"
        assert health["ready"]
        _, verdict = await admin.ask("POST", "/audit/verify")
        assert (verdict["ok"], verdict["records"]) == (True, 1)


async def test_changes_from_elsewhere_are_seen_within_two_seconds(tmp_path: Path) -> None:
    from tests.processes import cli

    async with administered(tmp_path) as admin:
        config = tmp_path / "tieline.yaml"
        made = await asyncio.to_thread(cli, config, "keys", "create", "ci")
        await until(admin, made["secret"], 200)
        await asyncio.to_thread(cli, config, "keys", "revoke", "ci")
        await until(admin, made["secret"], 401)


async def test_a_key_that_cannot_be_read_is_refused_and_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Under a running gateway: the others go on, and it can be revoked."""
    async with administered(tmp_path) as admin:
        made = [(await admin.ask("POST", "/keys", {"name": name}))[1] for name in ("fine", "odd")]
        fine, odd = (one["secret"] for one in made)
        assert (await admin.chat(odd)).status == 200
        with sqlite3.connect(tmp_path / "tieline.db") as database:
            database.execute("UPDATE keys SET rules = '{\"later\": 1}' WHERE name = 'odd'")
        database.close()
        await admin.ask("POST", "/keys", {"name": "third"})
        assert (await admin.chat(odd)).status == 403
        assert admin.gateway.database is not None
        assert await asyncio.to_thread(admin.gateway.recorder.flush)
        [refused] = queries.logs(admin.gateway.database, queries.Filters(status=403))
        assert (refused.key_id, refused.project) == (made[1]["key"]["id"], made[1]["key"]["project_id"])
        assert (await admin.chat(fine)).status == 200
        await admin.ask("POST", "/keys", {"name": "fourth"})
        state = admin.gateway.readiness()
        told = f"keys: refused as their rules cannot be read, 1 in all: {made[1]['key']['id']}"
        assert (state["ready"], state["degraded"]) == (True, [told])
        assert sum("'odd'" in line and "unknown field" in line for line in caplog.messages) == 1
        assert (await admin.ask("GET", "/keys/odd"))[1]["unreadable"]
        assert (await admin.ask("POST", "/keys/odd/revoke"))[0] == 200
        assert admin.gateway.readiness()["degraded"] == []
        assert (await admin.chat(odd)).status == 401


async def until(admin: Admin, secret: str, status: int) -> None:
    began = time.monotonic()
    while (found := (await admin.chat(secret)).status) != status:
        assert time.monotonic() - began < 2.0, found
        await asyncio.sleep(0.05)


@pytest.mark.parametrize("path", ["/admin/api/openapi.json", "/admin/api/docs"])
async def test_it_describes_itself(tmp_path: Path, path: str) -> None:
    async with administered(tmp_path) as admin:
        heard = await admin.raw("GET", path)
        assert heard.status == 200


async def test_its_page_in_a_browser(tmp_path: Path) -> None:
    """What is tried there is sent, with the token; nothing comes from elsewhere."""
    async with administered(tmp_path) as admin:
        async with browsing(tmp_path, f"{admin.url}/admin/api/docs#AdminApiKeysCreateKey") as page:
            assert await page.run("document.querySelectorAll('details[open]').length") == 1
            heard = await page.run(_TRY)
        assert heard.startswith("401")
        async with browsing(tmp_path, f"{admin.url}/admin/api/docs") as page:
            await page.run(f"document.getElementById('token').value = {TOKEN!r}")
            heard = await page.run(_TRY)
            assert heard.startswith("201 Created")
            assert '"name": "from a browser"' in heard
            assert await page.run(
                "performance.getEntriesByType('resource').every(e => e.name.startsWith(location.origin))"
            )
        _, [made] = await admin.ask("GET", "/keys")
        assert made["name"] == "from a browser"


async def test_its_page_fits_a_narrow_screen_and_names_its_fields(tmp_path: Path) -> None:
    async with (
        administered(tmp_path) as admin,
        browsing(tmp_path, f"{admin.url}/admin/api/docs") as page,
    ):
        await page.narrow(400)
        await page.run("document.querySelectorAll('details').forEach(part => { part.open = true; })")
        assert await page.run("document.documentElement.scrollWidth") <= 400
        unnamed = (
            "[...document.querySelectorAll('input, textarea')].filter(e => !e.labels.length && !e.ariaLabel)"
        )
        assert await page.run(f"{unnamed}.length") == 0


_TRY = """new Promise(done => {
  const form = document.querySelector("#AdminApiKeysCreateKey form"), shown = form.querySelector("pre");
  form.querySelector("textarea").value = '{"name": "from a browser"}';
  new MutationObserver(() => done(shown.textContent)).observe(shown, {childList: true});
  form.requestSubmit();
})"""


async def test_a_name_that_several_keys_have_is_ambiguous(tmp_path: Path) -> None:
    async with administered(tmp_path) as admin:
        ids = [(await admin.ask("POST", "/keys", {"name": "ci"}))[1]["key"]["id"] for _ in range(2)]
        for method, path, body in (
            ("GET", "/keys/ci", None),
            ("PATCH", "/keys/ci", {"name": "other"}),
            ("POST", "/keys/ci/rotate", {}),
            ("POST", "/keys/ci/revoke", None),
        ):
            status, said = await admin.ask(method, path, body)
            assert status == 400, path
            assert all(one in str(said) for one in ids)
        found = (await admin.ask("GET", "/keys"))[1]
        assert [(one["name"], one["revoked_ms"]) for one in found] == 2 * [("ci", None)]
