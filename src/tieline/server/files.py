"""How many files the process may open. Each connection is one, and most shells and service managers start programs with a
bound of 1,024 that was meant for others: it is raised as far as they allow."""

from __future__ import annotations

import sys

KEPT = 256
"""For the database, the journal, logs, listeners, and callers between two requests."""
A_REQUEST = 2
"""The caller's connection and the provider's."""
MOST = 1_048_576
"""Asked for where there is no bound: systems differ in what they take then."""


def room_for_requests() -> int:
    """Requests that may be under way at a time, by the files they need."""
    try:
        import resource
    except ImportError:  # Windows has no such bound
        return sys.maxsize
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = MOST if hard == resource.RLIM_INFINITY else hard
    if soft != resource.RLIM_INFINITY and soft < most:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
            soft = most
        except (ValueError, OSError):
            pass  # what there is stays
    if soft == resource.RLIM_INFINITY:
        return sys.maxsize
    return max(1, (soft - KEPT) // A_REQUEST)


def needed(requests: int) -> int:
    """Files for so many requests at a time."""
    return KEPT + A_REQUEST * requests
