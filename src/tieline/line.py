"""What all requests share."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic

from msgspec import Struct, field

from tieline.admit.admission import Admission
from tieline.admit.leases import Leases
from tieline.config.schema import Config
from tieline.ledger.markup import Markup
from tieline.providers.deployment import Deployment
from tieline.providers.row import Credential
from tieline.providers.tokens import TokenSource
from tieline.record.recorder import Recorder
from tieline.route.health import Health
from tieline.route.router import Router
from tieline.transport.routing import Transports
from tieline.types.call import Headers


class Line(Struct, eq=False, kw_only=True):
    """What all requests share. Immutable: a change of configuration makes a new one, requests under way keep theirs."""

    config: Config
    router: Router
    health: Health
    admission: Admission
    markup: Markup
    transports: Transports
    tokens: TokenSource
    recorder: Recorder
    leases: Leases | None = None
    """With Redis: what this process may spend of ceilings that several share."""
    clock: Callable[[], float] = monotonic
    request_headers: dict[tuple[Deployment, Credential], tuple[tuple[bytes, bytes], ...]] = field(
        default_factory=dict
    )
    """What the exchanges have put together so far."""
    answer_headers: dict[Deployment, Headers] = field(default_factory=dict)

    def __repr__(self) -> str:
        """Short: what hangs on it holds keys ready to be sent."""
        return f"<Line {self.config!r}>"
