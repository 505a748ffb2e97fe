"""What a gateway says of itself: whether it is ready, what it does without, its gauges."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from tieline.record.metrics import MAX_SERIES, Gauge

if TYPE_CHECKING:
    from tieline.gateway import Gateway

SLOW_S = 2.0
"""Records that wait longer than this for the database: it is slow. The usual is a tenth of a second, half a one under load."""
STALE_S = 10.0
"""Keys that were not looked at for longer than this: the database hangs."""


def readiness(gateway: Gateway) -> dict[str, Any]:
    """What /health/ready answers."""
    health = gateway.recorder.health()
    return {
        # Keys that were recalled without the database are served too.
        "ready": not gateway.intake.draining
        and (gateway.admission.known or gateway.admission.open or gateway.admission.has_keys),
        "draining": gateway.intake.draining,
        "providers": sorted(gateway.fleet.hosts),
        "in_flight": gateway.in_flight,
        "recorder": msgspec.to_builtins(health),
        "degraded": degraded(gateway),
    }


def degraded(gateway: Gateway) -> list[str]:
    """What is away while traffic goes on: told by /health/ready, which stays 200, and by a metric."""
    health, found = gateway.recorder.health(), []
    if gateway.is_without_database:
        keys = "known from before, hard budgets let nothing in" if gateway.admission.has_keys else "refused"
        found.append(f"database: not reached since the start; until it is, virtual keys are {keys}")
    elif health.failing_since is not None:
        found.append("database: records are kept in the spool")
    elif health.waiting_s > SLOW_S:
        found.append("database: slow, records wait for it")
    if not gateway.admission.counted and not gateway.is_without_database:
        found.append("database: the spool could not be written to it yet; hard budgets let nothing in")
    if health.journal_failing:
        found.append("spool: the disk is full or gone; records are only in memory")
    if gateway.watch is not None and (
        gateway.watch.last_error is not None or (gateway.admission.known and gateway.watch.stale_s > STALE_S)
    ):
        found.append("keys: those known stay in force, changes are not seen")
    if gateway.watch is not None and gateway.watch.unreadable:
        ids = ", ".join([*gateway.watch.unreadable][:5])
        found.append(
            f"keys: refused as their rules cannot be read, {len(gateway.watch.unreadable)} in all: {ids}"
        )
    if gateway.leases is not None and gateway.leases.last_error is not None:
        found.append(
            f"redis: budgets and limits are spent out of the shares that are left ({gateway.leases.last_error})"
        )
    if gateway.replicas is not None and gateway.replicas.unshared:
        found.append(
            f"sharing: {gateway.replicas.unshared} other processes count the same budgets and limits by themselves; "
            "set store.redis to one Redis for all"
        )
    if gateway.replicas is not None and gateway.replicas.trouble:
        found.append(f"configuration: {gateway.replicas.trouble}")
    return found


def gauges(gateway: Gateway) -> list[Gauge]:
    """Of this moment, for the metrics."""
    overload = gateway.intake.overload
    found = [
        Gauge("tieline_in_flight", "Requests under way.", {}, float(gateway.in_flight)),
        Gauge("tieline_loop_lag_seconds", "How late the event loop is.", {}, overload.lag_s, "max"),
        Gauge("tieline_refused_share", "Of new requests, one too many each.", {}, overload.share, "max"),
    ]
    away = {line.partition(":")[0] for line in degraded(gateway)}
    found += [
        Gauge(
            "tieline_dependency_up",
            "0 while the gateway does without.",
            {"dependency": name},
            0.0 if name in away else 1.0,
            "min",
        )
        for name in ("database", "spool", "keys", "redis", "sharing", "configuration")
    ]
    if gateway.replicas is not None:
        count = float(max(1, len(gateway.replicas.living)))
        found.append(Gauge("tieline_replicas", "Processes on this database.", {}, count, "max"))
    health = gateway.recorder.health()
    found += [
        Gauge(
            "tieline_records_waiting",
            "Not in the database yet.",
            {},
            float(health.queued + health.spooled),
        ),
        Gauge("tieline_records_lost", "Gone: no room anywhere.", {}, float(health.lost)),
        Gauge("tieline_records_refused", "The database never takes them.", {}, float(health.refused)),
        Gauge("tieline_records_uncounted", "Not in the other metrics.", {}, float(health.uncounted)),
        Gauge("tieline_records_recovered", "Taken over from the dead.", {}, float(health.recovered)),
    ]
    for view in gateway.health.snapshot(gateway.clock(), MAX_SERIES):
        labels = {"deployment": view.deployment, "state": view.state}
        found.append(
            Gauge("tieline_deployment_state", "1 for the state a deployment is in.", labels, 1.0, "max")
        )
    return found
