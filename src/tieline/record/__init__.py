"""What happened, kept: records to sinks off the hot path, metrics, redaction.

Imports ``store`` (where records go) and ``types``; nothing else of ours.
"""
