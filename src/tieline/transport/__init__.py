"""How bytes reach an upstream. ``base`` is the seam; ``http1`` the fast path, ``httpx`` proxies and HTTP/2, ``fault`` drills."""
