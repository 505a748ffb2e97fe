"""What the plan is told and what it answers: plain data between the pipeline and ``plan``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct, field

from tieline.config.schema import PolicyRules, Routing
from tieline.providers.deployment import Deployment, Endpoint
from tieline.providers.row import Credential
from tieline.types.errors import Failure
from tieline.types.money import Pico

if TYPE_CHECKING:
    from tieline.route.health import Lane

NO_FEATURES: frozenset[str] = frozenset()


class Needs(Struct, kw_only=True, gc=False):
    """What one request asks of whoever serves it."""

    operation: str = "chat"
    dialect: str = "openai_chat"
    features: frozenset[str] = NO_FEATURES
    """As ``dialects.base.Peek`` names them."""
    stream: bool = False
    input_tokens: int = 0
    """An estimate."""
    max_output_tokens: int | None = None
    n: int = 1
    """Answers asked for; each may be as long as the limit."""
    rules: tuple[PolicyRules, ...] = ()
    """Of gateway, project, key and request; they only tighten."""
    routing: Routing | None = None
    """The request's own routing, already merged with the route's (``routing.override``); None: the route's."""
    max_cost: Pico | None = None
    """The most this request may cost, all attempts together."""
    max_price_ratio: float | None = None
    """Asked for by this request: then it binds listed fallbacks too."""
    intent: str | None = None
    session: str | None = None
    """Sticks to the deployment that served it, while that one is healthy (prompt caches, reasoning state)."""
    allowed: tuple[tuple[str, ...], ...] = ()
    """Of the key and of its project: deployment ids, model names or beginnings of them with ``*``. An alternative that we
    find is covered by each; none: all are."""
    excluded: dict[str, str] = field(default_factory=dict)
    """Deployment id -> why not, decided elsewhere."""


class Deadlines(Struct, frozen=True):
    """Seconds from the start of the attempt; ``stall_s`` from the last content."""

    connect_s: float
    first_token_s: float
    """Without streaming: until the answer begins, so it includes the time to generate it."""
    stall_s: float
    total_s: float
    thinking_stall_s: float = 60.0
    """``stall_s`` while the model is thinking."""


class Try(Struct):
    """Send the request here now, or after ``wait_s``."""

    deployment: Deployment
    credential: Credential
    endpoint: Endpoint
    reason: str
    """first | retry | other_credential | failover | wait | hedge | resume"""
    deadlines: Deadlines
    wait_s: float = 0.0
    plain: bool = False
    """A resume without the partial answer, because the target refused its shape (DESIGN section 8)."""
    probe: bool = False
    """The one live request of a half-open breaker; ``Plan.hedge_after`` then says when to run the alternative."""
    price: Pico | None = None
    """Upper bound of this attempt's cost where it was computed, else None."""
    lane: Lane | None = None


class GiveUp(Struct):
    """Nothing more to try. ``failure`` None: nothing was sent at all (``no_candidate``), or the last try succeeded."""

    failure: Failure | None
    excluded: dict[str, str]
    """Deployment id -> why it is not tried (any more)."""
    attempts: int = 0


Step = Try | GiveUp


class Outcome(Struct, gc=False):
    """How a ``Try`` ended."""

    failure: Failure | None = None
    elapsed_s: float = 0.0
    """Since the request began, all attempts together."""
    committed: bool = False
    """Content of this or an earlier attempt has reached the caller."""
    unsupported: str | None = None
    """Nothing was sent: encoding raised ``Unsupported`` for this field."""
    cost: Pico | None = 0
    """What the attempt cost; None: unknown, its upper bound is assumed."""
    resumable: bool = True
    """False: the stream broke inside a tool call, structured output or thinking; nobody can go on from there."""


SUCCESS = Outcome()
