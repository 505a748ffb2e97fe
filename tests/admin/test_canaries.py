"""Secrets are planted wherever they are given, then looked for in everything that comes out."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.admin.client import TOKEN, administered
from tests.processes import environment
from tieline.store import queries
from tieline.store.database import Database
from tieline.store.tables import metadata

ENV_KEY = "sk-canaryenvironment0123456789abcd"
STORED_KEY = "sk-canarystored0123456789abcdefgh"
HEADER_KEY = "canaryheader0123456789"
PROMPT = "canaryprompt-7c1f my secret diary"
PASSPHRASE = "canarypassphrase of enough letters"
ADMIN = "canaryadmintoken0123456789abcdef"
PASSWORD = "canarypassword77"
CANARIES = (ENV_KEY, STORED_KEY, HEADER_KEY, PROMPT, PASSPHRASE, ADMIN, PASSWORD)


def found_in(*texts: Any) -> list[str]:
    whole = "\n".join(
        text.decode("utf-8", "replace") if isinstance(text, bytes) else str(text) for text in texts
    )
    return [canary for canary in (*CANARIES, TOKEN) if canary in whole]


def dump_of(url: str) -> str:
    """Every row of every table."""
    database = Database(url)
    database.open()
    try:
        with database.read() as connection:
            rows = [row for table in metadata.tables.values() for row in connection.execute(table.select())]
    finally:
        database.close()
    # Bytes as their own text: what is packed in a record's body must not hide.
    return "\n".join(
        value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
        for row in rows
        for value in row
    )


@pytest.mark.parametrize("backend", ["sqlite", "postgresql"])
async def test_nothing_that_comes_out_holds_a_secret(
    tmp_path: Path, caplog: Any, capfd: Any, backend: str, request: pytest.FixtureRequest
) -> None:
    caplog.set_level("DEBUG")
    url, server = f"sqlite:///{tmp_path / 'tieline.db'}", None
    if backend == "postgresql":
        server = request.getfixturevalue("postgres")
        url = server.new_database()
    environ = {
        "OPENAI_API_KEY": ENV_KEY,
        "TIELINE_ADMIN_TOKEN": ADMIN,
        "TIELINE_SECRET_KEY": PASSPHRASE,
        "CANARY_HEADER": HEADER_KEY,
    }
    out: list[Any] = []
    async with administered(tmp_path, environ=environ, database=url) as admin:
        admin.token = ADMIN
        path = tmp_path / "tieline.yaml"
        text = (
            path.read_text()
            .replace("discover: false", "discover: true")
            .replace("simulated", "${OPENAI_API_KEY}")
        )
        text = text.replace(
            "    auth: x-api-key", "    auth: x-api-key\n    headers: {x-extra-token: '${CANARY_HEADER}'}"
        )
        out.append(await admin.ask("PUT", "/config", {"text": text}))
        assert out[-1][0] == 200
        stored = {"provider": "sim-openai", "label": "extra", "secret": STORED_KEY}
        out.append(await admin.ask("POST", "/credentials", stored))
        out.append(await admin.ask("POST", "/credentials", {**stored, "secret": STORED_KEY + "\u0001"}))
        out.append(await admin.ask("POST", "/credentials", {**stored, "colour": 1}))
        bad = text + f"store: {{database: 'postgresql://u:{PASSWORD}@127.0.0.1:1/x'}}\nstroe: 1\n"
        out.append(await admin.ask("POST", "/config/validate", {"text": bad}))
        literal = text.replace("${OPENAI_API_KEY}", ENV_KEY)
        out.append(await admin.ask("PUT", "/config", {"text": literal}))
        assert out[-1][0] == 400
        _, made = await admin.ask("POST", "/keys", {"name": "ci"})
        secret = made["secret"]
        for model in ("demo", "failing", "sim-openai/sim-fail-401", "sim-openai/sim-garbled", "none"):
            for stream in (False, True):
                said = [{"role": "user", "content": PROMPT}]
                heard = await admin.chat(secret, model, messages=said, stream=stream)
                # The simulator repeats the prompt in its answers, as a provider may: only heads count there.
                out.append(heard.headers if heard.status == 200 else (heard.headers, heard.body))
        out.append((await admin.chat("tl-" + PASSWORD)).body)
        assert await asyncio.to_thread(admin.gateway.recorder.flush)
        for place in (
            "config",
            "config/history",
            "config/history/1",
            "keys",
            "credentials",
            "records",
            "replicas",
            "health",
        ):
            status, body = await admin.ask("GET", f"/{place}")
            assert status == 200, place
            out.append(body)
        places = ("audit", "spend", "budgets", "limits", "openapi.json")
        out += [await admin.ask("GET", f"/{place}") for place in places]
        places = ("/metrics", "/health/ready", "/", "/v1/models")
        out += [(await admin.raw("GET", place, token=secret)).body for place in places]
        assert admin.gateway.database is not None
        records = queries.logs(admin.gateway.database, limit=100)
        assert len(records) >= 10
        # Refused by the database itself, which likes to repeat what it was given.
        out.append(await admin.ask("POST", "/keys", {"name": "n\u0000ul", "project": "x"}))
        out.append(await admin.ask("GET", "/records?session=%00"))
        out += [(await admin.raw("GET", f"/v1/requests/{records[0].id}", token=secret)).body, records]
        gateway = admin.gateway
        out += [repr(one) for one in (gateway, gateway.config, gateway.fleet, gateway.line, gateway.vault)]
        out += [repr(host.credentials) + str(host) for host in gateway.fleet.hosts.values()]
        for one in out:
            assert not found_in(one), str(one)[:2_000]
        assert secret not in "".join(map(str, out))
    captured = capfd.readouterr()
    assert not found_in(captured.out, captured.err, caplog.text)
    assert secret not in caplog.text + captured.err
    dump = dump_of(url)
    files = [one.read_bytes() for one in tmp_path.rglob("*") if one.is_file() and one.name != "tieline.yaml"]
    if server is not None:
        # Its tables as they lie on disk, the log of its transactions, and what it says in its own log.
        files += [one.read_bytes() for one in server.files()]
        assert len(files) > 100
    assert not found_in(dump, *files)
    assert secret.encode() not in b"".join(files)


def test_a_crash_shows_none(tmp_path: Path) -> None:
    """A traceback with local variables, as crash reporters make them."""
    code = f"""
import asyncio, traceback
from tieline.gateway import Gateway
from tieline.config.schema import Config, ProviderConfig, StoreConfig
environ = {{"OPENAI_API_KEY": "{ENV_KEY}", "TIELINE_SECRET_KEY": "{PASSPHRASE}"}}
config = Config(store=StoreConfig(database="postgresql://u:{PASSWORD}@127.0.0.1:1/x", spool="{tmp_path}/spool"),
                providers={{"openai": ProviderConfig(headers={{"x-token": "{HEADER_KEY}"}})}})
gateway = Gateway(config, environ=environ)
try:
    gateway.database.open()
except Exception as error:
    del environ, config
    lines = traceback.TracebackException.from_exception(error, capture_locals=True).format()
    print("".join(lines))
    print(error, repr(error), gateway, gateway.config, gateway.database, gateway.vault)

async def serve():
    await gateway.start()
    print(gateway.readiness())
    await gateway.stop()

asyncio.run(serve())
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment(), check=False
    )
    assert "PostgreSQL" in done.stdout, done.stderr
    assert not found_in(done.stdout, done.stderr)
