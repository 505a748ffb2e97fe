"""Every host we know, one row each. Facts about a vendor's wire are in its dialect; about a host, here.

A policy claim is what the vendor's own page says, with its address and the day it was read; what the page leaves open is
None. ``retention_days`` is the longest that the page states for ordinary requests, exceptions for abuse and faults
included, so 0 means nothing is ever written down. A host that passes prompts on to others makes no claim for them. ``note``
says what ties a claim to a condition and, where there is none, what was looked for (``rows.unread``).
"""

from __future__ import annotations

from tieline.providers.row import Provider
from tieline.providers.rows import clouds, hosts, labs, local, routers

ROWS: tuple[Provider, ...] = (*labs.ROWS, *clouds.ROWS, *hosts.ROWS, *routers.ROWS, *local.ROWS)
