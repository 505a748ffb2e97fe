"""The cells: each passed, failed, or not offered by the vendor (with the source that says so)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from msgspec import Struct

from tests.conformance.anthropic_client import MessagesClient
from tests.conformance.features import FAILURES, FEATURES, Case, check_upstream
from tests.conformance.gemini_client import GenAIClient
from tests.conformance.openai_clients import ChatClient, ResponsesClient
from tests.conformance.seen import Client
from tests.conformance.world import BY_NAME, HOSTS, World, running

CLIENTS: dict[str, type[Client]] = {
    made.name: made for made in (ChatClient, ResponsesClient, MessagesClient, GenAIClient)
}
NOT_OFFERED = {
    ("responses", "stop"): "openai SDK, ResponseCreateParams: the Responses API has no stop sequences",
    ("cohere", "pdf"): "cohere SDK, UserMessageV2Content: text and image_url only",
}
"""(host, feature) -> source. The request must then be refused by name, before anything is sent."""


class Cell(Struct):
    client: str
    host: str
    feature: str
    result: str
    """passed | failed | not offered"""
    detail: str = ""


def names() -> list[tuple[str, str, str]]:
    return [(client, host.name, feature) for client in CLIENTS for host in HOSTS for feature in FEATURES]


@contextmanager
def matrix_world(folder: Path) -> Iterator[tuple[World, dict[str, Client]]]:
    with running(folder, tuple(f"-{name}" for name in FAILURES)) as world:
        clients = {name: make(world.url) for name, make in CLIENTS.items()}  # type: ignore[call-arg]
        try:
            yield world, clients
        finally:
            for client in clients.values():
                client.close()


def run(world: World, client: Client, host_name: str, feature: str) -> Cell:
    """Raises nothing: a cell always has a result."""
    cell = Cell(client.name, host_name, feature, "passed")
    if feature in client.lacks:
        cell.result, cell.detail = "not offered", client.lacks[feature]
        return cell
    world.begin()
    case = Case(world, client, BY_NAME[host_name])
    source = NOT_OFFERED.get((host_name, feature))
    try:
        if source is not None:
            _refused(case, feature)
            cell.result, cell.detail = "not offered", source
            return cell
        FEATURES[feature](case)
        check_upstream(case)
    except Exception as error:
        cell.result, cell.detail = "failed", f"{type(error).__name__}: {error}"[:1500]
    return cell


def _refused(case: Case, feature: str) -> None:
    try:
        FEATURES[feature](case)
    except AssertionError as error:
        raise AssertionError(f"not offered, and yet it was answered: {error}") from None
    except Exception as error:
        status = getattr(error, "status_code", None) or getattr(error, "code", None)
        assert status == 400, error
        assert case.host.name in str(error) or case.host.dialect in str(error), f"it names no provider: {error}"
        assert not case.world.upstream(), "it was sent although it cannot work"
    else:
        raise AssertionError("not offered, and yet it passed")
