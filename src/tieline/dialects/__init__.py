"""Wire APIs as pure translation, no I/O. ``base`` is the seam; ``DIALECTS`` finds one by name."""
