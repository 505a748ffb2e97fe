from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.conformance.world import World, running

Start = Callable[..., World]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A gateway with one simulated host for each dialect, shared by a module's tests."""
    with running(tmp_path_factory.mktemp("world"), ("-down", "-raw")) as made:
        made.begin()
        yield made


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """One with a configuration of the test's own: ``start(more_hosts, **fields_of_config)``."""
    with ExitStack() as stack:

        def begin(*more: str, **changes: Any) -> World:
            made = stack.enter_context(running(tmp_path, more, **changes))
            made.begin()
            return made

        yield begin
