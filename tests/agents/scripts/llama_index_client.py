"""LlamaIndex' OpenAILike: `api_base`, as its page on OpenAI-like servers documents."""

import json
import os

from llama_index.core.llms import ChatMessage
from llama_index.core.tools import FunctionTool
from llama_index.llms.openai_like import OpenAILike

URL, MODELS = os.environ["TIELINE_URL"], os.environ["TIELINE_MODELS"].split()


def get_weather(city: str) -> str:
    """Weather of a city."""
    return f"sun in {city}"


def ask(model: str) -> dict:
    llm = OpenAILike(
        model=model,
        api_base=f"{URL}/v1",
        api_key="caller",
        is_chat_model=True,
        is_function_calling_model=True,
        max_retries=0,
    )
    question = [ChatMessage(role="user", content="Why do ships carry bells?")]
    weather = FunctionTool.from_defaults(get_weather)
    called = llm.chat_with_tools([weather], user_msg="Use get_weather for Lisbon.")
    return {
        "text": llm.chat(question).message.content,
        "stream": "".join(chunk.delta or "" for chunk in llm.stream_chat(question)),
        "tool": [call.tool_name for call in llm.get_tool_calls_from_response(called)],
        "loop": llm.predict_and_call([weather], user_msg="Use get_weather for Lisbon.").response,
    }


print(json.dumps({model: ask(model) for model in MODELS}))
