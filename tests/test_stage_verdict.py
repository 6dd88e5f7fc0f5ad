"""The verdict of whole files: samples, other people's responses, strengths, pairs, what judges are worth."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
from verdict_files import comparison, judge_files, prompt, recipe, written

from limbeck.judges.protocol import over_long
from limbeck.manifest import Manifest, StageResult
from limbeck.records import Estimate, Judgement
from limbeck.records.verdict import JudgeCard, PairLogps, Preference, Verdict
from limbeck.stages.verdict.judge_cards import card_of
from limbeck.stages.verdict.models import asked_of, read_model
from limbeck.statistics import bradley_terry, paired_permutation
from limbeck.store import digest_json, read_records, write_json

NAN = math.nan
SFT = [[0.0, 1.0, 0.0]] * 20
BETTER = [[1.0, 1.0, 0.0]] * 16 + [[0.0, 1.0, 0.0]] * 4
K3: dict[str, Any] = {"evaluate": {"samples_per_prompt": 3}}


def test_samples_of_a_prompt_are_rows_and_prompts_are_the_evidence(tmp_path: Path) -> None:
    found = judge_files(tmp_path, recipe(**K3), {"sft": {"verifier": SFT}, "a": {"verifier": BETTER}})
    arm = comparison(found, "a")
    assert (arm.wins, arm.ties, arm.losses, arm.unscored) == (16, 44, 0, 0)
    assert (arm.difference.n, arm.win_rate.n) == (20, 20)
    assert arm.difference.estimate == pytest.approx(16 / 60)
    assert arm.test == "paired permutation over prompts"
    assert arm.p_value == pytest.approx(paired_permutation([0.0] * 20, [1.0] * 16 + [0.0] * 4, seed=1), abs=1e-3)
    assert "n = 20 prompts, 60 replies" in found.sentence
    assert [score.accuracy.n for score in found.scores if score.accuracy] == [20, 20]
    assert [score.num_replies for score in found.scores] == [60, 60]


def test_a_sample_that_is_missing_leaves_both_sides_and_is_counted(tmp_path: Path) -> None:
    sft, arm = [[0.0, NAN], [1.0, 1.0], [None, 0.0]], [[1.0, 1.0], [0.0, 1.0], [1.0, NAN]]
    given = recipe(evaluate={"samples_per_prompt": 2})
    found = judge_files(tmp_path, given, {"sft": {"verifier": sft}, "a": {"verifier": arm}})
    scores = {score.model: score for score in found.scores}
    assert (scores["sft"].missing, scores["a"].missing) == (1, 1)
    assert (scores["sft"].unscored, scores["a"].unscored) == (2, 1)
    compared = comparison(found, "a")
    assert (compared.wins, compared.ties, compared.losses, compared.unscored) == (1, 1, 1, 3)
    assert compared.difference.n == 2  # the third prompt has no sample that both are scored on


def test_every_model_is_compared_with_somebody_elses_one_response_too(tmp_path: Path) -> None:
    models = {"base": [[0.0] * 3] * 20, "sft": SFT, "a": BETTER, "against": [[1.0]] * 15 + [[0.0]] * 3 + [[NAN]] * 2}
    found = judge_files(tmp_path, recipe(**K3), {name: {"verifier": scores} for name, scores in models.items()})
    assert {(c.candidate, c.baseline) for c in found.comparisons} == {
        ("base", "sft"), ("a", "sft"), ("base", "against"), ("sft", "against"), ("a", "against"),
    }  # fmt: skip
    arm = comparison(found, "a", "against")
    rows = [
        (s, o) for samples, other in zip(BETTER, [1.0] * 15 + [0.0] * 3, strict=False) for s in samples for o in [other]
    ]
    assert arm.wins == sum(s > o for s, o in rows)
    assert arm.losses == sum(s < o for s, o in rows)
    assert arm.unscored == 6  # two prompts without a response, three samples each
    p_values = {name: comparison(found, name, "against") for name in ("base", "sft", "a")}
    assert p_values["base"].p_value_holm == p_values["base"].p_value
    assert max(p_values["sft"].p_value_holm, p_values["a"].p_value_holm) >= min(
        1.0, 2 * min(p_values["sft"].p_value, p_values["a"].p_value)
    )
    (others,) = [score for score in found.scores if score.model == "against"]
    assert (others.num_replies, others.missing) == (18, 2)
    assert "win rate against the given responses: SFT " in found.sentence


def test_strengths_are_fitted_over_all_models_by_each_judge(tmp_path: Path) -> None:
    scores = {"sft": [0.0, 2.0, 1.0, 3.0], "a": [1.0, 1.0, 2.0, None], "b": [-1.0, 0.0, 0.0, 0.0]}
    nested = {name: {"nemotron": [[s] for s in column]} for name, column in scores.items()}
    found = judge_files(tmp_path, recipe(("a", "b"), ("nemotron",)), nested)
    slow = {s.arm: s.log_odds for s in bradley_terry(scores, baseline="sft", seed=1).strengths}
    assert {s.model: s.log_odds.estimate for s in found.strengths} == pytest.approx(slow)
    by_name = {s.model: s for s in found.strengths}
    assert by_name["sft"].win_rate.estimate == 0.5
    assert (by_name["a"].log_odds.n, by_name["b"].log_odds.n) == (3, 4)
    assert by_name["a"].win_rate.estimate == pytest.approx(1 / (1 + math.exp(-slow["a"])))


def pair(id: str, chosen: float, rejected: float, source: str = "random", longer: int = 1) -> PairLogps:
    return PairLogps(id=id, source=source, chosen_logps=chosen, rejected_logps=rejected, chosen_tokens=5,
                     rejected_tokens=4, chosen_characters=10 + longer, rejected_characters=10)  # fmt: skip


def test_pair_accuracy_is_raw_and_against_sft_beside_the_longer_ones(tmp_path: Path) -> None:
    sft = [pair("1", -5, -4), pair("2", -5, -6), pair("3", -5, -5, "few_shot", -1), pair("4", -9, -3, "few_shot", 0)]
    arm = [
        pair("1", -5, -4.5),
        pair("2", -5, -5.5),
        pair("3", -5, -6, "few_shot", -1),
        pair("4", -9, -3, "few_shot", 0),
    ]
    logps = {"sft/pair_logps": written(tmp_path / "s.jsonl", sft), "a/pair_logps": written(tmp_path / "a.jsonl", arm)}
    models = {"sft": {"verifier": [[0.0]]}, "a": {"verifier": [[1.0]]}}
    found = {(p.model, p.source): p for p in judge_files(tmp_path, recipe(), models, **logps).pair_accuracies}
    assert {key: p.raw.estimate for key, p in found.items()} == {
        ("sft", "random"): 0.5, ("sft", "few_shot"): 0.25, ("a", "random"): 0.5, ("a", "few_shot"): 0.5,
    }  # fmt: skip
    change = found["a", "random"].against_reference  # +0.5 on the first pair, -0.5 on the second
    few = found["a", "few_shot"].against_reference  # +1 on the first, 0, which is half right, on the second
    assert change is not None
    assert few is not None
    assert (change.estimate, few.estimate, few.n) == (0.5, 0.75, 2)
    assert found["sft", "random"].against_reference is None
    assert found["a", "random"].longer_is_chosen.estimate == 1.0
    assert found["a", "few_shot"].longer_is_chosen.estimate == 0.25  # one shorter, one as long


def test_pairs_of_one_prompt_are_one_piece_of_evidence(tmp_path: Path) -> None:
    alike = [pair(str(at), -4, -5 if at < 12 else -3).model_copy(update={"prompt": f"q{at // 4}"}) for at in range(20)]
    apart = [each.model_copy(update={"prompt": ""}) for each in alike]
    found = {}
    for name, pairs in (("alike", alike), ("apart", apart)):
        logps = {"sft/pair_logps": written(tmp_path / f"{name}.jsonl", pairs)}
        (found[name],) = judge_files(tmp_path / name, recipe(), {"sft": {"verifier": [[0.0]]}}, **logps).pair_accuracies
    assert found["alike"].raw.estimate == found["apart"].raw.estimate == 0.6
    assert (found["alike"].raw.n, found["apart"].raw.n) == (5, 20)
    widths = [found[name].raw.high - found[name].raw.low for name in ("alike", "apart")]
    assert widths[0] > 1.4 * widths[1]


def by_pairwise(folder: Path, marks: list[Preference], models: dict[str, Any], judged_by: tuple[str, ...]) -> Verdict:
    given = recipe(("a",), judged_by, judges={"pairwise": {"model": "local:some/model"}})
    return judge_files(folder, given, models, **{"a/preferences": written(folder / "preferences.jsonl", marks)})


FIRST = {"candidate_first": "candidate", "baseline_first": "baseline"}  # whoever stands first wins: a flip
WIN = {"candidate_first": "candidate", "baseline_first": "candidate"}
LOSS = {"candidate_first": "baseline", "baseline_first": "baseline"}
TIE = {"candidate_first": "tie", "baseline_first": "tie"}


def preferences() -> list[Preference]:
    marks: list[tuple[Any, dict[str, Any]]] = [("win", WIN)] * 5 + [("tie", FIRST)] * 2 + [("loss", LOSS), ("tie", TIE)]
    told = [Preference(prompt_id=f"p{at}", outcome=outcome, **said) for at, (outcome, said) in enumerate(marks)]
    return [*told, Preference(prompt_id="p9", outcome=None, unscored_reason="no answer")]


def test_a_pairwise_judge_compares_with_sft_alone_and_its_flips_are_shown(tmp_path: Path) -> None:
    replied = {name: {"pairwise": [[0.0]] * 10} for name in ("sft", "a")}
    found = by_pairwise(tmp_path, preferences(), replied, ("pairwise",))
    arm = comparison(found, "a")
    assert (arm.wins, arm.ties, arm.losses, arm.unscored) == (5, 3, 1, 1)
    assert arm.win_rate.estimate == pytest.approx(6.5 / 9)
    assert arm.p_value == pytest.approx(2 * (1 + 6) / 2**6)  # 5 of 6
    (card,) = found.judges
    assert {name: rate.estimate for name, rate in card.rates.items()} == pytest.approx(
        {"ties": 3 / 9, "unscored": 1 / 10, "flips": 2 / 9, "first_position": (5 + 4 + 1) / 16}
    )
    assert card.about.startswith("local:some/model")
    assert found.strengths == ()
    assert "judged by pairwise" in found.sentence
    assert "reward" not in found.sentence


def test_judges_agree_by_cohens_kappa_over_the_rows_both_scored(tmp_path: Path) -> None:
    rewards = [[1.0]] * 4 + [[-1.0]] + [[0.0]] * 2 + [[-1.0]] + [[1.0]] + [[1.0]]
    models = {"sft": {"nemotron": [[0.0]] * 10}, "a": {"nemotron": rewards}}
    found = by_pairwise(tmp_path, preferences(), models, ("nemotron", "pairwise"))
    (agreement,) = found.agreements
    assert agreement.judges == ("nemotron", "pairwise")
    assert agreement.n == 9
    # nemotron: 4 w, 1 l, 2 t, 1 l, 1 w; pairwise: 5 w, 2 t, 1 l, 1 t. Equal on 4 w, 2 t and 1 l of nine.
    assert agreement.agreement.estimate == pytest.approx(7 / 9)
    chance = (5 * 5 + 2 * 3 + 2 * 1) / 81
    assert agreement.kappa == pytest.approx((7 / 9 - chance) / (1 - chance))


def test_the_verifiers_card_says_how_often_no_answer_was_found_by_family(tmp_path: Path) -> None:
    models = {"sft": {"verifier": [[0.0], [1.0], [0.0], [1.0]]}, "a": {"verifier": [[1.0], [1.0], [0.0], [None]]}}
    (card,) = judge_files(tmp_path, recipe(), models).judges
    assert {name: (rate.estimate, rate.n) for name, rate in card.rates.items()} == {
        "failed_extraction": (pytest.approx(3 / 7), 4),
        "failed_extraction: even": (0.75, 2),
        "failed_extraction: odd": (0.0, 2),
    }


def test_nemotrons_card_counts_ties_and_what_was_too_long(tmp_path: Path) -> None:
    models = {"sft": {"nemotron": [[0.0], [1.0], [2.0], [None]]}, "a": {"nemotron": [[0.0], [2.0], [1.0], [1.0]]}}
    given = recipe(("a",), ("nemotron",))
    judge_files(tmp_path, given, models)
    path = tmp_path / "sft" / "judgements_nemotron.jsonl"
    written(path, [each.model_copy(update={"unscored_reason": over_long(4096)}) if each.score is None else each
                   for each in read_records(path, Judgement)])  # fmt: skip
    inputs = {f"{name}/{file}": tmp_path / name / f"{file}.jsonl" for name in models
              for file in ("replies", "judgements_nemotron")}  # fmt: skip
    read = [read_model(name, inputs, given) for name in models]
    card = card_of("nemotron", read, asked_of([prompt(at) for at in range(4)], 1), given, inputs)
    assert card.rates["over_long"].estimate == pytest.approx(1 / 8)
    assert card.rates["ties"].estimate == pytest.approx(1 / 3)
    assert card.rates["unscored"].estimate == pytest.approx(1 / 4)
    assert "its accuracy was not measured here" in card.limits


def test_a_local_judges_measured_accuracy_is_printed_beside_its_result(tmp_path: Path) -> None:
    models = {"sft": {"local": [[0.0], [1.0]]}, "a": {"local": [[1.0], [2.0]]}}
    given = recipe(("a",), ("local",))
    (unknown,) = judge_files(tmp_path, given, models).judges
    assert unknown.accuracy is None
    assert unknown.limits == ("its accuracy was not measured here",)
    right = Estimate(estimate=0.7, low=0.6, high=0.8, n=100)
    card = JudgeCard(judge="local", about="a head trained here", accuracy=right, longer_is_chosen=right)
    write_json(tmp_path / "card.json", card.model_dump(mode="json"))
    found = judge_files(tmp_path, given, models, reward_card=tmp_path / "card.json")
    assert found.judges[0].accuracy == right
    assert found.judges[0].rates["ties"].estimate == 0
    assert "the accuracy of local itself, 70.0 % [60.0, 80.0], is not clearly above" in found.sentence


def test_the_cost_is_said_where_it_is_known(tmp_path: Path) -> None:
    folder = tmp_path / "teach"
    folder.mkdir()
    paid = Manifest(unit="teach", key=digest_json(1), seed=1, inputs={}, recipe_part={}, outputs={}, seconds=1.0,
                    result=StageResult(money_usd=12.3), finished_at="", versions={})  # fmt: skip
    (folder / "manifest.json").write_text(json.dumps(paid.model_dump(mode="json")))
    models = {"sft": {"verifier": [[0.0]]}, "a": {"verifier": [[1.0]]}}
    found = judge_files(tmp_path, recipe(), models, **{"paid/teach": folder / "manifest.json"})
    assert found.cost_usd == 12.3
    assert found.sentence.endswith("; the teacher cost $12.30.")
    unknown = judge_files(tmp_path, recipe(), models)
    assert unknown.cost_usd is None
    assert "cost" not in unknown.sentence
