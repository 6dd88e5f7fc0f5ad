"""The local judge: scores by content, kept at once; what is over the limit is unscored, never cut."""

from pathlib import Path

import pytest
import torch
from tiny_models import tiny_classifier, tiny_folder

from limbeck.errors import ModelError, RecipeError
from limbeck.judges import LocalJudge, make_judge
from limbeck.judges.local import REFUSED
from limbeck.lm.reward_cache import RewardCache
from limbeck.lm.reward_model import load_reward_model
from limbeck.recipe import Model, Recipe
from limbeck.recipe.verdict import Judges
from limbeck.recipe.verdict import LocalJudge as Settings
from limbeck.records import Judgement, Message, PromptRow, Reply, user_prompt

CPU = torch.device("cpu")
MACHINE = Model(device="cpu", dtype="fp32")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of each test's own."""
    monkeypatch.setenv("LIMBECK_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "rewards.sqlite"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_classifier(tmp_path_factory.mktemp("judge"))


def exchanges(*texts: str) -> list[tuple[PromptRow, Reply]]:
    return [
        (
            PromptRow(id=str(n), prompt=user_prompt("What is two plus three?"), source="own"),
            Reply(prompt_id=str(n), text=text, finish_reason="stop", num_tokens=None),
        )
        for n, text in enumerate(texts)
    ]


def judged(folder: Path, *texts: str, **settings: int) -> list[Judgement]:
    return list(LocalJudge(str(folder), Settings(**settings), MACHINE).judge(exchanges(*texts)))


def test_judgements_are_the_models_scores_in_the_replies_order(folder: Path) -> None:
    texts = ("Five.", "The answer is five, I should think.", "No")
    scorer = load_reward_model(str(folder), CPU, torch.float32)
    ids = [scorer.conversations.ids(user_prompt("What is two plus three?"), text) for text in texts]
    alone = [score for batch in scorer.scores(ids, 1) for score in batch]
    found = judged(folder, *texts, micro_batch_tokens=50)
    assert [judgement.score for judgement in found] == pytest.approx(alone, abs=1e-4)
    assert [judgement.prompt_id for judgement in found] == ["0", "1", "2"]
    assert {judgement.solved for judgement in found} == {None}


def test_a_conversation_over_the_limit_is_unscored_and_says_so(folder: Path) -> None:
    found = judged(folder, "Five.", "five " * 200, max_tokens=100)
    assert found[0].score is not None
    assert (found[1].score, found[1].unscored_reason) == (None, "over 100 tokens")
    assert judged(folder, "five " * 600)[0].unscored_reason == "over 512 tokens"  # the model's own bound


def test_a_conversation_that_the_template_refuses_is_unscored(tmp_path: Path) -> None:
    folder = tiny_classifier(tmp_path)
    path = folder / "chat_template.jinja"
    path.write_text(
        "{% if 'Ugh' in messages[-1]['content'] %}{{ raise_exception('no') }}{% endif %}" + path.read_text()
    )
    found = judged(folder, "Five.", "Ugh")
    assert found[0].score is not None
    assert (found[1].score, found[1].unscored_reason) == (None, REFUSED)


def test_equal_replies_have_equal_scores_to_the_bit_whoever_stands_beside_them(folder: Path) -> None:
    first = judged(folder, "Five.", "A much longer reply, which shares the batch.")
    second = judged(folder, "Other", "words", "Five.", "Five.")
    assert first[0].score == second[2].score == second[3].score


def test_what_was_scored_before_an_interruption_is_not_computed_again(folder: Path, cache: Path) -> None:
    scorer = load_reward_model(str(folder), CPU, torch.float32)
    ids = scorer.conversations.ids(user_prompt("What is two plus three?"), "Five.")
    with RewardCache(folder, CPU, torch.float32, cache) as kept:
        kept.keep({ids: 123.0})  # what nothing would compute
    assert judged(folder, "Five.", "Six.")[0].score == 123.0


def test_other_weights_are_another_judge(folder: Path, tmp_path: Path) -> None:
    other = tiny_classifier(tmp_path, initializer_range=0.3)
    assert judged(folder, "Five.")[0].score != judged(other, "Five.")[0].score


def test_the_judge_of_a_run_is_the_trained_one_unless_another_is_named(folder: Path, tmp_path: Path) -> None:
    named = Recipe(name="x", model=MACHINE, judges=Judges(local=Settings(model=str(folder))))
    other = tiny_classifier(tmp_path, initializer_range=0.3)
    trained = Recipe(name="x", model=MACHINE)
    for recipe, expected in ((named, folder), (trained, other)):
        judge = make_judge("local", recipe, tmp_path / "replies.sqlite", reward_model=other)
        judge.check()
        assert [each.score for each in judge.judge(exchanges("Five."))] == [judged(expected, "Five.")[0].score]


def test_a_judge_yet_to_be_trained_passes_the_check_and_cannot_judge(tmp_path: Path) -> None:
    judge = make_judge("local", Recipe(name="x"), tmp_path / "replies.sqlite")
    judge.check()
    with pytest.raises(RecipeError, match=r"judges\.local\.model is 'trained', and none was trained"):
        list(judge.judge(exchanges("Five.")))


def test_a_named_judge_that_cannot_judge_fails_the_check(tmp_path: Path) -> None:
    for folder, reason in (
        (tiny_classifier(tmp_path / "labels", num_labels=2), "exactly one"),
        (tiny_folder(tmp_path / "template", variant="no_template"), "no chat template"),
        (tmp_path / "nowhere", "no model"),
    ):
        with pytest.raises(ModelError, match=reason):
            LocalJudge(str(folder), Settings(), MACHINE).check()


def test_a_system_turn_is_read_too(folder: Path) -> None:
    rows = [
        (
            PromptRow(
                id="0", prompt=(Message(role="system", content=told), Message(role="user", content="Hi")), source="own"
            ),
            Reply(prompt_id="0", text="Yes", finish_reason="stop", num_tokens=1),
        )
        for told in ("Be kind.", "Be rude.")
    ]
    first, second = LocalJudge(str(folder), Settings(), MACHINE).judge(rows)
    assert first.score != second.score
