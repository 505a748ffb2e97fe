"""Schemathesis against the admin API's own OpenAPI document, on a real server: no 5xx, no answer it does not describe."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from tests.admin.client import TOKEN
from tests.processes import cli, serving, write_config
from tieline.config.schema import Config, StoreConfig
from tieline.gateway import Gateway
from tieline.server.control.app import build

schemathesis = pytest.importorskip("schemathesis")


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("fuzz")
    config = write_config(
        folder, "http://127.0.0.1:9", database=f"sqlite:///{folder}/tieline.db", spool=folder / "spool"
    )
    cli(config, "keys", "create", "ci")
    secrets = {"TIELINE_ADMIN_TOKEN": TOKEN, "TIELINE_SECRET_KEY": "a passphrase of enough letters"}
    with serving(folder, config, **secrets) as gateway:
        yield gateway.url
        print(gateway.output[-3_000:])


CHECKS = ("status_code_conformance", "content_type_conformance", "response_schema_conformance")


@pytest.mark.filterwarnings("default")
@pytest.mark.timeout(300)
def test_answers_are_as_described(url: str) -> None:
    conformance = importlib.import_module("schemathesis.specs.openapi.checks")
    checks = [schemathesis.checks.not_a_server_error, *(getattr(conformance, name) for name in CHECKS)]
    document = schemathesis.openapi.from_url(f"{url}/admin/api/openapi.json")
    asked: set[str] = set()
    for found in document.include(path_regex="^/admin/api/").get_all_operations():
        operation = found.ok()

        @settings(max_examples=10, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
        @given(case=operation.as_strategy())
        def ask(case: Any) -> None:
            case.call_and_validate(headers={"Authorization": f"Bearer {TOKEN}"}, checks=checks)

        ask()
        asked.add(operation.label)
    assert asked == served()


def served() -> set[str]:
    """Every operation of the admin API, from its routes rather than from the document that describes them."""
    app = build(Gateway(Config(discover=False, store=StoreConfig(database="none")), environ={}))
    routes = [route for route in app.routes if route.path.startswith("/admin/api/")]
    return {
        f"{method} {route.path_format}"
        for route in routes
        if not route.path.startswith(("/admin/api/openapi.json", "/admin/api/docs"))
        for method in route.methods - {"OPTIONS"}
    }
