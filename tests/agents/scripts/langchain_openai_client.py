"""LangChain's ChatOpenAI: `base_url`, as its reference documents; both of OpenAI's APIs."""

import asyncio

from asked import HARBOUR, KEY, MODELS, PROMPT, URL, WEATHER, Harbour, errors, get_weather, tell
from langchain.agents import create_agent
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI, OpenAIEmbeddings

weather = tool(get_weather)


def made(model: str, key: str = KEY, **more) -> ChatOpenAI:
    return ChatOpenAI(base_url=f"{URL}/v1", api_key=key, model=model, max_retries=0, **more)


def joined(chunks):
    return sum(chunks[1:], chunks[0])


async def astreamed(llms: dict[str, ChatOpenAI]) -> dict:
    return {
        name: {"stream": "".join([chunk.text async for chunk in llm.astream(PROMPT)])}
        for name, llm in llms.items()
    }


def ask(llm: ChatOpenAI) -> dict:
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
    }


vectors = OpenAIEmbeddings(
    base_url=f"{URL}/v1", api_key=KEY, model="chat/sim-echo", check_embedding_ctx_length=False
).embed_documents(["a bell"])
chat = {model: made(model) for model in MODELS}
responses = {model: made(model, use_responses_api=True) for model in MODELS}
found = {model: {"chat": ask(chat[model]), "responses": ask(responses[model])} for model in MODELS}
failed = {
    kind: errors(
        lambda *one, more=more: made(*one, **more).invoke(PROMPT),
        lambda *one, more=more: list(made(*one, **more).stream(PROMPT)),
    )
    for kind, more in (("chat", {}), ("responses", {"use_responses_api": True}))
}
tell({**found, "asynchronous": asyncio.run(astreamed(chat)), "embedding": len(vectors[0]), "errors": failed})
