"""Streams of random numbers by purpose, clocks, and sentences that say no more than they say."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from limbeck import seeds
from limbeck.console import Meter, clock, say, show
from limbeck.errors import most_in_words

purposes = st.lists(st.text("abc/ 1", min_size=1, max_size=6) | st.integers(0, 99), min_size=1, max_size=3)


def test_a_seed_is_the_head_of_a_sha256() -> None:
    # printf '1\x1fsft order\x1f0' | sha256sum: the first 16 digits, halved
    assert seeds.derive(1, "sft order", 0) == 0xB536417F259F97A8 >> 1


@given(st.integers(0, 2**31 - 1), purposes, purposes)
def test_streams_differ_by_purpose_and_by_seed(seed: int, one: list[str | int], other: list[str | int]) -> None:
    assert seeds.derive(seed, *one) == seeds.derive(seed, *one)
    assert seeds.derive(seed, *one) != seeds.derive(seed + 1, *one)
    if [str(part) for part in one] != [str(part) for part in other]:
        assert seeds.derive(seed, *one) != seeds.derive(seed, *other)
        assert seeds.rng(seed, *one).random() != seeds.rng(seed, *other).random()


def test_parts_of_a_purpose_are_not_run_together() -> None:
    assert (
        len({seeds.derive(1, "ab", "c"), seeds.derive(1, "a", "bc"), seeds.derive(1, "abc"), seeds.derive(11, "c")})
        == 4
    )


@given(st.integers(0, 2**31 - 1), purposes)
def test_a_seed_fits_63_bits(seed: int, purpose: list[str | int]) -> None:
    assert 0 <= seeds.derive(seed, *purpose) < 2**63


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0:00"),
        (-5, "0:00"),
        (0.4, "0:00"),
        (9, "0:09"),
        (59.5, "1:00"),
        (61, "1:01"),
        (3599.4, "59:59"),
        (3599.6, "1:00:00"),
        (3661, "1:01:01"),
        (360_000, "100:00:00"),
    ],
)
def test_a_clock_reads_minutes_and_hours(seconds: float, text: str) -> None:
    assert clock(seconds) == text


def test_what_is_said_is_shown_as_it_is_and_acts_on_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    for speak in (say, show):
        speak("one [red]x[/red] :smile:\n\ttwo \x1b[2J\x9b31m\r\u202e")
    for text in capsys.readouterr():
        assert text.expandtabs() == "one [red]x[/red] :smile:\n        two ⟪U+001B⟫[2J⟪U+009B⟫31m⟪U+000D⟫⟪U+202E⟫\n"


@pytest.mark.parametrize(("resumed", "left"), [(0, "6:40 left"), (2, "3:20 left")])
def test_time_left_is_of_the_units_done_here_since_work_began(
    resumed: int, left: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = 0.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    bar = Meter("SFT", 5, "steps", None)
    now = 1000.0  # a validation before the first step
    bar.begin(resumed)
    now = 1100.0
    capsys.readouterr()
    bar.advance()
    assert left in capsys.readouterr().err


def test_of_many_reasons_the_three_most_frequent_are_said_and_the_others_counted() -> None:
    drops = {"a": 2, "b": 7, "c": 2, "d": 30, "e": 1, "f": 0}
    assert most_in_words(drops) == "30 x d, 7 x b, 2 x a, 2 more reasons"
    assert most_in_words({"b": 1, "a": 1}) == "1 x a, 1 x b"


def test_a_reason_that_is_long_or_acts_on_the_terminal_stays_within_its_width_on_one_line() -> None:
    said = most_in_words({f"no\n\x1b[2J{'x' * 500}": 3})
    assert said.startswith("3 x no ⟪U+001B⟫[2Jxx")
    assert len(said) == len("3 x ") + 60
