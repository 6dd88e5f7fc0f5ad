"""The reward stage: split by how a conversation opens, trained, measured on what chose nothing, saved."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from street import settled_to, tokens_a_micro_batch
from tiny_models import tiny_folder
from transformers import AutoModelForSequenceClassification

from limbeck.errors import InputError
from limbeck.judges import make_judge
from limbeck.recipe import Model, Recipe
from limbeck.recipe.training import Lora
from limbeck.recipe.verdict import Judges, LocalJudge, Reward
from limbeck.records import Message, Metric, Pair, PromptRow, Reply, user_prompt
from limbeck.records.verdict import JudgeCard
from limbeck.stages import reward
from limbeck.stages.reward import split_pairs
from limbeck.store import read_json, read_records, write_records

SETTINGS = Reward(learning_rate=3e-3, epochs=2, batch_size=4, warmup_steps=2, heldout_share=0.3)


def pairs(number: int, name: str = "human") -> list[Pair]:
    """Pairs that a tiny model can learn: the chosen one says yes."""
    return [
        Pair(
            id=f"{name}{n}",
            prompt=user_prompt(f"Shall we do {n}?"),
            source=name,
            chosen=f"Yes, let us do {n}",
            rejected=f"No, {n} is out of the question",
        )
        for n in range(number)
    ]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_folder(tmp_path_factory.mktemp("base"), "qwen2")


def trained(
    base: Path,
    out: Path,
    rows: list[Pair],
    check: list[Pair] | None = None,
    settings: Reward = SETTINGS,
    most: int = 400,
) -> JudgeCard:
    inputs = {"base": base, "pairs": out / "pairs.jsonl"}
    write_records(inputs["pairs"], rows)
    if check is not None:
        inputs["check_pairs"] = out / "check.jsonl"
        write_records(inputs["check_pairs"], check)
    recipe = Recipe(
        name="x",
        model=Model(device="cpu", dtype="fp32"),
        reward=settings,
        judges=Judges(local=LocalJudge(max_tokens=most)),
    )
    result = reward.run(recipe, inputs, out / "reward")
    assert result.counts_out["measured_on"] > 0
    return JudgeCard.model_validate(read_json(out / "reward" / "card.json"))


def test_a_reward_model_is_trained_as_wide_as_was_settled(
    base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = SETTINGS.model_copy(update={"max_steps": 1})
    (tmp_path / "usual").mkdir()
    trained(base, tmp_path / "usual", pairs(12), settings=settings)
    settled_to(1, monkeypatch)  # a pair by itself
    (tmp_path / "narrow").mkdir()
    trained(base, tmp_path / "narrow", pairs(12), settings=settings)
    usual, narrow = tokens_a_micro_batch(capsys.readouterr().err)
    assert usual == 4 * narrow


@given(
    numbers=st.lists(st.integers(0, 8), min_size=3, max_size=40).filter(lambda found: len(set(found)) > 2),
    share=st.floats(0.01, 0.99),
    seed=st.integers(0, 99),
)
def test_no_opening_of_a_conversation_is_in_two_parts_and_none_is_empty(
    numbers: list[int], share: float, seed: int
) -> None:
    rows = [
        Pair(
            id=str(place),
            prompt=(
                *user_prompt(f"Dialogue {number}"),
                Message(role="assistant", content=str(place)),
                Message(role="user", content="go on"),
            ),
            source="human",
            chosen="a",
            rejected="b",
        )
        for place, number in enumerate(numbers)
    ]
    parts = split_pairs(rows, Reward(heldout_share=share), seed)
    openings = [{pair.prompt[0].content for pair in part} for part in parts]
    assert all(parts)
    assert sum(map(len, openings)) == len(set(numbers))
    assert sorted(pair.id for part in parts for pair in part) == sorted(row.id for row in rows)


def test_no_more_pairs_than_asked_for_are_used() -> None:
    assert sum(map(len, split_pairs(pairs(50), Reward(pairs=20), 1))) == 20
    assert split_pairs(pairs(50), Reward(pairs=20), 1) == split_pairs(pairs(50), Reward(pairs=20), 1)
    assert split_pairs(pairs(50), Reward(pairs=20), 1) != split_pairs(pairs(50), Reward(pairs=20), 2)


def test_a_trained_model_opens_as_a_classifier_and_judges_as_its_card_says(base: Path, tmp_path: Path) -> None:
    card = trained(base, tmp_path, pairs(60), settings=SETTINGS.model_copy(update={"epochs": 6.0}))
    assert card.judge == "local"
    assert card.accuracy is not None
    assert card.accuracy.n == 18
    assert card.accuracy.estimate > 0.9
    assert card.longer_is_chosen is not None
    assert card.longer_is_chosen.estimate == 0.0
    assert "trained on pairs of human only" in card.limits[-1]
    model = tmp_path / "reward" / "model"
    assert AutoModelForSequenceClassification.from_pretrained(model).config.num_labels == 1
    splits = {metric.split for metric in read_records(tmp_path / "reward" / "metrics.jsonl", Metric)}
    assert splits == {"train", "validation"}
    recipe = Recipe(name="x", model=Model(device="cpu", dtype="fp32"))
    row = PromptRow(id="new", prompt=user_prompt("Shall we do 99?"), source="own")
    replies = [
        Reply(prompt_id="new", text=text, finish_reason="stop", num_tokens=None)
        for text in ("Yes, let us do 99", "No, 99 is out of the question")
    ]
    judge = make_judge("local", recipe, tmp_path / "replies.sqlite", reward_model=model)
    yes, no = (judgement.score for judgement in judge.judge([(row, reply) for reply in replies]))
    assert yes is not None
    assert no is not None
    assert yes > no


def test_pairs_to_check_are_measured_by_source_without_the_prompts_trained_on(base: Path, tmp_path: Path) -> None:
    other = [row.model_copy(update={"id": f"other{n}", "source": "other"}) for n, row in enumerate(pairs(30))]
    new = pairs(5, "new")
    unseen = [row.model_copy(update={"prompt": user_prompt(f"Why {n}?")}) for n, row in enumerate(new)]
    card = trained(base, tmp_path, pairs(30), [*other, *unseen])
    assert card.accuracy_by_source.keys() == {"human", "other", "new"}
    assert card.accuracy_by_source["other"].n == card.accuracy_by_source["human"].n == 9  # the held-out prompts alone
    assert card.accuracy_by_source["new"].n == 5


def test_what_is_over_the_limit_is_left_out_and_the_card_says_so(base: Path, tmp_path: Path) -> None:
    rows = [row.model_copy(update={"chosen": "long " * 100}) if n % 3 == 0 else row for n, row in enumerate(pairs(40))]
    card = trained(base, tmp_path, rows, most=150)
    assert any("held-out pairs were left out of the measurement" in limit for limit in card.limits)
    with pytest.raises(InputError, match="held-out pairs can be scored"):
        trained(base, tmp_path / "none", pairs(20), most=5)


def test_adapters_train_the_head_too_and_leave_an_ordinary_classifier(base: Path, tmp_path: Path) -> None:
    settings = SETTINGS.model_copy(update={"lora": Lora(rank=4), "epochs": 1.0})
    plain = SETTINGS.model_copy(update={"learning_rate": 1e-9, "epochs": 1.0})
    trained(base, tmp_path / "lora", pairs(20), settings=settings)
    trained(base, tmp_path / "plain", pairs(20), settings=plain)
    adapted, untouched = (
        AutoModelForSequenceClassification.from_pretrained(tmp_path / name / "reward" / "model").state_dict()
        for name in ("lora", "plain")
    )
    assert adapted.keys() == untouched.keys()
    changed = {name for name, weight in adapted.items() if float((weight - untouched[name]).abs().max()) > 1e-6}
    assert "score.weight" in changed
    assert any("q_proj" in name for name in changed)
    assert not any("embed_tokens" in name for name in changed)


def test_too_few_prompts_to_split_are_an_error(base: Path, tmp_path: Path) -> None:
    rows = [row.model_copy(update={"prompt": user_prompt("the same")}) for row in pairs(10)]
    with pytest.raises(InputError, match="10 pairs with 1 different prompts"):
        trained(base, tmp_path, rows)
