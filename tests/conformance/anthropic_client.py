"""The official Anthropic SDK."""

from __future__ import annotations

import asyncio
from typing import Any

import anthropic

from tests.conformance.seen import PDF, PNG, TOOLS, Ask, Call, Failed, Harbour, Seen

DEFAULT_LIMIT = 4000


class MessagesClient:
    name = "anthropic"
    lacks: dict[str, str] = {}  # noqa: RUF012
    words = {  # noqa: RUF012
        "stop": ("stop_sequence", "end_turn"),
        "length": ("max_tokens",),
        "tool_calls": ("tool_use",),
        "filter": ("refusal",),
    }
    kinds = {  # noqa: RUF012
        400: "BadRequestError",
        401: "AuthenticationError",
        403: "PermissionDeniedError",
        404: "NotFoundError",
        413: "ContentTooLargeError",
        422: "UnprocessableEntityError",
        429: "RateLimitError",
        500: "InternalServerError",
        503: "ServiceUnavailableError",
        504: "DeadlineExceededError",
        529: "OverloadedError",
    }

    def __init__(self, url: str) -> None:
        self.url = url
        self.sdk = anthropic.Anthropic(base_url=url, api_key="caller", max_retries=0)

    def close(self) -> None:
        self.sdk.close()

    def user(self, text: str, *, image: bool = False, pdf: bool = False) -> Any:
        blocks: list[Any] = [{"type": "text", "text": text}]
        if image:
            source = {"type": "base64", "media_type": "image/png", "data": PNG}
            blocks.append({"type": "image", "source": source})
        if pdf:
            source = {"type": "base64", "media_type": "application/pdf", "data": PDF}
            blocks.append({"type": "document", "source": source})
        return {"role": "user", "content": blocks if image or pdf else text}

    def results(self, results: list[tuple[Call, str]]) -> list[Any]:
        blocks = [{"type": "tool_result", "tool_use_id": call.id, "content": text} for call, text in results]
        return [{"role": "user", "content": blocks}]

    def arguments(self, ask: Ask) -> dict[str, Any]:
        made: dict[str, Any] = {
            "model": ask.model,
            "messages": ask.turns,
            "max_tokens": ask.limit or DEFAULT_LIMIT,
        }
        if ask.system:
            made["system"] = ask.system
        if ask.tools:
            made["tools"] = [
                {"name": name, "description": name, "input_schema": TOOLS[name]} for name in ask.tools
            ]
        if ask.force:
            made["tool_choice"] = {"type": "tool", "name": ask.force}
        if ask.stop:
            made["stop_sequences"] = [ask.stop]
        if ask.think:
            made["thinking"] = {"type": "enabled", "budget_tokens": 1024}
        return made

    def ask(self, ask: Ask) -> Seen:
        return self._seen(self.sdk.messages.create(**self.arguments(ask)))

    def stream(self, ask: Ask) -> Seen:
        chunks = 0
        with self.sdk.messages.stream(**self.arguments(ask)) as stream:
            for event in stream:
                chunks += event.type == "text"
            seen = self._seen(stream.get_final_message())
        seen.chunks = chunks
        return seen

    def ask_async(self, ask: Ask) -> Seen:
        async def run() -> Any:
            async with anthropic.AsyncAnthropic(base_url=self.url, api_key="caller", max_retries=0) as sdk:
                return await sdk.messages.create(**self.arguments(ask))

        return self._seen(asyncio.run(run()))

    def parse(self, model: str, prompt: str) -> Harbour | None:
        made = self.sdk.messages.parse(
            model=model, max_tokens=DEFAULT_LIMIT, messages=[self.user(prompt)], output_format=Harbour
        )
        return made.parsed_output

    def abandon(self, ask: Ask) -> None:
        stream = self.sdk.messages.create(**self.arguments(ask), stream=True)
        for _, _event in zip(range(6), stream, strict=False):
            pass
        stream.close()

    def failure(self, ask: Ask) -> Failed:
        try:
            self.ask(ask)
        except anthropic.APIStatusError as error:
            return Failed(type(error).__name__, error.status_code, error.message)
        except anthropic.APIError as error:
            return Failed(type(error).__name__, None, error.message)
        return Failed("none", 200, "")

    def _seen(self, made: Any) -> Seen:
        usage = made.usage
        return Seen(
            text="".join(block.text for block in made.content if block.type == "text"),
            finish=made.stop_reason,
            turns=[
                {
                    "role": "assistant",
                    "content": [
                        block.model_dump(exclude_none=True, exclude={"parsed_output"}, warnings=False)
                        for block in made.content
                    ],
                }
            ],
            calls=[
                Call(block.id, block.name, dict(block.input))
                for block in made.content
                if block.type == "tool_use"
            ],
            thought="".join(block.thinking for block in made.content if block.type == "thinking"),
            input_tokens=usage.input_tokens
            + (usage.cache_read_input_tokens or 0)
            + (usage.cache_creation_input_tokens or 0),
            cached_tokens=usage.cache_read_input_tokens or 0,
            output_tokens=usage.output_tokens,
        )
