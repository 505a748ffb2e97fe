"""A 400 is the caller's own when it points at something that was sent, or says what was checked; else it is in doubt."""

from __future__ import annotations

import pytest

from tieline.providers.blame import weighed
from tieline.providers.errors import classify
from tieline.types.errors import ErrorInfo, Failure, FailureClass

BODY = (
    b'{"model":"gpt-5-mini","temperature": 3,"messages":[{"role":"user","content":"say \\"seed\\": no"}],'
    b'"reasoning_effort":"hihg","tools":[{"type":"function","function":{"name":"get_weather"}}]}'
)


def weigh(message: str, *, status: int | None = 400, **info: str) -> Failure:
    failure = classify("azure", "openai_chat", status, ErrorInfo(message=message, **info), [])
    return weighed(failure, BODY, "gpt-5-mini")


@pytest.mark.parametrize(
    ("message", "info"),
    [
        ("Unsupported parameter: 'temperature' is not supported.", {"param": "temperature"}),
        ("temperature is not supported by the provided model", {}),
        ("`temperature` is deprecated for this model.", {"type": "invalid_request_error"}),
        ("Invalid value: 'hihg'. Supported values are: 'low', 'high'.", {}),
        ("Bad schema for get_weather.", {"param": "tools[0].function.parameters"}),
        ("messages: roles alternate", {"type": "invalid_request_error"}),
        ("max_tokens: Field required", {"type": "invalid_request_error"}),
        ("We could not parse the JSON body of your request.", {}),
        ("Nope.", {"code": "string_above_max_length"}),
        ("Input should be a valid dictionary", {"type": "value_error"}),
    ],
)
def test_what_points_at_the_request_is_the_callers(message: str, info: dict[str, str]) -> None:
    assert not weigh(message, **info).doubtful


@pytest.mark.parametrize(
    ("message", "info"),
    [
        ("", {}),
        ("The request could not be processed.", {"code": "BadRequest"}),
        ("Request contains an invalid argument.", {"code": "INVALID_ARGUMENT"}),
        ("Error", {"type": "invalid_request_error"}),
        ("Unsupported parameter: 'logit_bias' is not supported with this model.", {"param": "logit_bias"}),
        ("This content could not be handled by model `gpt-5-mini`.", {"code": "BadRequest"}),
        ("seed is not supported", {}),
    ],
)
def test_what_points_at_nothing_that_was_sent_is_in_doubt(message: str, info: dict[str, str]) -> None:
    assert weigh(message, **info).doubtful


def test_only_a_400_is_ever_in_doubt() -> None:
    assert not weigh("Unprocessable.", status=422).doubtful
    assert not weigh("Too large.", status=413).doubtful
    for status in (401, 404, 429, 500, 503):
        assert not weigh("Error", status=status).doubtful


def test_in_an_answer_that_began_with_200_too() -> None:
    assert weigh("Error", status=None, code="400").doubtful
    assert not weigh("Error", status=None, code="500").doubtful


def test_nothing_but_the_doubt_is_added() -> None:
    failure = Failure(kind=FailureClass.CALLER_FAULT, message="x", status=400)
    doubted = weighed(failure, BODY, "gpt-5-mini")
    assert (doubted.kind, doubted.message, doubted.status) == (failure.kind, "x", 400)
