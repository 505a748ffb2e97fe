"""At most one tool call a turn, whoever serves: frameworks ask for it by default, and not every vendor has the switch."""

from __future__ import annotations

from typing import Any

import pytest

from tests.conformance.anthropic_client import MessagesClient
from tests.conformance.openai_clients import ChatClient, ResponsesClient
from tests.conformance.seen import TOOLS, Ask
from tests.conformance.world import HOSTS, World

_PROMPT = "Use get_weather for Lisbon, and find_train from Porto."
_CLIENTS: dict[str, Any] = {"chat": ChatClient, "responses": ResponsesClient, "messages": MessagesClient}


def once(kind: type[Any]) -> type[Any]:
    """The client that asks for one call a turn."""

    class Once(kind):  # type: ignore[misc]
        def arguments(self, ask: Ask) -> dict[str, Any]:
            made: dict[str, Any] = super().arguments(ask)
            if kind is MessagesClient:
                return made | {"tool_choice": {"type": "auto", "disable_parallel_tool_use": True}}
            return made | {"parallel_tool_calls": False}

    return Once


@pytest.mark.parametrize("host", [host.name for host in HOSTS])
@pytest.mark.parametrize("caller", _CLIENTS)
@pytest.mark.parametrize("how", ["ask", "stream"])
def test_wire_14_one_call_a_turn(world: World, caller: str, host: str, how: str) -> None:
    client = once(_CLIENTS[caller])(world.url)
    ask = Ask(model=f"{host}/sim-tools", turns=[client.user(_PROMPT)], tools=tuple(TOOLS))
    seen = getattr(client, how)(ask)
    assert [call.name for call in seen.calls] == ["get_weather"]
    client.ended = seen.finish
    assert seen.finish in client.words["tool_calls"]
    ask.turns += [*seen.turns, *client.results([(seen.calls[0], "sun")])]
    assert "sun" in getattr(client, how)(ask).text, "the conversation goes on"
    client.close()
