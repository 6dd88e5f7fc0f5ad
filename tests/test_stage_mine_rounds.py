"""Mining in a further round: prompts that no earlier round asked come first, and a judge's own are never asked."""

from pathlib import Path

from street import student

from limbeck.recipe import Mine, Model, Recipe
from limbeck.records import Pair, PromptRow, Reply, user_prompt
from limbeck.stages import mine
from limbeck.store import read_records, write_records

CPU = Model(device="cpu", dtype="fp32")
ROWS = [PromptRow(id=f"p{n}", prompt=user_prompt(f"Tell of {n}."), source="own") for n in range(6)]


def asked(folder: Path, most: int, before: list[str], judging: tuple[int, ...] = ()) -> list[str]:
    """The prompts asked of six, at most so many, after `before`; a judge learnt from the numbers in `judging`."""
    write_records(folder / "pool.jsonl", ROWS)
    replies = [Reply(prompt_id=id_, text="x", finish_reason="stop", num_tokens=1) for id_ in before]
    half = len(replies) // 2
    write_records(folder / "asked_1.jsonl", replies[:half])
    write_records(folder / "asked_2.jsonl", replies[half:])
    pairs = [Pair(**dict(ROWS[n]), chosen="yes", rejected="no") for n in judging]
    write_records(folder / "judging.jsonl", pairs)
    inputs = {name: folder / f"{name}.jsonl" for name in ("pool", "asked_1", "asked_2", "judging")}
    settings = Mine(rule="all", max_prompts=most, max_new_tokens=2)
    recipe = Recipe(name="x", model=CPU, mine=settings)
    mine.run(recipe, inputs | {"student": student(folder / "base")}, folder / "out")
    return sorted(reply.prompt_id for reply in read_records(folder / "out" / "replies.jsonl", Reply))


def test_prompts_not_asked_before_come_first(tmp_path: Path) -> None:
    assert asked(tmp_path, 3, ["p0", "p2", "p4"]) == ["p1", "p3", "p5"]


def test_where_they_are_too_few_others_are_asked_again(tmp_path: Path) -> None:
    again = asked(tmp_path, 4, ["p0", "p1", "p2", "p4"])
    assert len(again) == len(set(again)) == 4
    assert {"p3", "p5"} < set(again)


def test_a_judges_own_prompts_are_not_asked(tmp_path: Path) -> None:
    assert asked(tmp_path, 10, ["p0"], judging=(1, 3)) == ["p0", "p2", "p4", "p5"]
