"""The wheel that is published: built, unpacked and used, as its modules are not the ones that all other tests import."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from hatch_build import COMPILED
from tests.programs import ROOT, environment

UNPACKED = ROOT / "build" / "compiled"
RELAY = [
    "tests/server/test_door.py",
    "tests/server/test_known_heads.py",
    "tests/server/test_no_cycles.py",
    "tests/server/test_overload.py",
    "tests/server/test_streams.py",
    "tests/server/test_stuck.py",
    "tests/transport",
    "tests/test_keepalive.py",
    "tests/test_relay_moulds.py",
]
INTERPRETED_ONLY = [
    "test_headers_are_read_as_the_parser_reads_them",
    "test_the_caches_by_url_and_origin_are_bounded",
    "test_a_sender_that_fails_takes_no_other_along",
    "test_a_timer_that_comes_early_is_not_set_again_and_again",
]
"""They replace or inherit what is compiled, which cannot be."""


@pytest.fixture(scope="module")
def unpacked() -> Path:
    built = subprocess.run(
        [ROOT / "scripts" / "compiled", sys.executable],
        capture_output=True,
        text=True,
        check=False,
        timeout=900,
    )
    if built.returncode == 3:
        pytest.skip("LEFT OUT: no C compiler, so the compiled wheel is not tested")
    assert built.returncode == 0, built.stdout + built.stderr
    return UNPACKED


def python(unpacked: Path, *arguments: str, cwd: Path, timeout: float = 60) -> str:
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=cwd,
        env=environment(PYTHONPATH=str(unpacked)),
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


pytestmark = [pytest.mark.timeout(1000), pytest.mark.xdist_group("compiled")]


@pytest.mark.parametrize("name", COMPILED)
def test_a_compiled_module_has_nothing_that_mypyc_gets_wrong(name: str) -> None:
    """Arguments of a class are lost on the way to its metaclass, without a word."""
    tree = ast.parse((ROOT / "src" / "tieline" / name).read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef):
            assert not node.keywords, f"{node.name} has class arguments"
            assert "Struct" not in {ast.unparse(base) for base in node.bases}, node.name


def test_every_module_of_the_list_is_compiled(unpacked: Path, tmp_path: Path) -> None:
    names = [f"tieline.{name[:-3].replace('/', '.')}" for name in COMPILED]
    code = (
        f"import importlib, json; print(json.dumps([importlib.import_module(n).__file__ for n in {names}]))"
    )
    files = [Path(file) for file in json.loads(python(unpacked, "-c", code, cwd=tmp_path))]
    assert [file for file in files if file.suffix != ".so"] == []
    assert all(file.is_relative_to(unpacked) for file in files)


def test_a_slice_that_ends_before_it_begins_is_empty(unpacked: Path, tmp_path: Path) -> None:
    """As in Python. The runtime of mypyc raises SystemError (``hatch_build._BUILD``)."""
    code = "from tieline.dialects.mould import text_of; print(repr(text_of(b'x\"yz', (b'', b'\"', b'yz'))))"
    assert python(unpacked, "-c", code, cwd=tmp_path) == "''\n"


def test_the_wheel_is_for_this_platform_and_has_the_source_too(unpacked: Path) -> None:
    (wheel,) = unpacked.glob("tieline-*.dist-info/WHEEL")
    said = wheel.read_text()
    assert "Root-Is-Purelib: false" in said
    assert "none-any" not in said
    assert (unpacked / "tieline" / "pipeline.py").exists()
    assert not (unpacked / "hatch_build.py").exists()


def test_the_demo(unpacked: Path, tmp_path: Path) -> None:
    shown = json.loads(python(unpacked, "-m", "tieline", "demo", "--json", cwd=tmp_path))
    assert shown["steps"]


def test_every_fault(unpacked: Path, tmp_path: Path) -> None:
    """Cuts, stalls, refusals, hedges, callers that leave: judged from both sides."""
    told = python(
        unpacked, "-m", "tieline", "drill", "run", "faults", "--json", "-", cwd=tmp_path, timeout=300
    )
    verdicts: list[dict[str, Any]] = json.loads(told)["faults"]
    assert len(verdicts) > 100
    assert [one for one in verdicts if one["problems"]] == []


def test_the_relay_by_its_own_tests(unpacked: Path) -> None:
    """A fault of the compiler's, or of ours that only compiled code has, shows nowhere else."""
    arguments = [
        "-p",
        "no:cacheprovider",
        "-o",
        "pythonpath=.",
        "-k",
        f"not ({' or '.join(INTERPRETED_ONLY)})",
        *RELAY,
    ]
    code = (
        "import sys, pytest, tieline.relay as relay; assert relay.__file__.endswith('.so'), relay.__file__; "
        f"sys.exit(pytest.main({arguments}))"
    )
    python(unpacked, "-c", code, cwd=ROOT, timeout=600)


def test_a_soak(unpacked: Path, tmp_path: Path) -> None:
    """Leaves nothing open, and the accounts of both sides agree."""
    report = json.loads(
        python(unpacked, "-m", "tieline.drills.soak", "--minutes", "0.2", cwd=tmp_path, timeout=120)
    )
    assert report["problems"] == []
    assert report["requests"] > 300
