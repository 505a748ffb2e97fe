"""What one vendor takes and another answers with a 400: said so that both take it."""

from __future__ import annotations

import base64
import hashlib
import json
from typing import Any

import pytest
from openai.types.responses import Response as OpenAIResponse
from openai.types.responses import ResponseCustomToolCall

from tests.dialects.samples import call
from tests.dialects.wire import PIXEL
from tieline.dialects import get, get_upstream
from tieline.dialects.answer_filters import Filtered
from tieline.dialects.base import Quirks, Target
from tieline.dialects.rooted import FIELD, Unrooted
from tieline.dialects.tool_names import GivenNames, given_names, made_name
from tieline.dialects.transcript import events_of
from tieline.types.errors import InvalidRequest, Unsupported
from tieline.types.events import ArgumentsDelta, BlockStart, BlockStop, Finish, Start, TextDelta
from tieline.types.request import Request, Text, ToolCall
from tieline.types.response import Choice, Response

CHAT, RESPONSES, CLAUDE, GEMINI = "openai_chat", "openai_responses", "anthropic_messages", "gemini"
BEDROCK = "bedrock_converse"
USER: dict[str, Any] = {"role": "user", "content": "hi"}


def asked(dialect: str, **body: Any) -> Request:
    if dialect == GEMINI:
        made = call(GEMINI, {"contents": [{"role": "user", "parts": [{"text": "hi"}]}]} | body)
        made.model = "m"
    elif dialect == RESPONSES:
        made = call(RESPONSES, {"model": "m", "input": "hi"} | body)
    else:
        made = call(dialect, {"model": "m", "max_tokens": 100, "messages": [USER]} | body)
    return get(dialect).decode_request(made, get(dialect).peek(made))


def sent(request: Request, dialect: str, model: str = "m", **more: Any) -> Any:
    to = Target(provider="host", model=model, dialect=dialect, **more)
    return json.loads(get_upstream(dialect).encode_request(request, to).body)


# who the end user is ----------------------------------------------------------------------------------------------------

CLAUDE_CODE = json.dumps({"device_id": "d" * 64, "account_uuid": "a" * 36, "session_id": "s" * 36})


@pytest.mark.parametrize("upstream", [CHAT, RESPONSES])
def test_an_end_users_id_that_openai_finds_too_long_is_its_digest(upstream: str) -> None:
    """`Invalid 'user': string too long. Expected a string with maximum length 64`: every request of Claude Code."""
    request = asked(CLAUDE, metadata={"user_id": CLAUDE_CODE})
    assert sent(request, upstream)["user"] == hashlib.sha256(CLAUDE_CODE.encode()).hexdigest()
    assert sent(asked(CLAUDE, metadata={"user_id": "u1"}), upstream)["user"] == "u1"
    assert "user" not in sent(request, upstream, quirks=Quirks(rejects=("user",)))


@pytest.mark.parametrize("personal", ["me@example.com", "+49 30 1234567"])
def test_anthropic_is_told_no_address_and_no_number(personal: str) -> None:
    """`user_id appears to contain an email address`"""
    told = sent(asked(CHAT, user=personal), CLAUDE)["metadata"]["user_id"]
    assert told == hashlib.sha256(personal.encode()).hexdigest()
    assert sent(asked(CHAT, user="user-7"), CLAUDE)["metadata"]["user_id"] == "user-7"


def test_wire_15_an_id_of_a_call_that_responses_finds_too_long() -> None:
    long = "call_" + "x" * 80
    messages = [
        USER,
        {
            "role": "assistant",
            "tool_calls": [{"id": long, "type": "function", "function": {"name": "f", "arguments": "{}"}}],
        },
        {"role": "tool", "tool_call_id": long, "content": "done"},
    ]
    items = sent(asked(CHAT, messages=messages), RESPONSES)["input"]
    made = items[1]["call_id"]
    assert len(made) <= 64
    assert items[2]["call_id"] == made


# schemas ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("upstream", [CHAT, RESPONSES])
@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"type": "object"}, {"type": "object", "properties": {}}),
        (
            {
                "type": "object",
                "properties": {"a": {"type": "array"}, "b": {"anyOf": [{"type": ["array", "null"]}]}},
            },
            {
                "type": "object",
                "properties": {
                    "a": {"type": "array", "items": {}},
                    "b": {"anyOf": [{"type": ["array", "null"], "items": {}}]},
                },
            },
        ),
        (
            {"type": "object", "properties": {"type": {"type": "string"}, "items": {"type": "array"}}},
            {
                "type": "object",
                "properties": {"type": {"type": "string"}, "items": {"type": "array", "items": {}}},
            },
        ),
    ],
)
def test_parameters_that_mcp_servers_write_are_such_as_openai_takes(
    upstream: str, given: Any, expected: Any
) -> None:
    """`object schema missing properties`, `array schema missing items`: 400 for the whole request."""
    request = asked(CLAUDE, tools=[{"name": "f", "input_schema": given}])
    tool = sent(request, upstream)["tools"][0]
    assert tool.get("function", tool)["parameters"] == expected


# files and pictures -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("upstream", [CHAT, CLAUDE, GEMINI, BEDROCK])
def test_a_text_file_of_a_responses_caller_is_text(upstream: str) -> None:
    encoded = base64.b64encode("Größe: 3 m".encode()).decode()
    part = {"type": "input_file", "filename": "a.txt", "file_data": f"data:text/plain;base64,{encoded}"}
    body = sent(asked(RESPONSES, input=[{"role": "user", "content": [part]}]), upstream)
    said = json.dumps(body, ensure_ascii=False)
    assert ("Größe: 3 m" in said) != (encoded in said)
    assert (encoded in said) == (upstream in (GEMINI, BEDROCK))


@pytest.mark.parametrize("said", ["image/jpg", "image/png", "image/webp"])
@pytest.mark.parametrize(
    ("begin", "kind"),
    [(b"\xff\xd8\xff\xe0", "image/jpeg"), (b"\x89PNG\r\n\x1a\n", "image/png"), (b"GIF89a", "image/gif")],
)
def test_a_picture_is_called_what_it_is(begin: bytes, kind: str, said: str) -> None:
    data = base64.b64encode(begin + bytes(24)).decode()
    url = {"type": "image_url", "image_url": {"url": f"data:{said};base64,{data}"}}
    request = asked(CHAT, messages=[{"role": "user", "content": [url]}])
    assert sent(request, CLAUDE)["messages"][0]["content"][0]["source"]["media_type"] == kind
    assert sent(request, GEMINI)["contents"][0]["parts"][0]["inlineData"]["mimeType"] == kind
    image = sent(request, BEDROCK)["messages"][0]["content"][0]["image"]
    assert image["format"] == kind.removeprefix("image/")


def test_a_picture_that_does_not_say_what_it_is_is_called_what_the_caller_calls_it() -> None:
    url = {"type": "image_url", "image_url": {"url": "data:image/JPG;base64,AAAA"}}
    request = asked(CHAT, messages=[{"role": "user", "content": [url]}])
    assert sent(request, CLAUDE)["messages"][0]["content"][0]["source"]["media_type"] == "image/jpeg"


# turns ------------------------------------------------------------------------------------------------------------------

LOOP = [
    {"role": "user", "content": "look"},
    {"role": "assistant", "content": [{"type": "tool_use", "id": "t1", "name": "shot", "input": {}}]},
    {
        "role": "user",
        "content": [
            {
                "type": "tool_result",
                "tool_use_id": "t1",
                "content": [
                    {"type": "text", "text": "taken"},
                    {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PIXEL}},
                ],
            },
            {"type": "text", "text": "and?"},
        ],
    },
]


def test_gemini_gets_results_of_tools_apart_from_what_the_user_says() -> None:
    contents = sent(asked(CLAUDE, messages=LOOP), GEMINI, "gemini-3.7-flash")["contents"]
    assert [content["role"] for content in contents] == ["user", "model", "user", "user"]
    (result,) = contents[2]["parts"]
    assert result["functionResponse"]["parts"][0]["inlineData"]["data"] == PIXEL
    assert contents[3]["parts"] == [{"text": "and?"}]


def test_a_picture_that_a_tool_showed_reaches_a_gemini_whose_results_are_text_only() -> None:
    contents = sent(asked(CLAUDE, messages=LOOP), GEMINI, "gemini-2.5-pro")["contents"]
    assert contents[2]["parts"] == [
        {"functionResponse": {"id": "t1", "name": "shot", "response": {"result": "taken"}}}
    ]
    assert contents[3]["parts"] == [
        {"text": "Shown by the tool call t1:"},
        {"inlineData": {"mimeType": "image/png", "data": PIXEL}},
        {"text": "and?"},
    ]


def test_instructions_alone_are_said_by_the_user_where_somebody_must_say_something() -> None:
    request = asked(CHAT, messages=[{"role": "system", "content": "Write a poem."}])
    assert sent(request, GEMINI)["contents"] == [{"role": "user", "parts": [{"text": "Write a poem."}]}]
    assert sent(request, BEDROCK)["messages"] == [{"role": "user", "content": [{"text": "Write a poem."}]}]
    said = sent(request, RESPONSES)
    assert said["input"] == [{"role": "system", "content": [{"type": "input_text", "text": "Write a poem."}]}]
    assert "instructions" not in said


def test_a_conversation_that_the_assistant_opened_goes_to_converse_too() -> None:
    """`A conversation must start with a user message.`"""
    request = asked(CHAT, messages=[{"role": "assistant", "content": "How can I help?"}, USER])
    roles = [message["role"] for message in sent(request, BEDROCK)["messages"]]
    assert roles == ["user", "assistant", "user"]


def test_json_mode_without_the_word_that_openai_wants() -> None:
    """`'messages' must contain the word 'json' in some form`; Gemini wants no such word."""
    request = asked(GEMINI, generationConfig={"responseMimeType": "application/json"})
    assert "JSON" in sent(request, CHAT)["messages"][0]["content"]
    assert "JSON" in sent(request, RESPONSES)["input"][0]["content"][0]["text"]
    said = [{"role": "system", "content": "Answer in JSON."}, USER]
    known = asked(CHAT, messages=said, response_format={"type": "json_object"})
    assert sent(known, CHAT)["messages"] == said
    answer = sent(known, RESPONSES)  # its instructions are not searched for the word
    assert "instructions" not in answer
    assert answer["input"][0]["content"][0]["text"] == "Answer in JSON."


# thinking and sampling --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("upstream", "model"),
    [
        (RESPONSES, "gpt-4.1"),
        (GEMINI, "gemini-2.0-flash"),
        ("cohere", "command-r"),
        (BEDROCK, "amazon.nova-pro-v1:0"),
    ],
)
def test_a_model_that_does_not_think_is_not_told_not_to(upstream: str, model: str) -> None:
    request = asked(CLAUDE, thinking={"type": "disabled"})
    body = sent(request, upstream, model, reasoning=False)
    assert not body.keys() & {"reasoning", "thinking", "additionalModelRequestFields"}
    assert "thinkingConfig" not in body.get("generationConfig", {})


def test_converse_claude_is_given_no_sampling_that_is_the_default() -> None:
    """`temperature` and `top_p` cannot both be specified for this model."""
    body = sent(asked(CHAT, temperature=0.5, top_p=1), BEDROCK, "anthropic.claude-sonnet-4-5-v1:0")
    assert body["inferenceConfig"] == {"maxTokens": 100, "temperature": 0.5}
    body = sent(asked(CHAT, temperature=1), BEDROCK, "anthropic.claude-opus-5")
    assert body["inferenceConfig"] == {"maxTokens": 100}
    body = sent(asked(CHAT, temperature=1, top_p=1), BEDROCK, "amazon.nova-pro-v1:0")
    assert body["inferenceConfig"] == {"maxTokens": 100, "temperature": 1, "topP": 1}


def test_wire_22_converse_claude_does_not_think_when_told_so_and_shows_what_was_asked() -> None:
    def fields(**more: Any) -> Any:
        body = sent(asked(CLAUDE, **more), BEDROCK, "anthropic.claude-opus-5", adaptive_thinking=True)
        return body["additionalModelRequestFields"]["thinking"]

    assert fields(thinking={"type": "disabled"}) == {"type": "disabled"}
    assert fields(thinking={"type": "adaptive"}) == {"type": "adaptive"}
    shown = fields(thinking={"type": "adaptive", "display": "summarized"})
    assert shown == {"type": "adaptive", "display": "summarized"}


# answers ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("pieces", [[], [""], ['{"a"', ":1}"]])
def test_a_streamed_call_without_arguments_is_one_of_an_empty_object(pieces: list[str], legacy: bool) -> None:
    """Converse sends none; callers parse what they got, and "" is no JSON."""
    encoder = get(CHAT).stream_encoder(Request(model="m", messages=[], stream=True, legacy_functions=legacy))
    events = [
        Start("c", "m", 1),
        BlockStart(0, "tool_call", "t1", "now"),
        *[ArgumentsDelta(0, piece) for piece in pieces],
        BlockStop(0),
        Finish("tool_calls"),
    ]
    said = b"".join(map(encoder.encode, events)).decode()
    deltas = [json.loads(line[6:])["choices"][0]["delta"] for line in said.split("\n") if line]
    calls = [delta["function_call"] for delta in deltas if "function_call" in delta] or [
        one["function"] for delta in deltas for one in delta.get("tool_calls", ())
    ]
    assert "".join(one["arguments"] for one in calls) == ("".join(pieces) or "{}")


# names of tools ---------------------------------------------------------------------------------------------------------

LONG = "mcp__plugin_some-plugin_some-server__get_failed_pipeline_jobs_from_merge_request"


def calling(dialect: str, name: str) -> Request:
    if dialect == GEMINI:
        call_, answer = {"name": name, "args": {}}, {"name": name, "response": {"result": "ok"}}
        return asked(
            GEMINI,
            contents=[
                {"role": "user", "parts": [{"text": "hi"}]},
                {"role": "model", "parts": [{"functionCall": call_}]},
                {"role": "user", "parts": [{"functionResponse": answer}]},
            ],
            tools=[{"functionDeclarations": [{"name": name}]}],
            toolConfig={"functionCallingConfig": {"mode": "ANY", "allowedFunctionNames": [name]}},
        )
    return asked(
        CLAUDE,
        messages=[
            USER,
            {"role": "assistant", "content": [{"type": "tool_use", "id": "t", "name": name, "input": {}}]},
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t", "content": "ok"}]},
        ],
        tools=[
            {"name": name, "input_schema": {"type": "object"}},
            {"name": "short", "input_schema": {"type": "object"}},
        ],
        tool_choice={"type": "tool", "name": name},
    )


@pytest.mark.parametrize(
    ("caller", "name", "upstream", "kept"),
    [
        (CLAUDE, LONG, CHAT, False),
        (CLAUDE, LONG, RESPONSES, False),
        (CLAUDE, LONG, BEDROCK, False),
        (CLAUDE, LONG, GEMINI, False),
        (CLAUDE, "1st", GEMINI, False),
        (CLAUDE, "1st", CHAT, True),
        (GEMINI, "files.read:all", CHAT, False),
        (GEMINI, "files.read:all", CLAUDE, False),
        (GEMINI, "files.read:all", GEMINI, True),
    ],
)
def test_a_tool_has_a_name_that_the_vendor_takes_and_its_own_for_the_caller(
    caller: str, name: str, upstream: str, kept: bool
) -> None:
    request = calling(caller, name)
    body = json.dumps(sent(request, upstream))
    made = name if kept else made_name(name)
    # Defined, chosen and called.
    assert body.count(json.dumps(made)) >= 3
    assert (json.dumps(name) in body) == kept
    if not kept:
        assert given_names(request) == {made: name}
    names = given_names(request)
    answer = Response(
        id="r", model="m", created=1, choices=[Choice([ToolCall("t", made, "{}")], "tool_calls")]
    )
    assert GivenNames(names).whole(answer).choices[0].parts == [ToolCall("t", name, "{}")]
    encoder = Filtered(get(caller).stream_encoder(request), [GivenNames(names)])
    events = [Start("c", "m", 1), BlockStart(0, "tool_call", "t1", made), BlockStop(0), Finish("tool_calls")]
    assert json.dumps(name) in (b"".join(map(encoder.encode, events)) + encoder.finish()).decode()


# tools of plain text ----------------------------------------------------------------------------------------------------

PATCH = '*** Begin Patch\n*** Update File: a.py\n+print("ü")\n*** End Patch'
APPLY_PATCH = {
    "type": "custom",
    "name": "apply_patch",
    "description": "Edits files.",
    "format": {"type": "grammar", "syntax": "lark", "definition": "start: begin_patch"},
}


def patching() -> Request:
    return asked(
        RESPONSES,
        input=[
            {"role": "user", "content": "fix it"},
            {"type": "custom_tool_call", "call_id": "c1", "name": "apply_patch", "input": PATCH},
            {"type": "custom_tool_call_output", "call_id": "c1", "output": "Done"},
        ],
        tools=[APPLY_PATCH],
        tool_choice={"type": "custom", "name": "apply_patch"},
    )


def test_a_tool_of_plain_text_is_a_function_of_one_text_to_other_vendors() -> None:
    """Codex CLI's ``apply_patch``."""
    body = sent(patching(), CLAUDE)
    (tool,) = body["tools"]
    assert tool["input_schema"]["properties"] == {"input": {"type": "string"}}
    assert tool["description"].startswith("Edits files.")
    assert "start: begin_patch" in tool["description"]
    assert body["tool_choice"] == {"type": "tool", "name": "apply_patch"}
    assert body["messages"][1]["content"][0]["input"] == {"input": PATCH}
    assert body["messages"][2]["content"][0]["content"] == "Done"
    seen = get(RESPONSES).peek(call(RESPONSES, {"model": "m", "input": "hi", "tools": [APPLY_PATCH]}))
    assert seen.features == {"tools"}


@pytest.mark.parametrize("arguments", [json.dumps({"input": PATCH}), json.dumps({"patch": PATCH}), PATCH])
def test_a_call_of_a_tool_of_plain_text_comes_back_as_text(arguments: str) -> None:
    request = patching()
    answer = Response(
        id="r",
        model="m",
        created=1,
        choices=[Choice([ToolCall("c2", "apply_patch", arguments)], "tool_calls")],
    )
    whole = OpenAIResponse.model_validate_json(get(RESPONSES).encode_response(answer, request))
    assert isinstance(whole.output[0], ResponseCustomToolCall)
    assert (whole.output[0].input, whole.output[0].call_id) == (PATCH, "c2")
    encoder = get(RESPONSES).stream_encoder(request)
    events = [
        Start("r", "m", 1),
        BlockStart(0, "tool_call", "c2", "apply_patch"),
        *[ArgumentsDelta(0, letter) for letter in arguments],
        BlockStop(0),
        Finish("tool_calls"),
    ]
    said = (b"".join(map(encoder.encode, events)) + encoder.finish()).decode()
    heard = [json.loads(line[6:]) for line in said.split("\n") if line.startswith("data: ")]
    kinds = [event["type"] for event in heard]
    assert kinds[2:6] == [
        "response.output_item.added",
        "response.custom_tool_call_input.delta",
        "response.custom_tool_call_input.done",
        "response.output_item.done",
    ]
    assert (
        heard[4]["input"] == heard[5]["item"]["input"] == heard[-1]["response"]["output"][0]["input"] == PATCH
    )
    assert not any("function_call" in kind for kind in kinds)


def test_pictures_that_gemini_makes_reach_a_chat_caller() -> None:
    """As OpenRouter gives them; they were made and billed, and lost."""
    request = asked(CHAT, modalities=["image", "text"])
    assert sent(request, GEMINI)["generationConfig"]["responseModalities"] == ["IMAGE", "TEXT"]
    part = {"inlineData": {"mimeType": "image/png", "data": PIXEL}}
    made = {"content": {"role": "model", "parts": [{"text": "Here:"}, part]}, "finishReason": "STOP"}
    answer = get(GEMINI).decode_response(json.dumps({"candidates": [made], "responseId": "r"}).encode())
    images = [{"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}"}}]
    message = json.loads(get(CHAT).encode_response(answer, request))["choices"][0]["message"]
    assert (message["content"], message["images"]) == ("Here:", images)
    encoder = get(CHAT).stream_encoder(request)
    said = b"".join(map(encoder.encode, events_of(answer))).decode()
    deltas = [json.loads(line[6:])["choices"][0]["delta"] for line in said.split("\n") if line]
    assert [delta["images"] for delta in deltas if "images" in delta] == [images]
    with pytest.raises(Unsupported):
        get_upstream(GEMINI).encode_request(
            asked(CHAT, modalities=["audio"]), Target(provider="p", model="m", dialect=GEMINI)
        )


def test_a_draft_that_gemini_thought_with_is_no_picture_of_the_answer() -> None:
    def picture(data: str, **more: Any) -> dict[str, Any]:
        return {"inlineData": {"mimeType": "image/png", "data": data}, **more}

    parts = [picture("ZHJhZnQ=", thought=True), picture(PIXEL)]
    body = {"candidates": [{"content": {"role": "model", "parts": parts}, "finishReason": "STOP"}]}
    answer = get(GEMINI).decode_response(json.dumps(body).encode())
    said = json.loads(get(CHAT).encode_response(answer, asked(CHAT)))["choices"][0]["message"]
    assert [one["image_url"]["url"] for one in said["images"]] == [f"data:image/png;base64,{PIXEL}"]


@pytest.mark.parametrize(
    "more", [{}, {"tools": [{"name": "shot", "input_schema": {}}], "tool_choice": {"type": "none"}}]
)
def test_calls_and_results_are_told_in_words_where_converse_may_call_nothing(more: dict[str, Any]) -> None:
    """`The toolConfig field must be defined when using toolUse and toolResult content blocks.`"""
    body = sent(asked(CLAUDE, messages=LOOP, **more), BEDROCK)
    assert "toolConfig" not in body
    assert body["messages"][1]["content"] == [{"text": "[Called shot with {}]"}]
    assert body["messages"][2]["content"] == [
        {"text": "[Result of the call of shot:]"},
        {"text": "taken"},
        {"image": {"format": "png", "source": {"bytes": PIXEL}}},
        {"text": "and?"},
    ]


# answers that are no objects --------------------------------------------------------------------------------------------

LIST = {"type": "ARRAY", "items": {"type": "OBJECT", "properties": {"a": {"type": "STRING"}}}}


def listing() -> Request:
    config = {"responseMimeType": "application/json", "responseSchema": LIST}
    return asked(GEMINI, generationConfig=config)


def test_a_list_that_gemini_gives_is_asked_for_as_the_field_of_an_object() -> None:
    """`schema must be a JSON Schema of 'type: "object"', got 'type: "array"'`; list[Recipe] is Google's own example."""
    request = listing()
    wrapped = sent(request, CHAT)["response_format"]["json_schema"]["schema"]
    assert (wrapped["type"], wrapped["required"]) == ("object", [FIELD])
    assert wrapped["properties"][FIELD]["type"] == "array"
    assert sent(request, RESPONSES)["text"]["format"]["schema"] == wrapped
    assert sent(request, CLAUDE)["output_config"]["format"]["schema"]["type"] == "object"
    forced = sent(request, CLAUDE, structured_output=False)["tools"][0]["input_schema"]
    assert forced["properties"][FIELD]["type"] == "array"
    assert json.loads(
        sent(request, BEDROCK)["outputConfig"]["textFormat"]["structure"]["jsonSchema"]["schema"]
    )["required"] == [FIELD]
    assert sent(request, GEMINI)["generationConfig"]["responseJsonSchema"]["type"] == "array"


def test_a_schema_that_contains_itself_still_does_inside_the_object() -> None:
    """Else every list within the list would be an object with the field of ours, which stays in the answer."""
    tree = {"type": "array", "items": {"anyOf": [{"$ref": "#"}, {"$ref": "#/$defs/leaf"}]}}
    config = {
        "responseMimeType": "application/json",
        "responseJsonSchema": {**tree, "$defs": {"leaf": {"type": "string"}}},
    }
    request = asked(GEMINI, generationConfig=config)
    wrapped = sent(request, CHAT)["response_format"]["json_schema"]["schema"]
    moved = {"$ref": "#/$defs/tieline_answer"}
    assert wrapped["properties"] == {FIELD: moved}
    assert wrapped["$defs"] == {
        "leaf": {"type": "string"},
        FIELD: {"type": "array", "items": {"anyOf": [moved, {"$ref": "#/$defs/leaf"}]}},
    }


@pytest.mark.parametrize("size", [1, 3, 1000])
@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ('{"tieline_answer":[{"a":"}"},{"a":{}}]}', '[{"a":"}"},{"a":{}}]'),
        (' {\n "tieline_answer" : [ ]\n}\n', "[ ]"),
        ('{"tieline_answer":{"a":{"b":{}}} }', '{"a":{"b":{}}}'),
        ('{"tieline_answer":"x } "}', '"x } "'),
        ('[{"a":1}]', '[{"a":1}]'),
        ('{"a":{"b":1}}', '{"a":{"b":1}}'),
        ("No.", "No."),
        ("{", "{"),
        ("", ""),
    ],
)
def test_an_answer_is_taken_out_of_its_object(said: str, expected: str, size: int) -> None:
    answer = Response(id="r", model="m", created=1, choices=[Choice([Text(said)], "stop")])
    assert Unrooted().whole(answer).choices[0].parts == [Text(expected)]
    encoder = Filtered(get(GEMINI).stream_encoder(listing()), [Unrooted()])
    pieces = [said[at : at + size] for at in range(0, len(said), size)]
    events = [
        Start("r", "m", 1),
        BlockStart(0, "text"),
        *[TextDelta(0, piece) for piece in pieces],
        BlockStop(0),
        Finish("stop"),
    ]
    heard = (b"".join(map(encoder.encode, events)) + encoder.finish()).decode()
    chunks = [json.loads(line[6:]) for line in heard.split("\n") if line.startswith("data: ")]
    parts = [part for one in chunks for part in one["candidates"][0]["content"]["parts"]]
    assert "".join(part["text"] for part in parts) == expected


@pytest.mark.timeout(20)
def test_an_answer_of_blanks_is_taken_out_of_its_object_as_fast_as_any() -> None:
    """Models write them without end; a search from each one would keep everybody else waiting for minutes."""
    inside = f'["{" " * 300_000}x"]'
    said = Text(f'{{"{FIELD}":{inside}}}')
    answer = Response(id="r", model="m", created=1, choices=[Choice([said], "stop")])
    assert Unrooted().whole(answer).choices[0].parts == [Text(inside)]


def test_a_table_is_text_to_claude() -> None:
    data = base64.b64encode("a;ü".encode()).decode()
    part = {"type": "file", "file": {"filename": "a.csv", "file_data": f"data:text/csv;base64,{data}"}}
    (block,) = sent(asked(CHAT, messages=[{"role": "user", "content": [part]}]), CLAUDE)["messages"][0][
        "content"
    ]
    assert block["source"] == {"type": "text", "media_type": "text/plain", "data": "a;ü"}
    latin = base64.b64encode("ü".encode("latin-1")).decode()
    table = {"inlineData": {"mimeType": "text/csv", "data": latin}}
    with pytest.raises(InvalidRequest, match="`contents` is not base64 of UTF-8 text"):
        sent(asked(GEMINI, contents=[{"role": "user", "parts": [table]}]), CLAUDE)


@pytest.mark.parametrize("upstream", [CLAUDE, RESPONSES, GEMINI, BEDROCK, "cohere"])
def test_who_speaks_is_said_where_the_api_has_no_names_and_several_speak(upstream: str) -> None:
    turns = [
        {"role": "user", "name": "Ann", "content": "Red."},
        {"role": "assistant", "name": "Bot", "content": "Why?"},
        {"role": "user", "name": "Bob", "content": "Blue."},
    ]
    said = json.dumps(sent(asked(CHAT, messages=turns), upstream))
    assert '"Ann: Red."' in said
    assert '"Bob: Blue."' in said
    assert '"Why?"' in said
    assert "Ann" not in json.dumps(sent(asked(CHAT, messages=[turns[0]]), upstream))
    assert sent(asked(CHAT, messages=turns), CHAT)["messages"] == turns


def test_what_asks_for_nothing_is_no_reason_to_refuse() -> None:
    for nothing in (0, None):
        body = {"model": "m", "input": "hi", "top_logprobs": nothing}
        assert not get(RESPONSES).peek(call(RESPONSES, body)).features
        assert sent(asked(RESPONSES, top_logprobs=nothing), CLAUDE)
    assert sent(asked(RESPONSES, text={"verbosity": "low"}), CHAT)["verbosity"] == "low"


def test_a_gemini_that_cannot_have_both_is_asked_for_no_format_beside_tools() -> None:
    """`Function calling with a response mime type: 'application/json' is unsupported`"""
    both: dict[str, Any] = {
        "tools": [{"type": "function", "function": {"name": "f"}}],
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "x", "schema": {"type": "object"}},
        },
    }
    with pytest.raises(Unsupported) as caught:
        sent(asked(CHAT, **both), GEMINI, "gemini-2.5-flash")
    assert caught.value.param == "response_format"
    forced = sent(asked(CHAT, **both, tool_choice="required"), GEMINI, "gemini-2.5-flash")
    assert "responseMimeType" not in forced["generationConfig"]
    newer = sent(asked(CHAT, **both), GEMINI, "gemini-3.1-pro")
    assert newer["generationConfig"]["responseMimeType"] == "application/json"


@pytest.mark.parametrize("wrong", ['{"a": ', "[1]", "no"])
def test_a_call_that_a_model_wrote_wrong_is_no_end_of_the_conversation(wrong: str) -> None:
    messages = [
        USER,
        {
            "role": "assistant",
            "tool_calls": [{"id": "a", "type": "function", "function": {"name": "f", "arguments": wrong}}],
        },
        {"role": "tool", "tool_call_id": "a", "content": "Error: no JSON"},
    ]
    request = asked(CHAT, messages=messages, tools=[{"type": "function", "function": {"name": "f"}}])
    kept = {"invalid_arguments": wrong}
    assert sent(request, CLAUDE)["messages"][1]["content"][0]["input"] == kept
    assert sent(request, GEMINI)["contents"][1]["parts"][0]["functionCall"]["args"] == kept
    assert sent(request, BEDROCK)["messages"][1]["content"][0]["toolUse"]["input"] == kept


def test_sound_in_a_tools_result_is_not_lost_without_a_word() -> None:
    sound = {"inlineData": {"mimeType": "audio/wav", "data": "AA"}}
    with pytest.raises(InvalidRequest):
        asked(
            GEMINI,
            contents=[
                {"role": "user", "parts": [{"text": "x"}]},
                {"role": "model", "parts": [{"functionCall": {"name": "f", "args": {}}}]},
                {
                    "role": "user",
                    "parts": [{"functionResponse": {"name": "f", "response": {}, "parts": [sound]}}],
                },
            ],
        )
