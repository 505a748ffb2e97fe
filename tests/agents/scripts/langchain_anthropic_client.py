"""LangChain's ChatAnthropic: `base_url` without /v1, as its reference documents."""

import asyncio

from asked import HARBOUR, KEY, MODELS, PROMPT, URL, WEATHER, Harbour, errors, get_weather, tell
from langchain.agents import create_agent
from langchain_anthropic import ChatAnthropic
from langchain_core.messages import HumanMessage
from langchain_core.tools import tool

weather = tool(get_weather)


def made(model: str, key: str = KEY) -> ChatAnthropic:
    return ChatAnthropic(base_url=URL, api_key=key, model=model, max_retries=0, max_tokens=1000)


def joined(chunks):
    return sum(chunks[1:], chunks[0])


async def astreamed(llms: dict[str, ChatAnthropic]) -> dict:
    return {
        name: {"stream": "".join([chunk.text async for chunk in llm.astream(PROMPT)])}
        for name, llm in llms.items()
    }


def ask(llm: ChatAnthropic) -> dict:
    tools = llm.bind_tools([weather])
    looped = create_agent(llm, [weather]).invoke({"messages": [("user", WEATHER)]})["messages"]
    return {
        "text": llm.invoke(PROMPT).text,
        "stream": "".join(chunk.text for chunk in llm.stream(PROMPT)),
        "tool": [call["name"] for call in tools.invoke(WEATHER).tool_calls],
        "streamed_tool": [call["name"] for call in joined(list(tools.stream(WEATHER))).tool_calls],
        "loop": looped[-1].text,
        "structured": llm.with_structured_output(Harbour).invoke(HARBOUR).model_dump(),
        "usage": llm.invoke(PROMPT).usage_metadata["output_tokens"],
        "counted": llm.get_num_tokens_from_messages([HumanMessage(PROMPT)]) > 0,
    }


failed = errors(
    lambda model, key: made(model, key).invoke(PROMPT), lambda *one: list(made(*one).stream(PROMPT))
)
llms = {model: made(model) for model in MODELS}
found = {model: ask(llm) for model, llm in llms.items()}
tell({**found, "asynchronous": asyncio.run(astreamed(llms)), "errors": {"anthropic": failed}})
