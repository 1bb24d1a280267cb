"""The command line: one thin file a command, which imports what it needs when it runs."""

from __future__ import annotations

import errno
import sys
import warnings

from memviz.errors import MemvizError

# What typer makes of Ctrl-C: 128 + SIGINT, as shells have it.
INTERRUPTED = 130


def main() -> None:
    """Runs the command line; errors that memviz knows end it with one message, without a traceback."""
    from memviz.cli.app import app

    def show(message: Warning | str, *_: object, **__: object) -> None:
        print(f"Warning: {message}", file=sys.stderr)

    warnings.showwarning = show
    try:
        app()
    except MemvizError as error:
        sys.exit(f"Error: {error}")
    except SystemExit as end:
        if end.code == INTERRUPTED:
            print("\nInterrupted. What was finished is kept; the same command goes on from there.", file=sys.stderr)
        raise
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        hint = "make room, or choose another folder," if full else "check the path, or choose another one,"
        sys.exit(f"Error: {error}. What was finished is kept; {hint} and run it again.")
