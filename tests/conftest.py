from __future__ import annotations

import faulthandler
from collections.abc import Generator

import pytest
from _pytest.faulthandler import fault_handler_stderr_fd_key

TEARDOWN_S = 120.0


@pytest.fixture
def caplog(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    """What ours says is heard, whatever a world of another test has silenced."""
    caplog.set_level("WARNING", "tieline")
    return caplog


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_teardown(item: pytest.Item) -> Generator[None]:
    """Ends the process, with the stacks of its threads, when what a test opened does not close: pytest-timeout stops its
    clock when a test fails, and neither a signal nor an exception reaches a loop that waits in C."""
    stderr = item.config.stash[fault_handler_stderr_fd_key]
    faulthandler.dump_traceback_later(TEARDOWN_S, file=stderr, exit=True)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()
