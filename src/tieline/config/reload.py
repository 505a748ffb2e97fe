"""Edits are taken over while requests run; a faulty edit is reported and the configuration in use stays."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Mapping
from pathlib import Path

from tieline.config.load import ConfigErrors, Loaded, load, signature

POLL_S = 1.0
"""An edit is seen within this; a stat a second costs about 2 us."""


class Watcher:
    """Calls ``on_change`` with each valid new configuration, ``on_error`` with what is wrong about an invalid one.

    Each state of the file is reported once. Both callbacks run on the event loop.
    """

    def __init__(
        self,
        loaded: Loaded,
        environ: Mapping[str, str],
        on_change: Callable[[Loaded], None],
        on_error: Callable[[ConfigErrors], None],
        *,
        poll_s: float = POLL_S,
    ) -> None:
        if loaded.path is None:
            raise ValueError("nothing to watch: the configuration came from no file")
        self.loaded = loaded
        self._path: Path = loaded.path
        self._environ = environ
        self._on_change = on_change
        self._on_error = on_error
        self._poll_s = poll_s
        self._poked = asyncio.Event()
        self._seen = loaded.signature

    def poke(self) -> None:
        """Read now, changed or not (SIGHUP: a ``file:`` secret may have changed although this file did not)."""
        self._poked.set()

    def listen(self) -> None:
        """SIGHUP pokes. Must be called on the running loop's main thread."""
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, self.poke)

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            try:
                await asyncio.wait_for(self._poked.wait(), self._poll_s)
            except TimeoutError:
                pass
            forced = self._poked.is_set()
            self._poked.clear()
            await self._look(forced)

    async def _look(self, forced: bool) -> None:
        now = signature(self._path)
        if now is None or (now == self._seen and not forced):
            return  # an editor that replaces the file leaves a moment without it
        self._seen = now
        try:
            # In a thread: YAML of a large file takes tens of milliseconds that streams should not feel.
            loaded = await asyncio.to_thread(load, self._path, self._environ)
        except ConfigErrors as errors:
            self._on_error(errors)
            return
        if loaded.config != self.loaded.config or forced:
            self.loaded = loaded
            self._on_change(loaded)
