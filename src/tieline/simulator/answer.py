"""What is asked, in no vendor's words, and the answer to it: the part of a provider that all dialects share."""

from __future__ import annotations

import base64
import hmac
import re
from random import Random
from typing import Any

import msgspec
from msgspec import Struct, field
from msgspec.structs import replace

from tieline.simulator.behaviour import Behaviour
from tieline.simulator.samples import sample
from tieline.simulator.text import asks_to_resume, count_tokens, expected_text, pieces, resumed, seeded

DEFAULT_TOKENS = 48
LONG_TOKENS = 2000
IMAGE_TOKENS = 85
DOCUMENT_TOKENS = 250
DEGRADED = "งานนี้ สำเร็จ ไม่ได้ "
"""The wrong-script tokens of August 2025 (INCIDENTS D8)."""


class Refusal(Exception):
    """The provider says no. ``kind`` is a value of ``behaviour.REFUSALS`` or ``invalid``; dialects give it its shape."""

    def __init__(
        self,
        kind: str,
        message: str | None = None,
        *,
        param: str | None = None,
        code: str | None = None,
    ) -> None:
        super().__init__(message or kind)
        self.kind = kind
        self.message = message
        self.param = param
        self.code = code


class Tool(Struct, frozen=True):
    name: str
    schema: Any = None
    kind: str = "function"


class Ask(Struct, kw_only=True):
    """One request, as far as the answer depends on it."""

    model: str
    stream: bool = False
    first_user: str = ""
    last_user: str = ""
    partial: str = ""
    """The assistant's text right before the last user turn."""
    prefill: str = ""
    """The assistant's text in the last place."""
    tools: list[Tool] = field(default_factory=list)
    tool_choice: str = "auto"
    """auto, none, required, or the name of a tool."""
    parallel: bool = True
    tool_results: list[str] = field(default_factory=list)
    """Texts of the results in the last turn."""
    images: int = 0
    documents: int = 0
    audios: int = 0
    max_tokens: int | None = None
    stop: list[str] = field(default_factory=list)
    n: int = 1
    prompts: list[str] = field(default_factory=list)
    """Legacy completions: each is answered ``n`` times, in order; empty: there is one, ``first_user``."""
    json_mode: bool = False
    json_schema: Any = None
    thinking: bool = False
    include_usage: bool = True
    logprobs: int | None = None
    text_chars: list[str] = field(default_factory=list)
    """Every text of the request, for counting."""
    extra: dict[str, Any] = field(default_factory=dict)
    """What only the dialect itself needs again."""


class ToolCall(Struct):
    name: str
    arguments: str
    id: str = ""
    kind: str = "function"


class Usage(Struct, frozen=True, kw_only=True):
    """``input`` includes ``cached`` and ``written``; ``output`` includes ``reasoning``."""

    input: int = 0
    cached: int = 0
    written: int = 0
    output: int = 0
    reasoning: int = 0


class Answer(Struct, kw_only=True):
    """One choice."""

    text: str = ""
    thinking: str = ""
    redacted: bool = False
    calls: list[ToolCall] = field(default_factory=list)
    finish: str = "stop"
    """stop, length, tool_calls, content_filter, stop_sequence."""
    stop_sequence: str | None = None

    @property
    def output_tokens(self) -> int:
        called = sum(count_tokens(call.arguments) + count_tokens(call.name) for call in self.calls)
        return count_tokens(self.text) + count_tokens(self.thinking) + called


def input_tokens(ask: Ask) -> int:
    texts = sum(count_tokens(text) for text in ask.text_chars)
    return max(1, texts + 3 + IMAGE_TOKENS * ask.images + DOCUMENT_TOKENS * ask.documents + 40 * ask.audios)


def usage_of(ask: Ask, answers: list[Answer], behaviour: Behaviour) -> Usage:
    total = input_tokens(ask)
    cached = behaviour.count("cached_tokens", total // 2 if behaviour.content == "cache" else 0)
    written = behaviour.count("cache_write_tokens", total // 4 if behaviour.content == "cache" else 0)
    hidden = behaviour.count("reasoning_tokens") if not any(a.thinking for a in answers) else 0
    reasoning = sum(count_tokens(answer.thinking) for answer in answers) + hidden
    return Usage(
        input=max(total, cached + written),
        cached=cached,
        written=written,
        output=sum(answer.output_tokens for answer in answers) + hidden,
        reasoning=reasoning,
    )


def compose(ask: Ask, behaviour: Behaviour, *, seed: int, provider: str) -> list[Answer]:
    """The answer to each choice; the same for every provider unless ``text=own``. Raises Refusal."""
    text_seed = seed
    if behaviour.word("text", "shared") == "own":
        text_seed = seeded("own", seed, provider, ask.model).getrandbits(31)
    if ask.prompts:
        alone = [replace(ask, first_user=one, last_user=one, prompts=[]) for one in ask.prompts]
        return [answer for one in alone for answer in compose(one, behaviour, seed=seed, provider=provider)]
    return [_one(ask, behaviour, text_seed + 1_000_003 * choice) for choice in range(ask.n)]


def _one(ask: Ask, behaviour: Behaviour, seed: int) -> Answer:
    random = seeded("answer", seed, ask.first_user, ask.last_user)
    answer = Answer()
    if ask.thinking or behaviour.content == "think":
        answer.thinking = expected_text(
            "thinking about " + ask.first_user, _thinking_tokens(ask, behaviour), seed
        )
        answer.redacted = bool(behaviour.count("redacted"))
    if behaviour.name == "finish-filter":
        answer.finish = "content_filter"
        answer.text = expected_text(ask.first_user, 4, seed)
        return answer
    calls = _calls(ask, behaviour, random)
    if calls:
        answer.calls, answer.finish = calls, "tool_calls"
        return answer
    answer.text = _text(ask, behaviour, seed, random)
    _limit(answer, ask)
    return answer


def _thinking_tokens(ask: Ask, behaviour: Behaviour) -> int:
    wanted = behaviour.count("reasoning_tokens", 24)
    return max(1, min(wanted, ask.max_tokens // 2)) if ask.max_tokens else wanted


def _text(ask: Ask, behaviour: Behaviour, seed: int, random: Random) -> str:
    if ask.json_schema is not None or ask.json_mode or behaviour.content == "json":
        value = (
            sample(ask.json_schema, random, _hints(ask))
            if ask.json_schema
            else {"answer": ask.first_user[:200]}
        )
        return msgspec.json.encode(value).decode()
    if ask.tool_results:
        return "The tools answered: " + "; ".join(ask.tool_results) + "."
    tokens = behaviour.count("tokens", LONG_TOKENS if behaviour.content == "long" else DEFAULT_TOKENS)
    full = _seen(ask) + expected_text(ask.first_user, tokens, seed)
    if behaviour.name == "degraded":
        return full[: len(full) // 3] + DEGRADED + full[len(full) // 3 :]
    if ask.prefill:
        return full[len(ask.prefill) :] if full.startswith(ask.prefill) else full
    if asks_to_resume(ask.last_user, ask.partial):
        manner = behaviour.word("resume", "anchor")
        if manner == "refuse":
            raise Refusal(
                "invalid", "This model does not support an assistant message before the last user message."
            )
        return resumed(full, ask.partial, ask.last_user, manner)
    return full


def _seen(ask: Ask) -> str:
    kinds = (("image", ask.images), ("document", ask.documents), ("audio clip", ask.audios))
    seen = [f"{count} {kind}{'s' if count > 1 else ''}" for kind, count in kinds if count]
    return f"I see {' and '.join(seen)}. " if seen else ""


def _limit(answer: Answer, ask: Ask) -> None:
    found = [(answer.text.find(stop), stop) for stop in ask.stop if stop and stop in answer.text]
    if found:
        at, stop = min(found)
        answer.text, answer.finish, answer.stop_sequence = answer.text[:at], "stop_sequence", stop
    if ask.max_tokens is not None:
        left = max(0, ask.max_tokens - count_tokens(answer.thinking))
        tokens = pieces(answer.text)
        if len(tokens) > left:
            answer.text, answer.finish, answer.stop_sequence = "".join(tokens[:left]), "length", None


def _calls(ask: Ask, behaviour: Behaviour, random: Random) -> list[ToolCall]:
    if not ask.tools or ask.tool_choice == "none" or ask.prefill:
        return []
    named = [tool for tool in ask.tools if tool.name == ask.tool_choice]
    if ask.tool_results and not named:
        return []
    if named:
        chosen = named
    elif behaviour.content == "tools":
        count = behaviour.count("calls", min(2, len(ask.tools)))
        chosen = [ask.tools[i % len(ask.tools)] for i in range(count)]
    else:
        chosen = [tool for tool in ask.tools if _wanted(tool.name, ask.last_user)]
        if not chosen and ask.tool_choice == "required":
            chosen = ask.tools[:1]
    if not ask.parallel:
        chosen = chosen[:1]
    hints = _hints(ask)
    return [ToolCall(tool.name, _arguments(tool, random, hints), kind=tool.kind) for tool in chosen]


def _arguments(tool: Tool, random: Random, hints: list[str]) -> str:
    if tool.kind == "custom":
        return random.choice(hints or ["harbour"])
    value = sample(tool.schema or {"type": "object", "properties": {}}, random, hints)
    return msgspec.json.encode(value).decode()


def _wanted(name: str, prompt: str) -> bool:
    prompt = prompt.lower()
    words = [word for word in re.split(r"[^a-z]+", re.sub(r"([A-Z])", r" \1", name).lower()) if len(word) > 3]
    return name.lower() in prompt or any(word in prompt for word in words) or " tool" in prompt


def _hints(ask: Ask) -> list[str]:
    """Proper names of the prompt: arguments that look as if a model had chosen them."""
    return re.findall(r"(?<=[a-z,] )[A-ZÀ-Þ][\w-]{2,20}", ask.last_user[:1000])[:8]


def sign(seed: int, scope: str, text: str) -> str:
    """A signature that only this simulator (this seed) makes and accepts."""
    digest = hmac.digest(
        f"simulator-{seed}-{scope}".encode(), text.encode("utf-8", "surrogatepass"), "sha256"
    )
    return base64.b64encode(b"\x0a" + digest * 2).decode()


def sealed(seed: int, scope: str, text: str) -> str:
    """``text`` and its signature in one opaque string."""
    return base64.b64encode(text.encode()).decode().rstrip("=") + "." + sign(seed, scope, text)


def unsealed(seed: int, scope: str, value: Any) -> bool:
    """Whether ``sealed`` made ``value``."""
    head, _, signature = str(value).partition(".")
    try:
        text = base64.b64decode(head + "=" * (-len(head) % 4)).decode()
    except ValueError:
        return False
    return hmac.compare_digest(signature.encode(), sign(seed, scope, text).encode())
