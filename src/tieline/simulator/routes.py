"""Which provider, dialect and operation a path means."""

from __future__ import annotations

import re

from msgspec import Struct

from tieline.simulator.anthropic import Anthropic
from tieline.simulator.azure import AzureChat, AzureEmbeddings, AzureResponses
from tieline.simulator.bedrock import Bedrock
from tieline.simulator.cohere import Cohere
from tieline.simulator.exchange import Dialect
from tieline.simulator.gemini import Gemini
from tieline.simulator.openai_chat import OpenAIChat
from tieline.simulator.openai_responses import OpenAIResponses
from tieline.simulator.openai_small import OpenAICompletions, OpenAISmall
from tieline.simulator.vertex import VertexAnthropic, VertexGemini


class Route(Struct, frozen=True):
    provider: str
    dialect: Dialect
    operation: str
    model: str = ""
    stream: bool = False


_CHAT = OpenAIChat()
_RESPONSES = OpenAIResponses()
_COMPLETIONS = OpenAICompletions()
_SMALL = OpenAISmall()
_ANTHROPIC = Anthropic()
_GEMINI = Gemini()
_BEDROCK = Bedrock()
_COHERE = Cohere()
_AZURE_CHAT = AzureChat()
_AZURE_RESPONSES = AzureResponses()
_AZURE_EMBEDDINGS = AzureEmbeddings()
_VERTEX_GEMINI = VertexGemini()
_VERTEX_ANTHROPIC = VertexAnthropic()
_PUBLISHERS = r".*/projects/[^/]+/locations/[^/]+/publishers"
_VERTEX_MODEL = _PUBLISHERS + r"/google/models/(?P<model>[^/]+)"
_CLAUDE_MODEL = _PUBLISHERS + r"/anthropic/models/(?P<model>[^/]+)"
_GEMINI_MODEL = r".*/v1(?:beta|alpha|beta1)?/(?:.*/)?models/(?P<model>.+)"
_TABLE: tuple[tuple[re.Pattern[str], Dialect, str], ...] = tuple(
    (re.compile(pattern), dialect, operation)
    for pattern, dialect, operation in (
        (_PUBLISHERS + r"/anthropic/models/count-tokens:rawPredict", _VERTEX_ANTHROPIC, "count"),
        (_CLAUDE_MODEL + ":(?:streamR|r)awPredict", _VERTEX_ANTHROPIC, "chat"),
        (_VERTEX_MODEL + ":generateContent", _VERTEX_GEMINI, "chat"),
        (_VERTEX_MODEL + "(?P<stream>:streamGenerateContent)", _VERTEX_GEMINI, "chat"),
        (_VERTEX_MODEL + ":countTokens", _VERTEX_GEMINI, "count"),
        (_VERTEX_MODEL + ":(?:embedContent|batchEmbedContents|predict)", _VERTEX_GEMINI, "embed"),
        (r".*/openai/deployments/(?P<model>[^/]+)/chat/completions", _AZURE_CHAT, "chat"),
        (r".*/openai/v1/chat/completions", _AZURE_CHAT, "chat"),
        (r".*/openai/v1/responses", _AZURE_RESPONSES, "chat"),
        (r".*/openai/deployments/(?P<model>[^/]+)/embeddings", _AZURE_EMBEDDINGS, "embed"),
        (r".*/openai/v1/embeddings", _AZURE_EMBEDDINGS, "embed"),
        (r".*/deployments/(?P<model>[^/]+)/chat/completions", _CHAT, "chat"),
        (r".*/chat/completions", _CHAT, "chat"),
        (r".*/completions", _COMPLETIONS, "chat"),
        (r".*/responses", _RESPONSES, "chat"),
        (r".*/model/(?P<model>.+)/converse", _BEDROCK, "chat"),
        (r".*/model/(?P<model>.+)(?P<stream>/converse-stream)", _BEDROCK, "chat"),
        (r".*/model/(?P<model>.+)/invoke", _BEDROCK, "embed"),
        (r".*/v2/chat", _COHERE, "chat"),
        (r".*/v2/embed", _COHERE, "embed"),
        (r".*/v1/messages", _ANTHROPIC, "chat"),
        (r".*/v1/messages/count_tokens", _ANTHROPIC, "count"),
        (_GEMINI_MODEL + ":generateContent", _GEMINI, "chat"),
        (_GEMINI_MODEL + "(?P<stream>:streamGenerateContent)", _GEMINI, "chat"),
        (_GEMINI_MODEL + ":countTokens", _GEMINI, "count"),
        (_GEMINI_MODEL + ":(?:embedContent|batchEmbedContents)", _GEMINI, "embed"),
        (r".*/v1beta/models", _GEMINI, "models"),
        (r".*/embeddings", _SMALL, "embed"),
        (r".*/models(?:/.+)?", _SMALL, "models"),
    )
)


def find(path: str) -> Route:
    """The first segment names the provider; what the path ends with names the endpoint."""
    provider, _, rest = path.lstrip("/").partition("/")
    for pattern, dialect, operation in _TABLE:
        match = pattern.fullmatch("/" + rest)
        if match:
            groups = match.groupdict()
            streams = groups.get("stream") is not None
            return Route(provider, dialect, operation, groups.get("model") or "", streams)
    return Route(provider, _CHAT, "unknown")
