"""Every cell of the matrix as a test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.conformance.matrix import CLIENTS, matrix_world, names, run
from tests.conformance.seen import Client
from tests.conformance.world import World

pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore::UserWarning", "ignore::ResourceWarning"
)


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[World, dict[str, Client]]]:
    with matrix_world(tmp_path_factory.mktemp("conformance")) as made:
        yield made


@pytest.mark.parametrize(("client", "host", "feature"), names(), ids=lambda value: value.replace(" ", "-"))
def test_cell(bench: tuple[World, dict[str, Client]], client: str, host: str, feature: str) -> None:
    world, clients = bench
    cell = run(world, clients[client], host, feature)
    assert cell.result != "failed", cell.detail


def test_every_official_client_is_there() -> None:
    assert set(CLIENTS) == {"openai chat", "openai responses", "anthropic", "google-genai"}
