"""Reference pages name exactly what the code has."""

from __future__ import annotations

import inspect
import json
import re
from typing import Any

import pytest
import typer.main

from tests.docs.pages import DOCS, ROOT, blocks, codes, pages, table
from tieline import status
from tieline.cli.app import app
from tieline.config.settings import settings
from tieline.dialects import get as dialect_named
from tieline.dialects import paths
from tieline.dialects.base import Quirks
from tieline.record.metrics import Metrics
from tieline.simulator.behaviour import CHOICE, CONNECTION, CONTENT, REFUSALS, SHAPE, STREAM, allowed_params
from tieline.simulator.schedule import Phase
from tieline.types import errors
from tieline.types.asked import ANSWERED
from tieline.types.errors import Failure, FailureClass, TielineError, UnknownModel, UpstreamFailed, fault_of
from tieline.types.options import Options
from tieline.types.request import Request

_LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)|!\[[^\]]*\]\(([^)\s]+)\)|(?:src|href)=\"([^\"]+)\"")


def test_every_setting_is_in_configuration() -> None:
    text = (DOCS / "configuration.md").read_text("utf-8")
    named = set(re.findall(r"^\| `([\w.]+)` \|", text, re.M))
    assert named == {setting.path for setting in settings()}


def test_every_quirk_is_in_adding_a_provider() -> None:
    text = (DOCS / "adding-a-provider.md").read_text("utf-8")
    assert set(re.findall(r"^\| `(\w+)` \|", text, re.M)) == set(Quirks.__struct_fields__)


def test_request_options_and_their_headers() -> None:
    rows = [(codes(row[0])[0], codes(row[1])[0]) for row in table("wire.md", "options")]
    names = Options.__struct_fields__
    assert rows == [(name, f"tieline-{name.replace('_', '-')}") for name in names]


def _sent_headers() -> set[str]:
    """Header names in the source: byte strings, which only what goes onto the wire is."""
    found: set[str] = set()
    for path in (ROOT / "src" / "tieline").rglob("*.py"):
        found |= set(re.findall(r'b"(tieline-[a-z-]*[a-z])"', path.read_text("utf-8")))
    return found


def test_response_headers() -> None:
    assert {codes(row[0])[0] for row in table("wire.md", "headers")} == _sent_headers()
    assert {f"tieline-{name.decode()}" for name in ANSWERED} == _sent_headers()


def test_paths_of_the_data_plane() -> None:
    text = (DOCS / "wire.md").read_text("utf-8")
    named = set(re.findall(r"^\| `POST (\S+)` \|", text, re.M))
    served = {path for path in paths.EXACT if path.startswith("/v1/")}
    assert named == served | {f"/v1beta/models/{{model}}:{verb}" for verb in paths._GEMINI_VERBS}


def test_metrics() -> None:
    rows = table("metrics.md", "metrics")
    stated = {
        codes(row[0])[0]: (row[1], {one.strip() for one in row[2].split(",") if one.strip()}) for row in rows
    }
    exposed: dict[str, tuple[str, set[str]]] = {}
    metrics = Metrics()
    for counter in metrics.counters:
        exposed[f"{counter.name}_total"] = ("counter", set(counter.labels))
    for histogram in metrics.histograms:
        exposed[histogram.name] = ("histogram", set(histogram.labels))
    source = inspect.getsource(status.gauges)
    gauges = set(re.findall(r'"(tieline_\w+)"', source))
    assert {name for name, (kind, _) in stated.items() if kind == "gauge"} == gauges
    assert {name: about for name, about in stated.items() if about[0] != "gauge"} == exposed


_OPTION = re.compile(r"`(--[a-z-]+)`")
_EVERYWHERE = {"--help", "--json", "--config"}


def _commands() -> dict[str, set[str]]:
    """Command -> its options, those for all commands left out."""
    found: dict[str, set[str]] = {}

    def walk(command: Any, name: str) -> None:
        if hasattr(command, "list_commands"):
            for word in command.list_commands(None):
                walk(command.get_command(None, word), f"{name} {word}")
            return
        options = {
            option
            for parameter in command.params
            if not getattr(parameter, "hidden", False)
            for option in parameter.opts
            if option.startswith("--")
        }
        found[name] = options - _EVERYWHERE

    walk(typer.main.get_command(app), "tieline")
    return found


def _documented() -> dict[str, set[str]]:
    """As ``_commands``: a section for each command, or a table for those of a group, where ``rules`` is short for many."""
    text = (DOCS / "cli.md").read_text("utf-8")
    rules = {option for row in table("cli.md", "rules") for option in _OPTION.findall(row[0])}
    found: dict[str, set[str]] = {}
    for section in re.split(r"^## ", text, flags=re.M)[1:]:
        rows = re.findall(r"^\| `(tieline [a-z]+ [a-z]+)[^`]*` \|([^|]*)\|", section, re.M)
        for command, options in rows:
            found[command] = set(_OPTION.findall(options)) | (rules if "rules" in options else set())
        if not rows:
            found[codes(section)[0]] = set(_OPTION.findall(section))
    return {command: options - _EVERYWHERE for command, options in found.items()}


def test_every_command_and_option_is_in_cli() -> None:
    assert _documented() == _commands()


def _error_classes() -> dict[str, tuple[int, str]]:
    found: dict[str, tuple[int, str]] = {}
    for name, value in vars(errors).items():
        if not inspect.isclass(value) or not issubclass(value, TielineError):
            continue
        if value not in (TielineError, errors.Refused, UpstreamFailed):
            found[name] = (value.status, value.code)
    return found


def test_every_error_is_in_errors() -> None:
    stated = {codes(row[0])[0]: (int(row[1]), codes(row[2])[0]) for row in table("errors.md", "errors")}
    assert stated == _error_classes()


def test_every_failure_class_is_in_errors() -> None:
    rows = {codes(row[0])[0]: row[5] for row in table("errors.md", "failures")}
    assert set(rows) == {kind.value for kind in FailureClass}
    for kind in FailureClass:
        if kind in (FailureClass.CALLER_GONE, FailureClass.SUPERSEDED):
            continue  # nobody is told of these
        fault = fault_of(UpstreamFailed(Failure(kind=kind, message=""), attempts=1))
        assert rows[kind.value].startswith(f"{fault.status} `{fault.code}`"), kind


def _within(written: Any, sent: Any) -> bool:
    """Whether all that is written is sent; objects may have more."""
    if isinstance(written, dict):
        return isinstance(sent, dict) and all(
            name in sent and _within(value, sent[name]) for name, value in written.items()
        )
    if isinstance(written, list):
        return len(written) == len(sent) and all(map(_within, written, sent))
    return bool(written == sent)


def test_the_shapes_in_errors_are_what_is_sent() -> None:
    unknown = UnknownModel("The model 'gpt-6' is not known here. Did you mean gpt-5?", param="model")
    shapes = [block.body for block in blocks("json") if block.page == "docs/errors.md"]
    told = ["openai_chat", "anthropic_messages", "gemini"]
    for dialect, shape in zip(told, shapes, strict=True):
        body = dialect_named(dialect).encode_error(fault_of(unknown), "req_01M8…")
        assert json.loads(shape) == json.loads(body)
    assert dialect_named("openai_responses").encode_error(fault_of(unknown), "r") == dialect_named(
        "openai_chat"
    ).encode_error(fault_of(unknown), "r")


def test_the_errors_in_a_stream_in_errors_are_what_is_sent() -> None:
    fault = fault_of(UpstreamFailed(Failure(kind=FailureClass.STALL, message="…"), attempts=1))
    [shown] = [block.body for block in blocks("") if block.page == "docs/errors.md"]
    told = ["openai_chat", "openai_responses", "anthropic_messages", "gemini"]
    for dialect, frame in zip(told, shown.split("\n\n"), strict=True):
        encoder = dialect_named(dialect).stream_encoder(Request(model="m", messages=[], stream=True))
        sent = encoder.error(fault, "req_01M8…").decode().strip()
        event, _, data = frame.rpartition("data: ")
        assert sent.startswith(event + "data: ")
        assert _within(json.loads(data.replace(", …}", "}")), json.loads(sent.partition("data: ")[2]))


def test_the_door_s_own_answers_are_in_errors() -> None:
    text = (DOCS / "errors.md").read_text("utf-8")
    source = (ROOT / "src/tieline/server/door.py").read_text("utf-8")
    answers = set(re.findall(r'self\._refuse\(\s*(\d{3}),\s*"(\w+)"', source))
    assert answers
    assert all(f"{status} `{code}`" in text for status, code in answers)


def test_behaviours_of_the_simulator() -> None:
    stated = {name for row in table("simulator.md", "behaviours") for name in codes(row[1])}
    assert stated == {*CONTENT, *REFUSALS, *CONNECTION, *STREAM, *SHAPE, *CHOICE}


def test_parameters_and_phases_of_the_simulator() -> None:
    named = set(codes((DOCS / "simulator.md").read_text("utf-8")))
    assert set(allowed_params("echo")) <= named
    assert set(Phase.__struct_fields__) <= named


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.relative_to(ROOT).as_posix())
def test_relative_links_resolve(page: Any) -> None:
    broken = []
    for match in _LINK.finditer(page.read_text("utf-8")):
        target = next(group for group in match.groups() if group)
        if "://" in target or target.startswith("mailto:"):
            continue
        name, _, anchor = target.partition("#")
        file = (page.parent / name).resolve() if name else page
        if not file.exists() or (anchor and anchor not in _anchors(file.read_text("utf-8"))):
            broken.append(target)
    assert not broken


def _anchors(text: str) -> set[str]:
    """As GitHub makes them from headings."""
    heads = re.findall(r"^#+ (.*)$", text, re.M)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


def test_every_page_is_reachable_from_the_readme() -> None:
    text = (ROOT / "README.md").read_text("utf-8") + (DOCS / "decisions" / "README.md").read_text("utf-8")
    assert [
        page.name for page in DOCS.rglob("*.md") if page.name != "README.md" and page.name not in text
    ] == []


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.relative_to(ROOT).as_posix())
def test_no_page_names_a_path_of_one_machine(page: Any) -> None:
    assert re.findall(r"(?<![\w.])/(?:home|root|tmp|work|Users)/", page.read_text("utf-8")) == []


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text("utf-8").splitlines()) < 200
