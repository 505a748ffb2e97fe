from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tieline.config.diff import diff
from tieline.config.load import parse
from tieline.config.schema_json import json_schema
from tieline.config.settings import settings

ROOT = Path(__file__).resolve().parents[2]


def test_fewer_than_60_settings_each_explained() -> None:
    found = settings()
    assert len(found) < 60
    assert [item.path for item in found if not item.about] == []


def test_docs_are_up_to_date() -> None:
    done = subprocess.run(
        [sys.executable, "scripts/gen_docs.py", "--check"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_setting_is_in_the_docs() -> None:
    page = (ROOT / "docs" / "configuration.md").read_text()
    assert [item.path for item in settings() if f"| `{item.path}` |" not in page] == []


def test_json_schema_has_every_setting_and_forbids_others() -> None:
    schema = json_schema()
    definitions = schema["$defs"]
    names = {name for definition in definitions.values() for name in definition.get("properties", {})}
    assert {item.path.rpartition(".")[2] for item in settings()} <= names
    assert all(
        definition["additionalProperties"] is False
        for definition in definitions.values()
        if definition.get("type") == "object"
    )
    assert len(definitions["ModelOrShorthand"]["anyOf"]) == 3
    assert definitions["ServerConfig"]["properties"]["port"]["description"]


def test_json_schema_takes_references_and_plain_amounts_where_null_may_stand_too() -> None:
    amount, nothing = json_schema()["$defs"]["Routing"]["properties"]["max_cost_usd"]["anyOf"]
    assert amount["anyOf"][1:] == [
        {"type": "string", "pattern": r"\$\{[^}]+\}"},
        {"type": "number", "minimum": 0},
    ]
    assert nothing == {"type": "null"}


def test_diff_says_what_changed_without_secrets() -> None:
    old = parse(
        "providers: {a: {base_url: 'https://x', api_key: sk-1}, b: {base_url: 'https://y'}}", {}
    ).config
    new = parse(
        "server: {port: 1}\nproviders: {a: {base_url: 'https://x', api_key: sk-2}, c: {base_url: 'https://z'}}\n"
        "store: {redis: 'redis://:pw@h/0'}",
        {},
    ).config
    assert diff(old, new) == [
        "server.port: 8787 -> 1",
        "providers.a.api_key: changed",
        "providers.b: removed",
        "providers.c: added",
        "store.redis: changed",
    ]
    assert diff(old, old) == []


def test_diff_shows_no_password_of_an_address() -> None:
    old, new = (
        parse(f"providers: {{a: {{base_url: 'https://u:{word}@x/v1?key={word}'}}}}", {}).config
        for word in ("secret1", "secret2")
    )
    assert diff(old, new) == ['providers.a.base_url: "https://…@x/v1?…" -> "https://…@x/v1?…"']
