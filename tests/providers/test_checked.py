"""Settings with which every request would fail are refused when they are loaded."""

from __future__ import annotations

import traceback
from pathlib import Path

import pytest

from tests.transport.certificates import server_context
from tieline.config.load import parse
from tieline.dialects.turns import fitting_id
from tieline.providers.build import Fleet, build
from tieline.providers.catalog import packaged
from tieline.types.errors import ConfigError, InvalidRequest


def fleet(settings: str, url: str = "http://h/v1", **environ: str) -> Fleet:
    text = f"discover: false\nproviders:\n  a: {{base_url: '{url}', {settings}}}\n"
    return build(parse(text, environ).config, environ, packaged())


def refusal(settings: str, url: str = "http://h/v1", **environ: str) -> ConfigError:
    with pytest.raises(ConfigError) as refused:
        fleet(settings, url, **environ)
    error = refused.value
    assert "secret" not in "".join(traceback.format_exception(error))
    assert error.hint
    assert "\n" not in str(error)
    return error


@pytest.mark.parametrize(
    ("quirks", "place", "said"),
    [
        ("tool_id_pattern: '['", "tool_id_pattern", "not a regular expression: unterminated"),
        ("completions: '(davinci'", "completions", "not a regular expression"),
        ("path: chat", "path", "not a path"),
        ("path: '/a b'", "path", "not a path"),
    ],
)
def test_quirks(quirks: str, place: str, said: str) -> None:
    error = refusal(f"quirks: {{{quirks}}}")
    assert error.place == f"providers.a.quirks.{place}"
    assert said in str(error)


def test_quirks_that_can_be() -> None:
    for pattern in ("^[a-zA-Z0-9]{9}$", "call_.+", ".*", ""):
        made = fleet(
            f"quirks: {{tool_id_pattern: '{pattern}', completions: '^davinci', path: '/x/{{model}}'}}"
        )
        assert made.hosts["a"].provider.quirks.tool_id_pattern == pattern


def test_tool_ids_of_a_host_s_own_making() -> None:
    """None of those that we make fits: conversations of that host go on there, with its own ids; others are told why not."""
    quirks = "quirks: {tool_id_pattern: '^functions[.].+:[0-9]+$'}"
    [note] = fleet(quirks).problems
    assert note.place == "providers.a.quirks.tool_id_pattern"
    assert "another host's tool calls" in str(note)
    pattern = fleet(quirks).hosts["a"].provider.quirks.tool_id_pattern
    assert fitting_id("functions.f:0", pattern) == "functions.f:0"
    with pytest.raises(InvalidRequest, match="No tool call id fits what the host asks for"):
        fitting_id("call_1", pattern)


@pytest.mark.parametrize("value", ["sec\\nret", "secret\\r", "\\0secret", "${HEADER}", "Bearer ${HEADER}"])
def test_a_header_of_several_lines(value: str) -> None:
    error = refusal(f'headers: {{x-team: ok, x: "{value}"}}', HEADER="secret\n")
    assert error.place == "providers.a.headers.x"
    assert "line break" in str(error)


def test_a_header_from_a_file_of_several_lines(tmp_path: Path) -> None:
    (tmp_path / "header").write_text("secret\nsecret\n")
    assert "line break" in str(refusal(f"headers: {{x: 'file:{tmp_path}/header'}}"))
    (tmp_path / "header").write_text("secret\n")
    assert fleet(f"headers: {{x: 'file:{tmp_path}/header'}}").hosts["a"].provider.headers == {"x": "secret"}


@pytest.mark.parametrize("name", ["x y", "", "x:", "authorization: Bearer secret", "é", "x\\n", "(x)"])
def test_names_of_headers(name: str) -> None:
    error = refusal(f'headers: {{"{name}": secret}}')
    assert error.place == "providers.a.headers"
    assert "the name of a header" in str(error)


def test_headers_that_can_be() -> None:
    given = {"X-Team_1.a": "blue\t and ünï", "anthropic-beta": ""}
    made = fleet(f"headers: {given}".replace("'", '"')).hosts["a"].provider.headers
    assert made == given


def test_authorities(tmp_path: Path) -> None:
    missing, empty = tmp_path / "missing.pem", tmp_path / "empty.pem"
    empty.write_text("-----BEGIN CERTIFICATE-----\n")
    for path, said in {
        missing: "cannot read the file",
        tmp_path: "cannot read the file",
        empty: "holds no certificate",
    }.items():
        error = refusal(f"ca_file: '{path}'")
        assert error.place == "providers.a.ca_file"
        assert said in str(error)
        assert str(path) in str(error)
    _, authority = server_context(tmp_path)
    assert fleet(f"ca_file: '{authority}', models: [m]").find("a/m").ca_file == authority
    assert fleet(f"ca_file: '{missing}', enabled: false").hosts == {}


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://u:secret@h/v1", "credentials"),
        ("http://h:secret/v1", "port"),
        ("http://u:secret/x@h", "port"),
        ("http://[::secret/v1", "no host"),
        ("http://h/ä", "beyond ASCII"),
    ],
)
def test_addresses(url: str, said: str) -> None:
    error = refusal("models: [m]", url)
    assert error.place == "providers.a.base_url"
    assert said in str(error)
    with pytest.raises(ConfigError, match=said) as refused:
        build(
            parse("discover: false\nproviders: {openai: {}, ollama: {}}", {}).config,
            {"OPENAI_API_KEY": "k", "OLLAMA_HOST": url},
            packaged(),
        )
    assert refused.value.place == "OLLAMA_HOST"
    assert "secret" not in str(refused.value)


def test_a_key_of_aws_of_several_lines() -> None:
    with pytest.raises(ConfigError, match="not a usable key") as refused:
        build(
            parse(
                "discover: false\nproviders: {bedrock@eu-west-1: {api_key: '${K}'}}", {"K": "A\nsecret:b"}
            ).config,
            {"K": "A\nsecret:b"},
            packaged(),
        )
    assert "secret" not in str(refused.value)
