"""The door: who are you, may you, have we room. A refusal of ours is raised here and nowhere else.

Imports ``ledger`` (holds), ``record.rows`` (the names of spend scopes), ``store``, ``providers.row`` (data policies), ``config``
and ``types``. All state is changed in one thread, the event loop's, so nothing here locks.
"""
