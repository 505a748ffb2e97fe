"""What went wrong in a request so far, and whom that takes out of it."""

from __future__ import annotations

from tieline.providers.deployment import Deployment
from tieline.route.health import Lane
from tieline.route.pool import Tier
from tieline.types.errors import Failure, FailureClass

FINAL = frozenset(
    {
        FailureClass.CALLER_GONE,
        FailureClass.SHUT_DOWN,
        FailureClass.CONTENT_FILTERED,
        FailureClass.INTERNAL,
    }
)
LESS_TELLING = frozenset(
    {
        FailureClass.CREDENTIAL,
        FailureClass.QUOTA_EXHAUSTED,
        FailureClass.MODEL_GONE,
        FailureClass.REGION_BLOCKED,
        FailureClass.UNSUPPORTED_PARAMETER,
    }
)
"""When a fallback dies of these the caller is told of the earlier failure, which says more."""


class Past:
    """Made when the first try of a request has failed."""

    __slots__ = (
        "_dead_deployments",
        "_dead_keys",
        "_dead_lanes",
        "_ready_at",
        "_struck",
        "doubt",
        "failures",
        "fits",
        "found",
        "hops",
        "reshaped",
        "retried",
        "stormed",
        "trial",
        "waited",
        "window",
    )

    def __init__(self) -> None:
        self.failures: list[Failure] = []
        self._dead_deployments: set[str] = set()
        self._dead_lanes: set[Lane] = set()
        self._dead_keys: set[tuple[str, str]] = set()
        """(provider, credential label)"""
        self._ready_at: dict[Lane, float | None] = {}
        """Rate-limited lanes, and when they said they are ready again."""
        self._struck: dict[str, set[str]] = {}
        """Provider or edge -> what failed there."""
        self.fits: dict[str, bool] = {}
        """Deployment id -> whether size and price let it serve this request."""
        self.found: list[Tier] | None = None
        """The pool's alternatives in this request's order."""
        self.retried: set[str] = set()
        self.reshaped: set[Lane] = set()
        """Resumed without the partial answer."""
        self.doubt: Failure | None = None
        """A refusal that may be the provider's fault: others are asked, and it is what the caller hears if none accepts."""
        self.stormed = False
        """A refusal was certainly the provider's fault."""
        self.trial: Deployment | None = None
        """It refused in doubt; somebody else is being asked whether it is us."""
        self.hops = 0
        """Resumes of one broken stream."""
        self.waited = 0.0
        self.window = 0
        """The largest context window that was too small."""

    # who is out -------------------------------------------------------------------------------------------------

    def rule_out(self, deployment: Deployment) -> None:
        self._dead_deployments.add(deployment.id)

    def rule_out_key(self, lane: Lane) -> None:
        """For all that the provider serves."""
        self._dead_keys.add((lane.deployment.provider.name, lane.credential.label))

    def rule_out_lane(self, lane: Lane, ready_at: float | None) -> None:
        """Until ``ready_at``; None: it did not say."""
        self._ready_at[lane] = ready_at
        self._dead_lanes.add(lane)

    def readmit(self, lane: Lane) -> None:
        self._dead_lanes.discard(lane)
        self._ready_at.pop(lane, None)

    def is_out(self, lane: Lane) -> bool:
        return lane in self._dead_lanes or self._is_dead(lane)

    def _is_dead(self, lane: Lane) -> bool:
        """For the rest of this request; not for having to wait."""
        deployment = lane.deployment
        if deployment.id in self._dead_deployments:
            return True
        return bool(self._dead_keys) and (deployment.provider.name, lane.credential.label) in self._dead_keys

    def soonest(self) -> tuple[Lane, float] | None:
        """The rate-limited lane that said it is ready first, and when."""
        told = [
            (at, lane) for lane, at in self._ready_at.items() if at is not None and not self._is_dead(lane)
        ]
        if not told:
            return None
        at, lane = min(told, key=lambda one: one[0])
        return lane, at

    def is_limited_untold(self, lane: Lane) -> bool:
        """It is rate-limited and did not say until when."""
        return self._ready_at.get(lane, 0.0) is None

    # who is suspected -------------------------------------------------------------------------------------------

    def strike(self, deployment: Deployment) -> None:
        provider = deployment.provider
        self._struck.setdefault(provider.name, set()).add(deployment.id)
        if provider.edge:
            self._struck.setdefault(f"edge:{provider.edge}", set()).add(provider.name)

    @property
    def has_struck(self) -> bool:
        """Two have failed at one provider or edge."""
        return any(len(failed) > 1 for failed in self._struck.values())

    def is_struck(self, deployment: Deployment) -> bool:
        """Two of its provider or edge have failed: it is asked last."""
        struck, provider = self._struck, deployment.provider
        return len(struck.get(provider.name, ())) > 1 or len(struck.get(f"edge:{provider.edge}", ())) > 1

    # what is told -----------------------------------------------------------------------------------------------

    @property
    def last(self) -> Failure | None:
        return self.failures[-1] if self.failures else None

    def telling(self, failure: Failure | None) -> Failure | None:
        """Of all that failed, what the caller hears when nothing is tried after ``failure``."""
        if failure is not None and failure.kind not in FINAL and self.doubt is not None:
            return self.doubt
        if failure is not None and failure.kind in LESS_TELLING:
            telling = [one for one in self.failures if one.kind not in LESS_TELLING]
            return telling[-1] if telling else failure
        return failure
