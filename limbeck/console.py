"""What the user sees while a run goes on: plain sentences, and progress with the time left.

On a terminal progress is a live bar (rich); in a log file it is a line every 15 seconds, so that both can be read.
Knows nothing of stages. Everything goes to standard error, so that standard output stays for results.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.text import Text

from limbeck.untrusted import visible

LOG_EVERY_SECONDS = 15.0
console = Console(stderr=True, highlight=False)
results = Console(highlight=False)


def say(text: str, style: str = "") -> None:
    """Print one sentence on standard error; `text` is shown as by `literal`."""
    console.print(literal(text), style=style or None, soft_wrap=True)


def show(text: str) -> None:
    """Print a result on standard output; `text` is shown as by `literal`."""
    results.print(literal(text), soft_wrap=True)


def literal(text: str) -> Text:
    """Text as it is, whoever wrote it: never read as markup, and what would act on the terminal gets a number."""
    return Text(visible(text))


def clock(seconds: float) -> str:
    """Render seconds as `m:ss` or `h:mm:ss`."""
    whole = int(max(seconds, 0.0) + 0.5)
    hours, rest = divmod(whole, 3600)
    minutes, left = divmod(rest, 60)
    return f"{hours}:{minutes:02d}:{left:02d}" if hours else f"{minutes}:{left:02d}"


class Meter:
    """Progress over a known amount of work. `advance` may be called as often as one likes."""

    def __init__(self, label: str, total: float, unit: str, bar: Progress | None) -> None:
        self.label, self.total, self.unit = label, total, unit
        self.done = 0.0
        self._resumed_from = 0.0
        self._started = self._logged = time.monotonic()
        self._bar = bar
        self._task: TaskID | None = bar.add_task(escape(visible(label)), total=total, note="") if bar else None

    def advance(self, amount: float = 1.0, note: str = "") -> None:
        """Count `amount` as done; `note` is shown beside the bar (a loss, a rate)."""
        self.done += amount
        text = f"{self._left()}{'  ' + note if note else ''}"
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=self.done, note=escape(visible(text)))
        elif time.monotonic() - self._logged >= LOG_EVERY_SECONDS:
            self._logged = time.monotonic()
            share = 100 * self.done / self.total if self.total else 100.0
            say(f"  {self.label}: {self.done:.0f}/{self.total:.0f} {self.unit} ({share:.0f} %), {text}")

    def skip(self, amount: float) -> None:
        """Count work that an earlier, interrupted run had done: it must not flatter the time left."""
        self._resumed_from += amount
        self.advance(amount)

    def begin(self, done: float) -> None:
        """Work begins here, `done` of it already: the time that preparations took is not the time of its units."""
        self._started = time.monotonic()
        self.skip(done)

    def _left(self) -> str:
        done_here = self.done - self._resumed_from
        if done_here <= 0:
            return "time left unknown"
        rate = done_here / (time.monotonic() - self._started + 1e-9)
        return f"{clock((self.total - self.done) / rate)} left"


@contextmanager
def meter(label: str, total: float, unit: str) -> Iterator[Meter]:
    """Show progress for `total` `unit`s of work labelled `label`."""
    if not console.is_terminal:
        yield Meter(label, total, unit, None)
        return
    columns = (
        TextColumn("  {task.description}"),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TextColumn(unit),
        TimeElapsedColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        yield Meter(label, total, unit, bar)
