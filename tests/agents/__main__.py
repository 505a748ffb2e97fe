"""Makes the environments that tests/agents runs in; instant where they are there. ``coding``: those of test_coding_agents."""

from __future__ import annotations

import sys
import time

from tests.agents.environments import AIDER, NODE, PROGRAMS, PYTHON, Environment

RULE = "=" * 78


def ready(environment: Environment) -> bool:
    """False if it should be there and is not; what cannot be there is said loudly."""
    if environment.find():
        return True
    if program := environment.missing():
        left_out(environment, f"there is no {program}")
        return True
    print(f"Installing agent frameworks ({environment.name}) …", flush=True)
    started = time.monotonic()
    if reason := environment.make():
        left_out(environment, reason)
        return not environment.reachable()
    print(f"… in {time.monotonic() - started:.1f} s, into {environment.home}")
    return True


def left_out(environment: Environment, reason: str) -> None:
    print(
        f"{RULE}\nLEFT OUT: tests of agent frameworks ({environment.name}): {reason}\n{RULE}", file=sys.stderr
    )


wanted = (AIDER, PROGRAMS) if sys.argv[1:] == ["coding"] else (PYTHON, NODE)
made = [ready(one) for one in wanted]
sys.exit(0 if all(made) else 1)
