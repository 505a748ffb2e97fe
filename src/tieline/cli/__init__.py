"""The command line. Each module holds the commands of one kind; ``main`` turns what goes wrong into one line."""

from __future__ import annotations

import errno
import io
import os
import sys
from typing import Any

_CANNOT_BE_WRITTEN = (errno.ENOSPC, errno.EIO, errno.EBADF, errno.EFBIG, errno.EDQUOT)


def main() -> None:
    """The ``tieline`` program. Exit 0: done; 1: it ran and the answer is no; 2: wrong usage or configuration."""
    import typer

    from tieline.cli.app import app
    from tieline.types.errors import TielineError

    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # ASCII and Latin-1 have no `–` and no `✓`
    usage_error: Any = typer.BadParameter.__bases__[0]  # not exported, and from elsewhere in older versions
    try:
        code = app(standalone_mode=False)
        if sys.stdout is not None:
            sys.stdout.flush()
        sys.exit(code if isinstance(code, int) else 0)
    except usage_error as error:
        _misused(error)
        sys.exit(2)
    except typer.Abort:
        sys.stderr.write("error: the input ended.\n")
        sys.exit(1)
    except TielineError as error:
        from tieline.cli.terminal import errors, escape

        text = str(error) if hasattr(error, "place") else error.full_message
        if error.param and error.param not in text:
            text = f"{error.param}: {text}"
        errors.print("[bold red]error:[/]", escape(text, lines=True), soft_wrap=True)
        sys.exit(2)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(1)
    except Exception as error:
        if isinstance(error, OSError) and error.errno in _CANNOT_BE_WRITTEN:
            # What is left in the buffer would fail again at the exit, with a traceback.
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            sys.stderr.write(f"error: the output cannot be written: {error.strerror}.\n")
            sys.exit(1)
        if (said := _said_by_database(error)) is None:
            raise
        sys.stderr.write(f"error: {said}\n")
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)


def _said_by_database(error: Exception) -> str | None:
    """Of one that was opened and then failed: another process holds its file, its server went away."""
    if "sqlalchemy" not in sys.modules:
        return None
    import sqlite3

    from sqlalchemy.exc import DBAPIError, TimeoutError

    if not isinstance(error, DBAPIError | TimeoutError | sqlite3.Error):
        return None
    lines = str(getattr(error, "orig", None) or error).strip().splitlines() or [type(error).__name__]
    reason = lines[0].rstrip(".")
    return f"store.database: failed in the middle of the command: {reason}. See what is done by now, and try again."


def _misused(error: Any) -> None:
    from tieline.cli.terminal import errors, escape

    text = error.format_message()
    if "\n" in text:
        error.show()  # the help of a command that was called without any words
    elif text:
        hint = f"`{error.ctx.command_path} --help` says what there is." if error.ctx else ""
        errors.print("[bold red]error:[/]", escape(f"{text.rstrip('.')}. {hint}".rstrip()), soft_wrap=True)


__all__ = ["main"]
