from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tieline.config.load import ConfigErrors, find, load, parse
from tieline.types.errors import ConfigError


def errors_of(text: str, environ: dict[str, str] | None = None) -> list[str]:
    with pytest.raises(ConfigErrors) as caught:
        parse(text, environ or {})
    return [str(error) for error in caught.value.errors]


def test_nothing_is_needed() -> None:
    config = parse("", {}).config
    assert config.server.port == 8787
    assert config.discover


def test_unknown_key_has_line_nearest_name_and_fix() -> None:
    text = "server:\n  port: 1\n\nroutng:\n  fallback: none\n"
    assert errors_of(text) == ["tieline.yaml:4: unknown setting `routng`; did you mean `routing`?"]


def test_unknown_key_far_from_all_lists_what_is_known() -> None:
    (error,) = errors_of("ledger:\n  zzz: 1\n")
    assert error == (
        "tieline.yaml:2: unknown setting `zzz` in `ledger`; known are charge_failed, markup_percent, markup_usd"
    )


def test_all_errors_are_found_at_once() -> None:
    text = "server: {port: 99999}\nrouting: {max_attempts: 0}\nmodels: {a: noslash}\n"
    assert [error.split(": ")[0] for error in errors_of(text)] == [
        "tieline.yaml:1",
        "tieline.yaml:2",
        "tieline.yaml:3",
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("server: {port: -1}", "`server.port` must be a whole number (0 or more, at most 65535), not `-1`"),
        ("server: {port: 80.5}", "whole number"),
        ("server: {port: many}", "whole number"),
        ("server: {port: [1]}", "not a list"),
        ("server: {open: 3}", "true or false"),
        ("server: 3", "`server` must be a mapping of settings, not a number"),
        ("routing: {timeouts: {total_s: -1}}", "more than 0"),
        ("routing: {timeouts: {total_s: .nan}}", "more than 0"),
        ("routing: {timeouts: {total_s: .inf}}", "more than 0"),
        ("routing: {max_cost_usd: -1}", "a decimal number such as 0.15"),
        ("routing: {max_cost_usd: 1e3}", "a decimal number such as 0.15"),
        ("routing: {max_cost_usd: cheap}", "a decimal number such as 0.15"),
        ("routing: {fallback: equivalnt}", "did you mean `equivalent`?"),
        ("routing: {max_price_ratio: -2}", "0 or more"),
        ("providers: {a: {base_url: acme.com}}", "http:// or https://"),
        ("providers: {a: {base_url: 'file:///etc/passwd'}}", "http:// or https://"),
        ("providers: {a: {prices: {m: {input: -3}}}}", "a decimal number"),
        ("providers: {a: {prices: {m: {inputs: 3}}}}", "did you mean `input`?"),
        ("providers: {a: {headers: [x]}}", "`providers.a.headers` must be a mapping of settings"),
        ("policy: {jurisdictions: [germany]}", "an ISO country code"),
        ("store: {database: mysql://x}", "sqlite:///path"),
        ("models: {fast: {deployment: [a/b]}}", "did you mean `deployments`?"),
        ("models: {fast: {routing: {max_atempts: 3}}}", "did you mean `max_attempts`?"),
        ("models: {fast: {routing: {max_attempts: many}}}", "whole number"),
        ("discover: no way", "true or false"),
        ("- a\n- b", "mapping of settings"),
        ("just text", "mapping of settings"),
        ("server: {1: 2}", "unknown setting `1`"),
        ("server: {[a]: 2}", "must be text"),
        ("a: b: c", "not YAML"),
        ("server:\n\tport: 1", "Indent with spaces"),
        ("server: {port: 1", "not YAML"),
        ("server: *x", "not YAML"),
        ("!!python/object/apply:os.system ['true']", "mapping of settings"),
        ("---\na: 1\n---\nb: 2", "not YAML"),
        ("\x00", "not YAML"),
    ],
)
def test_nonsense_is_refused(text: str, said: str) -> None:
    errors = errors_of(text)
    assert any(said in error for error in errors), errors
    assert all(error.startswith("tieline.yaml") for error in errors)


def test_duplicate_keys_are_refused() -> None:
    text = "server:\n  port: 1\n  host: a\n  port: 2\n"
    assert errors_of(text) == ["tieline.yaml:4: `server.port` is set twice, first in line 2"]


def test_aliases_cannot_blow_up() -> None:
    lines = ["x0: &x0 [a, a, a, a, a, a, a, a, a, a]"]
    lines += [f"x{n}: &x{n} [{', '.join([f'*x{n - 1}'] * 10)}]" for n in range(1, 12)]
    (error,) = errors_of("\n".join(lines))
    assert "more than 100000 values" in error


def test_endless_and_deep_structures_end() -> None:
    assert "deeper than 32 levels" in errors_of("a: &a [*a]")[0]
    assert "deeper than 32 levels" in errors_of("[" * 10_000)[0]
    assert errors_of("a: " + "[" * 200 + "]" * 200)


def test_references_are_replaced_in_every_kind() -> None:
    text = """
server: {port: "${PORT:-99}", open: "${OPEN}", host: "${HOST:-::1}"}
providers:
  acme: {base_url: "https://${NAME}.example", headers: {a: "$${NAME} ${NAME}"}, quirks: {max_stop: "${N}"}}
"""
    config = parse(text, {"OPEN": "yes", "NAME": "acme", "N": "7"}).config
    assert (config.server.port, config.server.open, config.server.host) == (99, True, "::1")
    acme = config.providers["acme"]
    assert acme.base_url == "https://acme.example"
    assert acme.headers == {"a": "${NAME} acme"}
    assert acme.quirks == {"max_stop": 7}


def test_missing_reference_says_the_fix() -> None:
    (error,) = errors_of("providers:\n  acme:\n    base_url: https://x\n    api_key: ${ACME_KEY}\n")
    assert error == (
        "tieline.yaml:4: `providers.acme.api_key`: ACME_KEY is not set in the environment; "
        "set it, or write ${ACME_KEY:-default}"
    )


def test_malformed_reference() -> None:
    assert "is not ${NAME}" in errors_of("server: {host: '${a b}'}")[0]


def test_keys_stay_as_written_and_are_checked(tmp_path: Path) -> None:
    secret = tmp_path / "key"
    secret.write_text("sk-from-file\n")
    text = f"providers:\n  acme:\n    base_url: https://x\n    api_key: [\"${{K}}\", 'file:{secret}']\n"
    config = parse(text, {"K": "sk-secret"}).config
    assert config.providers["acme"].api_key == ["${K}", f"file:{secret}"]
    assert "sk-" not in repr(config)


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"x" * 70_000])
def test_bad_key_files(tmp_path: Path, content: bytes) -> None:
    secret = tmp_path / "key"
    secret.write_bytes(content)
    (error,) = errors_of(f"providers: {{a: {{base_url: 'https://x', api_key: 'file:{secret}'}}}}")
    assert "providers.a.api_key" in error


def test_missing_key_file() -> None:
    (error,) = errors_of("providers: {a: {base_url: 'https://x', api_key: 'file:/nowhere/k'}}")
    assert "cannot read the file /nowhere/k: No such file" in error


def test_a_wrong_key_is_never_shown() -> None:
    (error,) = errors_of("providers: {a: {api_key: {sk-very: secret}}}")
    assert "sk-very" not in error


def test_database_may_come_from_a_file(tmp_path: Path) -> None:
    secret = tmp_path / "dsn"
    secret.write_text("postgresql://u:p@h/d\n")
    assert parse(f"store: {{database: 'file:{secret}'}}", {}).config.store.database == "postgresql://u:p@h/d"


def test_shorthands_of_models() -> None:
    config = parse(
        "models:\n  one: a/b\n  two: [a/b, c/d]\n  three: {fallbacks: [one]}\n  four:\n", {}
    ).config
    assert config.models["one"].deployments == ["a/b"]
    assert config.models["two"].deployments == ["a/b", "c/d"]
    assert config.models["three"].fallbacks == ["one"]
    assert config.models["four"].deployments == []


def test_empty_sections_are_empty() -> None:
    config = parse("server:\nproviders:\n  groq:\nmodels:\n", {}).config
    assert config.providers["groq"].enabled


def test_money_keeps_its_digits() -> None:
    text = "routing: {max_cost_usd: 0.10}\nproviders: {a: {base_url: 'https://x', prices: {m: {input: 0.1, output: 3}}}}"
    config = parse(text, {}).config
    assert config.routing.max_cost_usd == "0.10"
    assert config.providers["a"].prices == {"m": {"input": "0.1", "output": "3"}}


def test_environment_overrides_the_file() -> None:
    environ = {"TIELINE_SERVER__PORT": "9", "TIELINE_ROUTING__TIMEOUTS__TOTAL_S": "5", "TIELINE_CONFIG": ""}
    config = parse("server: {port: 1, host: h}", environ).config
    assert (config.server.port, config.server.host, config.routing.timeouts.total_s) == (9, "h", 5.0)


def test_environment_overrides_are_checked() -> None:
    errors = errors_of("", {"TIELINE_SERVER__PRT": "1", "TIELINE_SERVER__PORT": "x"})
    assert errors[0].startswith("TIELINE_SERVER__PORT: `server.port` must be a whole number")
    assert errors[1] == "TIELINE_SERVER__PRT: unknown setting `prt` in `server`; did you mean `port`?"


def test_places() -> None:
    loaded = parse("providers:\n  acme:\n    base_url: https://x\n", {}, Path("/etc/tieline.yaml"))
    assert loaded.place("providers", "acme", "base_url") == "tieline.yaml:3"
    assert loaded.place("providers", "acme", "api_key") == "tieline.yaml:2"
    assert loaded.place("server", "port") == "server.port"


def test_a_key_written_into_the_file_is_in_no_repr() -> None:
    config = parse(
        "providers: {a: {base_url: 'https://x', api_key: sk-secret, headers: {k: sk-secret}}}", {}
    ).config
    assert config.providers["a"].api_key == "sk-secret"
    assert "sk-secret" not in repr(config)


@pytest.mark.parametrize(
    "text",
    [
        "store: {database: 'mysql://u:secretpw@db/z'}",
        "store: {database: 'postgres//u:secretpw@db/z'}",
        "store: {redis: 'rediss2://:secretpw@h:1/0'}",
        "store: {redis: 'h:1?password=secretpw'}",
        "store: {redis: 'redi://:a@secretpw@h?x=@secretpw'}",
        "providers: {a: {base_url: 'htps://u:secretpw@h/v1'}}",
        "providers: {a: {base_url: 'h/v1?key=secretpw'}}",
        "providers: {a: {base_url: 'u:sec?secretpw@h'}}",
    ],
)
def test_a_wrong_url_is_shown_without_its_password(text: str) -> None:
    (error,) = errors_of(text)
    assert "secretpw" not in error
    assert "not `" in error
    name, _, value = text.partition(": {")[2].partition(": ")
    override = {f"TIELINE_STORE__{name.upper()}": value.strip("'}")}
    if text.startswith("store"):
        assert "secretpw" not in "".join(errors_of("", override))


def test_errors_found_later_get_their_line() -> None:
    loaded = parse("providers:\n  acme:\n    base_url: https://x\n", {}, Path("tieline.yaml"))
    error = loaded.located(ConfigError("bad.", place="providers.acme.quirks.x", hint="Fix."))
    assert str(error) == "tieline.yaml:2: providers.acme.quirks.x: bad. Fix."
    other = ConfigError("bad.", place="OPENAI_API_KEY")
    assert loaded.located(other) is other


def test_find(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert find({}) is None
    (tmp_path / "tieline.yaml").write_text("server: {port: 5}")
    assert load(environ={}).config.server.port == 5
    other = tmp_path / "other.yaml"
    other.write_text("server: {port: 6}")
    assert load(environ={"TIELINE_CONFIG": str(other)}).config.server.port == 6
    with pytest.raises(ConfigError, match="no such file"):
        find({"TIELINE_CONFIG": "/nowhere.yaml"})


def test_unreadable_files(tmp_path: Path) -> None:
    path = tmp_path / "tieline.yaml"
    with pytest.raises(ConfigErrors, match="cannot be read"):
        load(path, {})
    path.write_bytes(b"a: 1\nb: \xff\n")
    with pytest.raises(ConfigErrors, match=r"tieline.yaml:2: is not UTF-8"):
        load(path, {})
    path.write_bytes(b"#" * (1024 * 1024 + 1))
    with pytest.raises(ConfigErrors, match="larger than 1 MB"):
        load(path, {})


@given(st.text(max_size=200))
def test_any_text_is_a_config_or_config_errors(text: str) -> None:
    try:
        parse(text, {})
    except ConfigErrors:
        return


SCALARS = st.sampled_from(
    ["1", "-1", "x", "~", "true", "[a]", "{a: b}", "'${X}'", "0.1", "a/b", "''", "1e400"]
)
KEYS = st.sampled_from(
    [
        "server",
        "port",
        "providers",
        "models",
        "routing",
        "timeouts",
        "a",
        "api_key",
        "prices",
        "policy",
        "quirks",
    ]
)


@given(
    st.recursive(
        SCALARS,
        lambda below: st.dictionaries(KEYS, below).map(
            lambda items: "{" + ", ".join(f"{key}: {value}" for key, value in items.items()) + "}"
        ),
        max_leaves=12,
    )
)
def test_any_shape_is_a_config_or_config_errors(text: str) -> None:
    try:
        parse(text, {})
    except ConfigErrors as errors:
        lines = str(errors).splitlines()
    else:
        return
    assert lines
    assert all(line.startswith("tieline.yaml:1: ") for line in lines)
