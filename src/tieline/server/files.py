"""How many files the process may open. Each connection is one, and most shells and service managers start programs with a
bound of 1,024 that was meant for others: it is raised as far as they allow."""

from __future__ import annotations

import contextlib
import os
import sys

KEPT = 256
"""For the database, the journal, logs, listeners, and callers between two requests."""
A_REQUEST = 2
"""The caller's connection and the provider's."""
MOST_AHEAD = 65_536
"""Places in the table of files that are made at the start: eight bytes each."""
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


def make_table(requests: int) -> None:
    """Has the kernel make its table of the process's files as large as so many requests need.

    By itself it doubles when it is full, and in a process with threads each time waits until all processors have seen it
    (Linux: ``expand_files``, ``synchronize_rcu``). That is 10 to 20 ms in which the event loop stands still, always when
    many callers come at once.
    """
    try:
        import fcntl
        import resource
    except ImportError:  # Windows has no such table
        return
    room, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    last = min(needed(requests), MOST_AHEAD, room if room > 0 else MOST_AHEAD) - 1
    with contextlib.suppress(OSError):
        any_file = os.open(os.devnull, os.O_RDONLY)
        try:
            os.close(fcntl.fcntl(any_file, fcntl.F_DUPFD_CLOEXEC, last))
        finally:
            os.close(any_file)
