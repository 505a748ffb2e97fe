"""Tieline: one line to every model."""

__version__ = "0.1.0"
