"""Mining with several samples a prompt: what is weak, and which replies are kept as failing and as right."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from street import student

from limbeck import tasks
from limbeck.errors import InputError
from limbeck.recipe import Mine, Model, Recipe
from limbeck.records import FinishReason, Judgement, PromptRow, Reply, WeakPrompt, user_prompt
from limbeck.stages import mine
from limbeck.store import read_records, write_records

CPU = Model(device="cpu", dtype="fp32")


def judged(**scores: Sequence[float | None]) -> list[Judgement]:
    """Judgements by prompt; solved where the score is 1, unscored where it is None."""
    return [
        Judgement(prompt_id=name, sample_index=index, score=score, solved=None if score is None else score == 1)
        for name, row in scores.items()
        for index, score in enumerate(row)
    ]


@pytest.mark.parametrize(
    ("below", "weak"),
    [(1.0, {"half", "never", "most"}), (0.75, {"half", "never"}), (0.5, {"never"}), (0.01, {"never"})],
)
def test_a_prompt_is_weak_where_too_few_of_its_replies_are_right(below: float, weak: set[str]) -> None:
    judgements = judged(always=[1, 1, 1, 1], most=[1, 1, 1, 0], half=[0, 1, 0, 1], never=[0, 0, 0, 0], unsaid=[None])
    assert mine.weak_prompts(Mine(weak_below_pass_rate=below), judgements, {}) == weak


def test_an_unscored_reply_counts_neither_way() -> None:
    settings = Mine(weak_below_pass_rate=0.6)
    assert mine.weak_prompts(settings, judged(p=[1, None, None, 1], q=[1, None, 0]), {}) == {"q"}


def test_the_gap_is_that_of_the_mean_reward() -> None:
    settings = Mine(rule="gap", judge="nemotron")
    judgements = judged(below=[-9, 5], equal=[-1, 1], above=[-1, 3], unsaid=[None, None])
    references: dict[str, float | None] = {"below": 0.0, "equal": 0.0, "above": 0.0, "unsaid": 0.0}
    assert mine.weak_prompts(settings, judgements, references) == {"below"}


def test_the_lowest_part_is_that_of_the_mean_rewards() -> None:
    settings = Mine(rule="bottom_quantile", judge="nemotron", bottom_quantile=0.5)
    judgements = judged(a=[-9, 9], b=[-2, -2], c=[1, None], d=[-1, -1])
    assert mine.weak_prompts(settings, judgements, {}) == {"b", "d"}


def kept(
    settings: Mine, row: Sequence[tuple[str, float | None, FinishReason]], reference: float | None = None
) -> WeakPrompt:
    """What is kept of replies to one prompt, each a text, a score and why it ended."""
    prompt = PromptRow(id="p", prompt=user_prompt("q"), source="s")
    answered = [
        (prompt, Reply(prompt_id="p", sample_index=n, text=text, finish_reason=end, num_tokens=1))
        for n, (text, _, end) in enumerate(row)
    ]
    judgements = judged(p=[score for _, score, _ in row])
    weak = mine.weak_prompts(settings, judgements, {"p": reference})
    (found,) = mine.mined_prompts(settings, answered, judgements, {"p": reference}, weak)
    return found


REPLIES: list[tuple[str, float | None, FinishReason]] = [
    ("wrong", 0.0, "stop"), ("right", 1.0, "stop"), ("cut", 0.0, "length"), ("right", 1.0, "stop"),
    ("unscored", None, "stop"), ("also wrong", 0.2, "stop"), ("cut right", 1.0, "length"), ("wrong", 0.0, "stop"),
]  # fmt: skip


def test_whole_replies_are_kept_once_each_as_failing_or_right() -> None:
    found = kept(Mine(), REPLIES)
    assert (found.failures, found.successes) == (("wrong", "also wrong"), ("right",))


def test_by_the_gap_replies_below_the_reference_fail_and_none_is_called_right() -> None:
    found = kept(Mine(rule="gap", judge="nemotron"), REPLIES, reference=0.9)
    assert (found.failures, found.successes) == (("wrong", "also wrong"), ())
    assert kept(Mine(rule="gap", judge="nemotron"), REPLIES, reference=0.1).failures == ()  # not weak


def test_by_the_lowest_part_replies_not_above_the_prompts_mean_fail() -> None:
    settings = Mine(rule="bottom_quantile", judge="nemotron", bottom_quantile=0.9)
    assert kept(settings, REPLIES).failures == ("wrong", "also wrong")
    assert kept(settings, REPLIES[1:2]).failures == ("right",)  # its only one


def test_several_samples_a_prompt_are_all_judged_and_weak_prompts_stand_there_once(tmp_path: Path) -> None:
    base = student(tmp_path / "base")
    pool = tasks.draw_splits({"pool": 5}, ("chain_sum",), 1)["pool"]
    write_records(tmp_path / "pool.jsonl", pool)
    settings: dict[str, Any] = {"max_new_tokens": 12, "samples_per_prompt": 3}
    inputs = {"student": base, "pool": tmp_path / "pool.jsonl"}
    result = mine.run(Recipe(name="x", model=CPU, mine=Mine(**settings)), inputs, tmp_path / "out")
    replies = read_records(tmp_path / "out" / "replies.jsonl", Reply)
    assert [(reply.prompt_id, reply.sample_index) for reply in replies] == [
        (row.id, index) for row in pool for index in range(3)
    ]
    weak = read_records(tmp_path / "out" / "weak.jsonl", WeakPrompt)
    assert sorted(row.id for row in weak) == sorted(row.id for row in pool)
    whole = {row.id: {reply.text for reply in replies if (reply.prompt_id, reply.finish_reason) == (row.id, "stop")}
             for row in pool}  # fmt: skip
    assert {row.id: set(row.failures) for row in weak} == whole
    assert any(len(texts) > 1 for texts in whole.values())
    assert result.facts["fail_rate"] == 1.0
    # The first sample of each is what it is when only one is asked for.
    mine.run(Recipe(name="x", model=CPU, mine=Mine(max_new_tokens=12)), inputs, tmp_path / "one")
    assert read_records(tmp_path / "one" / "replies.jsonl", Reply) == replies[::3]


def test_an_empty_pool_is_said_to_be_empty_not_too_easy(tmp_path: Path) -> None:
    write_records(tmp_path / "pool.jsonl", [])
    recipe = Recipe.model_validate({"name": "x", "corpus": {"tasks": {}}, "arms": {"a": {"zero_shot": 4}}})
    with pytest.raises(InputError, match=r"the pool holds no prompt.* the drops of corpus/manifest\.json"):
        mine.run(recipe, {"student": tmp_path, "pool": tmp_path / "pool.jsonl"}, tmp_path / "out")


def test_prompts_none_of_which_could_be_asked_are_not_said_to_be_too_easy(tmp_path: Path) -> None:
    write_records(tmp_path / "pool.jsonl", tasks.draw_splits({"pool": 5}, ("chain_sum",), 1)["pool"])
    recipe = Recipe.model_validate(
        {"name": "x", "model": CPU.model_dump() | {"max_prompt_tokens": 2}, "corpus": {"tasks": {}},
         "arms": {"a": {"zero_shot": 4}}}
    )  # fmt: skip
    said = r"none of the 5 pool prompts could be asked: 5 x prompt over 2 tokens"
    with pytest.raises(InputError, match=said):
        mine.run(recipe, {"student": student(tmp_path / "base"), "pool": tmp_path / "pool.jsonl"}, tmp_path / "out")
