"""Problems that a model in training answers: what is counted, that training stays the same, what is kept and said."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from street import curve, student

from limbeck import pipeline, quiz, tasks
from limbeck.errors import RecipeError, TrainingError
from limbeck.lm.choosing import Sampling
from limbeck.lm.load import load_model
from limbeck.lm.machine import place
from limbeck.lm.replies import ask
from limbeck.manifest import StageResult
from limbeck.recipe import Model, Recipe
from limbeck.records import Demonstration, Pair, PromptRow, Record, user_prompt
from limbeck.stages import dpo, sft
from limbeck.store import write_records
from limbeck.tasks.scoring import score

PROBLEMS = tasks.draw_splits({"validation": 6}, ("chain_sum",), 1)["validation"]
ROWS = [
    Demonstration(id=f"d{n}", prompt=user_prompt(f"What is {n}?"), source="own", response="Five.") for n in range(7)
]
PAIRS = [Pair(id=f"k{n}", prompt=user_prompt(f"Pick {n}"), source="own", chosen="It is 5.", rejected=f"No {n}.")
         for n in range(6)]  # fmt: skip


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return student(tmp_path_factory.mktemp("quiz") / "base")


def recipe(**settings: object) -> Recipe:
    training: dict[str, object] = {"learning_rate": 0.01, "batch_size": 4, "epochs": 4, "validate_every_steps": 2}
    training |= settings
    return Recipe.model_validate({
        "name": "x", "model": {"device": "cpu", "dtype": "fp32"}, "sft": training, "dpo": training,
        "arms": {"a": {"human": 6}}, "evaluate": {"max_new_tokens": 8},
    })  # fmt: skip


def written(path: Path, rows: Sequence[Record]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_records(path, rows)
    return path


def trained(base: Path, out: Path, problems: Sequence[PromptRow] | None = PROBLEMS, **settings: object) -> StageResult:
    inputs = {
        "base": base,
        "demonstrations": written(out / "in" / "train.jsonl", ROWS),
        "validation": written(out / "in" / "validation.jsonl", ROWS[:2]),
    }
    if problems is not None:
        inputs["problems"] = written(out / "in" / "problems.jsonl", problems)
    return sft.run(recipe(**settings), inputs, out)


def model_bytes(out: Path) -> bytes:
    return (out / "model" / "model.safetensors").read_bytes()


def test_training_is_the_same_to_the_bit_whether_problems_are_asked_or_not(base: Path, tmp_path: Path) -> None:
    trained(base, tmp_path / "plain", keep="last")
    trained(base, tmp_path / "asked", keep="last", validate_problems=4)
    assert model_bytes(tmp_path / "plain") == model_bytes(tmp_path / "asked")
    found = [point for point in curve(tmp_path / "asked") if point.split == "validation"]
    assert [point.step for point in found] == [0, 2, 4, 6, 7]
    assert {point.values["problems"] for point in found} == {4}
    assert not any("solved" in point.values for point in curve(tmp_path / "plain"))


def test_what_is_solved_is_what_the_finished_model_solves_when_it_is_asked(
    base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # A problem whose answer the model is sure to give: what it is trained to say of everything.
    lucky = [row.model_copy(update={"problem": row.problem and row.problem.model_copy(update={"answer": "5"})})
             for row in PROBLEMS]  # fmt: skip
    told = [row.model_copy(update={"response": "#### 5"}) for row in ROWS]
    inputs = {
        "base": base,
        "demonstrations": written(tmp_path / "train.jsonl", told),
        "validation": written(tmp_path / "validation.jsonl", told[:2]),
        "problems": written(tmp_path / "problems.jsonl", lucky),
    }
    settings = recipe(keep="last", validate_problems=6, epochs=30, learning_rate=0.02)
    sft.run(settings, inputs, tmp_path / "out")
    model = load_model(str(tmp_path / "out" / "model"), *place(settings.model))
    again = ask(model, lucky, Sampling.of(settings.evaluate, 1), Model(), tmp_path / "replies.jsonl", "x").replies
    solved = [score(row.problem, reply.text).solved for row, reply in zip(lucky, again, strict=True) if row.problem]
    shares = [point.values["solved"] for point in curve(tmp_path / "out") if point.split == "validation"]
    assert shares[0] < shares[-1] == sum(solved) / 6
    assert f"SFT: {sum(solved)} of 6 validation problems solved" in capsys.readouterr().err


def test_a_problem_that_cannot_be_asked_is_not_solved(base: Path, tmp_path: Path) -> None:
    long = PROBLEMS[0].model_copy(update={"prompt": user_prompt("long " * 3000)})
    trained(base, tmp_path, [long], keep="last", validate_problems=1)
    assert {point.values["solved"] for point in curve(tmp_path) if point.split == "validation"} == {0}


def test_an_arm_of_pairs_is_asked_too(base: Path, tmp_path: Path) -> None:
    inputs = {
        "policy": base,
        "reference": base,
        "pairs": written(tmp_path / "pairs.jsonl", PAIRS[:4]),
        "validation": written(tmp_path / "validation.jsonl", PAIRS[4:]),
        "problems": written(tmp_path / "problems.jsonl", PROBLEMS),
    }
    result = dpo.run(recipe(validate_problems=3, keep="solved"), inputs, tmp_path / "out", "a")
    found = [point for point in curve(tmp_path / "out") if point.split == "validation"]
    assert all(point.values["problems"] == 3 and "accuracy" in point.values for point in found)
    most = max(point.values["solved"] for point in found)
    latest = max(point.step for point in found if point.values["solved"] == most)
    assert result.facts["kept_step"] == latest


def test_a_killed_run_that_asks_problems_resumes_to_the_same_weights(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"keep": "solved", "validate_problems": 4, "checkpoint_every_minutes": 1e-9}
    start = load_model(str(base), *place(recipe().model)).head.weight.detach().clone()
    calls: list[int] = []

    def fades(self: quiz.Quiz) -> dict[str, float]:
        """The further the weights have moved, the less is solved: what began is best, whoever remembers it."""
        calls.append(1)
        moved = float((self.model.head.weight.detach() - start).norm())
        return {quiz.SOLVED: 1 / (1 + moved), quiz.ASKED: 4.0}

    def dies(self: quiz.Quiz) -> dict[str, float]:
        if len(calls) == 2:
            raise KeyboardInterrupt
        return fades(self)

    monkeypatch.setattr(quiz.Quiz, "__call__", fades)
    assert trained(base, tmp_path / "whole", **settings).facts["kept_step"] == 0
    calls.clear()
    monkeypatch.setattr(quiz.Quiz, "__call__", dies)
    with pytest.raises(KeyboardInterrupt):
        trained(base, tmp_path / "killed", **settings)
    monkeypatch.setattr(quiz.Quiz, "__call__", fades)
    assert trained(base, tmp_path / "killed", **settings).facts["kept_step"] == 0
    assert model_bytes(tmp_path / "killed") == model_bytes(tmp_path / "whole")


def test_what_cannot_be_asked_is_one_sentence(base: Path, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"asks problems of corpus\.tasks\.validation, which only a run has"):
        trained(base, tmp_path / "alone", None, validate_problems=2)
    inputs = {
        "base": base,
        "demonstrations": written(tmp_path / "train.jsonl", ROWS),
        "problems": written(tmp_path / "problems.jsonl", PROBLEMS),
    }
    with pytest.raises(TrainingError, match="goes with held-out rows"):
        sft.run(recipe(validate_problems=2), inputs, tmp_path / "none")


def run_of(validation: int, **settings: Any) -> Recipe:
    return Recipe.model_validate(
        {"name": "x", "corpus": {"tasks": {"validation": validation}}, "arms": {"a": {"own": 2, **settings}}}
    )


def test_more_problems_than_there_are_is_said_before_anything_runs() -> None:
    pipeline.check_problems(run_of(20, dpo={"validate_problems": 20}))
    sentence = r"arms\.a\.dpo\.validate_problems asks for 30 problems, and corpus\.tasks\.validation has 20"
    with pytest.raises(RecipeError, match=sentence):
        pipeline.check_problems(run_of(20, dpo={"validate_problems": 30}))


def test_an_arm_without_held_out_pairs_is_not_asked_problems() -> None:
    data = run_of(20, dpo={"validate_problems": 5}).model_dump()
    with pytest.raises(RecipeError, match=r"arms\.a\.dpo\.validate_problems goes with held-out pairs"):
        pipeline.check_problems(Recipe.model_validate(data | {"mix": {"heldout_pairs": 0}}))


def test_only_the_arm_that_asks_problems_depends_on_them_and_on_how_they_are_asked(tmp_path: Path) -> None:
    def units(**settings: Any) -> dict[str, pipeline.Unit]:
        return {unit.name: unit for unit in pipeline.units(run_of(20, **settings), tmp_path)}

    asked, plain = units(dpo={"validate_problems": 5}), units()
    assert asked["dpo/a"].inputs["problems"] == Path("corpus/validation.jsonl")
    assert "problems_asked" in asked["dpo/a"].part
    assert "problems" not in asked["sft"].inputs
    assert "problems" not in plain["dpo/a"].inputs
    assert "problems_asked" not in plain["dpo/a"].part
