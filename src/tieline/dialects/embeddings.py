"""Embeddings: OpenAI's request and answer for callers, each provider's own upstream. Pure functions.

A request may become several (Titan embeds one text at a time): ``encode_request`` gives them in order, and
``decode_responses`` takes their bodies in the same order.
"""

from __future__ import annotations

import base64
import struct
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

from msgspec import Raw, Struct, field

from tieline.dialects.base import Garbled, Outgoing, Peek, StreamFault, Target, segment
from tieline.dialects.error_bodies import info_of_value, status_of
from tieline.dialects.fields import (
    Json,
    answer_body,
    array,
    count_of,
    integer,
    list_of,
    needed_string,
    object_of,
    request_body,
    string,
    to_json,
    value_of,
    without_nulls,
    wrong,
)
from tieline.dialects.gemini.request_out import path_of
from tieline.dialects.reading import top_level
from tieline.dialects.routing_fields import take_routing
from tieline.types.call import Call
from tieline.types.errors import InvalidRequest, Unsupported
from tieline.types.usage import Usage

MAX_INPUTS = 2048
"""API reference of OpenAI's embeddings: at most 2,048 inputs."""
GEMINI_BATCH = 100
COHERE_BATCH = 96
"""docs.cohere.com, v2/embed: at most 96 texts."""
OPENAI_DIALECTS = frozenset(("openai_chat", "openai_responses"))

_MEANT = frozenset(("model", "input", "dimensions", "encoding_format", "user", "input_type"))
_COHERE_TYPES = frozenset(("search_document", "search_query", "classification", "clustering"))
_GEMINI_TASKS = {
    "search_document": "RETRIEVAL_DOCUMENT",
    "search_query": "RETRIEVAL_QUERY",
    "classification": "CLASSIFICATION",
    "clustering": "CLUSTERING",
}


class EmbeddingsRequest(Struct, kw_only=True):
    model: str
    texts: list[str]
    tokens: list[list[int]] = field(default_factory=list)
    """Instead of texts: only an OpenAI-compatible host with the same tokenizer can take them."""
    dimensions: int | None = None
    encoding_format: str = "float"
    input_type: str | None = None
    """search_document | search_query | classification | clustering: an extension, for vendors that ask for one."""
    unmapped: Json = field(default_factory=dict)


class Embeddings(Struct, kw_only=True):
    vectors: list[list[float]]
    usage: Usage | None = None
    """None: the provider gave none."""


# downstream -----------------------------------------------------------------------------------------------------------


def peek(call: Call) -> Peek:
    """Raises InvalidRequest, naming the field."""
    fields = top_level(call.body)
    small: Json = {name: value_of(fields[name], name) for name in ("model", "user") if name in fields}
    given = bytes(fields.get("input", b""))
    if given in (b"", b"null", b'""', b"[]"):
        raise InvalidRequest("input is required and must not be empty.", param="input")
    seen = Peek(
        model=needed_string(small, "model"),
        max_output_tokens=0,
        user=string(small, "user"),
        input_chars=len(given),
        fields=fields,
    )
    take_routing(fields, seen)
    return seen


def decode_request(call: Call, peek: Peek) -> EmbeddingsRequest:
    """Raises InvalidRequest, naming the field."""
    body = {name: value for name, value in request_body(call.body).items() if name in peek.fields}
    texts, tokens = _input(body)
    encoding = string(body, "encoding_format") or "float"
    if encoding not in ("float", "base64"):
        raise wrong("encoding_format", "float or base64")
    dimensions = integer(body, "dimensions")
    if dimensions is not None and dimensions < 1:
        raise wrong("dimensions", "a positive integer")
    return EmbeddingsRequest(
        model=peek.model,
        texts=texts,
        tokens=tokens,
        dimensions=dimensions,
        encoding_format=encoding,
        input_type=string(body, "input_type"),
        unmapped={name: value for name, value in body.items() if name not in _MEANT},
    )


def _input(body: Json) -> tuple[list[str], list[list[int]]]:
    given = body.get("input")
    if isinstance(given, str):
        return [given], []
    listed = array(body, "input")
    if not listed or len(listed) > MAX_INPUTS:
        raise wrong("input", f"a string, or an array of 1 to {MAX_INPUTS} strings")
    if all(isinstance(one, str) for one in listed):
        return listed, []
    if _are_tokens(listed):
        return [], [listed]
    if all(isinstance(one, list) and _are_tokens(one) for one in listed):
        return [], listed
    raise wrong("input", "a string, an array of strings, or arrays of token numbers")


def _are_tokens(values: list[Any]) -> bool:
    return bool(values) and all(isinstance(one, int) and not isinstance(one, bool) for one in values)


def encode_response(embeddings: Embeddings, request: EmbeddingsRequest, model: str) -> bytes:
    """OpenAI's list. Without usage from the provider its figures are 0, as the official SDK requires numbers.

    Raises Garbled.
    """
    write: Callable[[list[float]], Any] = _base64 if request.encoding_format == "base64" else list
    tokens = embeddings.usage.input_tokens if embeddings.usage else 0
    data = [
        {"object": "embedding", "index": index, "embedding": write(vector)}
        for index, vector in enumerate(embeddings.vectors)
    ]
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return to_json({"object": "list", "data": data, "model": model, "usage": usage})


def _base64(vector: list[float]) -> str:
    try:
        return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
    except (struct.error, OverflowError):
        raise Garbled("an embedding with numbers that are no 32-bit floats") from None


# upstream -------------------------------------------------------------------------------------------------------------


def forward(peek: Peek, target: Target) -> Outgoing:
    """An OpenAI-compatible host: only the model changes."""
    fields = {**peek.fields, "model": Raw(to_json(target.model))}
    return Outgoing(path=_openai_path(target), body=to_json(fields))


def encode_request(request: EmbeddingsRequest, target: Target) -> list[Outgoing]:
    """Raises Unsupported, naming the caller's field."""
    if target.dialect in OPENAI_DIALECTS:
        return [_openai(request, target)]
    if request.tokens:
        raise _unsupported("input", target, "takes texts, not token numbers")
    for name, value in request.unmapped.items():
        if value is not None and not (name == "taskType" and target.dialect == "gemini"):
            raise _unsupported(name, target, "has no equivalent")
    if target.dialect == "gemini" and target.quirks.embed_config:
        return [_vertex(texts, request, target) for texts in _batches(request.texts, GEMINI_BATCH)]
    if target.dialect == "gemini":
        return [_gemini(texts, request, target) for texts in _batches(request.texts, GEMINI_BATCH)]
    if target.dialect == "cohere":
        return [_cohere(texts, request, target) for texts in _batches(request.texts, COHERE_BATCH)]
    if target.dialect == "bedrock_converse":
        return _bedrock(request, target)
    raise _unsupported("model", target, "has no embeddings")


def decode_responses(bodies: list[bytes], target: Target) -> Embeddings:
    """Raises StreamFault (an error inside a 200) or Garbled."""
    parts = [_decode(body, target) for body in bodies]
    vectors = [vector for part in parts for vector in part.vectors]
    counted = [part.usage.input_tokens for part in parts if part.usage is not None]
    usage = Usage(input_tokens=sum(counted)) if len(counted) == len(parts) else None
    return Embeddings(vectors=vectors, usage=usage)


def check_count(found: Embeddings, inputs: int) -> None:
    """One for each input, or they would be taken for those of others. Raises Garbled."""
    if len(found.vectors) != inputs:
        raise Garbled(f"{len(found.vectors)} embeddings of {inputs} inputs")


def _decode(body: bytes, target: Target) -> Embeddings:
    answer = answer_body(body)
    if answer.get("error"):
        info = info_of_value(answer)
        raise StreamFault(info, status_of(info) or 500)
    if target.dialect == "gemini":
        return _from_gemini(answer)
    if target.dialect == "cohere":
        return _from_cohere(answer)
    if target.dialect == "bedrock_converse":
        return _from_cohere(answer) if "cohere" in target.model else _from_titan(answer)
    return _from_openai(answer)


def _unsupported(name: str, target: Target, why: str) -> Unsupported:
    return Unsupported(f"`{name}`: {target.provider} ({target.model}) {why}.", param=name)


def _batches(texts: list[str], size: int) -> list[list[str]]:
    return [texts[start : start + size] for start in range(0, len(texts), size)]


def _openai(request: EmbeddingsRequest, target: Target) -> Outgoing:
    body = {
        "model": target.model,
        "input": request.tokens or request.texts,
        "dimensions": request.dimensions,
        "encoding_format": "float",
        **request.unmapped,
    }
    return Outgoing(path=_openai_path(target), body=to_json(without_nulls(body)))


def _openai_path(target: Target) -> str:
    """Azure's older API has the deployment in the path, and its chat's path in the row."""
    template = target.quirks.path.replace("/chat/completions", "/embeddings")
    return template.replace("{model}", segment(target.model)) or "/embeddings"


def _from_openai(answer: Json) -> Embeddings:
    data = [object_of(one) for one in list_of(answer.get("data"))]
    data.sort(key=lambda one: count_of(one.get("index")))
    usage = answer.get("usage")
    counted = Usage(input_tokens=count_of(usage.get("prompt_tokens"))) if isinstance(usage, dict) else None
    return Embeddings(vectors=_vectors([one.get("embedding") for one in data]), usage=counted)


def _vectors(given: list[Any]) -> list[list[float]]:
    if not given:
        raise Garbled("an answer without embeddings")
    return [_vector(one) for one in given]


def _vector(given: Any) -> list[float]:
    if isinstance(given, str):
        return _from_base64(given)
    if not isinstance(given, list) or not given or not all(type(one) in (int, float) for one in given):
        raise Garbled("an embedding that is not an array of numbers")
    return given


def _from_base64(given: str) -> list[float]:
    try:
        raw = base64.b64decode(given, validate=True)
        return list(struct.unpack(f"<{len(raw) // 4}f", raw))
    except (ValueError, struct.error):
        raise Garbled("an embedding that is not base64 of 32-bit floats") from None


def _gemini(texts: list[str], request: EmbeddingsRequest, target: Target) -> Outgoing:
    name = target.model.removeprefix("models/")
    task = _gemini_task(request, target)
    requests = [
        without_nulls(
            {
                "model": f"models/{name}",
                "content": {"parts": [{"text": text}]},
                "outputDimensionality": request.dimensions,
                "taskType": task,
            }
        )
        for text in texts
    ]
    return Outgoing(path=path_of(target, "batchEmbedContents"), body=to_json({"requests": requests}))


def _vertex(texts: list[str], request: EmbeddingsRequest, target: Target) -> Outgoing:
    """As google-genai 3.4 asks Vertex: Gemini's models for content with a configuration, others with `:predict`."""
    task = _gemini_task(request, target)
    if "gemini" not in target.model:
        instances = [without_nulls({"content": text, "task_type": task}) for text in texts]
        parameters = without_nulls({"outputDimensionality": request.dimensions})
        body: Json = {"instances": instances, **({"parameters": parameters} if parameters else {})}
        return Outgoing(path=path_of(target, "predict"), body=to_json(body))
    config = without_nulls({"outputDimensionality": request.dimensions, "taskType": task})
    asked: list[Json] = [
        {"content": {"parts": [{"text": text}], "role": "user"}}
        | ({"embedContentConfig": config} if config else {})
        for text in texts
    ]
    if len(asked) == 1:
        return Outgoing(path=path_of(target, "embedContent"), body=to_json(asked[0]))
    return Outgoing(path=path_of(target, "batchEmbedContents"), body=to_json({"requests": asked}))


def _gemini_task(request: EmbeddingsRequest, target: Target) -> str | None:
    own = request.unmapped.get("taskType")
    return own if isinstance(own, str) else _task(request, target, _GEMINI_TASKS)


def _task(request: EmbeddingsRequest, target: Target, words: dict[str, str]) -> str | None:
    if request.input_type is None:
        return None
    if request.input_type not in words:
        raise _unsupported("input_type", target, f"takes one of {', '.join(words)}")
    return words[request.input_type]


def _from_gemini(answer: Json) -> Embeddings:
    if "predictions" in answer:
        return _from_predict(answer)
    usage = answer.get("usageMetadata")
    counted = Usage(input_tokens=count_of(usage.get("promptTokenCount"))) if isinstance(usage, dict) else None
    single = answer.get("embedding")
    listed = [single] if single is not None else list_of(answer.get("embeddings"))
    given = [object_of(one).get("values") for one in listed]
    return Embeddings(vectors=_vectors(given), usage=counted)


def _from_predict(answer: Json) -> Embeddings:
    found = [object_of(object_of(one).get("embeddings")) for one in list_of(answer.get("predictions"))]
    counts = [object_of(one.get("statistics")).get("token_count") for one in found]
    known = all(count is not None for count in counts)
    usage = Usage(input_tokens=sum(count_of(count) for count in counts)) if known else None
    return Embeddings(vectors=_vectors([one.get("values") for one in found]), usage=usage)


def _cohere_body(texts: list[str], request: EmbeddingsRequest, target: Target) -> Json:
    """Cohere wants to know what the vectors are for; a caller that does not say is taken to store documents."""
    kind = _task(request, target, {word: word for word in _COHERE_TYPES}) or "search_document"
    return without_nulls(
        {
            "texts": texts,
            "input_type": kind,
            "embedding_types": ["float"],
            "output_dimension": request.dimensions,
        }
    )


def _cohere(texts: list[str], request: EmbeddingsRequest, target: Target) -> Outgoing:
    body = {"model": target.model, **_cohere_body(texts, request, target)}
    return Outgoing(path="/v2/embed", body=to_json(body))


def _from_cohere(answer: Json) -> Embeddings:
    given = answer.get("embeddings")
    floats = given if isinstance(given, list) else list_of(object_of(given).get("float"))
    billed = object_of(object_of(answer.get("meta")).get("billed_units"))
    counted = billed.get("input_tokens")
    usage = None if counted is None else Usage(input_tokens=count_of(counted))
    return Embeddings(vectors=_vectors(floats), usage=usage)


def _bedrock(request: EmbeddingsRequest, target: Target) -> list[Outgoing]:
    path = f"/model/{quote(target.model, safe='')}/invoke"
    if "cohere.embed" in target.model:
        if request.dimensions is not None and "-v3" in target.model:
            raise _unsupported("dimensions", target, "has a fixed length")
        return [
            Outgoing(path=path, body=to_json(_cohere_body(texts, request, target)))
            for texts in _batches(request.texts, COHERE_BATCH)
        ]
    if "amazon.titan-embed" not in target.model:
        raise _unsupported("model", target, "is no embedding model known here (Titan and Cohere are)")
    if request.input_type is not None:
        raise _unsupported("input_type", target, "makes one kind of vector")
    return [Outgoing(path=path, body=to_json(_titan(text, request, target))) for text in request.texts]


def _titan(text: str, request: EmbeddingsRequest, target: Target) -> Json:
    body: Json = {"inputText": text}
    if request.dimensions is not None:
        if "-v2" not in target.model:
            raise _unsupported("dimensions", target, "has a fixed length")
        body["dimensions"] = request.dimensions
    return body


def _from_titan(answer: Json) -> Embeddings:
    count = answer.get("inputTextTokenCount")
    usage = None if count is None else Usage(input_tokens=count_of(count))
    return Embeddings(vectors=_vectors([answer.get("embedding")]), usage=usage)
