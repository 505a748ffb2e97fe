"""The official Google Gen AI SDK."""

from __future__ import annotations

import asyncio
import base64
from typing import Any

from google import genai
from google.genai import errors, types

from tests.conformance.seen import PDF, PNG, TOOLS, Ask, Call, Failed, Harbour, Seen


class GenAIClient:
    name = "google-genai"
    lacks: dict[str, str] = {}  # noqa: RUF012
    words = {  # noqa: RUF012
        "stop": ("STOP",),
        "length": ("MAX_TOKENS",),
        "tool_calls": ("STOP",),
        "filter": ("SAFETY", "PROHIBITED_CONTENT", "RECITATION"),
    }
    kinds = {400: "ClientError", 500: "ServerError"}  # noqa: RUF012

    def __init__(self, url: str) -> None:
        self.url = url
        self.sdk = self._client()

    def _client(self) -> genai.Client:
        return genai.Client(api_key="caller", http_options=types.HttpOptions(base_url=self.url))

    def close(self) -> None:
        self.sdk.close()

    def user(self, text: str, *, image: bool = False, pdf: bool = False) -> Any:
        parts = [types.Part.from_text(text=text)]
        if image:
            parts.append(types.Part.from_bytes(data=base64.b64decode(PNG), mime_type="image/png"))
        if pdf:
            parts.append(types.Part.from_bytes(data=base64.b64decode(PDF), mime_type="application/pdf"))
        return types.Content(role="user", parts=parts)

    def results(self, results: list[tuple[Call, str]]) -> list[Any]:
        parts = []
        for call, text in results:
            part = types.Part.from_function_response(name=call.name, response={"result": text})
            if part.function_response is not None and call.id:
                part.function_response.id = call.id
            parts.append(part)
        return [types.Content(role="user", parts=parts)]

    def arguments(self, ask: Ask) -> dict[str, Any]:
        config = types.GenerateContentConfig(
            automatic_function_calling=types.AutomaticFunctionCallingConfig(disable=True)
        )
        if ask.system:
            config.system_instruction = ask.system
        if ask.tools:
            declared = [
                types.FunctionDeclaration(name=name, description=name, parameters_json_schema=TOOLS[name])
                for name in ask.tools
            ]
            config.tools = [types.Tool(function_declarations=declared)]
        if ask.force:
            calling = types.FunctionCallingConfig(
                mode=types.FunctionCallingConfigMode.ANY, allowed_function_names=[ask.force]
            )
            config.tool_config = types.ToolConfig(function_calling_config=calling)
        if ask.stop:
            config.stop_sequences = [ask.stop]
        if ask.limit:
            config.max_output_tokens = ask.limit
        if ask.think:
            config.thinking_config = types.ThinkingConfig(include_thoughts=True, thinking_budget=1024)
        return {"model": ask.model, "contents": ask.turns, "config": config}

    def ask(self, ask: Ask) -> Seen:
        return self._seen([self.sdk.models.generate_content(**self.arguments(ask))])

    def stream(self, ask: Ask) -> Seen:
        chunks = list(self.sdk.models.generate_content_stream(**self.arguments(ask)))
        seen = self._seen(chunks)
        seen.chunks = sum(any(part.text and not part.thought for part in _parts(chunk)) for chunk in chunks)
        return seen

    def ask_async(self, ask: Ask) -> Seen:
        async def run() -> Any:
            client = self._client()
            try:
                return await client.aio.models.generate_content(**self.arguments(ask))
            finally:
                await client.aio.aclose()
                client.close()

        return self._seen([asyncio.run(run())])

    def parse(self, model: str, prompt: str) -> Harbour | None:
        config = types.GenerateContentConfig(response_mime_type="application/json", response_schema=Harbour)
        made = self.sdk.models.generate_content(model=model, contents=[self.user(prompt)], config=config)
        return made.parsed if isinstance(made.parsed, Harbour) else None

    def abandon(self, ask: Ask) -> None:
        stream = self.sdk.models.generate_content_stream(**self.arguments(ask))
        for _, _chunk in zip(range(3), stream, strict=False):
            pass
        stream.close()

    def failure(self, ask: Ask) -> Failed:
        try:
            self.ask(ask)
        except errors.APIError as error:
            return Failed(type(error).__name__, error.code, error.message or "")
        return Failed("none", 200, "")

    def _seen(self, chunks: list[Any]) -> Seen:
        parts = [part for chunk in chunks for part in _parts(chunk)]
        finishes = [
            one.finish_reason.value
            for chunk in chunks
            for one in chunk.candidates or ()
            if one.finish_reason is not None
        ]
        usage = next((chunk.usage_metadata for chunk in reversed(chunks) if chunk.usage_metadata), None)
        return Seen(
            text="".join(part.text for part in parts if part.text and not part.thought),
            finish=finishes[-1] if finishes else None,
            turns=[types.Content(role="model", parts=parts)],
            calls=[
                Call(part.function_call.id or "", part.function_call.name, part.function_call.args or {})
                for part in parts
                if part.function_call
            ],
            thought="".join(part.text for part in parts if part.text and part.thought),
            input_tokens=(usage.prompt_token_count or 0) if usage else 0,
            cached_tokens=(usage.cached_content_token_count or 0) if usage else 0,
            output_tokens=((usage.candidates_token_count or 0) + (usage.thoughts_token_count or 0))
            if usage
            else 0,
        )


def _parts(chunk: Any) -> list[Any]:
    if not chunk.candidates or chunk.candidates[0].content is None:
        return []
    return list(chunk.candidates[0].content.parts or ())
