"""instructor: wraps an official client that was given a `base_url`."""

import json
import os

import anthropic
import instructor
import openai
from pydantic import BaseModel

URL, MODELS = os.environ["TIELINE_URL"], os.environ["TIELINE_MODELS"].split()


class Harbour(BaseModel):
    name: str
    depth_m: int


asked = {
    "response_model": Harbour,
    "messages": [{"role": "user", "content": "Describe the harbour."}],
    "max_retries": 0,
}
gpt = openai.OpenAI(base_url=f"{URL}/v1", api_key="caller", max_retries=0)
claude = anthropic.Anthropic(base_url=URL, api_key="caller", max_retries=0)


def ask(model: str) -> dict:
    found = {
        mode.value: instructor.from_openai(gpt, mode=mode).create(model=model, **asked).model_dump()
        for mode in (instructor.Mode.TOOLS, instructor.Mode.JSON_SCHEMA)
    }
    made = instructor.from_anthropic(claude).create(model=model, max_tokens=500, **asked)
    return {"structured": {**found, "anthropic": made.model_dump()}}


print(json.dumps({model: ask(model) for model in MODELS}))
