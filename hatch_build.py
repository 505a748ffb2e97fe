"""With ``TIELINE_COMPILE=1`` the modules on a request's way are compiled with mypyc: the wheel that is published. The same
files, run by the interpreter, are what a checkout runs; a wheel has both, and Python takes the compiled one.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

ROOT = Path(__file__).parent
SOURCE = ROOT / "src"
COMPILED = [
    "admit/admission.py",
    "admit/budgets.py",
    "admit/facts.py",
    "admit/intake.py",
    "admit/keys.py",
    "admit/limits.py",
    "admit/overload.py",
    "bill.py",
    "dialects/anthropic_messages/stream.py",
    "dialects/fields.py",
    "dialects/mould.py",
    "dialects/openai_chat/peek.py",
    "dialects/openai_chat/reading.py",
    "dialects/openai_chat/response.py",
    "dialects/openai_chat/stream.py",
    "dialects/seen.py",
    "dialects/sse.py",
    "dialects/transcript.py",
    "exchange.py",
    "keepalive.py",
    "ledger/markup.py",
    "ledger/pricing.py",
    "ledger/settle.py",
    "line.py",
    "oneshot.py",
    "pipeline.py",
    "providers/deployment.py",
    "providers/limits.py",
    "record/database.py",
    "record/ids.py",
    "record/journal.py",
    "record/metrics.py",
    "record/queued.py",
    "record/recorder.py",
    "record/rows.py",
    "relay.py",
    "route/balance.py",
    "route/breaker.py",
    "route/ceiling.py",
    "route/deadlines.py",
    "route/health.py",
    "route/hedge.py",
    "route/latency.py",
    "route/match.py",
    "route/no_candidate.py",
    "route/past.py",
    "route/plan.py",
    "route/pool.py",
    "route/quota.py",
    "route/rollup.py",
    "route/router.py",
    "route/steps.py",
    "route/storm.py",
    "server/answer.py",
    "server/door.py",
    "store/body.py",
    "transport/base.py",
    "transport/connection.py",
    "transport/exchange.py",
    "transport/http1.py",
    "transport/outbox.py",
    "transport/pool.py",
    "transport/routing.py",
    "transport/target.py",
    "types/asked.py",
    "types/call.py",
    "types/money.py",
    "watch.py",
]
"""What profiles show. None may define a ``msgspec.Struct``: mypyc does not hand on what its metaclass is told."""
_TYPES = """
[mypy]
strict = true
follow_imports = silent
ignore_missing_imports = true
disallow_subclassing_any = false
disallow_any_unimported = false
warn_return_any = false
warn_unused_ignores = false
[mypy-sqlalchemy.*,litestar.*,rich.*,typer.*,redis.*,psycopg.*,alembic.*,cryptography.*,prometheus_client.*,openai.*,anthropic.*,google.*,httpx2.*]
follow_imports = skip
"""
"""Checked already: large libraries off the path of a request are not read again."""
_BUILD = r'''
import sys
from pathlib import Path
import mypyc
from mypyc.build import mypycify
from setuptools import setup
modules = mypycify(sys.argv[3:], group_name="tieline", opt_level="2", debug_level="0")
runtime = Path(mypyc.__file__).with_name("lib-rt") / "bytes_ops.c"
Path("build/bytes_ops.c").write_text(runtime.read_text().replace("= endn - startn;", "= endn > startn ? endn - startn : 0;"))
Path("build/cold.h").write_text("""struct _object;
#define COLD __attribute__((cold))
COLD void CPy_Raise(struct _object *);
COLD void CPy_TypeError(const char *, struct _object *);
COLD void CPy_AddTraceback(const char *, const char *, int, struct _object *);
COLD void CPy_TypeErrorTraceback(const char *, const char *, int, struct _object *, const char *, struct _object *);
COLD void CPy_AttributeError(const char *, const char *, const char *, const char *, int, struct _object *);
""")
for module in modules:
    module.include_dirs.insert(0, "build")
    if sys.platform != "win32":
        module.extra_compile_args += ["-include", "build/cold.h", "-fvisibility=hidden", "-fno-semantic-interposition"]
setup(name="tieline", ext_modules=modules,
      script_args=["-q", "build_ext", "--build-lib", sys.argv[1], "--build-temp", sys.argv[2]])
'''
"""A slice of bytes that ends before it begins is empty; the runtime of mypyc 2.4.1 raises SystemError. What leads to an
error is said to be rare, so that it does not lie between what runs each time (a quarter of the code), and functions are known
not to be replaced from outside, so they call each other directly."""


class CustomBuildHook(BuildHookInterface):  # type: ignore[misc]
    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if os.environ.get("TIELINE_COMPILE") != "1" or version == "editable":
            return
        self.folder = Path(tempfile.mkdtemp(prefix="tieline-build-"))
        for made in compile_into(self.folder):
            build_data["force_include"][str(made)] = str(made.relative_to(self.folder / "lib"))
        build_data["pure_python"] = False
        build_data["infer_tag"] = True

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        if hasattr(self, "folder"):
            shutil.rmtree(self.folder)


def compile_into(folder: Path) -> list[Path]:
    """The extension modules, under ``folder/lib`` where a wheel has them. Needs mypy, setuptools and a C compiler."""
    config = folder / "mypy.ini"
    config.write_text(_TYPES)
    # In a copy: mypyc writes its C files where it runs, and names modules by where they lie.
    source = folder / "src"
    shutil.copytree(SOURCE, source, ignore=shutil.ignore_patterns("__pycache__", "*.so"))
    modules = [f"tieline/{name}" for name in COMPILED]
    command = [sys.executable, "-c", _BUILD, str(folder / "lib"), str(folder / "temp")]
    subprocess.run([*command, f"--config-file={config}", *modules], cwd=source, check=True)
    return sorted((folder / "lib").rglob("*.so"))
