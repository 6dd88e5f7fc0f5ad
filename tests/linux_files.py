"""A root folder with files as Linux keeps them in `proc` and `sys`."""

from collections.abc import Mapping
from pathlib import Path


def linux_root(root: Path, files: Mapping[str, str]) -> Path:
    """Write the texts of `files`, by their paths below `root`."""
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root
