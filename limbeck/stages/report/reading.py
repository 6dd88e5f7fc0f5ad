"""Files that may be absent, and which part of a page then misses them. Refuses to know what they hold."""

from collections.abc import Callable
from pathlib import Path
from typing import Literal, NamedTuple

from limbeck.store import AnyRecord, read_records

Part = Literal["pairs", "training", "replies", "cost", "recipe"]


class Gap(NamedTuple):
    """A file that was looked for in vain, and the part of the page that misses it."""

    part: Part
    path: str


class OptionalFiles:
    """Reads the files of a folder, and remembers in `gaps` those that were looked for and are not there.

    `lies_at` says where a file lies, for a folder that shares some with others.
    """

    def __init__(self, root: Path, lies_at: Callable[[str], str] = str) -> None:
        self._root, self._lies_at = root, lies_at
        self.gaps: list[Gap] = []

    def at(self, path: str) -> Path:
        """Where a file or folder lies, there or not."""
        return self._root / self._lies_at(path)

    def has(self, part: Part, path: str) -> bool:
        """Whether the file is there; if not, that is remembered as a gap."""
        found = self.at(path).is_file()
        if not found:
            self.gaps.append(Gap(part, path))
        return found

    def text(self, part: Part, path: str) -> str | None:
        """A text file, whatever bytes it holds; None and a gap where it is absent."""
        if not self.has(part, path):
            return None
        return self.at(path).read_text(encoding="utf-8", errors="replace")

    def records(self, part: Part, path: str, kind: type[AnyRecord]) -> tuple[AnyRecord, ...]:
        """The records of a file; none, and a gap, where it is absent."""
        return tuple(read_records(self.at(path), kind)) if self.has(part, path) else ()

    def where_there(self, path: str, kind: type[AnyRecord]) -> tuple[AnyRecord, ...]:
        """The records of a file that nobody misses: none where it is absent."""
        return tuple(read_records(self.at(path), kind)) if self.at(path).is_file() else ()
