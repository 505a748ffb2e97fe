"""Rehearsals: the real server over real sockets against providers that misbehave as they have in the wild.

``faults`` holds single faults, ``incident`` whole outages in compressed time, ``soak`` a long mixed load.
"""
