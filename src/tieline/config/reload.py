"""Edits are taken over while requests run; a faulty edit is reported and the configuration in use stays."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Mapping
from pathlib import Path

from tieline.config.document import Signature, signature
from tieline.config.load import ConfigErrors, Loaded, load

POLL_S = 1.0
"""An edit is seen within this; a stat a second costs about 2 us."""


class Watcher:
    """Calls ``on_change`` with each valid new configuration, ``on_error`` with what is wrong about an invalid one.

    A ``file:`` that was written anew (a Secret that Kubernetes renews) is a change as well. Each state of the file is reported once. Both callbacks run on the event loop.
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
        self._files: dict[Path, Signature] = dict(loaded.files)

    def poke(self) -> None:
        """Read now, changed or not (SIGHUP)."""
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
        if now is None:
            return  # an editor that replaces the file leaves a moment without it
        forced = self._other_files_changed() or forced
        if now == self._seen and not forced:
            return
        self._seen = now
        try:
            # In a thread: YAML of a large file takes tens of milliseconds that streams should not feel.
            loaded = await asyncio.to_thread(load, self._path, self._environ)
        except ConfigErrors as errors:
            self._on_error(errors)
            return
        self._files = dict(loaded.files)
        if loaded.config != self.loaded.config or forced:
            self.loaded = loaded
            self._on_change(loaded)

    def _other_files_changed(self) -> bool:
        """One that is being replaced may be away for a moment, which is no change."""
        found = {path: signature(path) or known for path, known in self._files.items()}
        changed = found != self._files
        self._files = found
        return changed
