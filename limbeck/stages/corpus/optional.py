"""Libraries that only some sources need: imported when a source asks for them, or one sentence says what to install."""

import importlib
from typing import Any

from limbeck.errors import InputError


def library(name: str, source: str) -> Any:
    """Import `name`, which reading `source` needs.

    Raises:
        InputError: it is not installed.
    """
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        wanted = name.partition(".")[0]
        raise InputError(f"reading {source} needs the library {wanted!r}: pip install 'limbeck[hub]'") from error
