"""Model providers that speak their own dialects and misbehave on request or on a schedule. Product, not test code."""

from tieline.simulator.ledger import Entry
from tieline.simulator.schedule import Phase, Schedule, ScheduleError
from tieline.simulator.server import SimulatorServer, run
from tieline.simulator.text import count_tokens, expected_text

__all__ = [
    "Entry",
    "Phase",
    "Schedule",
    "ScheduleError",
    "SimulatorServer",
    "count_tokens",
    "expected_text",
    "run",
]
