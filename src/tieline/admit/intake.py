"""How many requests are under way, and whether one more is one too many."""

from __future__ import annotations

import sys

from tieline.admit.overload import Overload
from tieline.types.errors import Shedding


class Intake:
    """``enter`` before any work is spent on a request, ``leave`` when it is over. One event loop."""

    __slots__ = ("cutting", "draining", "ended", "in_flight", "overload", "room")

    def __init__(self, max_lag_s: float) -> None:
        self.in_flight = 0
        self.room = sys.maxsize
        """Requests that the process can hold, where a server has found out; else as many as are let in."""
        self.ended = 0
        """Requests so far, those refused here included."""
        self.draining = False
        """The process is shutting down: it takes no more."""
        self.cutting = False
        """Nor does it wait any longer for those under way: who is cancelled now is so by us, not by its caller."""
        self.overload = Overload(max_lag_s, self._ended)
        """Watches only once a server has started it."""

    def enter(self, most: int) -> None:
        """Raises Shedding, which is answered without anything else being done."""
        under_way = self.in_flight
        if under_way >= most or under_way >= self.room or self.draining or self.overload.share > 0.0:
            self._check(most)
        self.in_flight += 1

    def leave(self) -> None:
        self.in_flight -= 1
        self.ended += 1

    def cut(self) -> None:
        """Before requests are cancelled that outlasted the end."""
        self.draining = self.cutting = True

    def _check(self, most: int) -> None:
        refused = None
        if self.draining:
            refused = Shedding(
                "Tieline is shutting down.", hint="Send the request to another replica.", retry_after_s=1.0
            )
        elif self.in_flight >= most:
            refused = Shedding(
                f"{self.in_flight} requests are under way, as many as server.max_concurrency allows.",
                retry_after_s=1.0,
            )
        elif self.in_flight >= self.room:
            refused = Shedding(
                f"{self.in_flight} requests are under way, as many as the process may open files for.",
                hint="Its operator raises the limit of open files (ulimit -Hn), or adds workers.",
                retry_after_s=1.0,
            )
        elif self.overload.refuses():
            refused = Shedding(
                "This process has more to do than it can.",
                hint="server.max_lag_ms says how far behind it may be; more workers or hosts take more.",
                retry_after_s=1.0,
            )
        if refused is not None:
            self.ended += 1
            raise refused

    def _ended(self) -> int:
        return self.ended
