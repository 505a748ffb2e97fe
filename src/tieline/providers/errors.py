"""What a failed attempt was, in one vocabulary (DESIGN section 6): plan, health, metrics and records share ``classify``.

Structured codes first, the status second, message text only where both are silent. 400 is silent: vendors use it for
everything from a bad key to an empty account; so are 403, 404 and 422 where a row of ``MESSAGES`` says so. Digits inside
a message prove nothing (WIRE_FACTS 32), so no pattern has any.
"""

from __future__ import annotations

import re
from time import time
from typing import NamedTuple

from tieline.providers.limits import MAX_WAIT_S, retry_after
from tieline.transport.base import TransportError
from tieline.types.call import Headers
from tieline.types.errors import ErrorInfo, Failure
from tieline.types.errors import FailureClass as Class

MAX_MESSAGE = 1000


def classify(
    provider: str,
    dialect: str,
    status: int | None,
    info: ErrorInfo,
    headers: Headers,
    now_unix: float | None = None,
) -> Failure:
    """An error response, or an error inside a stream (``status`` None or what it would have been).

    Without ``now_unix`` the wall clock is read; it matters only for a Retry-After that is a date.
    """
    status = status if status is not None and status >= 400 else _status_in(info.code)
    wait = retry_after(headers, time() if now_unix is None else now_unix) if headers else None
    if wait is None and info.retry_after_s is not None:
        wait = min(info.retry_after_s, MAX_WAIT_S)
    kind = _kind(provider, dialect, status, info)
    if kind is Class.TRANSIENT and status == 503 and wait is not None:
        kind = Class.OVERLOADED
    return Failure(
        kind=kind, message=_message(provider, status, info), status=status, info=info, retry_after_s=wait
    )


def classify_transport(error: TransportError) -> Failure:
    kind = _TRANSPORT[error.kind]
    if kind is Class.FIRST_TOKEN_TIMEOUT and not error.sent:
        kind = Class.CONNECT
    pause_s = _PAUSE_S if kind is Class.INTERNAL else None
    return Failure(kind=kind, message=safe(error.message) or error.kind, retry_after_s=pause_s)


_TRANSPORT: dict[str, Class] = {
    "connect": Class.CONNECT,
    "tls": Class.CONNECT,
    "dns": Class.CONNECT,
    "reset": Class.CONNECT,
    "closed": Class.CONNECT,
    # Nothing came within the time; the pipeline names stalls itself, because only it knows what was received.
    "timeout": Class.FIRST_TOKEN_TIMEOUT,
    "protocol": Class.GARBLED,
    "too_large": Class.GARBLED,
    "local": Class.INTERNAL,
}
_PAUSE_S = 1.0
"""After which files may be free again."""


def _kind(provider: str, dialect: str, status: int | None, info: ErrorInfo) -> Class:
    if info.html:
        return _from_cdn(status)
    if _normal(info.code or info.type or "") in _AMBIGUOUS and _DEPLETED.search(info.message):
        return Class.QUOTA_EXHAUSTED
    return (
        _from_code(provider, dialect, status, info)
        or _STATUS_OF.get(provider, {}).get(status or 0)
        or (_from_message(provider, status, info) if status is None or status in _SILENT else None)
        or _from_status(status)
    )


def _from_cdn(status: int | None) -> Class:
    """A CDN's or proxy's page: it knows nothing of keys and models, so its 401, 403 and 404 are not theirs."""
    if status is None:
        return Class.GARBLED
    if status == 429:
        return Class.RATE_LIMITED
    return Class.CALLER_FAULT if status == 413 else Class.TRANSIENT


def _from_code(provider: str, dialect: str, status: int | None, info: ErrorInfo) -> Class | None:
    tables = (_CODE_OF.get(provider), _CODE_OF.get(dialect), _CODES)
    for word in (info.code, info.type):
        if word:
            key = _normal(word)
            if key in _VAGUE and status is not None and status < 500:
                continue
            for table in tables:
                found = table.get(key) if table else None
                if found is not None:
                    return found
    return None


def names_fault(info: ErrorInfo) -> bool:
    """Whether its code alone says that the request was checked and found wrong."""
    words = [_normal(word) for word in (info.code, info.type) if word]
    return any(_CODES.get(word) is Class.CALLER_FAULT or word in _CHECKED for word in words)


def _from_message(provider: str, status: int | None, info: ErrorInfo) -> Class | None:
    for row in MESSAGES:
        if (row.provider is None or row.provider == provider) and row.pattern.search(info.message):
            return row.kind
    if status in (400, 422) and info.param and _normal(info.type or "") == "extraforbidden":
        return Class.UNSUPPORTED_PARAMETER
    return None


def _from_status(status: int | None) -> Class:
    if status is None:
        # An error inside a stream that names neither code nor type that we know: the upstream broke off.
        return Class.TRANSIENT
    known = _STATUSES.get(status)
    if known is not None:
        return known
    if status >= 500:
        return Class.TRANSIENT
    return Class.CALLER_FAULT if status >= 400 else Class.GARBLED


def _status_in(code: str | None) -> int | None:
    """OpenRouter, Gemini and vLLM give the status as the error's code, also inside a 200 stream."""
    if code is not None and len(code) == 3 and code.isdecimal() and code[0] in "45":
        return int(code)
    return None


def _normal(word: str) -> str:
    """``com.amazon.coral#ThrottlingException:http://…``, ``RATE_LIMIT`` and ``rate-limit`` in one spelling."""
    word = word.rpartition("#")[2].partition(":")[0]
    return word.casefold().replace("_", "").replace("-", "").replace(" ", "").replace(".", "")


def _message(provider: str, status: int | None, info: ErrorInfo) -> str:
    if info.html:
        return f"{provider}: a CDN answered in its place with an HTML page (status {status})."
    text = safe(info.message)
    if text:
        return text
    said = info.code or info.type
    about = f"status {status}" if status is not None else "an error in the stream"
    return f"{provider} answered with {about}" + (f" ({safe(said)})." if said else ".")


def safe(text: str) -> str:
    """Without what looks like a key, and at most 1,000 characters: vendors repeat the key that they refuse."""
    return _SECRET.sub("[key]", text.strip())[:MAX_MESSAGE]


_SECRET = re.compile(
    r"\b(?:sk|pk|rk|gsk|xai|pplx|fw|csk|nvapi|hf|r8|tl|tgp|key|AIza|AKIA|ASIA|ya29)[-_.]?[A-Za-z0-9*_\-.]{8,}"
    r"|(?i:bearer)\s+\S{8,}"
)


def _table(rows: dict[Class, str]) -> dict[str, Class]:
    return {_normal(word): kind for kind, words in rows.items() for word in words.split()}


_CODES = _table(
    {
        Class.TRANSIENT: """
            server_error internal_server_error InternalServerError InternalServerException internal_error api_error
            INTERNAL UNKNOWN DATA_LOSS ABORTED CANCELLED DEADLINE_EXCEEDED timeout timeout_error request_timeout
            ModelTimeoutException ModelErrorException ModelStreamErrorException InternalFailure upstream_error
            provider_error bad_gateway json_validate_failed tool_use_failed stream_error
            service_unavailable_error InternalError gateway_timeout""",
        Class.OVERLOADED: """
            overloaded overloaded_error server_is_overloaded engine_overloaded engine_overloaded_error model_overloaded slow_down
            UNAVAILABLE service_unavailable ServiceUnavailable ServiceUnavailableException ModelNotReadyException
            NoCapacity capacity_exceeded service_tier_capacity_exceeded ServerOverloaded unavailable_error
            flex_capacity_exceeded""",
        Class.RATE_LIMITED: """
            rate_limit_exceeded rate_limit_error rate_limited rate_limit_reached_error RateLimitReached
            RateLimitError too_many_requests TooManyRequests TooManyRequestsException Throttling
            ThrottlingException Throttled requests_limit_reached ServiceQuotaExceededException
            RESOURCE_EXHAUSTED RateLimitExceeded limit_requests limit_burst_rate Throttling.RateQuota
            Throttling.BurstRate model_rate_limit tokens_per_minute_limit_exceeded""",
        Class.QUOTA_EXHAUSTED: """
            insufficient_quota billing_hard_limit_reached billing_not_active billing_error quota_exceeded
            exceeded_current_quota_error insufficient_balance insufficient_credits credit_limit
            payment_required BILLING_DISABLED Arrearage AllocationQuota Throttling.AllocationQuota
            insufficient_user_quota access_terminated credits_exhausted insufficient_funds""",
        Class.CREDENTIAL: """
            invalid_api_key authentication_error invalid_authentication_error AuthenticationError
            UNAUTHENTICATED Unauthorized unauthorized_error PERMISSION_DENIED permission_error
            permission_denied_error account_deactivated invalid_organization mismatched_organization
            ip_not_authorized no_such_organization API_KEY_INVALID API_KEY_SERVICE_BLOCKED
            API_KEY_HTTP_REFERRER_BLOCKED API_KEY_IP_ADDRESS_BLOCKED SERVICE_DISABLED CONSUMER_INVALID
            UnrecognizedClientException ExpiredTokenException ExpiredToken InvalidSignatureException
            InvalidClientTokenId MissingAuthenticationTokenException MissingAuthenticationToken
            IncompleteSignature SignatureDoesNotMatch InvalidApiKey wrong_api_key incorrect_api_key
            invalid_token PermissionDeniedError""",
        Class.MODEL_GONE: """
            model_not_found model_decommissioned model_deprecated model_not_available model_not_supported
            model_not_active invalid_model NOT_FOUND not_found_error NotFoundError resource_not_found_error
            ResourceNotFoundException DeploymentNotFound ModelNotFound OperationNotSupported
            model_terms_required model_permission_blocked unknown_model deployment_not_found
            InvalidEndpointOrModel.NotFound""",
        Class.REGION_BLOCKED: """
            unsupported_country_region_territory region_not_supported country_not_supported
            location_not_supported""",
        Class.CONTEXT_LENGTH: """
            context_length_exceeded context_window_exceeded exceed_context_size_error max_tokens_exceeded_context
            model_context_window_exceeded prompt_too_long input_too_long tokens_exceeded_error
            InvalidParameter.InputTooLong context_length_error""",
        Class.CONTENT_FILTERED: """
            content_filter content_filter_error content_policy_violation moderation_blocked invalid_prompt
            ResponsibleAIPolicyViolation data_inspection_failed DataInspectionFailed safety_error
            content_blocked guardrail_blocked cyber_policy_violation InputTextSensitiveContentDetected
            OutputTextSensitiveContentDetected""",
        Class.UNSUPPORTED_PARAMETER: """
            unsupported_parameter unsupported_value unknown_parameter unsupported_feature
            parameter_not_supported extra_forbidden UNIMPLEMENTED NotImplementedError""",
        Class.CALLER_FAULT: """
            request_too_large previous_response_not_found invalid_image invalid_image_format
            image_too_large invalid_json invalid_type missing_required_parameter empty_array
            string_above_max_length array_above_max_length invalid_function_parameters OUT_OF_RANGE
            invalid_base64_image image_parse_error file_not_found""",
    }
)
"""Codes and types of every vendor. What means different things at different vendors is in ``_CODE_OF``."""

_CHECKED = frozenset(
    map(_normal, ("extra_forbidden", "missing", "value_error", "literal_error", "unprocessable_entity"))
)
"""Types of a body's own validation, as pydantic names them (Mistral, vLLM)."""
_VAGUE = frozenset(map(_normal, ("api_error", "server_error", "internal_error", "unknown")))
"""Types that some hosts (Ollama) put on everything: beside a 4xx status they say nothing."""
_AMBIGUOUS = frozenset((_normal("RESOURCE_EXHAUSTED"), "429"))
"""Google's code for too many requests and for an empty account alike: only the words tell which (WIRE_FACTS 32)."""
_DEPLETED = re.compile(r"credits? (?:are|is|have been) (?:depleted|exhausted)|spending cap", re.IGNORECASE)
_CODE_OF: dict[str, dict[str, Class]] = {
    # Zhipu/Z.ai: numbers of its own (docs.z.ai/api-reference/api-code, read 2026-11).
    "zai": _table(
        {
            Class.CREDENTIAL: "1000 1001 1002 1003 1004 1110 1111 1112 1220",
            Class.QUOTA_EXHAUSTED: "1113 1304 1308 1309 1310",
            Class.CALLER_FAULT: "1210 1213 1214 1215",
            Class.MODEL_GONE: "1211 1221 1222",
            Class.TRANSIENT: "1200 1230 1234 500",
            Class.CONTEXT_LENGTH: "1261",
            Class.CONTENT_FILTERED: "1301",
            Class.RATE_LIMITED: "1302 1303",
            Class.OVERLOADED: "1305 1312",
        }
    ),
    # Mistral: numbers beside the type (mistral.ai error bodies).
    "mistral": _table(
        {Class.MODEL_GONE: "1500", Class.CONTEXT_LENGTH: "3051", Class.RATE_LIMITED: "1300 3505"}
    ),
    # MiniMax: base_resp.status_code.
    "minimax": _table(
        {
            Class.RATE_LIMITED: "1002 1039 2045",
            Class.CREDENTIAL: "1004 2049",
            Class.QUOTA_EXHAUSTED: "1008 2056",
            Class.CONTENT_FILTERED: "1026 1027",
            Class.TRANSIENT: "1000 1001 1013 1024 1033",
        }
    ),
}
_STATUS_OF: dict[str, dict[int, Class]] = {
    # console.groq.com/docs/errors: 498 is "flex tier capacity exceeded".
    "groq": {498: Class.OVERLOADED},
    # docs.cohere.com/reference/errors: 498 is a blocked token, 499 a cancelled request.
    "cohere": {498: Class.CONTENT_FILTERED},
    # Fireworks: 412 is an account suspended for lack of payment.
    "fireworks": {412: Class.QUOTA_EXHAUSTED},
}
_STATUSES: dict[int, Class] = {
    400: Class.CALLER_FAULT,
    401: Class.CREDENTIAL,
    402: Class.QUOTA_EXHAUSTED,
    403: Class.CREDENTIAL,
    404: Class.MODEL_GONE,
    405: Class.MODEL_GONE,
    407: Class.CONNECT,  # of a proxy on the way; behind TLS it is one already
    408: Class.TRANSIENT,
    409: Class.TRANSIENT,
    410: Class.MODEL_GONE,
    421: Class.TRANSIENT,
    424: Class.TRANSIENT,
    425: Class.TRANSIENT,
    429: Class.RATE_LIMITED,
    451: Class.REGION_BLOCKED,
    499: Class.TRANSIENT,
    501: Class.UNSUPPORTED_PARAMETER,
    529: Class.OVERLOADED,
}
_SILENT = frozenset({400, 403, 404, 413, 422})


class Message(NamedTuple):
    kind: Class
    pattern: re.Pattern[str]
    provider: str | None
    why: str
    """Why text is read at all: who says this without a code."""


def _row(kind: Class, pattern: str, why: str, provider: str | None = None) -> Message:
    return Message(kind, re.compile(pattern, re.IGNORECASE), provider, why)


MESSAGES: tuple[Message, ...] = (
    _row(
        Class.CREDENTIAL,
        r"api key not valid|api key expired|api_key_invalid|incorrect api key provided|invalid api key"
        r"|api key (?:was )?reported as leaked",
        "Gemini and xAI answer a wrong key with 400 and an invalid-argument code",
    ),
    _row(
        Class.QUOTA_EXHAUSTED,
        r"credit balance is too low|reached your specified api usage limits|insufficient (?:account )?balance"
        r"|(?:used all|doesn't have any|no|insufficient) (?:available )?credits|monthly spending limit"
        r"|billing (?:is not|has not been) enabled|requires billing to be enabled",
        "Anthropic (400 invalid_request_error), xAI (403), Google (403, 400) say it in words only",
    ),
    _row(
        Class.REGION_BLOCKED,
        r"(?:user )?location is not supported|not (?:allowed|available|supported) (?:from|in) (?:your |this |unsupported )"
        r"?(?:country|countries|region|territor)|country, region, or territory not supported",
        "Gemini says FAILED_PRECONDITION, Bedrock ValidationException, which mean many things",
    ),
    _row(
        Class.CONTEXT_LENGTH,
        r"prompt is too long|maximum (?:context|prompt) length|exceed(?:s|ed)? (?:the )?(?:model'?s? )?(?:maximum |available |max )?"
        r"(?:context|model token limit|length of the context)|exceed context limit|context (?:window|length|size) (?:is )?exceed"
        r"|input token count .{0,40}exceeds the maximum|input is too long|too many (?:input )?tokens"
        r"|too large for model with|reduce the length of the (?:messages|prompt|input)"
        r"|tokens \+ .max_new_tokens. must be|prompt exceeds max(?:imum)? length|context window exceeds"
        r"|input length .{0,60}exceeds?|exceeds? (?:the )?maximum (?:number of )?(?:input )?tokens"
        r"|overflows? the (?:model'?s? )?context|context the overflows",
        "only OpenAI and a few others have a code: Anthropic, Gemini, Bedrock, Cohere, Mistral, xAI, vLLM, TGI use words",
    ),
    _row(
        Class.CONTENT_FILTERED,
        r"content filtering policy|content exists risk|violates? (?:our |the )?(?:usage|content|safety) (?:guidelines|polic)"
        r"|content management policy|(?:input|prompt|request) was flagged|flagged as potentially violating"
        r"|content violates|blocked by (?:our )?(?:safety|content|moderation)",
        "Anthropic (400), DeepSeek (400), xAI (403) and OpenRouter's moderation (403) have no code for it",
    ),
    _row(
        Class.MODEL_GONE,
        r"api version not supported|enabled only for api versions|model not exist|is not a valid model id|no (?:allowed )?(?:endpoints|providers) (?:found|available)"
        r"|model identifier is invalid|on-demand throughput isn.t supported|invalid model\b"
        r"|model .{0,120}(?:does not exist|not found|no longer (?:supported|available)|has been (?:deprecated|decommissioned|removed|retired)"
        r"|is not (?:available|supported for this))|(?:don.t|do not|does not) have access to (?:the |this )?model"
        r"|unknown model|end of its life",
        "Azure (400 BadRequest), DeepSeek (400), OpenRouter (400, 404), Bedrock ValidationException and AccessDenied, Ollama",
    ),
    _row(
        Class.CALLER_FAULT,
        r"\b(?:file|container|thread|response|batch|image)\b.{0,80}not (?:be )?found|no such file",
        "a 404 may be about what the caller refers to, not the model",
    ),
    _row(
        Class.UNSUPPORTED_PARAMETER,
        r"extra inputs are not permitted|unknown name \"|unrecognized request argument|unsupported (?:parameter|value)"
        r"|does not support (?:assistant message prefill|tools?\b|function|image|vision|parameter|structured|response_format|the )"
        r"|conversation must end with a user message|is not supported (?:with|by|for) this model|not supported by (?:this|the) model"
        r"|property .{0,60} is unsupported|unexpected keyword argument",
        "Anthropic, Gemini, Mistral, Groq and vLLM reject a field or shape without a code",
    ),
    _row(
        Class.OVERLOADED,
        r"\boverloaded\b|currently experiencing high (?:demand|load)|at capacity|server is busy",
        "in-band errors of OpenAI-compatible hosts often carry only a sentence",
    ),
    _row(
        Class.RATE_LIMITED,
        r"rate limit|too many requests",
        "in-band errors of OpenAI-compatible hosts often carry only a sentence",
    ),
)
"""Read top to bottom; the first match wins."""
