"""What keys do: a pure step from one state of looking to the next. Knows nothing of terminals."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from limbeck.browse.rows import Shown

Asking = Literal["", "number", "source", "search"]
ENTER, ESCAPE, BACKSPACE = "enter", "escape", "backspace"
UP, DOWN, LEFT, RIGHT = "up", "down", "left", "right"
PAGE_UP, PAGE_DOWN = "page up", "page down"
HELP = "n next  p previous  g number  f filter by source  / search  space, arrows scroll  q quit"
_ASKS: dict[str, Asking] = {"g": "number", "f": "source", "/": "search"}
_NEXT, _PREVIOUS = {"n", ENTER, RIGHT}, {"p", "b", LEFT}


@dataclass(frozen=True, slots=True)
class Page:
    """How much fits: lines of the item, lines of the screen for it."""

    lines: int
    height: int


@dataclass(frozen=True, slots=True)
class State:
    """Where somebody is: place among what passes the filters, first line shown, filters, and a question being typed."""

    at: int = 0
    top: int = 0
    source: str = ""
    search: str = ""
    asking: Asking = ""
    typed: str = ""
    said: str = ""
    done: bool = False


def passing(rows: Sequence[Shown], source: str, search: str) -> list[Shown]:
    """The rows of a source that hold a text, whatever its case; an empty filter lets all pass."""
    folded = search.casefold()
    return [row for row in rows if (not source or row.source == source) and (not folded or row.contains(folded))]


def press(state: State, key: str, rows: Sequence[Shown], page: Page) -> State:
    """The state after a key. `rows`: all there are."""
    if state.asking:
        return _typed(state, key, rows)
    state = replace(state, said="")
    if key == "q":
        return replace(state, done=True)
    if key in _ASKS:
        said = f"sources: {', '.join(sources(rows))}" if key == "f" else ""
        return replace(state, asking=_ASKS[key], typed="", said=said)
    last = max(page.lines - page.height, 0)
    if key == " ":
        key = PAGE_DOWN if state.top < last else "n"
    scrolled = {UP: -1, DOWN: 1, PAGE_UP: -page.height, PAGE_DOWN: page.height}.get(key)
    if scrolled is not None:
        return replace(state, top=min(max(state.top + scrolled, 0), last))
    if key in _NEXT | _PREVIOUS:
        return _moved(state, state.at + (1 if key in _NEXT else -1), len(passing(rows, state.source, state.search)))
    return state


def sources(rows: Sequence[Shown]) -> list[str]:
    """The sources there are, in the order of their first rows."""
    return list(dict.fromkeys(row.source for row in rows))


def _moved(state: State, to: int, count: int) -> State:
    if not 0 <= to < count:
        return replace(state, said="that was the last one" if to >= count else "this is the first one")
    return replace(state, at=to, top=0)


def _typed(state: State, key: str, rows: Sequence[Shown]) -> State:
    if key == ESCAPE:
        return replace(state, asking="", typed="", said="")
    if key == BACKSPACE:
        return replace(state, typed=state.typed[:-1])
    if key == ENTER:
        return _answered(replace(state, asking="", typed="", said=""), state.asking, state.typed.strip(), rows)
    return replace(state, typed=state.typed + key) if len(key) == 1 else state


def _answered(state: State, asking: Asking, answer: str, rows: Sequence[Shown]) -> State:
    if asking == "number":
        count = len(passing(rows, state.source, state.search))
        if not answer.isdecimal() or not 1 <= int(answer) <= count:
            return replace(state, said=f"there are numbers 1 to {count}") if answer else state
        return _moved(state, int(answer) - 1, count)
    wanted = replace(state, source=answer) if asking == "source" else replace(state, search=answer)
    if not passing(rows, wanted.source, wanted.search):
        return replace(state, said=f"nothing is found with {asking} {answer!r}")
    return replace(wanted, at=0, top=0)
