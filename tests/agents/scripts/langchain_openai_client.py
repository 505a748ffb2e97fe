"""LangChain's ChatOpenAI: `base_url`, as its reference documents."""

import json
import os

from langchain_core.messages import HumanMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI, OpenAIEmbeddings
from pydantic import BaseModel

URL, MODELS = os.environ["TIELINE_URL"], os.environ["TIELINE_MODELS"].split()


class Harbour(BaseModel):
    name: str
    depth_m: int


@tool
def get_weather(city: str) -> str:
    """Weather of a city."""
    return f"sun in {city}"


def ask(model: str) -> dict:
    llm = ChatOpenAI(base_url=f"{URL}/v1", api_key="caller", model=model, max_retries=0)
    asked = [HumanMessage("Use get_weather for Lisbon.")]
    called = llm.bind_tools([get_weather]).invoke(asked)
    results = [
        ToolMessage(get_weather.invoke(call["args"]), tool_call_id=call["id"]) for call in called.tool_calls
    ]
    vectors = OpenAIEmbeddings(
        base_url=f"{URL}/v1", api_key="caller", model="chat/sim-echo", check_embedding_ctx_length=False
    ).embed_documents(["a bell"])
    return {
        "text": llm.invoke("Why do ships carry bells?").content,
        "stream": "".join(chunk.content for chunk in llm.stream("Why do ships carry bells?")),
        "tool": [call["name"] for call in called.tool_calls],
        "loop": llm.bind_tools([get_weather]).invoke([*asked, called, *results]).content,
        "structured": llm.with_structured_output(Harbour).invoke("Describe the harbour.").model_dump(),
        "embedding": len(vectors[0]),
    }


print(json.dumps({model: ask(model) for model in MODELS}))
