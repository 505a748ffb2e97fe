"""How bytes reach an upstream. ``base`` is the seam; ``http1`` the fast path; ``proxied`` proxies and HTTP/2; ``routing``
picks between them; ``scripted`` and ``fault`` need no network, or break it."""
