"""What the plan is told and what it answers: plain data between the pipeline and ``plan``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tieline.config.schema import PolicyRules, Routing
from tieline.providers.deployment import Deployment, Endpoint
from tieline.providers.row import Credential
from tieline.types.errors import Failure
from tieline.types.money import Pico

if TYPE_CHECKING:
    from tieline.route.health import Lane

NO_FEATURES: frozenset[str] = frozenset()


class Needs:
    """What one request asks of whoever serves it."""

    __slots__ = (
        "allowed",
        "dialect",
        "excluded",
        "extras",
        "features",
        "free",
        "input_tokens",
        "intent",
        "max_cost",
        "max_output_tokens",
        "max_price_ratio",
        "n",
        "operation",
        "routing",
        "rules",
        "service_tier",
        "session",
        "stream",
    )

    def __init__(
        self,
        *,
        operation: str = "chat",
        dialect: str = "openai_chat",
        features: frozenset[str] = NO_FEATURES,
        stream: bool = False,
        input_tokens: int = 0,
        max_output_tokens: int | None = None,
        n: int = 1,
        service_tier: str | None = None,
        extras: dict[str, int] | None = None,
        rules: tuple[PolicyRules, ...] = (),
        routing: Routing | None = None,
        max_cost: Pico | None = None,
        max_price_ratio: float | None = None,
        intent: str | None = None,
        session: str | None = None,
        allowed: tuple[tuple[str, ...], ...] = (),
        excluded: dict[str, str] | None = None,
        free: bool = False,
    ) -> None:
        self.operation = operation
        self.free = free
        """A count: nobody bills it, it tells what is too long, and an estimate takes over."""
        self.dialect = dialect
        self.features = features
        """As ``dialects.base.Peek`` names them."""
        self.stream = stream
        self.input_tokens = input_tokens
        """An estimate."""
        self.max_output_tokens = max_output_tokens
        self.n = n
        """Answers asked for; each may be as long as the limit."""
        self.service_tier = service_tier
        """Asked for: batch, priority, flex, or a name for the standard one."""
        self.extras = extras
        """As ``dialects.base.Peek`` says."""
        self.rules = rules
        """Of gateway, project, key and request; they only tighten."""
        self.routing = routing
        """The request's own routing, already merged with the route's (``routing.override``); None: the route's."""
        self.max_cost = max_cost
        """The most this request may cost, all attempts together."""
        self.max_price_ratio = max_price_ratio
        """Asked for by this request: then it binds listed fallbacks too."""
        self.intent = intent
        self.session = session
        """Sticks to the deployment that served it, while that one is healthy (prompt caches, reasoning state)."""
        self.allowed = allowed
        """Of the key and of its project: deployment ids, model names or beginnings of them with ``*``. An alternative
        that we find is covered by each; none: all are."""
        self.excluded = excluded
        """Deployment id -> why not, decided elsewhere."""


class Deadlines:
    """Seconds from the start of the attempt; ``stall_s`` from the last content. Shared by alike requests, never changed."""

    __slots__ = ("connect_s", "first_token_s", "stall_s", "thinking_stall_s", "total_s")

    def __init__(
        self,
        connect_s: float,
        first_token_s: float,
        stall_s: float,
        total_s: float,
        thinking_stall_s: float = 60.0,
    ) -> None:
        self.connect_s = connect_s
        self.first_token_s = first_token_s
        """Without streaming: until the answer begins, so it includes the time to generate it."""
        self.stall_s = stall_s
        self.total_s = total_s
        self.thinking_stall_s = thinking_stall_s
        """``stall_s`` while the model is thinking."""


class Try:
    """Send the request here now, or after ``wait_s``."""

    __slots__ = (
        "bound",
        "credential",
        "deadlines",
        "deployment",
        "endpoint",
        "lane",
        "plain",
        "probe",
        "reason",
        "wait_s",
    )

    def __init__(
        self,
        deployment: Deployment,
        credential: Credential,
        endpoint: Endpoint,
        lane: Lane,
        reason: str,
        deadlines: Deadlines,
        wait_s: float = 0.0,
        plain: bool = False,
        probe: bool = False,
    ) -> None:
        self.deployment = deployment
        self.credential = credential
        self.endpoint = endpoint
        self.lane = lane
        self.reason = reason
        """first | retry | other_credential | failover | wait | hedge | resume"""
        self.deadlines = deadlines
        self.wait_s = wait_s
        self.plain = plain
        """A resume without the partial answer, because the target refused its shape (DESIGN section 8)."""
        self.probe = probe
        """The one live request of a half-open breaker; ``Plan.hedge_after`` then says when to run the alternative."""
        self.bound: Pico | None = None
        """The most that it can cost, where a budget holds that; None: nothing is held for it."""


class GiveUp:
    """Nothing more to try. ``failure`` None: nothing was sent at all (``no_candidate``), or the last try succeeded."""

    __slots__ = ("excluded", "failure")

    def __init__(self, failure: Failure | None, excluded: dict[str, str]) -> None:
        self.failure = failure
        self.excluded = excluded
        """Deployment id -> why it is not tried (any more)."""


Step = Try | GiveUp


class Outcome:
    """How a ``Try`` ended."""

    __slots__ = ("committed", "cost", "elapsed_s", "failure", "resumable", "unsupported")

    def __init__(
        self,
        failure: Failure | None = None,
        elapsed_s: float = 0.0,
        committed: bool = False,
        unsupported: str | None = None,
        cost: Pico | None = 0,
        resumable: bool = True,
    ) -> None:
        self.failure = failure
        self.elapsed_s = elapsed_s
        """Since the request began, all attempts together."""
        self.committed = committed
        """Content of this or an earlier attempt has reached the caller."""
        self.unsupported = unsupported
        """Nothing was sent: encoding raised ``Unsupported`` for this field."""
        self.cost = cost
        """What the attempt cost; None: unknown, its upper bound is assumed."""
        self.resumable = resumable
        """False: the stream broke inside a tool call, structured output or thinking; nobody can go on from there."""
