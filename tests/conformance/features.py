"""What is tried in each cell. A feature raises AssertionError, or whatever the SDK raises."""

from __future__ import annotations

from collections.abc import Callable

from msgspec import Struct

from tests.conformance.seen import TOOLS, Ask, Client, Harbour
from tests.conformance.vendor_types import problems
from tests.conformance.world import SEED, Host, World
from tieline.simulator.text import expected_text

PROMPT = "Why do harbours keep ledgers of the morning tide?"
DEFAULT_TOKENS = 48
_BOTH = "Use get_weather for Lisbon, and find_train from Porto."

FAILURES = {
    "fail-429": 429,
    "fail-quota": 502,
    "fail-500": 502,
    "fail-502-html": 502,
    "fail-503": 502,
    "fail-504": 502,
    "fail-529": 503,
    "fail-401": 502,
    "fail-403": 502,
    "fail-geo": 502,
    "fail-404": 404,
    "fail-410": 404,
    "fail-context": 400,
    "fail-filter": 400,
    "fail-400": 400,
    "fail-413": 413,
    "fail-422": 422,
    "reset": 502,
    "garbled": 502,
    "error-200": 502,
    "truncate-body": 502,
}
"""Behaviour of a provider -> the status that the caller gets (DESIGN section 6; a provider's 401 is never ours)."""
_OWN_WAY: dict[str, dict[str, int]] = {
    # platform.openai.com: a project without access to a model gets 403 with the code model_not_found.
    "chat": {"fail-403": 404},
    "responses": {"fail-403": 404},
    # ai.google.dev: a blocked prompt is a 200 with promptFeedback; UNAVAILABLE is an overload.
    "gemini": {"fail-filter": 200, "fail-503": 503},
    # API_runtime_Converse: a service quota is a limit on requests, AccessDenied names the model, 424 is the model's fault.
    "bedrock": {"fail-quota": 429, "fail-403": 404, "fail-422": 502, "fail-503": 503},
}


class Case(Struct):
    """One cell under way."""

    world: World
    client: Client
    host: Host

    def ask(self, prompt: str = PROMPT, model: str = "sim-echo", **more: object) -> Ask:
        return Ask(model=f"{self.host.name}/{model}", turns=[self.client.user(prompt)], **more)  # type: ignore[arg-type]

    def ended(self, finish: str | None, how: str) -> None:
        wanted = self.client.words[how]
        assert finish in wanted, f"it ended with {finish!r}, not {' or '.join(wanted)}"


def text(case: Case) -> None:
    seen = case.client.ask(case.ask())
    _same(seen.text, expected_text(PROMPT, DEFAULT_TOKENS, SEED))
    case.ended(seen.finish, "stop")
    assert seen.input_tokens > 0, "no input tokens"
    assert seen.output_tokens == case.world.upstream()[-1].output_tokens, "not the provider's output tokens"


def stream(case: Case) -> None:
    seen = case.client.stream(case.ask())
    _same(seen.text, expected_text(PROMPT, DEFAULT_TOKENS, SEED))
    case.ended(seen.finish, "stop")
    assert seen.chunks > 10, f"{seen.chunks} pieces"
    assert seen.output_tokens == case.world.upstream()[-1].output_tokens, "not the provider's output tokens"


def in_async(case: Case) -> None:
    _same(case.client.ask_async(case.ask()).text, expected_text(PROMPT, DEFAULT_TOKENS, SEED))


def multi_turn(case: Case) -> None:
    ask = case.ask(system="Answer like a pilot.")
    first = case.client.ask(ask)
    ask.turns += [*first.turns, case.client.user("And in the evening?")]
    second = case.client.ask(ask)
    _same(second.text, expected_text(PROMPT, DEFAULT_TOKENS, SEED))
    body = str(case.world.upstream()[-1].body)
    assert "Answer like a pilot." in body, "the system prompt did not arrive"
    missing = [said for said in ("And in the evening?", first.text[:30]) if said not in body]
    assert not missing, f"it did not arrive: {missing}"


def tools(case: Case) -> None:
    _tool_loop(case, case.client.ask)


def tools_streamed(case: Case) -> None:
    _tool_loop(case, case.client.stream)


def _tool_loop(case: Case, run: Callable[[Ask], object]) -> None:
    ask = case.ask(_BOTH, "sim-tools", tools=tuple(TOOLS))
    seen = run(ask)
    assert [call.name for call in seen.calls] == list(TOOLS), [call.name for call in seen.calls]
    assert len({call.id for call in seen.calls}) == 2 or not seen.calls[0].id, "ids repeat"
    for call in seen.calls:
        assert set(call.arguments) == set(TOOLS[call.name]["required"]), call.arguments
    case.ended(seen.finish, "tool_calls")
    results = [(call, f"{call.name} said so") for call in seen.calls]
    ask.turns += [*seen.turns, *case.client.results(results)]
    answer = run(ask)
    for name in TOOLS:
        assert f"{name} said so" in answer.text, answer.text


def forced_tool(case: Case) -> None:
    seen = case.client.ask(case.ask("Hello there.", tools=tuple(TOOLS), force="find_train"))
    assert [call.name for call in seen.calls] == ["find_train"], seen.calls


def images(case: Case) -> None:
    ask = Ask(model=f"{case.host.name}/sim-echo", turns=[case.client.user("What is this?", image=True)])
    seen = case.client.ask(ask)
    assert seen.text.startswith("I see 1 image."), seen.text[:60]


def pdf(case: Case) -> None:
    ask = Ask(model=f"{case.host.name}/sim-echo", turns=[case.client.user("Sum this up.", pdf=True)])
    seen = case.client.ask(ask)
    assert seen.text.startswith("I see 1 document."), seen.text[:60]


def json_schema(case: Case) -> None:
    parsed = case.client.parse(f"{case.host.name}/sim-echo", "Describe the harbour of Lisbon.")
    assert isinstance(parsed, Harbour), parsed


def thinking(case: Case) -> None:
    """A tool loop: what was thought must go back as it came, or the provider refuses the second turn."""
    ask = case.ask(
        _BOTH, _THINKER.get(case.host.name, "sim-think"), tools=tuple(TOOLS), think=True, limit=4000
    )
    seen = case.client.ask(ask)
    assert seen.calls, "no calls"
    ask.turns += [*seen.turns, *case.client.results([(call, f"{call.name} said so") for call in seen.calls])]
    answer = case.client.stream(ask)
    assert "get_weather said so" in answer.text, answer.text
    _replayed(case)
    ask.turns += [*answer.turns, case.client.user("And tomorrow?")]
    case.client.ask(ask)
    if (case.client.name, case.host.name) not in THOUGHTS_UNSEEN:
        assert seen.thought, "no thought was shown"
        assert answer.thought, "no thought was streamed"


def _replayed(case: Case) -> None:
    mark = _REPLAYED.get(case.host.name)
    assert mark is None or mark in str(case.world.upstream()[-1].body), f"no {mark} went back to the provider"


_THINKER = {"bedrock": "anthropic.claude-sonnet-4-5/sim-think"}
"""Converse leaves thinking to each family's own fields, so the family must be known."""
_REPLAYED = {
    "responses": "encrypted_content",
    "claude": "signature",
    "gemini": "thoughtSignature",
    "bedrock": "signature",
    "cohere": "'thinking'",
}
"""What a provider's reasoning is bound to; Chat Completions has nothing of the kind."""
THOUGHTS_UNSEEN = {
    (
        "openai chat",
        "responses",
    ): "a summary comes only to those who ask for one, and Chat Completions cannot",
}


def cache_usage(case: Case) -> None:
    for run in (case.client.ask, case.client.stream):
        seen = run(case.ask(model="sim-cache:cached_tokens=7,cache_write_tokens=0"))
        entry = case.world.upstream()[-1]
        assert seen.cached_tokens == 7, f"{seen.cached_tokens} cached tokens"
        assert seen.input_tokens == entry.input_tokens, f"{seen.input_tokens}, not {entry.input_tokens}"


def stop(case: Case) -> None:
    full = expected_text(PROMPT, DEFAULT_TOKENS, SEED)
    word = full.split()[5]
    seen = case.client.ask(case.ask(stop=word))
    _same(seen.text, full[: full.index(word)])
    case.ended(seen.finish, "stop")


def max_tokens(case: Case) -> None:
    for run in (case.client.ask, case.client.stream):
        seen = run(case.ask(limit=16))
        assert seen.text, "no text"
        assert expected_text(PROMPT, DEFAULT_TOKENS, SEED).startswith(seen.text), seen.text
        assert seen.output_tokens == 16, seen.output_tokens
        case.ended(seen.finish, "length")


def content_filter(case: Case) -> None:
    for run in (case.client.ask, case.client.stream):
        case.ended(run(case.ask(model="sim-finish-filter")).finish, "filter")


def errors(case: Case) -> None:
    wrong = []
    for name, status in {**FAILURES, **_OWN_WAY.get(case.host.name, {})}.items():
        ask = Ask(model=f"{case.host.name}-{name}/sim-{name}", turns=[case.client.user(PROMPT)])
        failed = case.client.failure(ask)
        kind = (
            "none"
            if status == 200
            else case.client.kinds.get(status) or case.client.kinds[500 if status >= 500 else 400]
        )
        if failed.status != status or failed.kind != kind:
            wrong.append(
                f"{name}: {failed.kind} {failed.status}, not {kind} {status} ({failed.message[:120]})"
            )
    assert not wrong, "; ".join(wrong)


def cancel(case: Case) -> None:
    case.client.abandon(case.ask(model="sim-long:tps=100"))
    entry = case.world.upstream()[-1]
    assert case.world.wait_for(lambda: entry.cancelled_by_client), "the provider was not told"
    assert 0 < entry.output_tokens < 500, entry.output_tokens


def _same(seen: str, wanted: str) -> None:
    assert seen == wanted, f"{seen[:80]!r} is not {wanted[:80]!r}"


def check_upstream(case: Case) -> None:
    """What reached the provider is what its own SDK could have sent."""
    for entry in case.world.upstream():
        assert entry.body is not None, "the simulator kept no body"
        found = [one for one in problems(case.host.dialect, entry.body) if not one.startswith(_EXTENSIONS)]
        assert not found, f"the request to {case.host.dialect}: {'; '.join(found)}"


_EXTENSIONS = tuple(f"body.messages[{place}].reasoning_content:" for place in range(9))
"""DeepSeek's, understood by most hosts of Chat Completions (api-docs.deepseek.com, "Thinking Mode"); not OpenAI's own."""


FEATURES: dict[str, Callable[[Case], None]] = {
    "text": text,
    "stream": stream,
    "async": in_async,
    "multi-turn": multi_turn,
    "tools": tools,
    "tools streamed": tools_streamed,
    "forced tool": forced_tool,
    "images": images,
    "pdf": pdf,
    "json schema": json_schema,
    "thinking": thinking,
    "cache usage": cache_usage,
    "stop": stop,
    "max tokens": max_tokens,
    "content filter": content_filter,
    "errors": errors,
    "cancel": cancel,
}
