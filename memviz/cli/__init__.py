"""The command line: one short file per command, which imports what it needs when it runs."""

from __future__ import annotations

import errno
import io
import signal
import sys
import warnings
from types import FrameType

from memviz.errors import MemvizError

# 128 + the signal's number, as shells have it. Typer, too, makes 130 of Ctrl-C.
INTERRUPTED, TERMINATED = 130, 143


def main() -> None:
    """Runs the command line.

    Errors that memviz knows, and those of the file system, end it with one message, without a traceback. SIGTERM, as a
    cluster sends it at a job's time limit, ends a command as Ctrl-C does, with 143 instead of 130.
    """
    ended = INTERRUPTED

    def terminate(number: int, frame: FrameType | None) -> None:
        nonlocal ended
        ended = TERMINATED
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # a second one would cut short what the first one has begun
        raise KeyboardInterrupt

    def show(message: Warning | str, *_: object, **__: object) -> None:
        print(f"Warning: {message}", file=sys.stderr)

    warnings.showwarning = show
    # A name that is not UTF-8, or a sign that the terminal's encoding lacks, must not end a command.
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    before = signal.signal(signal.SIGTERM, terminate)
    try:
        from memviz.cli.commands import app

        app()
    except MemvizError as error:
        sys.exit(f"Error: {error}")
    except (SystemExit, KeyboardInterrupt) as end:
        if isinstance(end, SystemExit) and end.code != INTERRUPTED:
            raise
        print("\nInterrupted. What was finished is kept; the same command continues from there.", file=sys.stderr)
        sys.exit(ended)
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        hint = "make room, or choose another folder," if full else "check the path, or choose another one,"
        sys.exit(f"Error: {error}. What was finished is kept; {hint} and run it again.")
    finally:
        signal.signal(signal.SIGTERM, before)
