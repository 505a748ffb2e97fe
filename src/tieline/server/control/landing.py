"""The page at ``/``: what this is, whether it is well, where to go."""

from __future__ import annotations

from html import escape
from typing import Any

import tieline

_LINKS = (
    ("/health/ready", "Health"),
    ("/metrics", "Metrics"),
    ("/v1/models", "Models"),
    ("/admin/api/docs", "API"),
)
COLOURS = """
:root { color-scheme: light dark; --ink: light-dark(#1b1f24, #e6e8eb); --dim: light-dark(#59636e, #9aa4ae);
  --back: light-dark(#ffffff, #14171a); --edge: light-dark(#d9dee3, #2c3238); --well: light-dark(#1a7f37, #4ac26b);
  --ill: light-dark(#cf222e, #ff7b72); --link: light-dark(#0959b8, #79b8ff); }
body { margin: 0; background: var(--back); color: var(--ink); font: 16px/1.5 system-ui, sans-serif; }
code { font-family: ui-monospace, monospace; font-size: .9em; } a { color: var(--link); }
"""
_STYLE = """
main { max-width: 38rem; margin: 12vh auto; padding: 0 1.5rem; }
h1 { margin: 0; font-size: 2rem; letter-spacing: -0.02em; }
h1 small { font-size: 1rem; font-weight: 400; color: var(--dim); margin-left: .5rem; }
p { color: var(--dim); margin: .25rem 0 2rem; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .5rem 1.5rem; margin: 0 0 2rem; padding: 1rem 0;
  border: solid var(--edge); border-width: 1px 0; }
dt { color: var(--dim); } dd { margin: 0; overflow-wrap: anywhere; }
.well { color: var(--well); } .ill { color: var(--ill); }
nav { display: flex; flex-wrap: wrap; gap: 1.5rem; }
"""


def landing_page(state: dict[str, Any]) -> str:
    """``state`` is the gateway's readiness."""
    providers = (
        ", ".join(escape(name) for name in state["providers"]) or "none: set a key such as OPENAI_API_KEY"
    )
    well = state["ready"]
    health = "ready" if well else "draining" if state["draining"] else "not ready"
    links = "".join(f'<a href="{path}">{name}</a>' for path, name in _LINKS)
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>Tieline</title><link rel="icon" href="data:,"><style>{COLOURS}{_STYLE}</style></head>
<body><main>
<h1>Tieline<small>{tieline.__version__}</small></h1>
<p>One line to every model.</p>
<dl>
<dt>Health</dt><dd class="{"well" if well else "ill"}">● {health}</dd>
<dt>Providers</dt><dd>{providers}</dd>
<dt>Requests under way</dt><dd>{state["in_flight"]}</dd>
<dt>OpenAI clients</dt><dd><code>base_url = <span class="here"></span>/v1</code></dd>
<dt>Anthropic clients</dt><dd><code>base_url = <span class="here"></span></code></dd>
</dl>
<nav>{links}</nav>
</main><script>for (const e of document.querySelectorAll(".here")) e.textContent = location.origin;</script>
</body></html>
"""
