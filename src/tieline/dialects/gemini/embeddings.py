"""Gemini's embedContent and batchEmbedContents as callers send them; ``dialects.embeddings`` has the upstream side."""

from __future__ import annotations

from typing import Any

from tieline.dialects.base import Outgoing, Peek, Target
from tieline.dialects.embeddings import Embeddings, EmbeddingsRequest
from tieline.dialects.fields import (
    Json,
    array,
    integer,
    mapping,
    objects,
    request_body,
    string,
    to_json,
    without_nulls,
)
from tieline.dialects.gemini.request_in import camel
from tieline.dialects.gemini.request_out import path_of
from tieline.dialects.reading import top_level
from tieline.dialects.routing_fields import take_routing
from tieline.types.call import Call
from tieline.types.errors import InvalidRequest

_MEANT = frozenset(("model", "content", "taskType", "outputDimensionality", "embedContentConfig"))
_TASKS = {
    "RETRIEVAL_DOCUMENT": "search_document",
    "RETRIEVAL_QUERY": "search_query",
    "CLASSIFICATION": "classification",
    "CLUSTERING": "clustering",
}


def is_batch(call: Call) -> bool:
    return call.path.endswith(":batchEmbedContents")


def peek(call: Call) -> Peek:
    """Raises InvalidRequest, naming the field."""
    fields = top_level(call.body)
    name = "requests" if is_batch(call) else "content"
    given = bytes(fields.get(name, b""))
    if given in (b"", b"null", b"[]", b"{}"):
        hint = "OpenAI's `input` belongs to /v1/embeddings." if "input" in fields else None
        raise InvalidRequest(f"{name} is required and must not be empty.", param=name, hint=hint)
    if not call.model:
        raise InvalidRequest(
            "The path must name a model: /v1beta/models/{model}:embedContent.", param="model"
        )
    seen = Peek(model=call.model, max_output_tokens=0, input_chars=len(given), fields=fields)
    take_routing(fields, seen)
    return seen


def decode_request(call: Call, peek: Peek) -> EmbeddingsRequest:
    """All requests of a batch must ask for the same kind of vector. Raises InvalidRequest, naming the field."""
    body = camel({name: value for name, value in request_body(call.body).items() if name in peek.fields})
    asked = objects(body, "requests") if is_batch(call) else [body]
    shapes = [_shape(camel(one), place if is_batch(call) else None) for place, one in enumerate(asked)]
    texts = [text for text, _ in shapes]
    kinds = [kind for _, kind in shapes]
    if any(kind != kinds[0] for kind in kinds):
        raise InvalidRequest(
            "requests must all have the same taskType and outputDimensionality here.", param="requests"
        )
    task = kinds[0].pop("taskType", None)
    dimensions = kinds[0].pop("outputDimensionality", None)
    request = EmbeddingsRequest(
        model=peek.model, texts=texts, dimensions=dimensions, input_type=_TASKS.get(task or "")
    )
    if task and request.input_type is None and task != "TASK_TYPE_UNSPECIFIED":
        request.unmapped["taskType"] = task
    request.unmapped.update(kinds[0])
    return request


def _shape(one: Json, place: int | None) -> tuple[str, Json]:
    at = "" if place is None else f"requests[{place}]"
    content = mapping(one, "content", at) or {}
    parts = [string(camel(part), "text", f"{at}.content.parts") for part in array(content, "parts", at)]
    if not parts or any(text is None for text in parts):
        raise InvalidRequest("content.parts must be texts.", param=f"{at}.content".lstrip("."))
    settings = camel(one.get("embedContentConfig") or {})
    kind = without_nulls(
        {
            "taskType": string(one, "taskType", at) or string(settings, "taskType", at),
            "outputDimensionality": integer(one, "outputDimensionality", at)
            or integer(settings, "outputDimensionality", at),
        }
    )
    others = {name: value for name, value in one.items() if name not in _MEANT and value}
    return "".join(text or "" for text in parts), kind | others


def encode_response(embeddings: Embeddings, call: Call) -> bytes:
    values = [{"values": vector} for vector in embeddings.vectors]
    body: Json = {"embeddings": values} if is_batch(call) else {"embedding": values[0]}
    if embeddings.usage is not None:
        body["usageMetadata"] = {"promptTokenCount": embeddings.usage.input_tokens}
    return to_json(body)


def is_forwarded(target: Target) -> bool:
    """Vertex speaks Gemini but embeds otherwise."""
    return target.dialect == "gemini" and not target.quirks.embed_config


def forward(call: Call, peek: Peek, target: Target) -> Outgoing:
    """The body as it came; the model stands in the path, and in each request of a batch."""
    if not is_batch(call):
        fields: dict[str, Any] = {key: raw for key, raw in peek.fields.items() if key != "model"}
        return Outgoing(path=path_of(target, "embedContent"), body=to_json(fields))
    name = target.model.removeprefix("models/")
    asked = [{**one, "model": f"models/{name}"} for one in objects(request_body(call.body), "requests")]
    return Outgoing(path=path_of(target, "batchEmbedContents"), body=to_json({"requests": asked}))
