"""Every command as a real process."""

from __future__ import annotations

import json
import re
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.error
import urllib.request
from decimal import Decimal
from pathlib import Path

import pytest
import yaml

from tests.programs import environment, running, tieline, tieline_json
from tests.served import chat
from tieline.cli.serving import _first_model
from tieline.config.schema import Config
from tieline.gateway import Gateway

COMMANDS = ("serve", "up", "demo", "simulate", "init", "check", "models", "logs", "spend", "show", "explain")


def _asking(url: str, body: bytes) -> urllib.request.Request:
    return urllib.request.Request(f"{url}/v1/chat/completions", body, {"content-type": "application/json"})


@pytest.fixture(scope="module")
def used(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a ledger of a few requests: the demo configuration, one failover, one refusal."""

    folder = tmp_path_factory.mktemp("used")
    with running("up", "--port", "0", cwd=folder) as server:
        for body in (chat("demo", tieline={"tags": {"team": "blue"}}), chat("demo", stream=True)):
            urllib.request.urlopen(_asking(server.url, body), timeout=20).read()
        with pytest.raises(urllib.error.HTTPError, match="404"):
            urllib.request.urlopen(_asking(server.url, chat("nonsense")), timeout=20)
    return folder


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_every_command(command: str, tmp_path: Path) -> None:
    done = tieline(command, "--help", cwd=tmp_path)
    assert done.returncode == 0
    assert "Usage:" in done.stdout
    assert not done.stderr
    assert all(len(line) <= 100 for line in done.stdout.splitlines())


def test_help_names_every_command(tmp_path: Path) -> None:
    done = tieline("--help", cwd=tmp_path)
    for command in COMMANDS:
        assert command in done.stdout
    assert tieline("--version", cwd=tmp_path).stdout.startswith("tieline 0.")
    wrong = tieline("sevre", cwd=tmp_path)
    assert wrong.returncode == 2
    assert "Traceback" not in wrong.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("sevre",), "No such command 'sevre'"),
        (("show",), "Missing argument 'request_id'"),
        (("logs", "-n", "0"), "greater than or equal to 1"),
        (("keys", "crate"), "`python -m tieline keys --help`"),
        (("serve", "--bogus"), "No such option: --bogus"),
        (("serve", "--port", "65536"), "--port"),
        (("simulate", "--port", "99999"), "--port"),
        (("drill", "list", "more"), "(more)"),
    ],
)
def test_wrong_usage_is_one_line(arguments: tuple[str, ...], words: str, tmp_path: Path) -> None:
    done = tieline(*arguments, cwd=tmp_path, timeout=20)
    assert done.returncode == 2
    assert done.stdout == ""
    [line] = done.stderr.splitlines()
    assert line.startswith("error: ")
    assert words in line


def test_without_words_there_is_help(tmp_path: Path) -> None:
    for group in ((), ("keys",)):
        done = tieline(*group, cwd=tmp_path)
        assert "Usage:" in done.stdout + done.stderr


def test_demo_shows_what_really_happened(tmp_path: Path) -> None:
    found = tieline_json("demo", cwd=tmp_path)
    assert found["passed"] is True
    assert list(tmp_path.iterdir()) == []
    shown = tieline("demo", cwd=tmp_path)
    assert shown.returncode == 0
    assert all(len(line) <= 100 for line in shown.stdout.splitlines())


def test_up_once_ends_by_itself(tmp_path: Path) -> None:
    done = tieline("up", "--once", "--port", "0", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    for word in (
        "simulated providers",
        "curl",
        "from openai import OpenAI",
        "from anthropic import Anthropic",
        "attempts 1",
    ):
        assert word in done.stdout


@pytest.mark.parametrize(
    ("provider", "variable", "model"),
    [
        ("openai", "OPENAI_API_KEY", r"gpt-5[.\d]*-(nano|mini)"),
        ("anthropic", "ANTHROPIC_API_KEY", r"claude-haiku-[\d-]+"),
        ("google", "GEMINI_API_KEY", r"gemini-[\d.]+-flash(-lite)?"),
        ("deepseek", "DEEPSEEK_API_KEY", r"deepseek-.+"),
        ("groq", "GROQ_API_KEY", r"openai/gpt-oss-120b"),
        ("openrouter", "OPENROUTER_API_KEY", r".+/.+"),
        ("together", "TOGETHER_API_KEY", r".+/.+"),
        ("mistral", "MISTRAL_API_KEY", r"(mistral|devstral).+"),
    ],
)
def test_up_asks_for_a_model_that_a_key_can_be_expected_to_have(
    provider: str, variable: str, model: str
) -> None:
    gateway = Gateway(Config(), environ={variable: "sk-x"}, dry=True)
    name = _first_model(gateway)
    assert re.fullmatch(f"{provider}/{model}", name)
    [chosen] = [one for one in gateway.line.router.deployments if one.id == name]
    assert chosen.card is not None
    assert (chosen.card.status, chosen.card.tools, chosen.card.embedding) == ("active", True, False)
    assert chosen.card.quality


def test_up_once_whose_request_fails(tmp_path: Path) -> None:
    (tmp_path / "tieline.yaml").write_text(
        "discover: false\nproviders: {away: {base_url: 'http://127.0.0.1:9/v1', api_key: x, models: ['m[/]']}}\n"
    )
    done = tieline("up", "--once", "--port", "0", cwd=tmp_path)
    assert done.returncode == 1, done.stderr
    assert "HTTP 50" in done.stdout
    assert "away/m[/]" in done.stdout


def test_up_where_there_are_virtual_keys(tmp_path: Path) -> None:
    key = tieline_json("keys", "create", "mine", cwd=tmp_path)["secret"]
    without = tieline("up", "--once", "--port", "0", cwd=tmp_path)
    assert without.returncode == 1
    assert "TIELINE_API_KEY=tl-" in without.stdout
    done = tieline("up", "--once", "--port", "0", cwd=tmp_path, TIELINE_API_KEY=key)
    assert done.returncode == 0, done.stdout
    assert "attempts 1" in done.stdout
    for line in ("authorization: Bearer $TIELINE_API_KEY", 'api_key=os.environ["TIELINE_API_KEY"]'):
        assert line in done.stdout
    assert key not in done.stdout + done.stderr


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_an_encoding_that_lacks_a_sign_ends_no_command(encoding: str, tmp_path: Path) -> None:
    done = tieline("check", cwd=tmp_path, PYTHONIOENCODING=encoding)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("? no tieline.yaml")


def test_check_prints_the_schema_that_editors_complete_by(tmp_path: Path) -> None:
    done = tieline("check", "--schema", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "routing" in json.loads(done.stdout)["$defs"]["Config"]["properties"]


def test_a_closed_output_is_no_fault(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tieline", "check"]
    done = subprocess.run(
        ["sh", "-c", 'exec "$@" >&-', "sh", *command],
        cwd=tmp_path,
        env=environment(),
        stderr=subprocess.PIPE,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
@pytest.mark.parametrize("arguments", [("check",), ("models", "--json")])
def test_output_that_cannot_be_written_is_one_line(arguments: tuple[str, ...], tmp_path: Path) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "tieline", *arguments],
            cwd=tmp_path,
            env=environment(),
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
            check=False,
        )
    assert done.returncode == 1
    assert done.stderr == "error: the output cannot be written: No space left on device.\n"


def test_init_then_check(tmp_path: Path) -> None:
    assert tieline("init", cwd=tmp_path, OPENAI_API_KEY="sk-1234567890").returncode == 0
    text = (tmp_path / "tieline.yaml").read_text()
    assert "openai" in text
    assert "sk-1234567890" not in text
    assert tieline("check", cwd=tmp_path).returncode == 0
    used = yaml.safe_load(re.sub("^#  ", "  ", text, flags=re.MULTILINE))
    assert set(used["providers"]) == {"openai", "my-vllm"}
    assert set(used["models"]) == {"fast", "smart"}
    again = tieline("init", cwd=tmp_path)
    assert again.returncode == 2
    assert "--force" in again.stderr


def test_check_names_lines_and_fixes(tmp_path: Path) -> None:
    (tmp_path / "tieline.yaml").write_text("server:\n  prot: 1\nroutng: {}\n")
    done = tieline("check", cwd=tmp_path)
    assert done.returncode == 1
    assert "tieline.yaml:2" in done.stderr
    assert "port" in done.stderr
    assert "tieline.yaml:3" in done.stderr
    assert "Traceback" not in done.stderr
    machine = tieline("check", "--json", cwd=tmp_path)
    assert machine.returncode == 1
    found = json.loads(machine.stdout)
    assert found["ok"] is False
    assert len(found["errors"]) == 2


@pytest.mark.parametrize(
    "store", ["{redis: 'redis://:secretpw@h:abc/0'}", "{database: 'postgresql://u:secretpw@h:abc/z'}"]
)
def test_a_store_that_cannot_be_is_one_line_of_check_and_of_serve(store: str, tmp_path: Path) -> None:
    (tmp_path / "tieline.yaml").write_text(f"discover: false\nstore: {store}\n")
    for command in ("check", "serve"):
        done = tieline(command, cwd=tmp_path)
        assert done.returncode in (1, 2)
        (line,) = done.stderr.splitlines()
        assert "tieline.yaml:2: store." in line
        assert "Use " in line
        assert "secretpw" not in line


def test_check_shows_brackets_as_they_are(tmp_path: Path) -> None:
    (tmp_path / "tieline.yaml").write_text('discover: false\nmodels: {"[/x]": foo/bar}\n')
    done = tieline("check", cwd=tmp_path)
    assert done.returncode == 1
    assert "models.[/x]" in done.stderr
    assert "Traceback" not in done.stderr


def test_check_tells_who_else_serves_a_route(tmp_path: Path) -> None:
    (tmp_path / "tieline.yaml").write_text(
        "models:\n  a: z-ai/glm-4.6\n  b: azure/gpt-5-mini\n  c: openai/gpt-5-mini\n"
        "  d: {deployments: [openrouter/openai/gpt-5-mini], fallbacks: [c, 'qwen/qwen3-coder:free']}\n"
    )
    keys = {"OPENAI_API_KEY": "sk-x", "OPENROUTER_API_KEY": "sk-or-x"}
    machine = json.loads(tieline("check", "--json", cwd=tmp_path, **keys).stdout)
    assert machine["ok"] is True
    told = [
        (
            "tieline.yaml:2: models.a.deployments[0]: 'z-ai/glm-4.6' is the id of a model at openrouter: "
            "openrouter/z-ai/glm-4.6 serves it, not a provider z-ai."
        ),
        (
            "tieline.yaml:3: models.b.deployments[0]: 'azure/gpt-5-mini' is not to be had here: "
            "openai/gpt-5-mini serves it, the same model elsewhere."
        ),
        (
            "tieline.yaml:5: models.d.fallbacks[1]: 'qwen/qwen3-coder:free' is the id of a model at openrouter: "
            "openrouter/qwen/qwen3-coder:free serves it, not a provider qwen."
        ),
    ]
    assert machine["warnings"] == told
    assert tieline("check", cwd=tmp_path, **keys).stderr.splitlines() == [f"! {line}" for line in told]


def test_check_shows_providers_without_their_keys(tmp_path: Path) -> None:
    done = tieline("check", "--json", cwd=tmp_path, ANTHROPIC_API_KEY="sk-ant-secret")
    assert json.loads(done.stdout)["providers"]["anthropic"] == ["ANTHROPIC_API_KEY"]
    assert "secret" not in done.stdout + done.stderr


def test_models(tmp_path: Path) -> None:
    found = tieline_json("models", "claude", cwd=tmp_path)
    assert found["count"] > 3
    assert all(
        "claude" in model["id"].lower() or "claude" in model["name"].lower() for model in found["models"]
    )
    shown = tieline("models", "gpt", cwd=tmp_path).stdout
    assert all(len(line) <= 100 for line in shown.splitlines())
    one = tieline("models", "show", found["models"][0]["name"], cwd=tmp_path)
    assert one.returncode == 0
    deep = tieline("models", "show", "deepseek/deepseek-v4-pro", cwd=tmp_path).stdout
    for said in (
        "1,000,000 tokens",
        "04:00-06:00",
        "50 % of it, Mon Tue Wed Thu Fri, UTC",
        "LiveBench",
        "data policy",
    ):
        assert said in deep, deep
    assert "genai-prices" in " ".join(deep.split())
    listed = tieline("models", "deepseek", "v4", cwd=tmp_path).stdout
    assert "1.32" in listed, "figures are not cut where the output is no terminal"
    assert all(model["source"] for model in found["models"])
    assert tieline("models", "show", "no-such-model", cwd=tmp_path).returncode == 2


def test_models_has_the_configured_ones_too(tmp_path: Path) -> None:
    """A host of one's own is in no catalog, and a provider with a list serves what is on it."""
    (tmp_path / "tieline.yaml").write_text(
        "providers:\n"
        "  acme:\n"
        "    base_url: https://llm.acme.example/v1\n"
        "    api_key: k\n"
        "    prices: {acme-large: {input: '0.50', output: '1.50'}}\n"
        "  openai: {api_key: k, models: [gpt-5-mini, 'ft:gpt-5-mini:acme']}\n"
    )
    found = tieline_json("models", "--configured", cwd=tmp_path)
    assert {one["id"] for one in found["models"]} == {
        "acme/acme-large",
        "openai/gpt-5-mini",
        "openai/ft:gpt-5-mini:acme",
    }
    acme = next(one for one in found["models"] if one["id"] == "acme/acme-large")
    assert (acme["input_usd_per_million"], acme["output_usd_per_million"]) == ("0.5", "1.5")
    assert acme["source"] == "configuration"
    shown = tieline("models", "show", "acme/acme-large", cwd=tmp_path).stdout
    assert "configured" in shown
    assert "input 0.5, output 1.5" in shown


def test_models_counts_all_and_says_when_there_is_none(tmp_path: Path) -> None:
    found = tieline_json("models", "--limit", "3", cwd=tmp_path)
    assert len(found["models"]) == 3
    assert found["count"] >= 2000
    assert found["names"] > 1000, "of all, not of those shown"
    assert "No model" in tieline("models", "zzzz", cwd=tmp_path).stdout
    assert "gpt-5-mini" in tieline("models", "show", "gpt-5-minii", cwd=tmp_path).stderr


def test_logs(used: Path) -> None:
    found = tieline_json("logs", cwd=used)
    assert [record["model_asked"] for record in found] == ["nonsense", "demo", "demo", "demo"]
    assert found[0]["outcome"] == "refused"
    assert float(found[1]["cost_usd"]) > 0
    assert [record["status"] for record in tieline_json("logs", "--failed", cwd=used)] == [404]
    shown = tieline("logs", cwd=used).stdout
    assert all(len(line) <= 100 for line in shown.splitlines())
    assert found[0]["id"][:14] in shown
    assert "success" in shown
    assert "refused" in shown
    assert tieline("logs", "--provider", "nobody", cwd=used).stdout == "No request is like that.\n"


def test_show_takes_the_short_id_of_logs(used: Path) -> None:
    short = tieline("logs", cwd=used).stdout.splitlines()[2].split()[0]
    done = tieline("show", short, cwd=used)
    assert done.returncode == 0, done.stderr
    assert "sim-openai/gpt-sim" in done.stdout
    assert {"█", "░"} & set(done.stdout), "a bar of the time it took"
    assert all(len(line) <= 100 for line in done.stdout.splitlines())
    assert tieline_json("show", short, cwd=used)["id"].startswith(short)
    unknown = tieline("show", "req_nothing", cwd=used)
    assert unknown.returncode == 2
    assert "tieline logs" in unknown.stderr


@pytest.mark.parametrize(
    "by", ["model", "provider", "deployment", "key", "project", "day", "outcome", "total"]
)
def test_spend(used: Path, by: str) -> None:
    rows = tieline_json("spend", "--by", by, cwd=used)
    assert rows
    attempts = "select cost from entries union all select cost from records where alone = 1"
    [exact] = sqlite3.connect(used / "tieline.db").execute(f"select sum(cost) from ({attempts})").fetchone()

    assert sum(Decimal(row["cost_usd"]) for row in rows) == Decimal(exact) / 10**12
    assert tieline("spend", "--by", by, "--since", "1h", cwd=used).returncode == 0


@pytest.mark.parametrize("by", ["model", "key", "total"])
def test_spend_cuts_no_amount_in_a_narrow_terminal(used: Path, by: str) -> None:
    shown = tieline("spend", "--by", by, cwd=used, COLUMNS="80").stdout
    assert "unpriced" in shown
    assert "…" not in shown
    assert tieline_json("spend", "--by", by, cwd=used)[0]["cost_usd"] in shown


def _piped(folder: Path, *arguments: str) -> str:
    """Into a pipe, with no width given."""
    plain = {name: value for name, value in environment().items() if name != "COLUMNS"}
    program = [sys.executable, "-m", "tieline", *arguments]
    return subprocess.run(
        program, cwd=folder, env=plain, capture_output=True, text=True, timeout=60, check=True
    ).stdout


def test_what_is_piped_is_not_cut(tmp_path: Path) -> None:
    name = "sim-openai/a-model-whose-name-is-longer-than-any-column-of-a-table-has-room-for"
    with running("up", "--port", "0", cwd=tmp_path) as server:
        urllib.request.urlopen(_asking(server.url, chat(name)), timeout=20).read()
    assert _piped(tmp_path, "logs").count(name) == 2
    assert name in _piped(tmp_path, "spend", "--by", "deployment")


@pytest.mark.parametrize("columns", ["40", "60", "70"])
def test_no_amount_is_cut_in_a_terminal_too_narrow_for_the_table(used: Path, columns: str) -> None:
    cost = tieline_json("spend", "--by", "total", cwd=used)[0]["cost_usd"]
    shown = tieline("spend", "--by", "model", cwd=used, COLUMNS=columns).stdout
    assert cost in shown or columns == "40"
    assert not re.search(r"\d…", shown)


def test_what_was_spent_is_unknown_where_no_price_is_known(tmp_path: Path) -> None:
    with running("up", "--port", "0", cwd=tmp_path) as server:
        request = _asking(server.url, chat("sim-openai/nobody-priced-it"))
        urllib.request.urlopen(request, timeout=20).read()
    shown = tieline("spend", cwd=tmp_path).stdout
    assert re.search(r"nobody-priced-it +1 .* unknown +– +1", shown)


def test_spend_calls_keys_by_their_names(tmp_path: Path) -> None:
    ids = {}
    for project in ("one", "two"):
        tieline("projects", "create", project, cwd=tmp_path)
        ids[project] = tieline_json("keys", "create", "same", "--project", project, cwd=tmp_path)
    alone = tieline_json("keys", "create", "alone", cwd=tmp_path)
    with running("up", "--port", "0", cwd=tmp_path) as server:
        for key in (*ids.values(), alone):
            request = _asking(server.url, chat("demo"))
            request.add_header("authorization", f"Bearer {key['secret']}")
            urllib.request.urlopen(request, timeout=20).read()
    shown = tieline("spend", "--by", "key", cwd=tmp_path, COLUMNS="160").stdout
    assert re.search(r"^alone +1 ", shown, re.M)
    assert re.search(r"^total +4 ", shown, re.M), "and the one of `up` itself"
    for key in ids.values():
        assert re.search(rf"^same {key['id']} +1 ", shown, re.M)
    assert re.search(r"^two +1 ", tieline("spend", "--by", "project", cwd=tmp_path).stdout, re.M)
    for option in (("--key", "alone"), ("--key", ids["one"]["id"]), ("--project", "two")):
        assert len(tieline_json("logs", *option, cwd=tmp_path)) == 1
        [line] = tieline_json("spend", "--by", "total", *option, cwd=tmp_path)
        assert line["requests"] == 1
    assert "several keys" in tieline("logs", "--key", "same", cwd=tmp_path).stderr
    assert "no project 'three'" in tieline("spend", "--project", "three", cwd=tmp_path).stderr


def test_logs_and_spend_of_a_tag_and_a_run(tmp_path: Path) -> None:
    with running("up", "--port", "0", cwd=tmp_path) as server:
        for tags, run in (("team=web", "one"), ("team=web", "two"), ("team=ops", "two")):
            request = _asking(server.url, chat("demo"))
            request.add_header("tieline-tags", tags)
            request.add_header("tieline-run", run)
            urllib.request.urlopen(request, timeout=20).read()
    for options, count in (
        (("--tag", "team=web"), 2),
        (("--run", "two"), 2),
        (("--run", "two", "--tag", "team=ops"), 1),
        (("--model", "demo"), 4),
        (("--tag", "team=none"), 0),
    ):
        assert len(tieline_json("logs", *options, cwd=tmp_path)) == count, options
    by_tag = tieline_json("spend", "--tag", "team", "--run", "two", cwd=tmp_path)
    assert {line["group"]: line["requests"] for line in by_tag} == {"web": 1, "ops": 1}
    assert "team=web" in tieline("logs", "--tag", "team", cwd=tmp_path).stderr


def test_spend_by_a_tag_and_by_nonsense(used: Path) -> None:
    rows = tieline_json("spend", "--tag", "team", cwd=used)
    assert "blue" in {row["group"] for row in rows}
    wrong = tieline("spend", "--by", "modle", cwd=used)
    assert wrong.returncode == 2
    assert "model" in wrong.stderr
    assert tieline("logs", "--since", "yesteryear", cwd=used).returncode == 2


def test_ledger_before_there_is_one(tmp_path: Path) -> None:
    for command in (
        ("logs",),
        ("spend",),
        ("show", "req_x"),
        ("keys", "list"),
        ("keys", "revoke", "ci"),
        ("projects", "list", "--json"),
        ("projects", "edit", "web", "--rpm", "5"),
        ("credentials", "list"),
        ("credentials", "remove", "openai/main"),
        ("admin", "forget"),
        ("audit", "log"),
    ):
        done = tieline(*command, cwd=tmp_path)
        assert done.returncode == 2
        assert "tieline serve" in done.stderr
        assert done.stdout == ""
    assert not (tmp_path / "tieline.db").exists()


def test_explain(tmp_path: Path) -> None:
    found = json.loads(
        tieline("explain", "openai/gpt-5-mini", "--json", cwd=tmp_path, OPENAI_API_KEY="sk-x").stdout
    )
    assert found["candidates"]
    shown = tieline("explain", "openai/gpt-5-mini", cwd=tmp_path, OPENAI_API_KEY="sk-x")
    assert "openai/gpt-5-mini" in shown.stdout
    assert all(len(line) <= 100 for line in shown.stdout.splitlines())
    assert re.search(r"\n *1 openai/gpt-5-mini +asked .* 0\.00\d+ .* closed\n", shown.stdout)
    assert "not, because" in shown.stdout
    assert len(shown.stdout.splitlines()) < 60
    narrow = tieline(
        "explain", "anthropic/claude-sonnet-4-6", cwd=tmp_path, ANTHROPIC_API_KEY="sk-x", COLUMNS="80"
    )
    assert "\n1 anthropic/claude-sonnet-4-6 asked" in narrow.stdout
    assert re.search(r"and \d+ more: --json\n", shown.stdout)
    assert "average" in shown.stdout
    assert not re.search(r"average ([\d.]+ against [\d.]+), average \1", shown.stdout)
    for wrong in (
        ("gtp-5-mini",),
        ("gpt-5-mini", "--tokens", "-4"),
        ("gpt-5-mini", "--max-tokens", "0"),
        ("gpt-5-mini", "--needs", "toolz"),
        ("gpt-5-mini", "--intent", "codign"),
    ):
        done = tieline("explain", *wrong, cwd=tmp_path, OPENAI_API_KEY="sk-x")
        assert done.returncode == 2, wrong
        assert "Traceback" not in done.stderr
    assert "Did you mean coding? One of agentic_coding, average, coding," in done.stderr
    assert tieline("explain", "gpt-5-mini", "--intent", "coding", cwd=tmp_path, OPENAI_API_KEY="sk-x").stdout
    tieline("check", cwd=tmp_path, OPENAI_API_KEY="sk-x")
    assert not list(tmp_path.iterdir()), "a dry command leaves nothing behind"


def test_explain_of_a_model_whose_hosts_have_no_key(tmp_path: Path) -> None:
    for environ in ({}, {"ANTHROPIC_API_KEY": "sk-x"}):
        said = tieline("explain", "gpt-5-mini", cwd=tmp_path, **environ).stderr
        assert "Set OPENAI_API_KEY or " in said
        assert "under `providers`" in said
        assert said.count("_API_KEY") <= 3
        assert "not known" not in said
    assert "not known here" in tieline("explain", "gpt-5-mimi-zzz", cwd=tmp_path).stderr


def test_explain_of_a_past_request(used: Path) -> None:
    request = tieline_json("logs", cwd=used)[1]["id"]
    assert tieline("explain", request, cwd=used).returncode == 0
    found = tieline_json("explain", request, cwd=used)
    assert found["request"]["id"] == request
    assert found["attempts"][0]["deployment"] == found["tried"][0]["deployment"]
    assert found["candidates"]


def test_simulate_answers(tmp_path: Path) -> None:

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "-m", "tieline", "simulate", "--port", str(port)],
        env=environment(),
        cwd=tmp_path,
        stdout=subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        assert str(port).encode() in process.stdout.readline()
        time.sleep(0.1)
        request = urllib.request.Request(
            f"http://127.0.0.1:{port}/acme/v1/chat/completions",
            chat("sim-echo"),
            {"authorization": "Bearer k-1234"},
        )
        assert json.load(urllib.request.urlopen(request))["choices"]
        taken = tieline("simulate", "--port", str(port), cwd=tmp_path)
        assert taken.returncode == 2
        assert "--port" in taken.stderr
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def test_import_is_quick(tmp_path: Path) -> None:

    code = "import time, sys; a = time.process_time(); import tieline; print(time.process_time() - a, 'tieline.client' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=environment(),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    spent, loaded = done.stdout.split()
    assert float(spent) < 0.1
    assert loaded == "False"
