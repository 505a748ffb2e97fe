"""The gateway: built from a configuration, started and stopped; the server and the SDK share it."""

from __future__ import annotations
