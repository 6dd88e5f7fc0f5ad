"""The stages with a model in them, and the verdict, each on files of its own."""

import json
import math
import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from street import curve, settled_to, student, tokens_a_micro_batch
from tiny_models import plain_logps, plain_model, tiny_folder, tiny_model
from transformers import AutoModelForCausalLM

from limbeck import tasks
from limbeck.errors import InputError, ModelError, TrainingError
from limbeck.lm.generate import Sampling
from limbeck.lm.items import demonstration_items, pair_items
from limbeck.lm.load import load_model
from limbeck.lm.reference_logps import ReferenceLogps
from limbeck.lm.replies import ask
from limbeck.manifest import RESUMED_FROM
from limbeck.recipe import Evaluate, Mine, Model, Recipe
from limbeck.recipe.corpus import Chat, Corpus
from limbeck.recipe.pairs import Arm
from limbeck.recipe.training import Dpo, Sft
from limbeck.records import Demonstration, Judgement, Pair, PromptRow, Record, Reply, WeakPrompt, user_prompt
from limbeck.records.verdict import Comparison, ModelScore, Verdict
from limbeck.stages import dpo, evaluate, mine, retain, sft, verdict
from limbeck.store import read_records, write_records

CPU = Model(device="cpu", dtype="fp32")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return student(tmp_path_factory.mktemp("stages") / "base")


def recipe(**parts: Any) -> Recipe:
    return Recipe(name="x", **({"model": CPU} | parts))


def written(path: Path, rows: Sequence[Record]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_records(path, rows)
    return path


def prompts(count: int, name: str = "p") -> list[PromptRow]:
    return [PromptRow(id=f"{name}{n}", prompt=user_prompt(f"Say {name} {n}."), source="own") for n in range(count)]


def problems(count: int) -> list[PromptRow]:
    counts: dict[Any, int] = dict.fromkeys(tasks.SPLITS, 0) | {"pool": count}
    return list(tasks.draw_splits(counts, ("chain_sum",), 1)["pool"])


def demonstrations(count: int, response: str = "Well, five.") -> list[Demonstration]:
    return [
        Demonstration(id=f"d{n}", prompt=user_prompt(f"What is {n}?"), source="own", response=response)
        for n in range(count)
    ]


def pairs(count: int, chosen: str = "The answer is five.", name: str = "k") -> list[Pair]:
    return [
        Pair(id=f"{name}{n}", prompt=user_prompt(f"Pick {n}"), source="human", chosen=chosen, rejected=f"No {n}.")
        for n in range(count)
    ]


# Retain


def retained(base: Path, out: Path, train: int = 8, max_new_tokens: int = 12) -> Any:
    inputs = {
        "base": base,
        "chat_train": written(out / "in" / "train.jsonl", prompts(train)),
        "chat_heldout": written(out / "in" / "heldout.jsonl", prompts(6, "h")),
    }
    chat = Chat(train=train, heldout=6, max_new_tokens=max_new_tokens)
    return retain.run(recipe(corpus=Corpus(chat=chat)), inputs, out)


def test_retain_keeps_whole_replies_and_counts_the_others(base: Path, tmp_path: Path) -> None:
    result = retained(base, tmp_path)
    replies = {reply.prompt_id: reply for reply in read_records(tmp_path / "replies.jsonl", Reply)}
    kept = [row for name in ("train", "heldout") for row in read_records(tmp_path / f"{name}.jsonl", Demonstration)]
    assert 0 < len(kept) < 14
    assert all(replies[row.id].finish_reason == "stop" and row.response == replies[row.id].text for row in kept)
    assert len(kept) + sum(result.drops.values()) == 14
    assert result.drops["truncated"] == sum(reply.finish_reason == "length" for reply in replies.values())


def test_the_train_part_of_retain_decides_nothing_about_the_held_out_part(base: Path, tmp_path: Path) -> None:
    for name, train in (("few", 2), ("many", 8)):
        retained(base, tmp_path / name, train)
    few, many = ((tmp_path / name / "heldout.jsonl").read_text() for name in ("few", "many"))
    assert few == many


def test_retain_does_nothing_without_chat_prompts(tmp_path: Path) -> None:
    empty = written(tmp_path / "empty.jsonl", [])
    result = retain.run(recipe(), {"base": tmp_path, "chat_train": empty, "chat_heldout": empty}, tmp_path)
    assert result.counts_out == {}
    assert read_records(tmp_path / "train.jsonl", Demonstration) == []


# SFT


def trained(base: Path, out: Path, settings: Sft, rows: Sequence[Demonstration], heldout: int = 0) -> Any:
    inputs = {
        "base": base,
        "demonstrations": written(out / "in" / "train.jsonl", rows),
        "chat": written(out / "in" / "chat.jsonl", demonstrations(1, "Hello.")),
        "validation": written(out / "in" / "validation.jsonl", demonstrations(heldout)),
    }
    return sft.run(recipe(sft=settings), inputs, out)


def test_sft_lowers_the_loss_and_leaves_a_model_that_opens(base: Path, tmp_path: Path) -> None:
    settings = Sft(learning_rate=0.02, epochs=8, batch_size=4, validate_every_steps=4)
    result = trained(base, tmp_path, settings, demonstrations(7), heldout=3)
    losses = [point.values["loss"] for point in curve(tmp_path) if point.split == "validation"]
    assert min(losses[1:]) < 0.5 * losses[0]
    assert result.counts_in == {"demonstrations": 7, "chat": 1, "validation": 3}
    assert result.counts_out["steps"] == 16
    AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    assert set(tmp_path.glob(".*")) <= set(tmp_path.glob(RESUMED_FROM))


def test_sft_is_as_wide_as_was_settled(
    base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Sft(epochs=1, batch_size=4)
    trained(base, tmp_path / "usual", settings, demonstrations(7))
    settled_to(1, monkeypatch)  # a row by itself
    trained(base, tmp_path / "narrow", settings, demonstrations(7))
    usual, narrow = tokens_a_micro_batch(capsys.readouterr().err)
    assert usual == 4 * narrow


def test_sft_keeps_the_weights_it_began_with_where_training_only_does_harm(base: Path, tmp_path: Path) -> None:
    good = Sft(learning_rate=0.02, epochs=8, batch_size=4)
    trained(base, tmp_path / "good", good, demonstrations(7))
    harm = Sft(learning_rate=0.1, epochs=4, batch_size=2, warmup_steps=0, validate_every_steps=1)
    rows = demonstrations(6, "\x07 \x02 unlike \x01 the rest")
    result = trained(tmp_path / "good" / "model", tmp_path / "harm", harm, rows, heldout=3)
    assert result.counts_out["best_step"] == 0
    before, after = (tmp_path / name / "model" / "model.safetensors" for name in ("good", "harm"))
    assert before.read_bytes() == after.read_bytes()


def test_rows_that_are_too_long_are_dropped_and_counted_and_nothing_left_is_an_error(
    base: Path, tmp_path: Path
) -> None:
    long = demonstrations(2, "far too long " * 20)
    inputs = {"base": base, "demonstrations": written(tmp_path / "d.jsonl", [*long, *demonstrations(1)])}
    short = recipe(model=CPU.model_copy(update={"max_response_tokens": 30}), sft=Sft(max_steps=1))
    result = sft.run(short, inputs, tmp_path / "out")
    assert (result.drops, result.counts_out["trained_on"]) == ({"response over 30 tokens": 2}, 1)
    inputs["demonstrations"] = written(tmp_path / "long.jsonl", long)
    with pytest.raises(TrainingError, match="SFT: no training row is left: 2 x response over 30 tokens"):
        sft.run(short, inputs, tmp_path / "none")


def test_sft_without_a_usable_held_out_row_says_why_and_trains_and_dpo_refuses(
    base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    short = recipe(model=CPU.model_copy(update={"max_response_tokens": 30}), sft=Sft(max_steps=1), dpo=Dpo(max_steps=1))
    inputs = {
        "base": base,
        "demonstrations": written(tmp_path / "d.jsonl", demonstrations(1)),
        "validation": written(tmp_path / "v.jsonl", demonstrations(2, "far too long " * 20)),
    }
    assert sft.run(short, inputs, tmp_path / "out").counts_out == {"trained_on": 1, "steps": 1}
    told = " ".join(capsys.readouterr().err.split())
    assert "SFT: nothing is validated, no held-out row is left: 2 x response over 30 tokens" in told
    inputs = {
        "policy": base,
        "reference": base,
        "pairs": written(tmp_path / "p.jsonl", pairs(2)),
        "validation": written(tmp_path / "long.jsonl", pairs(3, "far too long " * 20, "v")),
    }
    with pytest.raises(TrainingError, match="DPO human: no held-out row is left: 3 x response over 30 tokens"):
        dpo.run(short, inputs, tmp_path / "dpo", "human")


def test_a_best_step_is_counted_only_where_validations_say_which_it_is(base: Path, tmp_path: Path) -> None:
    settings = Sft(max_steps=1)
    assert "best_step" not in trained(base, tmp_path / "none", settings, demonstrations(3)).counts_out
    assert "best_step" in trained(base, tmp_path / "some", settings, demonstrations(3), heldout=1).counts_out


def test_a_file_of_another_kind_is_named_with_its_line(base: Path, tmp_path: Path) -> None:
    inputs = {"base": base, "demonstrations": written(tmp_path / "d.jsonl", pairs(1))}
    with pytest.raises(InputError, match=r"d\.jsonl, line 1: response: field required"):
        sft.run(recipe(), inputs, tmp_path / "out")


# DPO


def preferred(base: Path, out: Path, settings: Dpo, reference: Path | None = None) -> Any:
    inputs = {
        "policy": base,
        "reference": reference or base,
        "pairs": written(out / "in" / "pairs.jsonl", pairs(6)),
        "validation": written(out / "in" / "validation.jsonl", pairs(2, "It is five.", "held")),
    }
    return dpo.run(recipe(dpo=settings, arms={"human": Arm(human=6)}), inputs, out, "human")


def test_dpo_starts_at_ln_2_and_widens_the_margin(base: Path, tmp_path: Path) -> None:
    settings = Dpo(learning_rate=3e-3, epochs=6, batch_size=3, warmup_steps=0, nll_weight=0, validate_every_steps=3)
    result = preferred(base, tmp_path, settings)
    train = [point.values for point in curve(tmp_path) if point.split == "train"]
    assert train[0]["loss"] == pytest.approx(0.693147, abs=1e-5)
    assert train[-1]["loss"] < 0.5
    assert train[-1]["margin"] > train[0]["margin"] == pytest.approx(0, abs=1e-5)
    assert result.counts_out["steps"] == 12
    assert result.facts["gradient_checkpointing"] is False
    assert 0 < result.facts["memory"]["kept_bytes"] < result.facts["memory"]["available_bytes"]
    AutoModelForCausalLM.from_pretrained(tmp_path / "model")


def test_with_another_model_as_reference_the_first_loss_is_that_of_the_slow_obvious_form(
    base: Path, tmp_path: Path
) -> None:
    other = AutoModelForCausalLM.from_pretrained(base)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.mul_(1.2)
    shutil.copytree(base, tmp_path / "other")
    other.save_pretrained(tmp_path / "other")
    settings = Dpo(max_steps=1, batch_size=6, micro_batch_tokens=40, beta=0.5, nll_weight=0)
    preferred(base, tmp_path / "out", settings, reference=tmp_path / "other")
    networks = [plain_model(folder) for folder in (base, tmp_path / "other")]
    margins = []
    for item in pair_items(tiny_model(base).chat, pairs(6), CPU).items:
        (pc, pr), (rc, rr) = (
            [plain_logps(network, item.prompt, response).sum().item() for response in item.responses]
            for network in networks
        )
        margins.append(0.5 * ((pc - rc) - (pr - rr)))
    first = next(point.values for point in curve(tmp_path / "out") if point.split == "train")
    assert min(abs(margin) for margin in margins) > 0.01
    assert first["margin"] == pytest.approx(sum(margins) / 6, abs=1e-3)
    assert first["loss"] == pytest.approx(sum(math.log1p(math.exp(-m)) for m in margins) / 6, abs=1e-3)


def test_dpo_scores_every_pair_once_under_the_reference(base: Path, tmp_path: Path) -> None:
    preferred(base, tmp_path, Dpo(max_steps=1))
    scored = read_records(tmp_path / "reference_logps.jsonl", ReferenceLogps)
    assert [row.pair_id for row in scored] == [*(f"k{n}" for n in range(6)), "held0", "held1"]
    assert all(row.chosen_logps < 0 and row.rejected_logps < 0 for row in scored)


def test_an_interrupted_dpo_does_not_take_the_moved_policy_for_the_reference(base: Path, tmp_path: Path) -> None:
    settings = Dpo(learning_rate=3e-3, epochs=2, batch_size=3, checkpoint_every_minutes=1e-9)
    preferred(base, tmp_path / "whole", settings)
    resumed = tmp_path / "resumed"
    preferred(base, resumed, settings.model_copy(update={"max_steps": 2}))
    for left in resumed.glob(RESUMED_FROM):  # of another number of steps
        left.unlink()
    before = (resumed / "reference_logps.jsonl").read_bytes()
    preferred(base, resumed, settings)
    assert (resumed / "reference_logps.jsonl").read_bytes() == before
    assert curve(resumed) == curve(tmp_path / "whole")


# Mining


def judged(*scores: float | None, solved: Sequence[bool | None] = ()) -> list[Judgement]:
    flags = solved or [None] * len(scores)
    return [
        Judgement(prompt_id=f"p{n}", score=score, solved=flag)
        for n, (score, flag) in enumerate(zip(scores, flags, strict=True))
    ]


def rule(name: Any, **settings: Any) -> Mine:
    return Mine(rule=name, judge="verifier" if name == "failed" else "nemotron", **settings)


def test_failed_takes_what_is_not_solved_and_nothing_unscored() -> None:
    judgements = judged(1.0, 0.01, None, 0.0, solved=[True, False, None, False])
    assert mine.weak_prompts(rule("failed"), judgements, {}) == {"p1", "p3"}


def test_gap_takes_what_scores_below_its_own_reference_and_nothing_unscored() -> None:
    judgements = judged(-3.0, -1.0, None, -9.0, 0.0, -2.0)
    references = {"p0": -2.0, "p1": -1.0, "p2": 5.0, "p3": None, "p5": 0.0}  # p4 has none, p3's could not be scored
    assert mine.weak_prompts(rule("gap"), judgements, references) == {"p0", "p5"}


@pytest.mark.parametrize(("share", "weak"), [(0.25, {3}), (0.5, {0, 3}), (0.75, {0, 3, 5}), (0.01, {3})])
def test_bottom_quantile_takes_the_lowest_share_of_what_was_scored(share: float, weak: set[int]) -> None:
    judgements = judged(-3.0, None, 2.0, -9.0, None, -1.0)
    assert mine.weak_prompts(rule("bottom_quantile", bottom_quantile=share), judgements, {}) == {f"p{n}" for n in weak}


def test_equal_rewards_are_cut_by_their_place_and_never_all_taken() -> None:
    equal = judged(1.0, 1.0, 1.0, 1.0)
    assert mine.weak_prompts(rule("bottom_quantile", bottom_quantile=0.5), equal, {}) == {"p0", "p1"}


def mined(base: Path, out: Path, pool: Sequence[PromptRow], seed: int = 1, **settings: Any) -> Any:
    inputs = {"student": base, "pool": written(out / "pool.jsonl", pool)}
    return mine.run(recipe(seed=seed, mine=Mine(**({"max_new_tokens": 2} | settings))), inputs, out)


def ids(path: Path) -> list[str]:
    return [row.id for row in read_records(path, WeakPrompt)]


def test_mining_draws_a_control_of_equal_size_and_keeps_the_failing_replies(base: Path, tmp_path: Path) -> None:
    pool = [*problems(9), *prompts(5)]  # prompts without a problem cannot be judged: neither weak nor solved
    result = mined(base, tmp_path, pool, max_new_tokens=12)
    weak, control = (read_records(tmp_path / f"{name}.jsonl", WeakPrompt) for name in ("weak", "random"))
    assert {row.id for row in weak} == {row.id for row in problems(9)}
    assert len(control) == len(weak) == 9
    assert {row.id for row in control} != {row.id for row in weak}
    # A reply that was cut off is a failure, but no rejected response: its end would be made up.
    replies = {reply.prompt_id: reply for reply in read_records(tmp_path / "replies.jsonl", Reply)}
    whole = {id_: (reply.text,) if reply.finish_reason == "stop" else () for id_, reply in replies.items()}
    assert {len(failures) for failures in whole.values()} == {0, 1}
    assert all(row.failures == whole[row.id] for row in weak)
    assert all(row.failures == (whole[row.id] if row.problem else ()) for row in control)
    assert result.drops["unscored"] == 5
    assert result.facts["fail_rate"] == 1.0


def test_what_mining_draws_is_uniform_and_decided_by_the_seed(base: Path, tmp_path: Path) -> None:
    pool = problems(4)
    asked: Counter[str] = Counter()
    first: Counter[str] = Counter()
    for seed in range(40):
        mined(base, tmp_path / str(seed), pool, seed=seed, max_prompts=2)
        asked.update(ids(tmp_path / str(seed) / "weak.jsonl"))
        first.update(ids(tmp_path / str(seed) / "weak.jsonl")[:1])
    # Each of 4 is asked with probability 1/2 (mean 20 of 40, deviation 3.2) and first with 1/4 (10, 2.7): 3.5 of them.
    assert all(9 <= asked[row.id] <= 31 for row in pool)
    assert all(1 <= first[row.id] <= 19 for row in pool)
    mined(base, tmp_path / "again", pool, seed=3, max_prompts=2)
    assert ids(tmp_path / "again" / "weak.jsonl") == ids(tmp_path / "3" / "weak.jsonl")


def test_prompts_that_are_too_long_are_counted_and_not_asked(base: Path, tmp_path: Path) -> None:
    long = PromptRow(id="long", prompt=user_prompt("word " * 900), source="own")
    inputs = {"student": base, "pool": written(tmp_path / "pool.jsonl", [*problems(2), long])}
    short = recipe(mine=Mine(max_new_tokens=2), model=CPU.model_copy(update={"max_prompt_tokens": 400}))
    result = mine.run(short, inputs, tmp_path)
    assert result.drops["prompt over 400 tokens"] == 1
    assert len(read_records(tmp_path / "replies.jsonl", Reply)) == 2


def test_a_pool_that_the_verifier_cannot_judge_is_an_error(base: Path, tmp_path: Path) -> None:
    inputs = {"student": base, "pool": written(tmp_path / "pool.jsonl", prompts(3))}
    needy = recipe(mine=Mine(max_new_tokens=2), arms={"a": Arm(zero_shot=1)})
    with pytest.raises(InputError, match="no prompt of the pool is a built-in problem"):
        mine.run(needy, inputs, tmp_path)


# Evaluation


def evaluated(base: Path, out: Path, **settings: Any) -> Any:
    chat = Chat(train=1, heldout=2, max_new_tokens=6)
    inputs = {
        "model": base,
        "test": written(out / "in" / "test.jsonl", [*problems(7)[:5], *prompts(1)]),
        "transfer": written(out / "in" / "transfer.jsonl", problems(7)[5:]),
        "chat_heldout": written(out / "in" / "chat.jsonl", demonstrations(3)),
    }
    small = Evaluate(**({"max_new_tokens": 6} | settings))
    return evaluate.run(recipe(evaluate=small, corpus=Corpus(chat=chat)), inputs, out, "sft")


def test_evaluation_leaves_one_reply_and_one_judgement_a_prompt_and_measures_retention(
    base: Path, tmp_path: Path
) -> None:
    result = evaluated(base, tmp_path)
    replies = read_records(tmp_path / "replies.jsonl", Reply)
    judgements = read_records(tmp_path / "judgements_verifier.jsonl", Judgement)
    assert [reply.prompt_id for reply in replies] == [judgement.prompt_id for judgement in judgements]
    assert len(replies) == 8
    assert result.drops["verifier: unscored"] == 1  # the prompt without a problem
    kept = json.loads((tmp_path / "retention.json").read_text())
    assert kept["prompts"] == 3
    assert 1 < kept["nats_per_token"] < 30


def test_greedy_evaluation_repeats_itself_to_the_byte(base: Path, tmp_path: Path) -> None:
    for name in ("once", "twice"):
        evaluated(base, tmp_path / name)
    for file in ("replies.jsonl", "judgements_verifier.jsonl", "retention.json"):
        assert (tmp_path / "once" / file).read_bytes() == (tmp_path / "twice" / file).read_bytes()


def test_a_folder_that_is_no_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"a folder without config\.json"):
        evaluated(tmp_path, tmp_path / "out")


# The verdict

Marks = str  # one mark a prompt: + solved, - not solved, . cut off, ? unscored


def run_verdict(folder: Path, models: dict[str, Marks], transfer: int = 0, **settings: Any) -> Verdict:
    """Write what evaluation would have left, and run the stage."""
    count = len(models["sft"]) - transfer
    rows = prompts(len(models["sft"]))
    inputs = {
        "test": written(folder / "test.jsonl", rows[:count]),
        "transfer": written(folder / "transfer.jsonl", rows[count:]),
    }
    for name, marks in models.items():
        place = folder / name
        replies = [
            Reply(prompt_id=row.id, text="x", finish_reason="length" if mark == "." else "stop", num_tokens=3)
            for row, mark in zip(rows, marks, strict=True)
        ]
        judgements = [
            Judgement(prompt_id=row.id, score=None, unscored_reason="why")
            if mark == "?"
            else Judgement(prompt_id=row.id, score=float(mark == "+"), solved=mark == "+", parsed=mark != ".")
            for row, mark in zip(rows, marks, strict=True)
        ]
        inputs[f"{name}/replies"] = written(place / "replies.jsonl", replies)
        inputs[f"{name}/judgements_verifier"] = written(place / "judgements_verifier.jsonl", judgements)
        inputs[f"{name}/retention"] = place / "retention.json"
        inputs[f"{name}/retention"].write_text('{"nats_per_token": 1.5, "repetition_rate": null, "prompts": 4}')
    arms = {name: Arm(random=1) for name in models if name not in ("base", "sft")}
    verdict.run(recipe(arms=arms, evaluate=Evaluate(**settings)), inputs, folder)
    return Verdict.model_validate_json((folder / "verdict.json").read_text())


def comparison(found: Verdict, candidate: str, split: str = "test") -> Comparison:
    (match,) = [c for c in found.comparisons if (c.candidate, c.split) == (candidate, split)]
    return match


def score(found: Verdict, model: str) -> ModelScore:
    return next(score for score in found.scores if score.model == model)


BASE, HALF = "-" * 40, "+-" * 20
BETTER, WORSE, SAME = "+" * 20 + "+-" * 10, "-" * 20 + "+-" * 10, "-+" * 20


@pytest.mark.parametrize(
    ("arms", "words"),
    [
        ({"a": BETTER}, "the best of 1 DPO arm, a, improved on SFT (+25.0 points [+12.5, +40.0], n = 40)."),
        ({"a": WORSE}, "the best of 1 DPO arm, a, did worse than SFT (-25.0 points [-40.0, -12.5], n = 40)."),
        ({"a": SAME}, "the best of 1 DPO arm, a, did not clearly improve on SFT (+0.0 points "),
        (
            {"a": WORSE, "b": BETTER, "c": SAME},
            "the best of 3 DPO arms, b, improved on SFT (+25.0 points [+12.5, +40.0], n = 40); 1 of 3 arms helped, "
            "1 harmed.",
        ),
    ],
)
def test_the_sentence_says_what_the_figures_say(arms: dict[str, Marks], words: str, tmp_path: Path) -> None:
    found = run_verdict(tmp_path, {"base": BASE, "sft": HALF, **arms})
    start = "SFT took accuracy from 0.0 % [0.0, 8.8] to 50.0 % [35.2, 64.8] on 40 held-out problems; "
    assert found.sentence.startswith(start + words)
    assert "\n" not in found.sentence


def test_a_gain_that_chance_explains_is_no_improvement_however_large(tmp_path: Path) -> None:
    found = run_verdict(tmp_path, {"base": "-----", "sft": "-----", "a": "+++++"})  # p = 2 / 2^5 = 0.0625
    assert comparison(found, "a").difference.estimate == 1.0
    assert comparison(found, "a").p_value == pytest.approx(0.0625)
    assert "did not clearly improve on SFT" in found.sentence


def test_many_arms_are_corrected_together_and_the_base_is_no_arm(tmp_path: Path) -> None:
    gain = "++++++" + "-" * 34  # 6 of 6 discordant prompts: p = 2 / 2^6 = 0.03125
    alone = run_verdict(tmp_path / "alone", {"base": BASE, "sft": BASE, "a": gain})
    assert "a, improved on SFT" in alone.sentence
    crowd = run_verdict(tmp_path / "crowd", {"base": BASE, "sft": BASE, "a": gain, "b": gain, "c": gain})
    assert comparison(crowd, "a").p_value == pytest.approx(0.03125)
    assert comparison(crowd, "a").p_value_holm == pytest.approx(3 * 0.03125)
    assert "did not clearly improve on SFT" in crowd.sentence
    assert comparison(crowd, "base").p_value_holm == comparison(crowd, "base").p_value


@pytest.mark.parametrize("ties", ["half", "loss"])
def test_swapping_the_two_models_flips_the_sign(ties: str, tmp_path: Path) -> None:
    one, two = "+" * 22 + "-" * 18, "-" * 10 + "+" * 14 + "-" * 16
    there = comparison(run_verdict(tmp_path / "1", {"base": BASE, "sft": one, "a": two}, ties=ties), "a")
    back = comparison(run_verdict(tmp_path / "2", {"base": BASE, "sft": two, "a": one}, ties=ties), "a")
    assert there.difference.estimate == -back.difference.estimate == pytest.approx(-0.2)
    assert there.difference.low == pytest.approx(-back.difference.high)
    assert (there.wins, there.losses, there.ties) == (back.losses, back.wins, back.ties) == (2, 10, 28)
    assert there.p_value == back.p_value
    if ties == "half":
        assert there.win_rate.estimate == pytest.approx(1 - back.win_rate.estimate)
    else:
        assert (there.win_rate.estimate, back.win_rate.estimate) == (2 / 40, 10 / 40)


def test_a_model_against_itself_is_half(tmp_path: Path) -> None:
    found = comparison(run_verdict(tmp_path, {"base": BASE, "sft": HALF, "a": HALF}), "a")
    assert (found.win_rate.estimate, found.difference.estimate, found.p_value) == (0.5, 0.0, 1.0)


def test_unscored_rows_leave_both_sides_and_are_counted(tmp_path: Path) -> None:
    found = run_verdict(tmp_path, {"base": "----", "sft": "?+-+", "a": "+?++"})
    arm = comparison(found, "a")
    assert (arm.difference.n, arm.win_rate.n, arm.unscored) == (2, 2, 2)
    assert arm.difference.estimate == 0.5
    assert score(found, "sft").unscored == score(found, "a").unscored == 1
    accuracy = score(found, "a").accuracy
    assert accuracy is not None
    assert (accuracy.estimate, accuracy.n) == (1.0, 3)


def test_cut_off_and_unparsable_replies_are_counted_and_stay_in_the_denominator(tmp_path: Path) -> None:
    found = score(run_verdict(tmp_path, {"base": "----", "sft": "+..-"}), "sft")
    assert (found.truncated, found.unparsable, found.num_replies) == (2, 2, 4)
    assert found.accuracy is not None
    assert (found.accuracy.estimate, found.accuracy.n) == (0.25, 4)


def test_transfer_prompts_are_compared_apart_and_stay_out_of_the_sentence(tmp_path: Path) -> None:
    found = run_verdict(tmp_path, {"base": BASE, "sft": HALF, "a": BETTER[:30] + "-" * 10}, transfer=10)
    assert comparison(found, "a").difference.n == 30
    assert comparison(found, "a", "transfer").difference.estimate == -0.5
    assert "on 30 held-out problems" in found.sentence
    transfer = score(found, "a").transfer_accuracy
    assert transfer is not None
    assert transfer.estimate == 0


def test_no_prompt_is_an_error_and_no_zero(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no held-out prompt to judge by"):
        run_verdict(tmp_path, {"base": "", "sft": "", "a": ""})
    assert not (tmp_path / "verdict.json").exists()


def test_where_nothing_could_be_scored_nothing_is_claimed(tmp_path: Path) -> None:
    found = run_verdict(tmp_path, {"base": "??", "sft": "??", "a": "??"})
    assert found.sentence == "SFT was not measured; no arm could be compared with SFT by verifier."
    assert found.comparisons == ()
    assert score(found, "sft").accuracy is None


def test_a_verdict_names_the_smallest_difference_it_could_have_seen(tmp_path: Path) -> None:
    few = comparison(run_verdict(tmp_path / "few", {"base": "-" * 12, "sft": "+-" * 6, "a": "-+" * 6}), "a")
    many = comparison(run_verdict(tmp_path / "many", {"base": BASE * 5, "sft": HALF * 5, "a": SAME * 5}), "a")
    assert few.minimum_detectable_difference is not None
    assert many.minimum_detectable_difference is not None
    assert 0 < many.minimum_detectable_difference < few.minimum_detectable_difference


def test_nothing_goes_beyond_the_models_context_and_what_would_is_counted(tmp_path: Path) -> None:
    base = tiny_folder(tmp_path / "base", max_position_embeddings=64)
    model = load_model(str(base), torch.device("cpu"), torch.float32)
    rows = [PromptRow(id=name, prompt=user_prompt("word " * words), source="own") for name, words in
            (("short", 2), ("near", 11), ("over", 60))]  # fmt: skip
    lengths = {row.id: len(model.chat.prompt_ids(row.prompt)) for row in rows}
    assert lengths["near"] < 64 < lengths["over"]
    sampling = Sampling(max_new_tokens=200, ignore_end_of_turn=True)
    found = ask(model, rows, sampling, CPU, tmp_path / "replies.jsonl", "x")
    assert {reply.prompt_id: reply.num_tokens for reply in found.replies} == {
        name: 64 - lengths[name] for name in ("short", "near")
    }
    assert found.drops == {"prompt leaves no room in the model's 64 tokens": 1}
    told = [Demonstration(**dict(row), response="so " * 4) for row in rows]
    items = demonstration_items(model.chat, told, CPU)
    assert [item.id for item in items.items] == ["short"]
    assert items.drops == {"over the 64 tokens of the model's context": 2}


def test_a_judge_that_scored_nothing_is_an_error_and_not_a_student_without_failures(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mine, "_judge", lambda *_: (judged(None, None), {}))
    with pytest.raises(InputError, match="scored none of the 2 replies, so nothing says which prompts are weak"):
        mined(base, tmp_path, problems(2))
