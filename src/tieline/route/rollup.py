"""Several deployments failing together: a provider, or a CDN or cloud region that several providers share."""

from __future__ import annotations

WINDOW_S = 10.0
QUIET_AGAIN_S = 10.0
SEVERAL = 2
TOGETHER = 0.8
"""The share of deployments, among those with news in the window, that must be failing."""


class RollUp:
    """Speaks only when several deployments behind it fail together and (almost) none succeeds."""

    __slots__ = ("_failing", "_several_providers", "_succeeding", "_until", "quiet", "watching")

    def __init__(self, *, several_providers: bool = False) -> None:
        self._several_providers = several_providers
        self._failing: dict[str, tuple[float, str]] = {}
        self._succeeding: dict[str, float] = {}
        self._until = 0.0
        self.quiet = True
        """What the hot path reads; put right by ``speaks``."""
        self.watching = False
        """Something behind it fails, so successes are of interest."""

    def failure(self, deployment: str, provider: str, now: float) -> None:
        self._failing[deployment] = (now, provider)
        self._succeeding.pop(deployment, None)
        self.watching = True
        self._weigh(now)

    def success(self, deployment: str, now: float) -> None:
        self._failing.pop(deployment, None)
        self._succeeding[deployment] = now
        self._weigh(now)

    def speaks(self, now: float) -> bool:
        if not self.quiet and now >= self._until:
            self.quiet = True
        return not self.quiet

    def _weigh(self, now: float) -> None:
        since = now - WINDOW_S
        self._failing = {name: at for name, at in self._failing.items() if at[0] >= since}
        self._succeeding = {name: at for name, at in self._succeeding.items() if at >= since}
        self.watching = bool(self._failing)
        failing, healthy = len(self._failing), len(self._succeeding)
        together = failing >= SEVERAL and failing >= TOGETHER * (failing + healthy)
        if together and self._several_providers:
            together = len({provider for _, provider in self._failing.values()}) >= SEVERAL
        self.quiet = not together
        self._until = now + QUIET_AGAIN_S
        if not self.watching:
            self._succeeding.clear()
