"""The in-process SDK: the whole gateway as an object, no server and no socket in between.

``AsyncTieline`` lives on the caller's event loop; ``Tieline`` runs one of its own in a thread. Both hand out the
*official* ``openai`` and ``anthropic`` clients bound to the pipeline, so that existing code needs no change.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError, Future
from os import getpid
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, NoReturn, Self, TypeVar
from weakref import WeakSet

import msgspec
from msgspec import Struct

from tieline.config.schema import Config
from tieline.dialects import get as dialect_named
from tieline.dialects.base import Garbled, StreamFault
from tieline.gateway import CUT_S, Gateway, closed
from tieline.in_process import MemoryReply, begin
from tieline.types.errors import InvalidRequest, TielineError
from tieline.types.events import TextDelta
from tieline.types.money import format_usd
from tieline.types.record import Record
from tieline.types.request import ToolCall
from tieline.types.response import Response

if TYPE_CHECKING:
    import anthropic as anthropic_sdk
    import openai as openai_sdk

T = TypeVar("T")
BASE_URL = "http://tieline.in-process"
EXIT_S = 2.0
"""How long the interpreter's end waits for the records of what was never closed; the journal has them."""


class RequestFailed(TielineError):
    """The pipeline answered with an error; ``http_status`` and ``code`` as a server would have sent them."""

    def __init__(self, record: Record) -> None:
        super().__init__(record.error_message or "The request failed.")
        self.record = record
        self.http_status = record.status
        self.error_code = record.error_code

    def __reduce__(self) -> tuple[type[RequestFailed], tuple[Record]]:
        """Pools of processes send it home, and would end with what cannot be read there."""
        return RequestFailed, (self.record,)


class Answer(Struct, kw_only=True):
    """What came back, and what it took."""

    text: str
    tool_calls: list[ToolCall]
    finish_reason: str | None
    provider: str | None
    model: str | None
    deployment: str | None
    attempts: int
    cost_usd: str
    """Decimal, or ``unknown``."""
    overhead_ms: float
    request_id: str
    response: Response
    """Everything: all choices, thinking, usage."""
    record: Record


class AsyncStream:
    """Iterate, once, for pieces of text; afterwards ``answer`` has everything. The request is sent when you begin.

    Leaving the loop early cancels it; ``async with`` or ``aclose`` does so at once.
    """

    def __init__(self, begin: Callable[[], MemoryReply]) -> None:
        self._begin = begin
        self._reply: MemoryReply | None = None
        self.answer: Answer | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Cancels what is still coming, and waits until it is settled. Idempotent."""
        reply = self._reply
        if reply is not None and reply.task is not None:
            reply.cancel()
            await asyncio.wait({reply.task})

    def leave(self) -> None:
        """``aclose`` from any thread, and without waiting."""
        if self._reply is not None:
            self._reply.leave()

    async def __aiter__(self) -> AsyncIterator[str]:
        from tieline.dialects.transcript import Transcript

        if self._reply is not None:
            raise RuntimeError("A stream can be read once.")
        reply = self._reply = self._begin()
        dialect = dialect_named("openai_chat")
        splitter, decoder, transcript = dialect.splitter(), dialect.stream_decoder(), Transcript()
        try:
            await reply.head()
            async for data in reply.pieces():
                if reply.status != 200:
                    continue
                for frame in splitter.feed(data):
                    for event in decoder.decode(frame):
                        transcript.add(event)
                        if isinstance(event, TextDelta):
                            yield event.text
        except (StreamFault, Garbled):
            await _ended(reply)  # an in-band error: the record says it better than the frame
            raise
        finally:
            if not reply.ended:
                reply.cancel()
        record = await _ended(reply)
        self.answer = _answer(transcript.response(), record)


class AsyncTieline:
    """One line to every model, on this event loop.

    ``config`` is a ``Config``, a path to a tieline.yaml, or None: keys in the environment are enough. Use it with
    ``async with``, or call ``start`` and ``close``.
    """

    def __init__(
        self, config: Config | str | Path | None = None, *, environ: Mapping[str, str] | None = None
    ) -> None:
        self.gateway = Gateway(config, environ=environ, in_process=True)

    def __getstate__(self) -> NoReturn:
        raise _not_sent(self)

    async def start(self) -> Self:
        self.gateway.check_here()
        try:
            await self.gateway.start()
        except BaseException:
            await self.close()
            raise
        return self

    async def close(self) -> None:
        """Lets requests under way end (server.drain_s at most), then writes everything down."""
        await self.gateway.stop()

    async def __aenter__(self) -> Self:
        return await self.start()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def chat(self, model: str, messages: str | Sequence[Mapping[str, Any]], **params: Any) -> Answer:
        """A whole answer. ``messages`` is a prompt or OpenAI's list; ``params`` are OpenAI's (tools, max_tokens, …).

        ``tieline={…}`` takes the request options. Raises RequestFailed; InvalidRequest where a stream is asked for.
        """
        for name in ("stream", "stream_options"):
            if params.get(name):
                raise InvalidRequest(
                    f"chat gives whole answers and takes no {name}; line.stream(…) gives them piece by piece.",
                    param=name,
                )
        reply = self._begin(model, messages, params, stream=False)
        await reply.head()
        body = b"".join([piece async for piece in reply.pieces()])
        record = await _ended(reply)
        return _answer(dialect_named("openai_chat").decode_response(body), record)

    def stream(self, model: str, messages: str | Sequence[Mapping[str, Any]], **params: Any) -> AsyncStream:
        """The same, piece by piece."""
        return AsyncStream(lambda: self._begin(model, messages, params, stream=True))

    async def explain(self, model: str, **asked: Any) -> dict[str, Any]:
        """Every candidate for a request like this, in order, and why the others are not; nothing is sent.

        A request id instead of a model replays the decision that was taken for it. ``asked``: input_tokens,
        max_output_tokens, intent, features, dialect. Raises UnknownModel, NotFound.
        """
        self.gateway.check_open()
        if model.startswith("req_"):
            return await self.gateway.explain_past(model, None)
        return self.gateway.explain(model, **asked)

    def async_openai(self, **options: Any) -> openai_sdk.AsyncOpenAI:
        """The official client, bound to this pipeline. ``options`` go to its constructor."""
        import openai

        return openai.AsyncOpenAI(**_bound("/v1", self._http(openai), options))

    def async_anthropic(self, **options: Any) -> anthropic_sdk.AsyncAnthropic:
        """The official client, bound to this pipeline."""
        import anthropic

        return anthropic.AsyncAnthropic(**_bound("", self._http(anthropic), options))

    def _http(self, sdk: Any) -> Any:
        from tieline.bound import async_http_client, http_of

        return async_http_client(http_of(sdk), self.gateway)

    def _begin(
        self,
        model: str,
        messages: str | Sequence[Mapping[str, Any]],
        params: Mapping[str, Any],
        *,
        stream: bool,
    ) -> MemoryReply:
        turns = [{"role": "user", "content": messages}] if isinstance(messages, str) else list(messages)
        body = {"model": model, "messages": turns, **params}
        if stream:
            options = params.get("stream_options") or {}
            body |= {"stream": True, "stream_options": {**options, "include_usage": True}}
        return begin(self.gateway, "/v1/chat/completions", "", [], msgspec.json.encode(body))


class Stream:
    """Iterate for pieces of text; afterwards ``answer`` has everything."""

    def __init__(
        self, run: Callable[[Coroutine[Any, Any, Any]], Any], open_: Callable[[], AsyncStream]
    ) -> None:
        self._run = run
        self._open = open_
        self.answer: Answer | None = None

    def __iter__(self) -> Iterator[str]:
        async def opened() -> tuple[AsyncStream, AsyncIterator[str]]:
            stream = self._open()
            return stream, stream.__aiter__()

        async def following(pieces: AsyncIterator[str]) -> str | None:
            return await anext(pieces, None)

        stream, pieces = self._run(opened())
        try:
            while (piece := self._run(following(pieces))) is not None:
                yield piece
        finally:
            stream.leave()
        self.answer = stream.answer


class Tieline:
    """One line to every model, without an event loop of yours: it runs one in a thread. Thread-safe.

    A process that forks makes it in the child: the thread, the connections and the journal stay the parent's.
    """

    def __init__(
        self, config: Config | str | Path | None = None, *, environ: Mapping[str, str] | None = None
    ) -> None:
        self._pid = getpid()
        self._closing = threading.Lock()
        self._entering = threading.RLock()
        self._is_stopped = False
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=_serve, args=(self._loop,), name="tieline", daemon=True)
        self._thread.start()
        try:
            self._inner = self._run(self._start(config, environ))
        except BaseException:
            self._stop_loop()
            raise
        _open.add(self)

    @staticmethod
    async def _start(config: Config | str | Path | None, environ: Mapping[str, str] | None) -> AsyncTieline:
        return await AsyncTieline(config, environ=environ).start()

    def __getstate__(self) -> NoReturn:
        raise _not_sent(self)

    @property
    def gateway(self) -> Gateway:
        gateway: Gateway = self._inner.gateway
        return gateway

    def close(self) -> None:
        """As ``AsyncTieline.close``. In a process that was forked since, nothing: it is the parent's."""
        if self._pid != getpid():
            return
        with self._closing:
            if self._thread.is_alive():
                self._run(self._inner.close())
                self._stop_loop()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def chat(self, model: str, messages: str | Sequence[Mapping[str, Any]], **params: Any) -> Answer:
        """As ``AsyncTieline.chat``."""
        answer: Answer = self._run(self._inner.chat(model, messages, **params))
        return answer

    def stream(self, model: str, messages: str | Sequence[Mapping[str, Any]], **params: Any) -> Stream:
        """As ``AsyncTieline.stream``."""
        return Stream(self._run, lambda: self._inner.stream(model, messages, **params))

    def explain(self, model: str, **asked: Any) -> dict[str, Any]:
        """As ``AsyncTieline.explain``."""
        found: dict[str, Any] = self._run(self._inner.explain(model, **asked))
        return found

    def openai(self, **options: Any) -> openai_sdk.OpenAI:
        """The official client, bound to this pipeline."""
        import openai

        return openai.OpenAI(**_bound("/v1", self._http(openai), options))

    def anthropic(self, **options: Any) -> anthropic_sdk.Anthropic:
        """The official client, bound to this pipeline."""
        import anthropic

        return anthropic.Anthropic(**_bound("", self._http(anthropic), options))

    def async_openai(self, **options: Any) -> openai_sdk.AsyncOpenAI:
        """The official client for your own event loop, bound to this pipeline."""
        import openai

        return openai.AsyncOpenAI(**_bound("/v1", self._async_http(openai), options))

    def async_anthropic(self, **options: Any) -> anthropic_sdk.AsyncAnthropic:
        """The official client for your own event loop, bound to this pipeline."""
        import anthropic

        return anthropic.AsyncAnthropic(**_bound("", self._async_http(anthropic), options))

    def _http(self, sdk: Any) -> Any:
        from tieline.bound import http_client, http_of

        return http_client(http_of(sdk), self.gateway, self._run)

    def _async_http(self, sdk: Any) -> Any:
        from tieline.bound import bridge_http_client, http_of

        return bridge_http_client(http_of(sdk), self.gateway, self._submit)

    def __del__(self) -> None:
        """Dropped without being closed: it ends as if it had been, but nobody waits, for this may be any thread."""
        if self._pid == getpid() and not self._is_stopped:
            self._is_stopped = True
            asyncio.run_coroutine_threadsafe(_end(self._inner), self._loop)

    def _exit(self) -> None:
        """The interpreter ends, and this was never closed. Nobody waits for what is under way, and no thread can be
        started any more, so it is cut, settled and recorded; later there would be nobody to ask."""
        if self._pid != getpid() or self._is_stopped:
            return
        gateway = self.gateway
        with contextlib.suppress(Exception):
            self._run(gateway.cut())
        self._stop_loop()
        gateway.recorder.close(EXIT_S)

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        if threading.current_thread() is self._thread:
            work.close()
            raise RuntimeError("Tieline's own thread cannot wait for itself; use AsyncTieline here.")
        future = self._submit(work)
        try:
            return future.result()
        except CancelledError:
            if self._is_stopped:
                raise closed() from None
            raise
        except BaseException:
            future.cancel()
            raise

    def _submit(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        if self._pid != getpid():
            work.close()
            # Nobody runs that loop here: who waited for it would wait for ever.
            raise RuntimeError("This Tieline was made before a fork; make it in the child.")
        with self._entering:
            if not self._is_stopped:
                return asyncio.run_coroutine_threadsafe(work, self._loop)
        work.close()
        raise closed()

    def _stop_loop(self) -> None:
        with self._entering:
            self._is_stopped = True
        # Who came in before that is on the loop now, and would wait for ever.
        asyncio.run_coroutine_threadsafe(_end_all(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()


def _serve(loop: asyncio.AbstractEventLoop) -> None:
    try:
        loop.run_forever()
    finally:
        loop.close()


async def _end(line: AsyncTieline) -> None:
    try:
        await line.close()
    finally:
        asyncio.get_running_loop().stop()


async def _end_all() -> None:
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    if others:
        await asyncio.wait(others, timeout=CUT_S)
    await asyncio.get_running_loop().shutdown_asyncgens()


_open: WeakSet[Tieline] = WeakSet()


@atexit.register
def _exit_all() -> None:
    for line in list(_open):
        line._exit()


def _not_sent(line: object) -> TypeError:
    return TypeError(
        f"{type(line).__name__} cannot be pickled, as its connections and journal are this process's; "
        "make one in each process."
    )


def _bound(path: str, http: Any, options: dict[str, Any]) -> dict[str, Any]:
    """What the constructor of an official client is given; ``options`` win.

    Who tries again is the pipeline. The SDKs' own retries would send all of that anew, timeouts included.
    """
    ours = {"api_key": "in-process", "base_url": BASE_URL + path, "http_client": http, "max_retries": 0}
    return ours | options


async def _ended(reply: MemoryReply) -> Record:
    """Raises RequestFailed."""
    assert reply.task is not None
    record = await reply.task
    if record.outcome != "success":
        raise RequestFailed(record)
    return record


def _answer(response: Response, record: Record) -> Answer:
    return Answer(
        text=response.text,
        tool_calls=response.tool_calls,
        finish_reason=record.finish_reason,
        provider=record.provider,
        model=record.model,
        deployment=record.deployment,
        attempts=len(record.attempts),
        cost_usd=format_usd(record.cost),
        overhead_ms=record.overhead_ms,
        request_id=record.id,
        response=response,
        record=record,
    )
