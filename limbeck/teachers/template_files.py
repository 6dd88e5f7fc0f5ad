"""Templates as files: limbeck's own, or those in the user's folder, read strictly. Nothing is filled in here.

A template has two turns, each under a line of its own, `=== system ===` and `=== user ===`. Data stands in the user's
turn only, where `{{name}}` says so.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path

from limbeck.api.template_text import PLACEHOLDER, read_turns
from limbeck.errors import InputError
from limbeck.teachers.protocol import RequestKind
from limbeck.teachers.schemas import KEYS

PLACES: Mapping[RequestKind, tuple[str, ...]] = {
    "zero_shot": ("prompt",),
    "few_shot": ("examples", "prompt"),
    "new_prompt": ("weak_prompts",),
    "rolling_prompt": ("context_prompts",),
    "rolling": ("context_pairs", "prompt"),
    "revise": ("prompt", "reply"),
}


@dataclass(frozen=True, slots=True)
class Template:
    """One template, read. `id`: its kind and the first 8 hex digits of its text's SHA-256, as `zero_shot@1a2b3c4d`."""

    id: str
    system: str
    user: str


def read_template(text: str, kind: RequestKind, where: str) -> Template:
    """Read a template's text; `where` names it in errors.

    Raises:
        InputError: it has other turns than the two, lacks a place for data or has an unknown one, or does not ask for
            the JSON that its replies are read as.
    """
    system, user = read_turns(text, where)
    _check_places(system, user, kind, where)
    # A server that is asked for any JSON object wants to see the word in a message (OpenAI refuses the request).
    unsaid = [word for word in ("JSON", *(f'"{key}"' for key in KEYS[kind])) if word not in system + user]
    if unsaid:
        raise InputError(f"{where}: nowhere says {unsaid[0]}; a reply has to be one JSON object with "
                         f"{_listed(KEYS[kind])} and no other key")  # fmt: skip
    return Template(f"{kind}@{hashlib.sha256(text.encode()).hexdigest()[:8]}", system, user)


def _check_places(system: str, user: str, kind: RequestKind, where: str) -> None:
    known = PLACES[kind]
    if misplaced := PLACEHOLDER.findall(system):
        raise InputError(f"{where}: {{{{{misplaced[0]}}}}} stands in the system turn; data belongs into the user turn")
    found = PLACEHOLDER.findall(user)
    if unknown := [name for name in found if name not in known]:
        raise InputError(f"{where}: nothing fills {{{{{unknown[0]}}}}}; a {kind} template has {_listed(known)}")
    if missing := [name for name in known if name not in found]:
        raise InputError(f"{where}: the user turn has no place for {{{{{missing[0]}}}}}")


def _listed(names: tuple[str, ...]) -> str:
    return " and ".join(names)


class Templates:
    """The templates of a run: those of `folder`, and limbeck's own where it has none."""

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder
        self._read: dict[RequestKind, Template] = {}

    def check(self) -> None:
        """Read all of them.

        Raises:
            InputError: the folder is none, a file of it is named for no kind of request, or one cannot be read.
        """
        if self._folder is not None:
            if not self._folder.is_dir():
                raise InputError(f"teach.templates: {self._folder} is no folder")
            for path in sorted(self._folder.glob("*.txt")):
                if path.stem not in PLACES:
                    raise InputError(f"{path}: templates are called {', '.join(f'{kind}.txt' for kind in PLACES)}")
        for kind in PLACES:
            self.of(kind)

    def texts(self) -> list[str]:
        """What the user's own tell a teacher; limbeck's are known to whoever screens."""
        if self._folder is None:
            return []
        return [f"{template.system}\n{template.user}" for template in map(self.of, PLACES)]

    def of(self, kind: RequestKind) -> Template:
        """The template of a kind, read once."""
        if kind not in self._read:
            own = self._folder / f"{kind}.txt" if self._folder else None
            self._read[kind] = (
                read_template(_text_of(own), kind, str(own)) if own and own.is_file() else _packaged(kind)
            )
        return self._read[kind]


def _text_of(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise InputError(f"{path}: not valid UTF-8 text") from None
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error


@cache
def _packaged(kind: RequestKind) -> Template:
    file = resources.files("limbeck.teachers") / "templates" / f"{kind}.txt"
    return read_template(file.read_text(encoding="utf-8"), kind, str(file))


PACKAGED = Templates()
