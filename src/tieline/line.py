"""What all requests share."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic

from tieline.admit.admission import Admission
from tieline.admit.intake import Intake
from tieline.admit.leases import Leases
from tieline.config.schema import Config
from tieline.keepalive import Keepalive
from tieline.ledger.markup import Markup
from tieline.providers.deployment import Deployment
from tieline.providers.row import Credential
from tieline.providers.tokens import TokenSource
from tieline.record.recorder import Recorder
from tieline.route.health import Health
from tieline.route.router import Router
from tieline.transport.routing import Transports
from tieline.types.call import Headers


class Line:
    """What all requests share. Nothing is set anew: a change of configuration makes another one, requests under way keep
    theirs."""

    __slots__ = (
        "admission",
        "answer_headers",
        "clock",
        "config",
        "health",
        "intake",
        "keepalive",
        "leases",
        "markup",
        "max_concurrency",
        "recorder",
        "request_headers",
        "router",
        "tokens",
        "transports",
    )

    def __init__(
        self,
        *,
        config: Config,
        router: Router,
        health: Health,
        intake: Intake,
        admission: Admission,
        markup: Markup,
        transports: Transports,
        tokens: TokenSource,
        recorder: Recorder,
        leases: Leases | None = None,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self.config = config
        self.max_concurrency = config.server.max_concurrency
        self.keepalive = Keepalive(config.server.keepalive_s)
        self.router = router
        self.health = health
        self.intake = intake
        self.admission = admission
        self.markup = markup
        self.transports = transports
        self.tokens = tokens
        self.recorder = recorder
        self.leases = leases
        """With Redis: what this process may spend of ceilings that several share."""
        self.clock = clock
        self.request_headers: dict[tuple[Deployment, Credential], tuple[tuple[bytes, bytes], ...]] = {}
        """What the exchanges have put together so far."""
        self.answer_headers: dict[Deployment, Headers] = {}

    def __repr__(self) -> str:
        """Short: what hangs on it holds keys ready to be sent."""
        return f"<Line {self.config!r}>"
