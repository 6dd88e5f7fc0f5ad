"""What scripts share that make small data sets from public files: reading, taking a part, and their command line."""

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from limbeck.errors import InputError, LimbeckError

Row = dict[str, Any]


def read_source(path: Path) -> bytes:
    """A source file.

    Raises:
        InputError: it is not there.
    """
    if not path.is_file():
        raise InputError(f"there is no file {path}")
    return path.read_bytes()


def taken(rows: Sequence[Row], start: int, count: int, what: str) -> list[Row]:
    """So many rows from `start` on.

    Raises:
        InputError: there are fewer.
    """
    if len(rows) < start + count:
        raise InputError(f"the source holds only {len(rows)} short {what}, and {start + count} are needed")
    return list(rows[start : start + count])


def command(
    write_data: Callable[[Path, Path], list[Path]],
    module: str,
    description: str | None,
    out: Path | None,
    arguments: Sequence[str] | None,
) -> int:
    """Write the data of `--source` into `--out`; exit code 2 with one sentence where that cannot be.

    `out`: where to by default; None: `--out` must be given.
    """
    parser = argparse.ArgumentParser(prog=f"python -m {module}", description=description)
    parser.add_argument("--source", type=Path, required=True, help="folder of the public files")
    parser.add_argument("--out", type=Path, default=out, required=out is None, help="folder to write into")
    chosen = parser.parse_args(arguments)
    try:
        files = write_data(chosen.source, chosen.out)
    except LimbeckError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    sys.stdout.write("".join(f"{path}\n" for path in files))
    return 0
