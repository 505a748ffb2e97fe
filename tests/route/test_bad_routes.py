"""Routes that make no sense are refused when they are loaded, with the line and the fix."""

from __future__ import annotations

from pathlib import Path

import pytest

from tieline.gateway import Gateway
from tieline.types.errors import ConfigError

HOSTS = """\
store: {database: none}
providers:
  a: {base_url: "https://a.example/v1", api_key: x, prices: {m: {input: "1", output: "4"}}}
  b: {base_url: "https://b.example/v1", api_key: x, prices: {m-1.5: {input: "1", output: "4"}}, jurisdictions: [DE]}
models:
"""


def refused(tmp_path: Path, text: str) -> str:
    path = tmp_path / "tieline.yaml"
    path.write_text(HOSTS + text)
    with pytest.raises(ConfigError) as caught:
        Gateway(path, environ={})
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "line", "said", "fix"),
    [
        ("  one:\n    deployments: [a/m]\n    fallbacks: [one]\n", 8, "one -> one", "Remove 'one'"),
        ("  m-1.5:\n    deployments: [a/m]\n    fallbacks: [m-1.5]\n", 8, "lead back", "Remove"),
        ("  one:\n    deployments: []\n", 6, "no candidate", "List some"),
        (
            "  one:\n    deployments:\n      - a/m\n      - nobody/else\n",
            9,
            "'nobody/else'",
            "Usable are: a, b",
        ),
        ("  one: {deployments: [a/m]}\npolicy: {jurisdictions: [EU]}\n", 6, "no candidate is left", "Loosen"),
        (
            '  one:\n    deployments: [a/m]\n    routing: {max_cost_usd: "0.0001"}\n',
            8,
            "below the cheapest candidate: a/m costs 0.005 USD",
            "Set it to 0.005 or more",
        ),
        (
            '  one: {deployments: [a/m]}\nrouting:\n  max_cost_usd: "0.0001"\n',
            8,
            "below the cheapest",
            "0.005",
        ),
        ("  one: {deployments: [a/m]}\nrouting:\n  timeouts: {total_s: -1}\n", 8, "total_s", "more than 0"),
        ("  one: {deployments: [a/m]}\nrouting:\n  patience_s: -1\n", 8, "patience_s", "0 or more"),
        ("  one: {deployments: [a/m]}\nrouting:\n  hold_ms: -1\n", 8, "hold_ms", "0 or more"),
        (
            "  one:\n    deployments: [a/m]\n    routing:\n      timeouts:\n        stall_s: -3\n",
            10,
            "stall_s",
            "more than 0",
        ),
        (
            "  one:\n    deployments: [a/m]\n    fallbacks: [b/m-1.5]\n    routing: {fallback: none}\n",
            8,
            "never tried",
            "Remove the fallbacks",
        ),
        (
            "  one:\n    deployments:\n      - a/m\n      - nobody/m-1.5\n",
            9,
            "there is no provider 'nobody', and none here has a model with the id 'nobody/m-1.5'",
            "Write b/m-1.5",
        ),
        ("  one: [a/m]\n  two:\n    deployments: [a/m]\n    fallbacks: [aa/m]\n", 9, "'aa'", "mean a/m?"),
        ("  one: [a/m]\npolicy:\n  deny_providers: [bb]\n", 8, "there is no provider 'bb'", "mean b?"),
        ("  one: [a/m]\npolicy: {allow_providers: [opnai, a]}\n", 7, "'opnai'", "mean openai?"),
    ],
)
def test_with_the_line_and_the_fix(tmp_path: Path, text: str, line: int, said: str, fix: str) -> None:
    message = refused(tmp_path, text)
    assert message.startswith(f"tieline.yaml:{line}: "), message
    assert said in message
    assert fix in message


def test_everything_that_is_wrong_is_said_at_once(tmp_path: Path) -> None:
    found = refused(
        tmp_path,
        "  x:\n    deployments: [a/m]\n    fallbacks: [y]\n  y:\n    deployments: [a/m]\n    fallbacks: [x]\n",
    ).splitlines()
    assert [line.split(": ")[0] for line in found] == ["tieline.yaml:8", "tieline.yaml:11"]
    assert "x -> y -> x" in found[0]


def test_a_longer_cycle_is_shown_whole(tmp_path: Path) -> None:
    text = "".join(
        f"  {name}: {{deployments: [a/m], fallbacks: [{to}]}}\n" for name, to in ("xy", "yz", "zx")
    )
    assert "x -> y -> z -> x" in refused(tmp_path, text)
