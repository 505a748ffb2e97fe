"""LangChain's ChatAnthropic: `base_url` without /v1, as its reference documents."""

import json
import os

from langchain_anthropic import ChatAnthropic
from langchain_core.messages import HumanMessage, ToolMessage
from langchain_core.tools import tool
from pydantic import BaseModel

URL, MODELS = os.environ["TIELINE_URL"], os.environ["TIELINE_MODELS"].split()


class Harbour(BaseModel):
    name: str
    depth_m: int


@tool
def get_weather(city: str) -> str:
    """Weather of a city."""
    return f"sun in {city}"


def text_of(message) -> str:
    content = message.content
    return content if isinstance(content, str) else "".join(block.get("text", "") for block in content)


def ask(model: str) -> dict:
    llm = ChatAnthropic(base_url=URL, api_key="caller", model=model, max_retries=0, max_tokens=1000)
    asked = [HumanMessage("Use get_weather for Lisbon.")]
    called = llm.bind_tools([get_weather]).invoke(asked)
    results = [
        ToolMessage(get_weather.invoke(call["args"]), tool_call_id=call["id"]) for call in called.tool_calls
    ]
    return {
        "text": text_of(llm.invoke("Why do ships carry bells?")),
        "stream": "".join(text_of(chunk) for chunk in llm.stream("Why do ships carry bells?")),
        "tool": [call["name"] for call in called.tool_calls],
        "loop": text_of(llm.bind_tools([get_weather]).invoke([*asked, called, *results])),
        "structured": llm.with_structured_output(Harbour).invoke("Describe the harbour.").model_dump(),
    }


print(json.dumps({model: ask(model) for model in MODELS}))
