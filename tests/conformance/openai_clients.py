"""The official OpenAI SDK: Chat Completions and Responses."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable
from typing import Any

import openai
from openai.types.chat import ChatCompletion

from tests.conformance.seen import PDF, PNG, TOOLS, Ask, Call, Failed, Harbour, Seen

_KINDS = {
    400: "BadRequestError",
    401: "AuthenticationError",
    403: "PermissionDeniedError",
    404: "NotFoundError",
    413: "APIStatusError",
    422: "UnprocessableEntityError",
    429: "RateLimitError",
    500: "InternalServerError",
}


class OpenAIBase:
    kinds = _KINDS

    def __init__(self, url: str) -> None:
        self.url = f"{url}/v1"
        self.sdk = openai.OpenAI(base_url=self.url, api_key="caller", max_retries=0)

    def close(self) -> None:
        self.sdk.close()

    def failure(self, ask: Ask) -> Failed:
        try:
            self.ask(ask)
        except openai.APIStatusError as error:
            return Failed(type(error).__name__, error.status_code, error.message)
        except openai.APIError as error:
            return Failed(type(error).__name__, None, error.message)
        return Failed("none", 200, "")

    def ask(self, ask: Ask) -> Seen:
        raise NotImplementedError


class ChatClient(OpenAIBase):
    name = "openai chat"
    lacks: dict[str, str] = {}  # noqa: RUF012
    words = {  # noqa: RUF012
        "stop": ("stop",),
        "length": ("length",),
        "tool_calls": ("tool_calls",),
        "filter": ("content_filter",),
    }

    def user(self, text: str, *, image: bool = False, pdf: bool = False) -> Any:
        parts: list[Any] = [{"type": "text", "text": text}]
        if image:
            parts.append({"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}})
        if pdf:
            file = {"filename": "paper.pdf", "file_data": f"data:application/pdf;base64,{PDF}"}
            parts.append({"type": "file", "file": file})
        return {"role": "user", "content": parts if image or pdf else text}

    def results(self, results: list[tuple[Call, str]]) -> list[Any]:
        return [{"role": "tool", "tool_call_id": call.id, "content": text} for call, text in results]

    def arguments(self, ask: Ask) -> dict[str, Any]:
        system = [{"role": "system", "content": ask.system}] if ask.system else []
        made: dict[str, Any] = {"model": ask.model, "messages": [*system, *ask.turns]}
        if ask.tools:
            made["tools"] = [
                {
                    "type": "function",
                    "function": {
                        "name": name,
                        "description": name,
                        "parameters": TOOLS[name],
                        "strict": True,
                    },
                }
                for name in ask.tools
            ]
        if ask.force:
            made["tool_choice"] = {"type": "function", "function": {"name": ask.force}}
        if ask.stop:
            made["stop"] = [ask.stop]
        if ask.limit:
            made["max_completion_tokens"] = ask.limit
        if ask.think:
            made["reasoning_effort"] = "medium"
        return made

    def ask(self, ask: Ask) -> Seen:
        return self._seen(self.sdk.chat.completions.create(**self.arguments(ask)))

    def stream(self, ask: Ask) -> Seen:
        if ask.tools and ask.model.startswith("chat/"):
            # The helper reads a call's arguments when the next call begins, so not interleaved ones (WIRE_FACTS 1).
            made = self.sdk.chat.completions.create(**self.arguments(ask), stream=True)
            return self._seen(_gathered(made))
        chunks = 0
        with self.sdk.chat.completions.stream(
            **self.arguments(ask), stream_options={"include_usage": True}
        ) as stream:
            for event in stream:
                chunks += event.type == "content.delta"
            # The final completion is refused by the SDK when it was cut or filtered; the snapshot is the same object.
            seen = self._seen(stream.current_completion_snapshot)
        seen.chunks = chunks
        return seen

    def ask_async(self, ask: Ask) -> Seen:
        async def run() -> Any:
            async with openai.AsyncOpenAI(base_url=self.url, api_key="caller", max_retries=0) as sdk:
                return await sdk.chat.completions.create(**self.arguments(ask))

        return self._seen(asyncio.run(run()))

    def parse(self, model: str, prompt: str) -> Harbour | None:
        made = self.sdk.chat.completions.parse(
            model=model, messages=[self.user(prompt)], response_format=Harbour
        )
        return made.choices[0].message.parsed

    def abandon(self, ask: Ask) -> None:
        stream = self.sdk.chat.completions.create(**self.arguments(ask), stream=True)
        for _, _chunk in zip(range(4), stream, strict=False):
            pass
        stream.close()

    def _seen(self, made: Any) -> Seen:
        choice, usage = made.choices[0], made.usage
        message = choice.message
        calls = [
            Call(call.id, call.function.name, json.loads(call.function.arguments))
            for call in message.tool_calls or ()
        ]
        details = usage.prompt_tokens_details if usage else None
        return Seen(
            text=message.content or "",
            finish=choice.finish_reason,
            turns=[message.model_dump(exclude_none=True, exclude={"parsed", "annotations"}, warnings=False)],
            calls=calls,
            thought=getattr(message, "reasoning_content", None) or "",
            input_tokens=usage.prompt_tokens if usage else 0,
            cached_tokens=(details.cached_tokens or 0) if details else 0,
            output_tokens=usage.completion_tokens if usage else 0,
        )


def _gathered(chunks: Iterable[Any]) -> ChatCompletion:
    """What applications do without the helper: add up the deltas by index."""
    message: dict[str, Any] = {"role": "assistant", "content": "", "tool_calls": []}
    calls: dict[int, Any] = {}
    finish = None
    for chunk in chunks:
        for choice in chunk.choices:
            finish = choice.finish_reason or finish
            message["content"] += choice.delta.content or ""
            thought = getattr(choice.delta, "reasoning_content", None)
            if thought:
                message["reasoning_content"] = message.get("reasoning_content", "") + thought
            for piece in choice.delta.tool_calls or ():
                call = calls.setdefault(
                    piece.index, {"type": "function", "function": {"name": "", "arguments": ""}}
                )
                call["id"] = call.get("id") or piece.id
                call["function"]["name"] += piece.function.name or ""
                call["function"]["arguments"] += piece.function.arguments or ""
    message["tool_calls"] = list(calls.values()) or None
    choice = {"index": 0, "message": message, "finish_reason": finish}
    return ChatCompletion.model_validate(
        {"id": "", "object": "chat.completion", "created": 0, "model": "", "choices": [choice]}
    )


class ResponsesClient(OpenAIBase):
    name = "openai responses"
    lacks = {  # noqa: RUF012
        "stop": "openai SDK, ResponseCreateParams: the Responses API has no stop sequences",
    }
    words = {  # noqa: RUF012
        "stop": ("completed",),
        "length": ("incomplete:max_output_tokens",),
        "tool_calls": ("completed",),
        "filter": ("incomplete:content_filter",),
    }

    def user(self, text: str, *, image: bool = False, pdf: bool = False) -> Any:
        parts: list[Any] = [{"type": "input_text", "text": text}]
        if image:
            parts.append(
                {"type": "input_image", "image_url": f"data:image/png;base64,{PNG}", "detail": "auto"}
            )
        if pdf:
            data = f"data:application/pdf;base64,{PDF}"
            parts.append({"type": "input_file", "filename": "paper.pdf", "file_data": data})
        return {"role": "user", "content": parts if image or pdf else text}

    def results(self, results: list[tuple[Call, str]]) -> list[Any]:
        return [
            {"type": "function_call_output", "call_id": call.id, "output": text} for call, text in results
        ]

    def arguments(self, ask: Ask) -> dict[str, Any]:
        made: dict[str, Any] = {"model": ask.model, "input": ask.turns, "store": False}
        if ask.system:
            made["instructions"] = ask.system
        if ask.tools:
            made["tools"] = [
                {
                    "type": "function",
                    "name": name,
                    "description": name,
                    "parameters": TOOLS[name],
                    "strict": True,
                }
                for name in ask.tools
            ]
        if ask.force:
            made["tool_choice"] = {"type": "function", "name": ask.force}
        if ask.limit:
            made["max_output_tokens"] = ask.limit
        if ask.think:
            made["reasoning"] = {"effort": "medium", "summary": "auto"}
            made["include"] = ["reasoning.encrypted_content"]
        return made

    def ask(self, ask: Ask) -> Seen:
        return self._seen(self.sdk.responses.create(**self.arguments(ask)))

    def stream(self, ask: Ask) -> Seen:
        chunks, last = 0, None
        with self.sdk.responses.stream(**self.arguments(ask)) as stream:
            for event in stream:
                chunks += event.type == "response.output_text.delta"
                last = event
        assert getattr(last, "type", None) in ("response.completed", "response.incomplete"), last
        seen = self._seen(last.response)
        seen.chunks = chunks
        return seen

    def ask_async(self, ask: Ask) -> Seen:
        async def run() -> Any:
            async with openai.AsyncOpenAI(base_url=self.url, api_key="caller", max_retries=0) as sdk:
                return await sdk.responses.create(**self.arguments(ask))

        return self._seen(asyncio.run(run()))

    def parse(self, model: str, prompt: str) -> Harbour | None:
        made = self.sdk.responses.parse(
            model=model, input=[self.user(prompt)], text_format=Harbour, store=False
        )
        return made.output_parsed

    def abandon(self, ask: Ask) -> None:
        stream = self.sdk.responses.create(**self.arguments(ask), stream=True)
        for _, _event in zip(range(7), stream, strict=False):
            pass
        stream.close()

    def _seen(self, made: Any) -> Seen:
        calls = [
            Call(item.call_id, item.name, json.loads(item.arguments))
            for item in made.output
            if item.type == "function_call"
        ]
        thoughts = [item for item in made.output if item.type == "reasoning"]
        why = f":{made.incomplete_details.reason}" if made.incomplete_details else ""
        usage = made.usage
        replayed = [
            item.model_dump(exclude_none=True, exclude={"parsed_arguments"}, warnings=False)
            for item in made.output
        ]
        for item in replayed:
            for part in item.get("content") or ():
                part.pop("parsed", None)
        return Seen(
            text=made.output_text,
            finish=f"{made.status}{why}",
            turns=replayed,
            calls=calls,
            thought="".join(part.text for item in thoughts for part in item.summary)
            or "".join(part.text for item in thoughts for part in item.content or ()),
            input_tokens=usage.input_tokens if usage else 0,
            cached_tokens=usage.input_tokens_details.cached_tokens if usage else 0,
            output_tokens=usage.output_tokens if usage else 0,
        )
