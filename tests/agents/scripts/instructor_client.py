"""instructor: wraps an official client that was given a `base_url`."""

import anthropic
import instructor
import openai
from asked import HARBOUR, KEY, MODELS, URL, Harbour, errors, tell
from instructor import Mode

ASKED = {
    "response_model": Harbour,
    "messages": [{"role": "user", "content": HARBOUR}],
    "max_retries": 0,
}


def gpt(key: str = KEY, mode: Mode = Mode.TOOLS) -> instructor.Instructor:
    return instructor.from_openai(openai.OpenAI(base_url=f"{URL}/v1", api_key=key, max_retries=0), mode=mode)


def claude(key: str = KEY) -> instructor.Instructor:
    return instructor.from_anthropic(anthropic.Anthropic(base_url=URL, api_key=key, max_retries=0))


def ask(model: str) -> dict:
    modes = {mode.value: gpt(mode=mode) for mode in (Mode.TOOLS, Mode.JSON_SCHEMA, Mode.RESPONSES_TOOLS)}
    made = {name: client.create(model=model, **ASKED) for name, client in modes.items()}
    made["anthropic"] = claude().create(model=model, max_tokens=500, **ASKED)
    *_, made["partial"] = gpt().create_partial(model=model, **ASKED)
    return {"structured": {name: one.model_dump() for name, one in made.items()}}


failed = errors(
    lambda model, key: gpt(key).create(model=model, **ASKED),
    lambda model, key: list(gpt(key).create_partial(model=model, **ASKED)),
)
tell({**{model: ask(model) for model in MODELS}, "errors": {"chat": failed}})
