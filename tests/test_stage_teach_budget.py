"""Teaching that its budget ends: what is paid for is named, or taken where fewer will do, and more budget goes on."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from street import Outcome, limbeck, settings, write_lines

from limbeck.api.fake_server import Body, FakeServer, completion
from limbeck.api.fake_teacher import FakeTeacher
from limbeck.manifest import Manifest, read_manifest
from limbeck.records import Pair
from limbeck.stages.teach.accepting import OUT_OF_BUDGET
from limbeck.store import read_records

PROMPTS, ASKED = 30, 12
ENOUGH_FOR_SOME = 8000  # for not 12 replies of 907 tokens; one asked for counts 1,000 and the bytes of its prompt
FEWER = "mix.take_fewer=true"


class LongWinded:
    """A teacher whose replies count 900 tokens; every `spoilt_every`-th is no pair (0: all are)."""

    def __init__(self) -> None:
        self.spoilt_every, self._replies = 0, 0

    def __call__(self, body: Body) -> httpx.Response:
        self._replies += 1
        spoilt = self.spoilt_every and self._replies % self.spoilt_every == 0
        text = "Well." if spoilt else FakeTeacher()(body).json()["choices"][0]["message"]["content"]
        return completion(text, tokens_out=900)


@pytest.fixture
def teacher() -> LongWinded:
    return LongWinded()


@pytest.fixture
def desk(teacher: LongWinded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator["Desk"]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    server = FakeServer(teacher, models=("m",))
    with server.listen() as url:
        yield Desk(server, tmp_path, url)


class Desk:
    """`limbeck teach` in one folder, at one fake server."""

    def __init__(self, server: FakeServer, folder: Path, url: str) -> None:
        self._server = server
        topics = ("harbours", "violins", "glaciers", "markets", "lanterns", "orchards")
        rows = [{"prompt": f"Tell me of {topics[n % 6]}, part {n}, and why."} for n in range(PROMPTS)]
        self._prompts, self.out = write_lines(folder / "prompts.jsonl", rows), folder / "out"
        self._url = url

    def teach(self, *overrides: str, count: int = ASKED) -> Outcome:
        words = ("--weak", self._prompts, "--teacher", "openai:m", "--base-url", self._url, "--out", self.out)
        return limbeck("teach", *words, "--count", count, *settings("teach.max_tokens=1000", *overrides))

    @property
    def paid(self) -> int:
        """Requests that came in."""
        return len(self._server.bodies)

    @property
    def asked_again(self) -> int:
        """Those of them that show a reply and what was wrong with it."""
        return sum(len(body["messages"]) > 2 for body in self._server.bodies)

    @property
    def pairs(self) -> list[Pair]:
        return read_records(self.out / "teach" / "zero_shot.jsonl", Pair)

    @property
    def manifest(self) -> Manifest:
        found = read_manifest(self.out / "teach")
        assert found is not None
        return found


def budget(tokens: int) -> str:
    return f"teach.budget.tokens={tokens}"


def test_an_ended_budget_names_the_usable_pairs_and_the_setting_that_takes_them_without_paying(desk: Desk) -> None:
    said = desk.teach(budget(ENOUGH_FOR_SOME)).complaint
    paid = desk.paid
    assert 0 < paid < ASKED
    assert said.startswith("the budget is used up: ")
    assert f"or take the {paid} usable zero_shot pairs, of {ASKED} asked for, that are paid for already" in said
    assert f"--set {FEWER}" in said
    assert read_manifest(desk.out / "teach") is None
    taken = desk.teach(budget(ENOUGH_FOR_SOME), FEWER).done()
    assert len(desk.pairs) == paid == desk.paid
    assert f"{paid} of the {ASKED} zero_shot pairs asked for, and no more: the budget is used up: " in taken.err
    assert f"{ENOUGH_FOR_SOME:,} tokens are spent or set aside" in taken.err


def test_pairs_taken_early_are_counted_so_and_other_limits_go_on_where_they_ended(desk: Desk) -> None:
    few = (budget(ENOUGH_FOR_SOME), FEWER)
    desk.teach(*few).done()
    paid, result = len(desk.pairs), desk.manifest.result
    assert result.facts["accepted"] == {"zero_shot": paid}
    assert result.facts["exhausted"] == {"zero_shot": {OUT_OF_BUDGET: ASKED - paid}}
    assert result.drops == {f"zero_shot: {OUT_OF_BUDGET}": ASKED - paid}
    assert result.facts["replies"]["used"] == paid
    assert desk.teach(*few).done().ran == []
    # Where fewer will not do, what was ended is not taken for finished.
    assert "mix.take_fewer = true" in desk.teach(budget(ENOUGH_FOR_SOME)).complaint
    assert desk.paid == paid
    desk.teach(*few).done()
    more = desk.teach(budget(10**6), FEWER).done()
    assert "it ended early, and teach.budget changed" in more.err
    assert len(desk.pairs) == ASKED == desk.paid
    assert desk.manifest.result.ended_by == {}
    # A stage that reached its goal stays fresh under any budget, as before.
    assert desk.teach(budget(10**5), FEWER).done().ran == []


def test_fewer_pairs_than_asked_for_are_said_to_be_so_and_why(desk: Desk, teacher: LongWinded) -> None:
    teacher.spoilt_every = 10
    out_of_prompts = desk.teach("teach.reasks=0", count=PROMPTS + 1).done()
    assert len(desk.pairs) == 27
    said = (
        f"27 of the {PROMPTS + 1} zero_shot pairs asked for: {PROMPTS} were tried, and no prompt is left (3 x parse: "
    )
    assert said in out_of_prompts.err
    capped = desk.teach("teach.reasks=0", "teach.max_candidates.zero_shot=28", count=28).done()
    assert "28 were tried, the most that teach.max_candidates.zero_shot allows (" in capped.err
    assert "pairs asked for" not in desk.teach("teach.reasks=0").done().err


def test_a_budget_too_small_for_one_pair_is_an_error_also_where_fewer_will_do(desk: Desk) -> None:
    said = desk.teach(budget(100), FEWER).complaint
    assert said.endswith("; no usable zero_shot pair is paid for yet")
    assert desk.paid == 0


def test_replies_that_did_not_parse_before_the_budget_ended_are_no_usable_pairs(
    desk: Desk, teacher: LongWinded
) -> None:
    teacher.spoilt_every = 2
    desk.teach(budget(ENOUGH_FOR_SOME), FEWER, "teach.reasks=0").done()
    result = desk.manifest.result
    assert result.facts["replies"]["used"] == desk.paid
    assert sum(number for why, number in result.drops.items() if "parse: " in why) == desk.paid // 2
    assert len(desk.pairs) == desk.paid - desk.paid // 2 > 0


def test_only_what_was_asked_again_before_the_budget_ended_counts_as_that(desk: Desk, teacher: LongWinded) -> None:
    teacher.spoilt_every = 2
    desk.teach(budget(ENOUGH_FOR_SOME), FEWER).done()
    assert desk.paid - len(desk.pairs) > desk.asked_again == desk.manifest.result.facts["reasks"]
