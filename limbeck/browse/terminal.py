"""The device: keys read one by one, the item drawn on the terminal's second screen, the terminal left as it was."""

import contextlib
import functools
import os
import select
import sys
import termios
import tty
from collections.abc import Callable, Iterator, Sequence

from rich.console import Console, ConsoleOptions, Group, RenderResult
from rich.segment import Segment
from rich.text import Text

from limbeck.browse import session
from limbeck.browse.rows import Shown
from limbeck.browse.session import HELP, Page, State, passing, press
from limbeck.browse.view import view
from limbeck.untrusted import one_line

_FOOTER_LINES = 2
_REMEMBERED = 64
_ESCAPE_WAIT_SECONDS = 0.05  # the rest of an arrow key's sequence comes at once; a lone Escape is followed by nothing
_SEQUENCES = {
    "\x1b[A": session.UP,
    "\x1b[B": session.DOWN,
    "\x1b[C": session.RIGHT,
    "\x1b[D": session.LEFT,
    "\x1b[5~": session.PAGE_UP,
    "\x1b[6~": session.PAGE_DOWN,
    "\x1b": session.ESCAPE,
    "\r": session.ENTER,
    "\n": session.ENTER,
    "\x7f": session.BACKSPACE,
    "\x08": session.BACKSPACE,
    "\x04": "q",
    "": "q",  # the terminal has gone
}


class _Lines:
    """Lines that were rendered before, as something to draw."""

    def __init__(self, lines: Sequence[Sequence[Segment]]) -> None:
        self._lines = lines

    def __rich_console__(self, _console: Console, _options: ConsoleOptions) -> RenderResult:
        for line in self._lines:
            yield from line
            yield Segment.line()


def browse(rows: Sequence[Shown], console: Console, start: State) -> None:
    """Show rows until `q` is pressed. Standard input and output are a terminal."""
    state, draw = start, drawer(console)
    # Leaving by Ctrl-C is leaving: nothing was begun that could be lost.
    with contextlib.suppress(KeyboardInterrupt), _single_keys(), console.screen() as screen:
        while not state.done:
            found = passing(rows, state.source, state.search)
            heading = f"{state.at + 1} of {len(found)}{_filters(state)}"
            drawn = draw(found[state.at], heading, console.width)
            page = Page(lines=len(drawn), height=max(console.height - _FOOTER_LINES, 1))
            top = min(state.top, max(page.lines - page.height, 0))  # the window may have grown meanwhile
            window = [*drawn[top : top + page.height]]
            window += [[] for _ in range(page.height - len(window))]
            screen.update(Group(_Lines(window), _footer(state, page, top)))
            state = press(state, _read_key(), rows, page)


def drawer(console: Console) -> Callable[[Shown, str, int], list[list[Segment]]]:
    """What draws an item under a heading in so many columns, as lines; the last ones drawn are remembered: scrolling
    does not compare the same answers again.
    """

    @functools.lru_cache(maxsize=_REMEMBERED)
    def draw(shown: Shown, heading: str, columns: int) -> list[list[Segment]]:
        return console.render_lines(view(shown, heading, columns), console.options.update(width=columns), pad=False)

    return draw


def _filters(state: State) -> str:
    named = [("source", state.source), ("search", state.search)]
    return "".join(f", {name} {one_line(value, 40)!r}" for name, value in named if value)


def _footer(state: State, page: Page, top: int) -> Text:
    if state.asking:
        said = f"  ({one_line(state.said, 300)})" if state.said else ""
        line = f"{state.asking}: {state.typed}█{said}"
    else:
        below = page.lines - page.height - top
        more = f"{below} more lines, " if below > 0 else ""
        line = one_line(state.said, 300) or f"{more}{HELP}"
    return Text(f"\n{line}", style="reverse" if state.asking else "dim", no_wrap=True, overflow="ellipsis")


@contextlib.contextmanager
def _single_keys() -> Iterator[None]:
    """Hand keys over as they are pressed and do not echo them; Ctrl-C still interrupts."""
    device = sys.stdin.fileno()
    before = termios.tcgetattr(device)
    try:
        tty.setcbreak(device)
        yield
    finally:
        termios.tcsetattr(device, termios.TCSADRAIN, before)


def _read_key() -> str:
    """The next key: a character, or one of the names of `session`."""
    device = sys.stdin.fileno()
    data = os.read(device, 1)
    if data == b"\x1b":
        while len(data) < 8 and select.select([device], [], [], _ESCAPE_WAIT_SECONDS)[0]:
            data += os.read(device, 1)
            if data[-1:].isalpha() or data[-1:] == b"~":
                break
    elif data and data[0] >= 0xC0:  # the first byte of a character of two to four
        data += os.read(device, 1 + (data[0] >= 0xE0) + (data[0] >= 0xF0))
    text = data.decode(errors="replace")
    if text in _SEQUENCES:
        return _SEQUENCES[text]
    return text if text.isprintable() else "unknown"
