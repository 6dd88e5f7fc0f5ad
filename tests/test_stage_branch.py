"""Where a failing reply goes wrong: steps, continuations from the last backwards, and the pairs that come of it."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_models import tiny_folder, tiny_model

from limbeck import tasks
from limbeck.errors import InputError, RecipeError
from limbeck.lm.generate import Sampling, generate
from limbeck.lm.replies import ask
from limbeck.lm.samples import PromptIds
from limbeck.recipe import Model, Recipe
from limbeck.recipe.branch import Branch
from limbeck.records import Divergence, Pair, PromptRow, Reply, WeakPrompt, user_prompt
from limbeck.stages import branch, teach
from limbeck.stages.branch import _Failed, find_divergences, step_ends
from limbeck.store import read_records, write_records

PROBLEMS = tasks.draw_splits({"pool": 4}, families=["chain_sum"], seed=5)["pool"]


def weak(row: PromptRow, *failures: str) -> WeakPrompt:
    return WeakPrompt(**dict(row), failures=failures)


def failed(row: PromptRow, text: str) -> _Failed:
    return _Failed(weak(row, text), text, step_ends(text)[::-1])


class Scripted:
    """Continues each reply with what the script has for that beginning, and remembers what was asked."""

    def __init__(self, script: Mapping[str, str]) -> None:
        self.script, self.asked = script, list[str]()

    def __call__(self, rows: Sequence[WeakPrompt], begun: Mapping[str, str], _attempt: int) -> list[Reply]:
        self.asked += begun.values()
        texts = [(row.id, begun[row.id] + self.script.get(begun[row.id], "#### wrong")) for row in rows]
        return [Reply(prompt_id=id_, text=text, finish_reason="stop", num_tokens=1) for id_, text in texts]


def test_steps_end_where_lines_do_and_the_last_has_no_end() -> None:
    assert step_ends("one\ntwo\n\nthree\n") == (4, 9)
    assert step_ends("one line") == ()
    assert step_ends("\n\nlate") == ()


def test_in_a_single_line_steps_are_sentences_and_the_space_belongs_to_the_next() -> None:
    text = "First this. Then 3.5 of that! So 7"
    assert [text[:end] for end in step_ends(text)] == ["First this.", "First this. Then 3.5 of that!"]


@pytest.mark.parametrize("text", ["First this. So 7\n", "\nFirst this. So 7", "\n\nFirst this. So 7\n"])
def test_a_line_break_at_the_end_of_a_single_line_hides_none_of_its_sentences(text: str) -> None:
    assert [text[:end].strip() for end in step_ends(text)] == ["First this."]


@given(st.text("ab.\n ", max_size=40))
def test_every_step_end_leaves_words_on_both_sides(text: str) -> None:
    assert all(text[:end].strip() and text[end:].strip() for end in step_ends(text))


def test_the_latest_step_with_a_right_continuation_is_taken() -> None:
    row = PROBLEMS[0]
    right = f"#### {row.problem.answer}" if row.problem else ""
    go_on = Scripted({"a\n": f"good\n{right}", "a\nb\n": f"better\n{right}"})
    (found,) = find_divergences([failed(row, "a\nb\nc\n#### wrong")], go_on, Branch(), seed=1)
    assert found == Divergence(
        prompt_id=row.id, failure="a\nb\nc\n#### wrong", correction=f"a\nb\nbetter\n{right}", shared_characters=4
    )
    assert go_on.asked == ["a\nb\nc\n", "a\nb\n"]  # from the end backwards, and no further than needed


def test_a_reply_without_any_right_continuation_is_left_out_and_most_steps_bounds_the_search() -> None:
    go_on = Scripted({})
    found = find_divergences([failed(PROBLEMS[0], "a\nb\nc\nd\n#### wrong")], go_on, Branch(most_steps=2), seed=1)
    assert (found, len(go_on.asked)) == ([], 2)


def test_replies_that_were_cut_are_no_right_continuation() -> None:
    row = PROBLEMS[0]
    right = f"#### {row.problem.answer}" if row.problem else ""

    def cut(rows: Sequence[WeakPrompt], begun: Mapping[str, str], _: int) -> list[Reply]:
        text = begun[rows[0].id] + right
        return [Reply(prompt_id=rows[0].id, text=text, finish_reason="length", num_tokens=1)]

    assert find_divergences([failed(row, "a\n#### wrong")], cut, Branch(), seed=1) == []


def test_a_begun_reply_goes_on_as_the_whole_prompt_would_and_holds_its_beginning(tmp_path: Path) -> None:
    model = tiny_model(tiny_folder(tmp_path / "model", "qwen2"))
    row = PromptRow(id="p", prompt=user_prompt("Say something"), source="s")
    sampling = Sampling(max_new_tokens=60, temperature=0.0, ignore_end_of_turn=True)
    begun = "Well, this is how it goes: "
    ids = model.chat.prompt_ids(row.prompt)
    beginning = model.chat.response_ids(begun)[:-1]
    most = sampling.max_new_tokens - len(beginning)
    (expected,) = generate(model, [PromptIds("p", (*ids, *beginning), max_new_tokens=most)], sampling)
    (without,) = generate(model, [PromptIds("p", ids, max_new_tokens=most)], sampling)
    assert expected.ids != without.ids
    went_on = ask(model, [row], sampling, Model(), tmp_path / "b.jsonl", "x", 1, {"p": begun}).replies[0]
    assert went_on.text == model.chat.text((*beginning, *expected.ids))
    assert went_on.text.startswith(begun)
    assert went_on.num_tokens == len(expected.ids) == most


def test_the_stage_counts_what_has_no_divergence_and_resumes(tmp_path: Path) -> None:
    tiny_folder(tmp_path / "model", "qwen2")
    rows = [weak(PROBLEMS[0], "a\nb\n#### wrong"), weak(PROBLEMS[1], "one step"), weak(PROBLEMS[2]),
            weak(PROBLEMS[3], "c\n#### wrong")]  # fmt: skip
    write_records(tmp_path / "weak.jsonl", rows)
    recipe = Recipe.model_validate(
        {"name": "x", "model": {"dtype": "fp32"}, "branch": {"max_new_tokens": 4, "samples_per_step": 2}}
    )
    inputs = {"student": tmp_path / "model", "weak": tmp_path / "weak.jsonl"}
    out = tmp_path / "out"
    out.mkdir()
    result = branch.run(recipe, inputs, out)
    assert result.drops == {
        "no whole failing reply, or no problem": 1,
        "no step before the mistake": 1,
        "no right continuation": 2,
    }
    assert result.facts["continuations"] == 6  # two steps and one, two samples each
    replies = read_records(out / "replies_0.jsonl", Reply)
    marked = replies[0].model_copy(update={"text": "sampled before"})
    write_records(out / "replies_0.jsonl", [marked, *replies[1:]])
    again = branch.run(recipe, inputs, out)
    assert again.counts_out == result.counts_out
    assert read_records(out / "replies_0.jsonl", Reply)[0] == marked
    fewer = recipe.model_copy(update={"branch": recipe.branch.model_copy(update={"most_prompts": 1})})
    found = branch.run(fewer, inputs, out).drops
    assert found == {
        "no whole failing reply, or no problem": 1, "no step before the mistake": 1,
        "more than branch.most_prompts": 1, "no right continuation": 1,
    }  # fmt: skip


def test_every_step_of_a_reply_is_gone_on_from_with_draws_of_its_own(tmp_path: Path) -> None:
    """From a nearly even distribution the same draws give the same text, whatever stands before it."""
    tiny_folder(tmp_path / "model", "qwen2", initializer_range=1e-4)
    text = "a\nb\n#### wrong"
    write_records(tmp_path / "weak.jsonl", [weak(PROBLEMS[0], text)])
    settings = {"max_new_tokens": 24, "samples_per_step": 2, "temperature": 5.0}
    recipe = Recipe.model_validate({"name": "x", "model": {"dtype": "fp32"}, "branch": settings})
    (tmp_path / "out").mkdir()
    branch.run(recipe, {"student": tmp_path / "model", "weak": tmp_path / "weak.jsonl"}, tmp_path / "out")
    last, first = (
        [reply.text.removeprefix(begun)[:8] for reply in read_records(tmp_path / "out" / f"replies_{n}.jsonl", Reply)]
        for n, begun in enumerate(("a\nb\n", "a\n"))
    )
    assert len(last) == len(first) == 2
    assert not set(last) & set(first)


def test_of_several_failing_replies_one_that_can_be_gone_on_from_is_taken() -> None:
    row = weak(PROBLEMS[0], "1 + 1 = 3\n#### 3", "1 + 1 = 2\n2 + 2 = 5\n#### 5")
    for seed in range(6):
        found = branch._failed(row, Recipe(name="x", seed=seed))
        assert found is not None
        assert (found.text[:9], found.places) == ("1 + 1 = 2", (10,))
    assert branch._failed(weak(PROBLEMS[0], "1 + 1 = 3\n#### 3"), Recipe(name="x")) is None


def test_nothing_is_asked_from_behind_a_false_equation(tmp_path: Path) -> None:
    tiny_folder(tmp_path / "model", "qwen2")
    text = "1 + 1 = 2\n2 + 2 = 5\n5 + 1 = 6\n6 + 1 = 7\n#### 7"
    write_records(tmp_path / "weak.jsonl", [weak(PROBLEMS[0], text), weak(PROBLEMS[1], "1 + 1 = 3\n#### 3")])
    recipe = Recipe.model_validate(
        {"name": "x", "model": {"dtype": "fp32"}, "branch": {"max_new_tokens": 4, "samples_per_step": 2}}
    )
    out = tmp_path / "out"
    out.mkdir()
    result = branch.run(recipe, {"student": tmp_path / "model", "weak": tmp_path / "weak.jsonl"}, out)
    assert result.facts["continuations"] == 2  # from the end of the first line only
    assert result.drops["no step before the mistake"] == 1


def test_what_cannot_be_branched_is_one_sentence(tmp_path: Path) -> None:
    chat = WeakPrompt(id="c", prompt=user_prompt("Hello?"), source="s", failures=("a\nb",))
    write_records(tmp_path / "weak.jsonl", [chat])
    inputs = {"student": tmp_path, "weak": tmp_path / "weak.jsonl"}
    with pytest.raises(InputError, match="no continuation can be called right"):
        branch.run(Recipe(name="x"), inputs, tmp_path)
    served = Recipe.model_validate({"name": "x", "servers": {"sft": {"base_url": "http://h/v1", "model": "m"}}})
    with pytest.raises(RecipeError, match=r"servers\.sft: divergence pairs need the built-in engine"):
        branch.run(served, inputs, tmp_path)


def taught(
    folder: Path, kind: str, rows: Sequence[WeakPrompt], found: Sequence[Divergence] = (), seed: int = 1
) -> list[Pair]:
    folder.mkdir(exist_ok=True)
    write_records(folder / "weak.in", rows)
    write_records(folder / "divergences.in", found)
    recipe = Recipe.model_validate({"name": "x", "seed": seed, "arms": {"a": {kind: 1}}, "mix": {"heldout_pairs": 0}})
    inputs = {"weak": folder / "weak.in", "divergences": folder / "divergences.in"}
    teach.run(recipe, inputs, folder / "out")
    return read_records(folder / "out" / f"{kind}.jsonl", Pair)


def test_own_reference_and_divergence_pairs_differ_in_what_is_chosen(tmp_path: Path) -> None:
    row = WeakPrompt(**dict(PROBLEMS[0]), failures=("a\nbad",), successes=("a\nmine",))
    solution = row.problem.solution if row.problem else ""
    found = [Divergence(prompt_id=row.id, failure="a\nbad", correction="a\ngood", shared_characters=2)]
    chosen = {kind: taught(tmp_path, kind, [row], found)[0] for kind in ("own", "reference", "on_policy", "divergence")}
    assert {kind: pair.chosen for kind, pair in chosen.items()} == {
        "own": "a\nmine",
        "reference": solution,
        "on_policy": "a\nmine",
        "divergence": "a\ngood",
    }
    assert {pair.rejected for pair in chosen.values()} == {"a\nbad"}
    assert {kind: pair.teacher for kind, pair in chosen.items()} == {
        "own": "student",
        "reference": "reference",
        "on_policy": "student",
        "divergence": "student",
    }


def test_own_pairs_need_a_right_reply_of_the_students(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no right reply of the student's own"):
        taught(tmp_path, "own", [weak(PROBLEMS[0], "a\nbad")])


def test_a_right_answer_that_a_false_equation_led_to_is_no_right_reply(tmp_path: Path) -> None:
    lucky, sound = "2 + 2 = 5\n#### 1", "2 + 2 = 4\n#### 1"
    both = WeakPrompt(**dict(PROBLEMS[0]), failures=("a\nbad",), successes=(lucky, sound))
    by_luck = WeakPrompt(**dict(PROBLEMS[1]), failures=("a\nbad",), successes=(lucky,))
    for seed in range(6):
        (pair,) = taught(tmp_path / str(seed), "own", [both], seed=seed)
        assert pair.chosen == sound
    (pair,) = taught(tmp_path / "on_policy", "on_policy", [by_luck])
    assert (pair.teacher, pair.chosen) == ("reference", by_luck.problem.solution if by_luck.problem else "")
    with pytest.raises(InputError, match="right only by a false equation"):
        taught(tmp_path / "luck", "own", [by_luck])


def test_a_continuation_is_right_only_where_its_whole_reply_holds_no_false_equation() -> None:
    row = PROBLEMS[0]
    right = f"#### {row.problem.answer}" if row.problem else ""
    go_on = Scripted({"a\n": f"2 * 3 = 6\n{right}", "a\n1 + 1 = 3\n": right})
    (found,) = find_divergences([failed(row, "a\n1 + 1 = 3\n#### wrong")], go_on, Branch(), seed=1)
    assert (found.correction, found.shared_characters) == (f"a\n2 * 3 = 6\n{right}", 2)
