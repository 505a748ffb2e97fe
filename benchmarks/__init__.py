"""Measuring Tieline against a bare relay (the floor), the upstream itself and its peers, all in one run. Linux only."""
