"""The command line. Each module holds the commands of one kind; ``main`` turns what goes wrong into one line."""

from __future__ import annotations

import sys


def main() -> None:
    """The ``tieline`` program. Exit 0: done; 1: it ran and the answer is no; 2: wrong usage or configuration."""
    from tieline.cli.app import app
    from tieline.types.errors import TielineError

    try:
        app()
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
    except KeyboardInterrupt:
        sys.exit(130)


__all__ = ["main"]
