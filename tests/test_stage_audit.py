"""The audit: pairs that give themselves away raise an alarm, pairs that do not raise none, and "stop" stops."""

import random
import re
from pathlib import Path
from typing import Any

import pytest

from limbeck import pipeline, tasks
from limbeck.errors import AuditError, InputError
from limbeck.recipe import Recipe
from limbeck.records import Pair, PromptRow, user_prompt
from limbeck.records.audit import Audit, PairsAudit
from limbeck.seeds import rng
from limbeck.stages import audit
from limbeck.stages.audit import alarms
from limbeck.stages.audit.measure import Anchor, asked, measure, sampled
from limbeck.store import read_json, write_records

WORDS = [f"word{number}" for number in range(400)]


def pairs(number: int, *, seed: int = 1, topics: int = 8, source: str = "zero_shot", **changes: Any) -> list[Pair]:
    """Pairs whose sides are drawn alike; each prompt takes its words from one of `topics` parts of the vocabulary."""
    draw = random.Random(seed)
    size = len(WORDS) // 8
    made = []
    for place in range(number):
        topic = WORDS[size * (place % topics) : size * (place % topics + 1)]
        chosen, rejected = (" ".join(draw.choices(WORDS, k=draw.randint(10, 20))) for _ in range(2))
        prompt = user_prompt(" ".join(draw.choices(topic, k=9)))
        made.append(Pair(id=f"{source}{place}", prompt=prompt, source=source, chosen=chosen, rejected=rejected))
    return made


def with_chosen(rows: list[Pair], ending: str) -> list[Pair]:
    return [row.model_copy(update={"chosen": row.chosen + ending}) for row in rows]


def look(rows: list[Pair], anchor: list[Pair] | None = None, **rules: Any) -> PairsAudit:
    compared = Anchor("human", tuple(asked(row) for row in anchor)) if anchor else None
    return measure("k", "kind", rows, compared, recipe(**rules).audit, seed=1, confidence=0.95)


def recipe(**rules: Any) -> Recipe:
    return Recipe.model_validate({"name": "r", "audit": rules})


def fields(found: PairsAudit, **rules: Any) -> list[str]:
    return [alarm.field for alarm in alarms.alarms_of(found, recipe(**rules).audit)]


def test_sides_drawn_alike_raise_no_alarm_and_leave_one_half_in_the_interval() -> None:
    found = look(pairs(200), pairs(200, seed=2))
    assert found.shortcut is not None
    assert found.shortcut.words_auc.low < 0.5 < found.shortcut.words_auc.high
    assert found.shortcut.length_auc.low < 0.5 < found.shortcut.length_auc.high
    assert fields(found) == []


def test_a_word_that_every_chosen_has_is_found_and_named() -> None:
    found = look(with_chosen(pairs(200), " therefore"))
    assert found.shortcut is not None
    assert found.shortcut.words_auc.low > 0.9
    assert found.shortcut.telling_chosen[0] == "therefore"
    [alarm] = [each for each in alarms.alarms_of(found, recipe().audit) if each.field == "audit.max_words_auc"]
    assert "‘therefore’" in alarm.sentence
    assert "threshold 0.8" in alarm.sentence
    assert fields(found, max_words_auc=1) == []


def test_a_word_of_the_rejected_is_named_as_such() -> None:
    turned = [row.model_copy(update={"chosen": row.rejected, "rejected": row.chosen})
              for row in with_chosen(pairs(120), " hm")]  # fmt: skip
    found = look(turned).shortcut
    assert found is not None
    assert found.telling_rejected[0] == "hm"
    assert "hm" not in found.telling_chosen


def test_chosen_that_are_always_longer_are_found_by_length_alone() -> None:
    draw = random.Random(4)
    longer = [row.model_copy(update={"chosen": f"{row.rejected} {' '.join(draw.choices(WORDS, k=9))}"})
              for row in pairs(150)]  # fmt: skip
    found = look(longer)
    assert found.shortcut is not None and found.longer_is_chosen is not None
    assert found.longer_is_chosen.estimate == 1.0
    assert found.shortcut.length_auc.low > 0.85
    assert "audit.max_length_auc" in fields(found)


def test_few_pairs_raise_no_alarm_by_chance_and_fewer_say_that_nothing_was_measured() -> None:
    assert fields(look(pairs(40))) == []
    few = look(with_chosen(pairs(39), " therefore"), pairs(30, seed=2))
    assert (few.shortcut, few.coverage) == (None, None)
    assert few.not_measured == (
        "shortcut test: it needs pairs of 40 prompts with words",
        "coverage: it needs 40 prompts that are none of the human ones, and 40 of those",
    )


def test_prompts_that_are_the_anchors_own_are_left_out_and_counted() -> None:
    anchor = pairs(300, seed=2)
    mixed, alone = (
        look([*anchor[:100], *pairs(50, topics=1)], anchor).coverage,
        look(pairs(50, topics=1), anchor).coverage,
    )
    assert mixed is not None
    assert mixed.num_shared == 100
    assert alone == mixed.model_copy(update={"num_shared": 0})
    copied = look([*anchor, *pairs(39)], anchor)
    assert copied.coverage is None
    assert "none of the human ones" in copied.not_measured[0]


def test_prompts_of_one_topic_are_narrow_beside_those_of_eight() -> None:
    anchor = pairs(300, seed=2)
    found = look(pairs(150, topics=1), anchor)
    assert {"audit.min_clusters_reached", "audit.min_effective_clusters"} <= set(fields(found))
    assert fields(look(pairs(150), anchor)) == []


def test_the_same_prompt_many_times_is_much_alike() -> None:
    same = [row.model_copy(update={"prompt": user_prompt("word1 word2 word3")}) for row in pairs(60)]
    assert "audit.min_vendi" in fields(look(same, pairs(300, seed=2)))


def test_chosen_made_of_one_phrase_raise_the_alarm_of_self_bleu() -> None:
    alike = [row.model_copy(update={"chosen": "the same seven words again and again"}) for row in pairs(50)]
    assert "audit.max_self_bleu" in fields(look(alike))
    assert look(alike).chosen.vendi == pytest.approx(1.0)


def test_lengths_and_the_share_of_longer_chosen_by_hand() -> None:
    rows = [
        pairs(1)[0].model_copy(update={"chosen": "aaa bb", "rejected": "a"}),
        pairs(1)[0].model_copy(update={"chosen": "aa", "rejected": "bb"}),
        pairs(1)[0].model_copy(update={"chosen": "a", "rejected": "a b c"}),
    ]
    found = look(rows)
    assert (found.chosen_length.characters, found.chosen_length.words) == (3.0, 4 / 3)
    assert (found.rejected_length.characters, found.rejected_length.words) == (8 / 3, 5 / 3)
    assert found.longer_is_chosen is not None
    assert (found.longer_is_chosen.estimate, found.longer_is_chosen.n) == (0.5, 2)  # the pair of equal lengths is out


def test_large_sets_are_sampled_and_say_so() -> None:
    found = look(pairs(300), sample_pairs=100, sample_texts=20)
    assert (found.num_pairs, found.num_sampled, found.chosen.num_texts) == (300, 100, 20)
    assert found.shortcut is not None and found.shortcut.num_pairs == 100
    assert sampled(range(10), 4, 1, "x") == sorted(set(sampled(range(10), 4, 1, "x")))
    assert sampled(range(1000), 4, 1, "x") != sampled(range(1000), 4, 2, "x")


def test_pairs_of_the_worked_teacher_raise_no_alarm() -> None:
    drawn = tasks.draw_splits({"pool": 220, "fresh": 220}, seed=1)
    made = [
        Pair(**{**row.model_dump(), "source": "zero_shot", "chosen": row.problem.solution, "rejected": slipped})
        for row in drawn["pool"]
        if row.problem and (slipped := tasks.slip(row.problem, rng(1, "worked", row.id, 0))) is not None
    ]
    anchor = Anchor("pool", tuple(asked(row) for row in drawn["fresh"]))
    found = measure("zero_shot", "kind", made, anchor, recipe().audit, seed=1, confidence=0.95)
    assert alarms.alarms_of(found, recipe().audit) == []


def written(folder: Path, **sets: list[Pair]) -> dict[str, Path]:
    inputs = {}
    for name, rows in sets.items():
        key = name.replace("_", "/", 1)
        inputs[key] = folder / f"{name}.jsonl"
        write_records(inputs[key], rows)
    return inputs


def arms(**mixtures: dict[str, int]) -> Recipe:
    return Recipe.model_validate({"name": "r", "arms": mixtures})


def test_the_stage_leaves_a_record_of_every_set_and_facts(tmp_path: Path) -> None:
    human, told = pairs(120, seed=2, source="human"), with_chosen(pairs(120), " therefore")
    inputs = written(tmp_path, kind_human=human, kind_zero_shot=told, arm_both=[*human, *told], anchor_human=human)
    result = audit.run(arms(both={"human": 1, "zero_shot": 1}), inputs, tmp_path)
    found = Audit.model_validate(read_json(tmp_path / audit.AUDIT))
    assert [each.label for each in found.audits] == ["human", "zero_shot", "arm both"]
    assert [each.coverage is None for each in found.audits] == [True, False, False]  # the anchor is not its own
    assert result.counts_in == {"human": 120, "zero_shot": 120, "arm both": 240}
    assert result.counts_out == {"alarms": len(found.alarms)}
    assert {alarm.about for alarm in found.alarms} >= {"zero_shot"}
    assert result.facts["words_auc"]["zero_shot"] > 0.95


def test_an_arm_of_one_kind_does_not_repeat_its_alarm(tmp_path: Path) -> None:
    told = with_chosen(pairs(120), " therefore")
    inputs = written(tmp_path, kind_zero_shot=told, arm_alone=told)
    audit.run(arms(alone={"zero_shot": 1}), inputs, tmp_path)
    found = Audit.model_validate(read_json(tmp_path / audit.AUDIT))
    assert {alarm.about for alarm in found.alarms} == {"zero_shot"}
    assert len(found.audits) == 2


def test_an_arm_of_two_runs_is_audited_as_a_whole(tmp_path: Path) -> None:
    first, second = pairs(50, source="human"), pairs(60)
    audit.run(arms(seq={"human": 1, "zero_shot": 1}), written(tmp_path, arm_seq=second, first_seq=first), tmp_path)
    [found] = Audit.model_validate(read_json(tmp_path / audit.AUDIT)).audits
    assert (found.label, found.num_pairs) == ("arm seq", 110)


def test_the_audit_reads_both_runs_of_a_sequential_arm() -> None:
    arm = {"human": 4, "zero_shot": 4, "mixing": "sequential"}
    made = Recipe.model_validate(
        {"name": "r", "corpus": {"tasks": {}}, "arms": {"seq": arm, "told": {**arm, "trains": "sft"}}}
    )
    [unit] = [unit for unit in pipeline.units(made, Path("base")) if unit.name == "audit"]
    read = {name: path for name, path in unit.inputs.items() if name.startswith(("arm/", "first/"))}
    assert read == {"arm/seq": Path("mix/seq/train.jsonl"), "first/seq": Path("mix/seq/first.jsonl")}


def test_stop_ends_with_one_sentence_after_the_record_is_written(tmp_path: Path) -> None:
    inputs = written(tmp_path, pairs=with_chosen(pairs(120), " therefore"))
    with pytest.raises(AuditError, match=r"AUC .* threshold 0\.8.*nothing is trained") as caught:
        audit.run(recipe(on_alarm="stop"), inputs, tmp_path)
    assert caught.value.exit_code == 2
    assert Audit.model_validate(read_json(tmp_path / audit.AUDIT)).alarms
    quiet = recipe(on_alarm="stop", max_words_auc=1, max_length_auc=1)
    assert audit.run(quiet, inputs, tmp_path).counts_out == {"alarms": 0}


def test_a_file_of_several_sources_is_audited_whole_and_by_source(tmp_path: Path) -> None:
    mixed = [*pairs(10), *pairs(12, source="human")]
    audit.run(recipe(), written(tmp_path, pairs=mixed), tmp_path)
    found = Audit.model_validate(read_json(tmp_path / audit.AUDIT))
    assert [(each.label, each.num_pairs) for each in found.audits] == [("pairs", 22), ("zero_shot", 10), ("human", 12)]


def test_a_file_without_pairs_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no pair to audit"):
        audit.run(recipe(), written(tmp_path, pairs=[]), tmp_path)


def test_a_kind_of_which_there_is_no_pair_is_left_out_and_the_others_are_audited(tmp_path: Path) -> None:
    audit.run(recipe(), written(tmp_path, kind_zero_shot=pairs(12), kind_few_shot=[], anchor_random=[]), tmp_path)
    found = Audit.model_validate(read_json(tmp_path / audit.AUDIT))
    assert [(each.label, each.num_pairs) for each in found.audits] == [("zero_shot", 12)]


def test_the_same_pairs_and_seed_give_the_same_bytes(tmp_path: Path) -> None:
    inputs = written(tmp_path, kind_zero_shot=pairs(150), anchor_human=pairs(150, seed=2))
    texts = []
    for _ in range(2):
        audit.run(recipe(), inputs, tmp_path)
        texts.append((tmp_path / audit.AUDIT).read_bytes())
    assert texts[0] == texts[1]


def test_prompts_are_what_the_user_said_in_all_turns() -> None:
    prompt = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hello"},
              {"role": "assistant", "content": "Hi"}, {"role": "user", "content": "Bye"}]  # fmt: skip
    assert asked(PromptRow.model_validate({"id": "p", "source": "s", "prompt": prompt})) == ["hello", "\n", "bye"]


def test_the_audit_stands_between_the_last_mixture_and_the_first_training_on_preferences() -> None:
    made = Recipe.model_validate({"name": "r", "corpus": {"tasks": {}}, "arms": {
        "a": {"random": 4, "zero_shot": 4}, "b": {"zero_shot": 4}}})  # fmt: skip
    names = [unit.name for unit in pipeline.units(made, Path("base"))]
    assert names.index("mix/b") < names.index("audit") < names.index("dpo/a")
    unit = pipeline.units(made, Path("base"))[names.index("audit")]
    assert set(unit.inputs) == {"kind/random", "kind/zero_shot", "arm/a", "arm/b", "anchor/random"}


@pytest.mark.parametrize(
    ("arm", "anchor"), [({"human": 1, "random": 1}, "anchor/human"), ({"on_policy": 1}, "anchor/pool")]
)
def test_prompts_are_compared_with_human_ones_or_what_stands_for_them(arm: dict[str, int], anchor: str) -> None:
    made = Recipe.model_validate({"name": "r", "corpus": {"tasks": {}}, "arms": {"a": arm}})
    [unit] = [unit for unit in pipeline.units(made, Path("base")) if unit.name == "audit"]
    assert [name for name in unit.inputs if name.startswith("anchor/")] == [anchor]


def test_advice_names_settings_that_exist() -> None:
    advice = " ".join(str(value) for name, value in vars(alarms).items() if re.fullmatch(r"_[A-Z]+", name))
    named = re.findall(r"\b(\w+)\.(\w+)\b", advice)
    assert len(named) >= 5
    for section, field in named:
        assert field in type(getattr(recipe(), section)).model_fields
