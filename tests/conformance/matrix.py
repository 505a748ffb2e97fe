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
NEVER_HAPPENS = {
    (
        "cohere",
        "content filter",
    ): "cohere SDK, ChatFinishReason: COMPLETE, STOP_SEQUENCE, MAX_TOKENS, TOOL_CALL, ERROR, TIMEOUT",
}
"""(host, feature) -> source. The vendor never answers so; there is nothing to ask."""


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
    absent = client.lacks.get(feature) or NEVER_HAPPENS.get((host_name, feature))
    if absent is not None:
        cell.result, cell.detail = "not offered", absent
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
    """Raises AssertionError unless the caller is told why before anything is sent."""
    said = _said(case, feature)
    status = getattr(said, "status_code", None) or getattr(said, "code", None)
    assert status == 400, f"not offered, and yet: {said}"
    assert f"{case.host.name} " in str(said) or case.host.dialect in str(said), (
        f"it names no provider: {said}"
    )
    assert not case.world.upstream(), "it was sent although it cannot work"


def _said(case: Case, feature: str) -> Exception | None:
    try:
        FEATURES[feature](case)
    except Exception as error:
        return error
    return None
