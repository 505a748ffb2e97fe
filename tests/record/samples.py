"""Records as the pipeline makes them."""

from __future__ import annotations

import time
from typing import Any

from tieline.record.ids import new_id
from tieline.types.record import SUCCESS, Attempt, Record
from tieline.types.usage import Usage


def attempt(number: int = 1, **changes: Any) -> Attempt:
    values: dict[str, Any] = {
        "number": number,
        "deployment": "openai/gpt-5",
        "provider": "openai",
        "model": "gpt-5",
        "credential": "OPENAI_API_KEY",
        "dialect": "openai_chat",
        "outcome": SUCCESS,
        "status": 200,
        "ended_ms": 12.5,
        "usage": Usage(input_tokens=100, output_tokens=20, cache_read_tokens=40),
        "cost": 1_234_567,
    }
    return Attempt(**{**values, **changes})


def record(**changes: Any) -> Record:
    values: dict[str, Any] = {
        "id": new_id(),
        "at_ms": time.time_ns() // 1_000_000,
        "operation": "chat",
        "dialect": "openai_chat",
        "model_asked": "gpt-5",
        "key_id": "key_1",
        "project": "prj_1",
        "provider": "openai",
        "model": "gpt-5",
        "deployment": "openai/gpt-5",
        "status": 200,
        "outcome": SUCCESS,
        "attempts": [attempt()],
        "usage": Usage(input_tokens=100, output_tokens=20, cache_read_tokens=40),
        "cost": 1_234_567,
        "charged": 1_234_567,
        "total_ms": 13.0,
        "overhead_ms": 0.2,
    }
    return Record(**{**values, **changes})
