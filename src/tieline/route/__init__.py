"""Which deployment serves a request, and which next. ``plan`` decides; ``health`` remembers; nothing here does I/O."""
