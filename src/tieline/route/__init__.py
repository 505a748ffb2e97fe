"""Which deployment serves a request, and which next. ``plan`` decides; ``health`` remembers; nothing here does I/O."""

from tieline.providers.deployment import Deployment, Endpoint
from tieline.route.decision import Decision
from tieline.route.health import Health
from tieline.route.match import Route
from tieline.route.plan import Plan
from tieline.route.router import Router
from tieline.route.steps import Deadlines, GiveUp, Needs, Outcome, Try

__all__ = [
    "Deadlines",
    "Decision",
    "Deployment",
    "Endpoint",
    "GiveUp",
    "Health",
    "Needs",
    "Outcome",
    "Plan",
    "Route",
    "Router",
    "Try",
]
