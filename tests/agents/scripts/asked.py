"""What every framework is asked, and how it tells what went wrong."""

import asyncio
import inspect
import json
import os
from collections.abc import Callable

from pydantic import BaseModel

URL, MODELS = os.environ["TIELINE_URL"], os.environ["TIELINE_MODELS"].split()
FAILURES = json.loads(os.environ["TIELINE_FAILURES"])
KEY = "caller"
WRONG_KEY = "tl-wrong"
PROMPT = "Why do ships carry bells?"
WEATHER = "Use get_weather for Lisbon."
HARBOUR = "Describe the harbour."


class Harbour(BaseModel):
    name: str
    depth_m: int


def get_weather(city: str) -> str:
    """Weather of a city."""
    return f"sun in {city}"


def errors(call: Callable, stream: Callable) -> dict[str, list]:
    """``[class name, status]`` of what ``call(model, key)`` raises for each failure, and ``stream(model, key)`` for a cut one."""
    found = {name: _raised(call, name, KEY) for name in FAILURES}
    return {**found, "wrong-key": _raised(call, MODELS[0], WRONG_KEY), "cut": _raised(stream, "cut", KEY)}


def _raised(call: Callable, *arguments: str) -> list:
    try:
        made = call(*arguments)
        if inspect.iscoroutine(made):
            asyncio.run(made)
    except Exception as error:
        return [type(error).__name__, status(error)]
    return ["nothing", None]


def status(error: BaseException) -> int | None:
    """Its own, or that of what it was raised from: instructor wraps the official client's."""
    found = getattr(error, "status_code", None)
    return status(error.__cause__) if found is None and error.__cause__ else found


def tell(found: dict) -> None:
    print(json.dumps(found))
