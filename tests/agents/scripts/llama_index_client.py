"""LlamaIndex' OpenAILike: `api_base`, as its page on OpenAI-like servers documents."""

import asyncio

from asked import HARBOUR, KEY, MODELS, PROMPT, URL, WEATHER, Harbour, errors, get_weather, tell
from llama_index.core.llms import ChatMessage
from llama_index.core.tools import FunctionTool
from llama_index.llms.openai_like import OpenAILike

QUESTION = [ChatMessage(role="user", content=PROMPT)]
weather = FunctionTool.from_defaults(get_weather)


def made(model: str, key: str = KEY) -> OpenAILike:
    return OpenAILike(
        model=model,
        api_base=f"{URL}/v1",
        api_key=key,
        is_chat_model=True,
        is_function_calling_model=True,
        max_retries=0,
    )


async def astreamed(llm: OpenAILike) -> str:
    return "".join([chunk.delta or "" async for chunk in await llm.astream_chat(QUESTION)])


def called(llm: OpenAILike, response) -> list[str]:
    return [call.tool_name for call in llm.get_tool_calls_from_response(response)]


def ask(model: str) -> dict:
    llm = made(model)
    streamed = list(llm.stream_chat_with_tools([weather], user_msg=WEATHER))
    structured = llm.as_structured_llm(Harbour).chat([ChatMessage(role="user", content=HARBOUR)])
    return {
        "text": llm.chat(QUESTION).message.content,
        "stream": "".join(chunk.delta or "" for chunk in llm.stream_chat(QUESTION)),
        "async": asyncio.run(astreamed(llm)),
        "tool": called(llm, llm.chat_with_tools([weather], user_msg=WEATHER)),
        "streamed_tool": called(llm, streamed[-1]),
        "loop": llm.predict_and_call([weather], user_msg=WEATHER).response,
        "structured": structured.raw.model_dump(),
    }


failed = errors(
    lambda model, key: made(model, key).chat(QUESTION), lambda *one: list(made(*one).stream_chat(QUESTION))
)
tell({**{model: ask(model) for model in MODELS}, "errors": {"chat": failed}})
