"""Keys while looking at pairs: each by the state it leads to, then a real terminal with a process behind it."""

import io
import os
import pty
import select
import struct
import subprocess
import sys
import termios
import time
from dataclasses import replace
from fcntl import ioctl
from pathlib import Path

import pytest
from rich.console import Console
from street import limbeck, write_lines

from limbeck.browse import session
from limbeck.browse.rows import Shown, Side
from limbeck.browse.session import Page, State, passing, press, sources
from limbeck.browse.terminal import drawer
from limbeck.records import user_prompt

LONG = Page(lines=50, height=20)
SHORT = Page(lines=10, height=20)


def row(number: int, source: str) -> Shown:
    sides = Side("chosen", (f"answer {number}",)), Side("rejected", ("Straße",))
    return Shown(f"{source}/{number}", source, user_prompt(f"Question {number}?"), *sides, ())


ROWS = [row(1, "human"), row(2, "revise"), row(3, "human"), row(12, "human")]


def after(keys: list[str], state: State | None = None, page: Page = SHORT) -> State:
    state = state or State()
    for key in keys:
        state = press(state, key, ROWS, page)
    return state


@pytest.mark.parametrize(
    ("keys", "at"),
    [
        (["n"], 1),
        (["n", "n", "p"], 1),
        ([session.RIGHT, session.ENTER, session.LEFT], 1),
        ([" ", " "], 2),
        (["g", "4", session.ENTER], 3),
        (["g", "4", session.BACKSPACE, "2", session.ENTER], 1),
        (["g", "4", session.ESCAPE], 0),
        (["g", session.ENTER], 0),
        (["x", session.ESCAPE, "unknown"], 0),
    ],
)
def test_keys_go_from_row_to_row(keys: list[str], at: int) -> None:
    assert after(keys) == State(at=at)


@pytest.mark.parametrize("number", ["0", "5", "x", "-1", "²"])
def test_a_number_that_is_not_there_is_said_and_changes_nothing(number: str) -> None:
    assert after(["g", *number, session.ENTER]) == State(said="there are numbers 1 to 4")


def test_the_ends_are_ends() -> None:
    assert after(["p"]) == State(said="this is the first one")
    assert after(["n"] * 4) == State(at=3, said="that was the last one")
    assert after(["n"] * 4 + ["p"]) == State(at=2)


def test_q_ends_it_but_not_inside_a_question() -> None:
    assert after(["q"]).done
    assert after(["/", "q"]) == State(asking="search", typed="q")


def test_a_long_row_scrolls_and_space_goes_on_when_all_was_shown() -> None:
    assert after([session.DOWN] * 3 + [session.UP], page=LONG).top == 2
    assert after([session.UP], page=LONG).top == 0
    assert [after([" "] * n, page=LONG) for n in (1, 2, 3)] == [State(top=20), State(top=30), State(at=1)]
    assert after([session.PAGE_DOWN] * 9, page=LONG).top == 30
    assert after([session.PAGE_DOWN, "n"], page=LONG) == State(at=1)


def test_filters_narrow_what_is_counted_and_an_empty_answer_lifts_them() -> None:
    filtered = after(["n", "f", *"human", session.ENTER])
    assert filtered == State(source="human")
    assert [one.id for one in passing(ROWS, "human", "")] == ["human/1", "human/3", "human/12"]
    assert after(["g", "3", session.ENTER], filtered).at == 2
    assert after(["f", session.ENTER], filtered) == State()
    assert after(["f"]).said == "sources: human, revise"
    assert sources(ROWS) == ["human", "revise"]


def test_search_folds_case_looks_everywhere_and_keeps_the_place_where_nothing_is_found() -> None:
    assert [one.id for one in passing(ROWS, "", "QUESTION 1")] == ["human/1", "human/12"]
    assert len(passing(ROWS, "", "STRASSE")) == 4
    assert after(["/", *"Answer 3", session.ENTER]) == State(search="Answer 3")
    nothing = after(["n", "/", *"zebra", session.ENTER])
    assert nothing == State(at=1, said="nothing is found with search 'zebra'")
    assert replace(nothing, said="") == after(["n"])


class Terminal:
    """A process of `limbeck` on a terminal of its own, 100 columns wide and 30 lines high."""

    def __init__(self, *words: object) -> None:
        self._device, inside = pty.openpty()
        ioctl(inside, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 100, 0, 0))
        self.before = termios.tcgetattr(inside)
        kept = {name: value for name, value in os.environ.items() if name not in {"COLUMNS", "LINES", "NO_COLOR"}}
        command = [sys.executable, "-m", "limbeck.cli", *map(str, words)]
        self.inside = inside
        self.process = subprocess.Popen(
            command, stdin=inside, stdout=inside, stderr=inside, env={**kept, "TERM": "xterm-256color"}
        )

    def until(self, said: str) -> str:
        """Everything drawn from now until `said` has been."""
        text, end = "", time.monotonic() + 60
        while said not in text:
            assert time.monotonic() < end, text[-3000:]
            if select.select([self._device], [], [], 0.2)[0]:
                text += os.read(self._device, 65536).decode(errors="replace")
        return text

    def press(self, keys: str) -> None:
        os.write(self._device, keys.encode())


def test_on_a_terminal_keys_browse_and_the_terminal_is_left_as_it_was(tmp_path: Path) -> None:
    answers = [{"chosen": f"Yes, {n} \x1b[2J[red]", "rejected": f"No, {n}."} for n in range(1, 6)]
    rows = [{"prompt": f"Question {n}?", "source": "ba"[n % 2], **both} for n, both in enumerate(answers, 1)]
    terminal = Terminal("inspect", write_lines(tmp_path / "pairs.jsonl", rows))
    first = terminal.until("q quit")
    assert "1 of 5" in first
    assert "⟪U+001B⟫[2J[red]" in first
    assert "\x1b[2J[red]" not in first
    terminal.press("n")
    assert "Question 2?" in terminal.until("2 of 5")
    terminal.press("\x1b[C")
    terminal.until("3 of 5")
    terminal.press("fb\r")
    terminal.until("1 of 2, source 'b'")
    terminal.press("f\x7f\r/YES, 4\r")
    assert "1 of 1, search 'YES, 4'" in terminal.until("Question 4?")
    terminal.press("q")
    assert terminal.process.wait(timeout=30) == 0
    assert termios.tcgetattr(terminal.inside) == terminal.before


def test_scrolling_does_not_draw_a_row_again_and_another_width_does() -> None:
    draw = drawer(Console(file=io.StringIO(), width=80))
    first = draw(ROWS[0], "1 of 4", 80)
    assert draw(ROWS[0], "1 of 4", 80) is first
    assert draw(ROWS[1], "2 of 4", 80) != first
    narrow = draw(ROWS[0], "1 of 4", 60)
    assert {sum(segment.cell_length for segment in lines[0]) for lines in (first, narrow)} == {80, 60}


def test_without_a_terminal_the_first_rows_are_printed_plainly(tmp_path: Path) -> None:
    rows = [{"prompt": f"Question {n}?", "chosen": f"Yes {n}", "rejected": "No"} for n in range(1, 31)]
    path = write_lines(tmp_path / "pairs.jsonl", rows)
    shown = limbeck("inspect", path).done().out
    assert ("Question 10?" in shown, "Question 11?" in shown) == (True, False)
    assert "\x1b" not in shown
    three = limbeck("inspect", path, "--first", 3).done().out
    assert ("Question 3?" in three, "Question 4?" in three) == (True, False)
    found = limbeck("inspect", path, "--search", "YES 2", "--first", 30).done().out
    assert [n for n in range(1, 31) if f"Question {n}?" in found] == [2, *range(20, 30)]


def test_a_random_order_is_that_of_its_seed(tmp_path: Path) -> None:
    rows = [{"prompt": f"Question {n}?", "chosen": "Yes", "rejected": "No"} for n in range(100)]
    path = write_lines(tmp_path / "pairs.jsonl", rows)
    seen = [limbeck("inspect", path, "--first", 5, "--random", seed).done().out for seed in (1, 1, 2)]
    assert seen[0] == seen[1] != seen[2]


def test_what_cannot_be_inspected_is_one_sentence(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "p.jsonl", [{"prompt": "q", "chosen": "a", "rejected": "b", "source": "human"}])
    assert limbeck("inspect", path, "--source", "x", "--search", "y").complaint == (
        f"{path} holds no rows with the source 'x' and the text 'y'"
    )
    assert limbeck("inspect", tmp_path / "none.jsonl").complaint == f"{tmp_path}/none.jsonl does not exist"
