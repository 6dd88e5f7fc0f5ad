"""Teaching that its budget ends: what is paid for is named, or taken where fewer will do, and more budget goes on."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from street import Outcome, limbeck, settings, student, write_lines, write_tiny_recipe

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
        self.url = url

    def teach(self, *overrides: str, count: int = ASKED, kind: str = "zero_shot") -> Outcome:
        words = ("--weak", self._prompts, "--teacher", "openai:m", "--base-url", self.url, "--out", self.out)
        asked = ("--kind", kind, "--count", count)
        return limbeck("teach", *words, *asked, *settings("teach.max_tokens=1000", *overrides))

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
        return self.pairs_of("zero_shot")

    def pairs_of(self, kind: str) -> list[Pair]:
        return read_records(self.out / "teach" / f"{kind}.jsonl", Pair)

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


def price_list(path: Path, dollars: float) -> Path:
    path.write_text(f'date = "2026-06-21"\n[models]\n"m" = {{ input = {dollars}, output = {dollars} }}\n')
    return path


def test_a_price_list_corrected_in_place_goes_on_where_the_budget_in_dollars_ended(desk: Desk, tmp_path: Path) -> None:
    prices = price_list(tmp_path / "prices.toml", 10.0)  # as ENOUGH_FOR_SOME
    limits = ("teach.budget.usd=0.08", f"teach.prices={prices}", FEWER)
    desk.teach(*limits).done()
    assert 0 < len(desk.pairs) == desk.paid < ASKED
    assert desk.teach(*limits).done().ran == []
    price_list(prices, 1.0)
    assert "it ended early, and teach.prices changed" in desk.teach(*limits).done().err
    assert len(desk.pairs) == ASKED == desk.paid
    price_list(prices, 2.0)  # nothing, to a stage that reached its goal
    assert desk.teach(*limits).done().ran == []


def test_a_price_list_that_cannot_be_read_now_is_no_reason_to_go_on_where_the_budget_ended(
    desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = ("teach.budget.usd=0.08", "teach.prices=prices.toml", FEWER)
    monkeypatch.chdir(tmp_path)
    prices = price_list(tmp_path / "prices.toml", 10.0)
    desk.teach(*limits).done()
    assert 0 < len(desk.pairs) < ASKED
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)  # from here the path leads nowhere
    assert desk.teach(*limits).done().ran == []
    monkeypatch.chdir(tmp_path)
    prices.unlink()
    assert desk.teach(*limits).done().ran == []
    price_list(prices, 10.0)
    assert desk.teach(*limits).done().ran == []
    price_list(prices, 1.0)
    assert "it ended early, and teach.prices changed" in desk.teach(*limits).done().err
    assert len(desk.pairs) == ASKED


def test_a_budget_whose_prices_cannot_be_read_leaves_the_earlier_pairs_where_they_are(
    desk: Desk, tmp_path: Path
) -> None:
    desk.teach(count=3).done()
    before = sorted((path.name, path.read_bytes()) for path in (desk.out / "teach").iterdir() if path.is_file())
    gone = f"teach.prices={tmp_path / 'gone.toml'}"
    assert "gone.toml" in desk.teach("teach.budget.usd=1", gone, count=4).complaint
    assert sorted((path.name, path.read_bytes()) for path in (desk.out / "teach").iterdir() if path.is_file()) == before


def test_a_price_list_that_cannot_be_read_hides_no_other_limit_that_changed(desk: Desk, tmp_path: Path) -> None:
    prices = price_list(tmp_path / "prices.toml", 10.0)
    named = (f"teach.prices={prices}", FEWER)
    desk.teach("teach.budget.usd=0.08", *named).done()
    prices.unlink()
    before, more = desk.pairs, ("teach.budget.usd=0.8", *named)
    assert desk.teach(*more).complaint == f"the price list {prices} cannot be read: No such file or directory"
    assert desk.pairs == before
    price_list(prices, 10.0)
    assert "it ended early, and teach.budget changed" in desk.teach(*more).done().err
    assert len(desk.pairs) > len(before)


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


@pytest.mark.parametrize("turn", [1, 2, 64])
def test_pairs_on_new_prompts_are_finished_in_turns_so_that_a_budget_that_ends_leaves_some(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, turn: int
) -> None:
    monkeypatch.setattr("limbeck.stages.teach.desk.TURN", turn)
    said = desk.teach(budget(ENOUGH_FOR_SOME), FEWER, kind="few_shot")
    there = len(desk.pairs_of("few_shot"))
    if turn == 64:  # more than are asked for: all that there was went into prompts
        assert there == 0 < desk.paid
        assert said.code == 2
    else:
        assert desk.paid - turn <= 2 * there <= desk.paid
        assert there > 0


def test_turns_change_no_pair(desk: Desk, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    found = []
    for turn in (64, 5):
        monkeypatch.setattr("limbeck.stages.teach.desk.TURN", turn)
        desk.out = tmp_path / f"turn-{turn}"
        desk.teach(budget(10**6), kind="few_shot").done()
        found.append(desk.pairs_of("few_shot"))
    assert found[0] == found[1]
    assert len(found[0]) == ASKED


def test_a_budget_that_leaves_nothing_for_the_second_kind_keeps_the_pairs_of_the_first(desk: Desk) -> None:
    both = (budget(ENOUGH_FOR_SOME), FEWER, "arms.taught.few_shot=6")
    said = desk.teach(*both).done().err
    there, result = len(desk.pairs), desk.manifest.result
    assert 0 < there == desk.paid < ASKED
    assert desk.pairs_of("few_shot") == []
    assert result.facts["accepted"] == {"zero_shot": there, "few_shot": 0}
    assert result.facts["exhausted"] == {"zero_shot": {OUT_OF_BUDGET: ASKED - there}, "few_shot": {OUT_OF_BUDGET: 6}}
    assert "  0 of the 6 few_shot pairs asked for, and no more: the budget is used up: " in said
    desk.teach(budget(10**6), *both[1:]).done()
    assert (len(desk.pairs), len(desk.pairs_of("few_shot"))) == (ASKED, 6)


def test_where_the_budget_ends_before_the_second_kind_the_error_says_what_of_the_first_could_be_taken(
    desk: Desk,
) -> None:
    said = desk.teach(budget(ENOUGH_FOR_SOME), "arms.taught.few_shot=6", count=5).complaint
    assert "or take no few_shot pair but 5 zero_shot that are paid for already: mix.take_fewer = true" in said


def test_a_budget_that_the_second_kind_has_spent_before_leaves_the_first_without_and_the_second_as_it_was(
    desk: Desk,
) -> None:
    desk.teach(count=3, kind="few_shot").done()
    there, paid = desk.pairs_of("few_shot"), desk.paid
    both = (budget(ENOUGH_FOR_SOME // 2), "arms.taught.zero_shot=6")
    assert desk.teach(*both, count=3, kind="few_shot").complaint.endswith("no usable zero_shot pair is paid for yet")
    desk.teach(*both, FEWER, count=3, kind="few_shot").done()
    assert desk.manifest.result.facts["accepted"] == {"zero_shot": 0, "few_shot": 3}
    assert (desk.pairs_of("few_shot"), desk.paid) == (there, paid)


def test_an_arm_that_is_left_without_any_pair_is_named_with_what_there_is_of_other_kinds(desk: Desk) -> None:
    said = desk.teach(budget(ENOUGH_FOR_SOME), FEWER, "arms.other.few_shot=6").complaint
    assert said.startswith("the budget is used up: ")
    assert said.endswith(
        "; no usable few_shot pair is paid for yet, without which arms.other cannot be trained; of other kinds there "
        f"are usable pairs: {desk.paid} zero_shot"
    )


def test_without_a_stream_to_write_along_rolling_pairs_end_with_the_budget_of_the_random_ones(desk: Desk) -> None:
    # 5 pairs before each rolling one, and the budget ends before there are so many.
    rolling = ("arms.taught.rolling=2", "arms.taught.mixing=uniform", "arms.taught.random=12")
    desk.teach(budget(4000), FEWER, *rolling, kind="random").done()
    accepted = desk.manifest.result.facts["accepted"]
    assert 0 < accepted["random"] < 5
    assert accepted["rolling"] == 0


def test_a_whole_run_goes_on_without_the_kind_that_its_budget_left_nothing_for(desk: Desk, tmp_path: Path) -> None:
    recipe, out = write_tiny_recipe(tmp_path / "recipe.toml", student(tmp_path / "base")), tmp_path / "run"
    recipe.write_text(recipe.read_text().partition("[arms.random]")[0] + "[arms.mixed]\nzero_shot = 4\nfew_shot = 4\n")
    taught = ("teach.teacher=openai:m", f"teach.endpoint.base_url={desk.url}", "teach.max_tokens=1000", budget(8000))
    said = limbeck(
        "run", recipe, "--out", out, *settings(*taught, FEWER, "screen.on_verifier_disagreement=keep")
    ).done()
    assert "arm mixed: 0 few_shot pairs instead of 4: there are no more" in said.err
    mixed = read_manifest(out / "mix" / "mixed")
    assert mixed is not None
    assert mixed.result.facts["train_by_kind"] == {"zero_shot": 4, "few_shot": 0}
    assert said.ran[-2:] == ["verdict", "report"]
