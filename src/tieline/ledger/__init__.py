"""Money: what a request costs, what may be held for it, what its caller is charged.

Imports ``providers.card`` (prices) and ``types``; nothing else of ours. Pure: no clock, no I/O.
"""
