"""The page at ``/admin/api/docs``: every operation with its fields, and a form to try it. All of it comes from this process:
a script from elsewhere could read the token that is typed here."""

from __future__ import annotations

import re
from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING, Any

import msgspec
from litestar.openapi.plugins import OpenAPIRenderPlugin

from tieline.server.control.landing import COLOURS

if TYPE_CHECKING:
    from litestar import Request

Json = dict[str, Any]

_METHODS = ("get", "post", "put", "patch", "delete")
_SHAPES = "#/components/schemas/"
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; img-src data:"
_STYLE = """
main { max-width: 60rem; margin: 2rem auto; padding: 0 1.5rem; }
h1 small, .dim { color: var(--dim); font-weight: 400; font-size: .875rem; }
details { border: 1px solid var(--edge); border-radius: 6px; margin: .5rem 0; padding: .5rem .75rem; }
summary { cursor: pointer; } summary b { display: inline-block; width: 4.5rem; } summary .dim { margin-left: .75rem; }
table { border-collapse: collapse; width: 100%; margin: .75rem 0; font-size: .9rem; }
th, td { text-align: left; vertical-align: top; padding: .25rem .75rem .25rem 0; border-top: 1px solid var(--edge); }
th { color: var(--dim); font-weight: 400; border: 0; }
input, textarea, button { font: .9rem ui-monospace, monospace; color: inherit; background: transparent; padding: .25rem .5rem;
  border: 1px solid var(--edge); border-radius: 4px; box-sizing: border-box; max-width: 100%; }
form { overflow-x: auto; } main, summary, code { overflow-wrap: anywhere; }
textarea { width: 100%; min-height: 6rem; } button { cursor: pointer; border-color: var(--link); color: var(--link); }
pre { overflow: auto; max-height: 24rem; font-size: .8rem; margin: .75rem 0 0; } pre:empty { display: none; }
"""
_SCRIPT = """
const token = document.getElementById("token");
for (const form of document.querySelectorAll("form")) form.addEventListener("submit", async (event) => {
  event.preventDefault();
  let path = form.dataset.path;
  const query = new URLSearchParams();
  for (const field of form.querySelectorAll("input")) {
    if (field.dataset.in === "path") path = path.replace("{" + field.name + "}", encodeURIComponent(field.value));
    else if (field.value) query.append(field.name, field.value);
  }
  const body = form.querySelector("textarea");
  const headers = body ? {"content-type": "application/json"} : {};
  if (token.value) headers.authorization = "Bearer " + token.value;
  const shown = form.querySelector("pre");
  try {
    const url = path + (query.size ? "?" + query : "");
    const answer = await fetch(url, {method: form.dataset.method, headers, body: body ? body.value : undefined});
    let text = await answer.text();
    try { text = JSON.stringify(JSON.parse(text), null, 2); } catch {}
    shown.textContent = answer.status + " " + answer.statusText + "\\n\\n" + text;
  } catch (error) { shown.textContent = String(error); }
});
const open = () => { const part = document.getElementById(location.hash.slice(1)); if (part) part.open = true; };
addEventListener("hashchange", open); open();
"""


class Reference(OpenAPIRenderPlugin):
    def render(self, request: Request[Any, Any, Any], openapi_schema: Json) -> bytes:
        return page(openapi_schema).encode()


def page(schema: Json) -> str:
    """``schema``: an OpenAPI document."""
    shapes: Json = schema["components"]["schemas"]
    operations = [
        _operation(path, method, item[method], shapes)
        for path, item in sorted(schema["paths"].items())
        for method in _METHODS
        if method in item
    ]
    named = [_shape(name, shape) for name, shape in sorted(shapes.items())]
    title, version = escape(schema["info"]["title"]), escape(schema["info"]["version"])
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{_POLICY}">
<title>{title} API</title><link rel="icon" href="data:,"><style>{COLOURS}{_STYLE}</style></head>
<body><main>
<h1>{title} API <small>{version} · <a href="openapi.json">openapi.json</a> · <a href="/">home</a></small></h1>
<p><label>Token <input id="token" type="password" size="48" autocomplete="off"></label>
<span class="dim">is sent with what is tried here and kept nowhere</span></p>
<h2>Operations</h2>
{"".join(operations)}
<h2>Shapes</h2>
{"".join(named)}
</main><script>{_SCRIPT}</script></body></html>
"""


def _operation(path: str, method: str, found: Json, shapes: Json) -> str:
    about = str(found.get("description") or _words(found.get("summary", ""))).partition("\n\n")[0]
    fields = [
        (
            f"<code>{escape(one['name'])}</code>",
            _type(one.get("schema", {})),
            escape(one.get("description") or ""),
            _input(one),
        )
        for one in found.get("parameters", ())
    ]
    content = found.get("requestBody", {}).get("content", {}).get("application/json")
    body = ""
    if content is not None:
        example = msgspec.json.format(msgspec.json.encode(_example(content["schema"], shapes)), indent=2)
        body = f"<p>Body: {_type(content['schema'])}</p><textarea aria-label=Body spellcheck=false>{escape(example.decode())}</textarea>"
    answers = [
        f"{status}: {_type(one)}"
        for status, answer in sorted(found.get("responses", {}).items())
        if status < "300" and (one := answer.get("content", {}).get("application/json", {}).get("schema"))
    ]
    return f"""<details id="{escape(found["operationId"])}"><summary><b>{method.upper()}</b><code>{escape(path)}</code>
<span class="dim">{escape(about)}</span></summary>
<form data-method="{method.upper()}" data-path="{escape(path)}">
{_table(("field", "type", "", "value"), fields)}{body}
<p><button>Send</button> <span class="dim">{" · ".join(answers)}</span></p><pre></pre></form></details>
"""


def _input(field: Json) -> str:
    needed = " required" if field.get("required") else ""
    name = escape(field["name"])
    return f'<input name="{name}" aria-label="{name}" data-in="{escape(field["in"])}"{needed}>'


def _shape(name: str, shape: Json) -> str:
    needed = shape.get("required", ())
    rows = [
        (
            f"<code>{escape(field)}</code>{' *' if field in needed else ''}",
            _type(one),
            escape(one.get("description") or ""),
        )
        for field, one in shape.get("properties", {}).items()
    ]
    told = _table(("field", "type", ""), rows) if rows else f"<p>{_type(shape)}</p>"
    return f'<details id="{escape(name)}"><summary><code>{escape(name)}</code></summary>{told}</details>\n'


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    """Of HTML that is escaped already."""
    if not rows:
        return ""
    lines = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    return f"<table><tr>{''.join(f'<th>{cell}</th>' for cell in head)}</tr>{lines}</table>"


def _type(schema: Json) -> str:
    """In a few words, as HTML."""
    if "$ref" in schema:
        name = escape(schema["$ref"].removeprefix(_SHAPES))
        return f'<a href="#{name}">{name}</a>'
    for several in ("oneOf", "anyOf"):
        if several in schema:
            return " or ".join(_type(one) for one in schema[several])
    if "enum" in schema:
        return ", ".join(f"<code>{escape(str(one))}</code>" for one in schema["enum"])
    if "const" in schema:
        return f"<code>{escape(str(schema['const']))}</code>"
    if schema.get("type") == "array":
        return f"list of {_type(schema.get('items', {}))}"
    if isinstance(schema.get("additionalProperties"), dict):
        return f"map of {_type(schema['additionalProperties'])}"
    kind = schema.get("type", "anything")
    return escape(" or ".join(kind) if isinstance(kind, list) else str(kind))


def _example(schema: Json, shapes: Json) -> Any:
    """What must be there, to be filled in."""
    if "$ref" in schema:
        return _example(shapes.get(schema["$ref"].removeprefix(_SHAPES), {}), shapes)
    for several in ("oneOf", "anyOf"):
        if several in schema:
            return _example(schema[several][0], shapes)
    if "enum" in schema:
        return schema["enum"][0]
    if schema.get("type") == "object":
        needed = schema.get("required", ())
        return {
            name: _example(one, shapes)
            for name, one in schema.get("properties", {}).items()
            if name in needed
        }
    return {"array": [], "integer": 0, "number": 0, "boolean": False, "null": None}.get(
        str(schema.get("type")), ""
    )


def _words(summary: str) -> str:
    """``ListKeys`` as people write it."""
    return re.sub(r"(?<!^)(?=[A-Z])", " ", summary).capitalize()
