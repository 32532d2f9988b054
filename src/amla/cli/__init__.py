"""The command line. It prints what ``amla.api`` does; nothing is decided here."""

from __future__ import annotations

import errno
import sys
from typing import NoReturn

import typer
from typer.exceptions import TyperException

from amla.errors import AmlaError

#: Failures of the machine that a user can mend; others are bugs and keep their traceback.
_MENDABLE = {
    errno.ENOSPC: "the disk is full; free some space, then `amla resume`",
    errno.EDQUOT: "the disk quota is used up; free some space, then `amla resume`",
    errno.EFBIG: "a file may not grow so large here; lift the limit or choose another folder, then `amla resume`",
    errno.EROFS: "the folder is read-only; choose another with --out or --store",
    errno.EACCES: "permission denied; choose another folder with --out or --store",
    errno.EPERM: "not permitted; choose another folder with --out or --store",
    errno.ENOENT: "no such file or folder",
    errno.EISDIR: "that is a folder, not a file",
    errno.ENOTDIR: "a part of the path is a file, not a folder",
}


def main(arguments: list[str] | None = None) -> None:
    """Run the command line. Exit codes: 0 done, 1 failed, 2 bad input, 130 interrupted."""
    words = sys.argv[1:] if arguments is None else arguments
    debug = "--debug" in words
    words = [word for word in words if word != "--debug"]
    try:
        from amla.cli.app import app

        sys.exit(app(args=words, prog_name="amla", standalone_mode=False))
    except KeyboardInterrupt:
        _leave("interrupted", 130)
    except TyperException as error:
        _misused(error)
    except AmlaError as error:
        if debug:
            raise
        _leave(str(error), error.exit_code)
    except OSError as error:
        if debug or error.errno not in _MENDABLE:
            raise
        where = f"{error.filename}: " if error.filename else ""
        _leave(f"{where}{_MENDABLE[error.errno]}", 2)


def _misused(error: TyperException) -> NoReturn:
    """A wrong option or argument in one line, with the command whose --help says which are right."""
    message = error.format_message()
    if message.startswith("Usage:"):  # a group of commands without one: its help
        typer.echo(message, err=True)
        sys.exit(2)
    context = getattr(error, "ctx", None)
    command = context.command_path if context else "amla"
    _leave(f"{message.rstrip('.')}; see `{command} --help`", 2)


def _leave(message: str, code: int) -> NoReturn:
    line = " ".join(message.split())
    typer.echo(f"amla: {line}", err=True)
    sys.exit(code)
