"""Export: rows as TRL and `datasets` read them, with parquet and without, and what limbeck itself reads back."""

import importlib.machinery
import json
import math
import sys
import types
from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from limbeck import pipeline
from limbeck.errors import InputError
from limbeck.manifest import StageResult
from limbeck.recipe import Recipe
from limbeck.recipe.corpus import Dataset
from limbeck.recipe.pairs import Arm, PairKind
from limbeck.records import Message, Pair, Problem, user_prompt
from limbeck.stages import export, mix, screen
from limbeck.stages.corpus.reading import Reader
from limbeck.stages.export.assembly import _first
from limbeck.stages.export.columns import COLUMNS, row_of
from limbeck.store import digest_path, read_records, write_records
from limbeck.stream import stream_order

PROBLEM = Problem(
    family="chain_sum",
    question="2+2?",
    answer="4",
    metadata={"deep": [1, {"a": None}]},
    solution="#### 4",
    content="2+2",
)
TURNS = (
    Message(role="system", content="Be brief."),
    Message(role="user", content="Hi — «you»\n\tthere"),
    Message(role="assistant", content="Hello 👩\u200d🔬"),
    Message(role="user", content="Why?\r\nTell \x1b[2Jme"),
)


def pair(number: int, kind: str = "zero_shot", **changes: Any) -> Pair:
    base = {"id": f"{kind}/{number}", "prompt": user_prompt(f"Question {number}?"), "source": kind}
    answers = {"chosen": f"Well {number}.", "rejected": f"No {number}, not at all."}
    return Pair.model_validate({**base, **answers, **changes})


def recipe(arm: dict[str, int] | None = None, heldout: int = 0, **sections: Any) -> Recipe:
    return Recipe.model_validate(
        {"name": "r", "arms": {"a": arm} if arm else {}, "mix": {"heldout_pairs": heldout}, **sections}
    )


def exported(
    folder: Path,
    kept: Mapping[str, Sequence[Pair]],
    dropped: Sequence[tuple[Pair, str]] = (),
    settings: Recipe | None = None,
    more: Mapping[str, Path] = MappingProxyType({}),
) -> StageResult:
    """Export pairs by kind, the dropped ones as if screening had stood before."""
    inputs = {"dropped": folder / "dropped.jsonl"}
    write_records(
        inputs["dropped"], [screen.DroppedPair(id=one.id, kind=one.source, reason=why) for one, why in dropped]
    )
    for kind, rows in kept.items():
        inputs |= {f"{state}_{kind}": folder / f"{state}_{kind}.jsonl" for state in ("kept", "made")}
        write_records(inputs[f"kept_{kind}"], rows)
        write_records(inputs[f"made_{kind}"], [*(one for one, _ in dropped if one.source == kind), *rows])
    return export.run(settings or recipe(), inputs | dict(more), folder / "out")


def lines(folder: Path, name: str) -> list[dict[str, Any]]:
    text = (folder / "out" / f"{name}-00000-of-00001.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.split("\n")[:-1]]


@pytest.fixture
def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    """An installation without pyarrow."""
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)


def test_a_row_is_trls_conversational_preference_format_with_flat_provenance_beside_it() -> None:
    known = {"teacher": "t", "template": "z@1", "request_key": "k", "mined_from": "m", "placed_after": "h"}
    row = row_of(pair(1, problem=PROBLEM, scores={"b": 1.0, "a": -2.5}, reference_response="R", **known))
    assert row["prompt"] == [{"role": "user", "content": "Question 1?"}]
    assert row["chosen"] == [{"role": "assistant", "content": "Well 1."}]
    assert row["rejected"] == [{"role": "assistant", "content": "No 1, not at all."}]
    assert {name: row[name] for name in known} == known
    assert (row["id"], row["source"], row["family"]) == ("zero_shot/1", "zero_shot", "chain_sum")
    assert row["scores"] == [{"name": "a", "value": -2.5}, {"name": "b", "value": 1.0}]
    assert Problem.model_validate_json(row["problem"]) == PROBLEM
    assert list(row) == [column.name for column in COLUMNS]


def test_without_pyarrow_the_same_rows_are_json_lines_and_that_is_said_once(
    plain: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [pair(number, prompt=TURNS, scores={"margin": math.inf}) for number in range(3)]
    result = exported(tmp_path, {"zero_shot": rows})
    finite = [{**row_of(row), "scores": [{"name": "margin", "value": None}]} for row in rows]
    assert lines(tmp_path, "data/train") == finite
    assert result.facts == {"format": "jsonl"}
    assert capsys.readouterr().err.count("pip install 'limbeck[hub]'") == 1


def test_what_arms_hold_out_is_validation_and_no_prompt_is_in_both_splits(plain: None, tmp_path: Path) -> None:
    kinds: dict[PairKind, list[Pair]] = {
        "random": [pair(number, "random") for number in range(12)],
        "zero_shot": [pair(number) for number in range(6, 18)],
    }
    exported(tmp_path, kinds, settings=recipe({"random": 4, "zero_shot": 4}, heldout=3))
    mixture = mix.Mixer("a", Arm(random=4, zero_shot=4), heldout=3, seed=1).mix_pairs(kinds)
    train, validation = lines(tmp_path, "data/train"), lines(tmp_path, "data/validation")
    assert {row.id for row in mixture.validation} <= {row["id"] for row in validation}
    assert {row.id for row in mixture.train} <= {row["id"] for row in train}
    prompts = [{row["prompt"][0]["content"] for row in rows} for rows in (train, validation)]
    assert prompts[0].isdisjoint(prompts[1])
    assert len(train) + len(validation) == 24


def test_a_further_round_publishes_as_validation_what_its_mixture_held_out(plain: None, tmp_path: Path) -> None:
    kinds: dict[PairKind, list[Pair]] = {"zero_shot": [pair(number) for number in range(40)]}
    settings = recipe({"zero_shot": 30}, heldout=5, seed=77, rounds={"number": 2, "arm": "a", "first_seed": 1})
    exported(tmp_path, kinds, settings=settings)
    write_records(tmp_path / "zero_shot.jsonl", kinds["zero_shot"])
    mix.run(settings, {"zero_shot": tmp_path / "zero_shot.jsonl"}, tmp_path, "a")
    held = {row.id for row in read_records(tmp_path / "validation.jsonl", Pair)}
    assert {row["id"] for row in lines(tmp_path, "data/validation")} == held


@pytest.mark.parametrize("trained_on_human", [True, False])
def test_of_rolling_pairs_the_last_along_their_stream_are_validation_as_mixing_has_them(
    trained_on_human: bool, plain: None, tmp_path: Path
) -> None:
    human = [pair(number, "human") for number in range(30)]
    follows = [one.id for one in stream_order(human, 1)[4:]]
    rolling = [pair(100 + at, "rolling", placed_after=id_) for at, id_ in enumerate(follows)]
    arm = {"human": 25, "rolling": 20} if trained_on_human else {"rolling": 20}
    settings = recipe(arm, heldout=3, teach={"context_pairs_shown": 2})
    kept: dict[str, list[Pair]] = {"rolling": rolling} | ({"human": human} if trained_on_human else {})
    inputs = {kind: tmp_path / f"{kind}.jsonl" for kind in ("human", "rolling")}
    for kind, rows in (("human", human), ("rolling", rolling)):
        write_records(inputs[kind], rows)
    more = {} if trained_on_human else {"rolling_stream": inputs["human"]}
    mix.run(settings, inputs | more, tmp_path, "a")
    exported(tmp_path, kept, settings=settings, more=more)
    held = {row.id for row in read_records(tmp_path / "validation.jsonl", Pair)}
    published = {row["id"] for row in lines(tmp_path, "data/validation")}
    assert published == held
    assert {one.id for one in rolling[-3:]} <= published
    card = (tmp_path / "out" / "README.md").read_text()
    assert "of `rolling` ones the last along the pairs they follow" in card


def test_an_export_of_rolling_pairs_reads_the_pairs_that_they_were_written_along() -> None:
    corpus = {"tasks": {}, "preferences": [{"path": "x"}]}
    for arm, read in (({"rolling": 4}, "corpus/human.jsonl"), ({"rolling": 4, "human": 30}, None)):
        (unit,) = [u for u in pipeline.units(recipe(arm, corpus=corpus), Path("base")) if u.name == "export"]
        found = unit.inputs.get("rolling_stream")
        assert (found and found.as_posix()) == read


@given(st.lists(st.integers(0, 400), unique=True, max_size=300), st.integers(0, 40))
def test_the_first_of_a_stream_are_found_without_holding_it(numbers: list[int], count: int) -> None:
    pairs = [pair(number) for number in numbers]
    assert _first(iter(pairs), count, seed=7) == stream_order(pairs, 7)[:count]


def test_every_pair_made_is_kept_or_dropped_with_its_reason(plain: None, tmp_path: Path) -> None:
    dropped = [(pair(8, chosen=""), "too short (chosen)"), (pair(9, "human"), "length ratio")]
    result = exported(tmp_path, {"human": [pair(1, "human")], "zero_shot": [pair(1), pair(2)]}, dropped)
    found = {row["id"]: row["reason"] for row in lines(tmp_path, "dropped/dropped")}
    assert found == {"zero_shot/8": "too short (chosen)", "human/9": "length ratio"}
    assert result.counts_out == {"train": 3, "with_reasons": 2}
    assert result.counts_in == {"human": 1, "zero_shot": 2}


def test_where_nothing_was_dropped_there_is_no_file_of_dropped_pairs(plain: None, tmp_path: Path) -> None:
    exported(tmp_path, {"zero_shot": [pair(1)]})
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"data", "README.md"}


def test_human_pairs_stay_at_home_where_the_recipe_says_so(plain: None, tmp_path: Path) -> None:
    kept = {"human": [pair(1, "human"), pair(2, "human")], "zero_shot": [pair(1)]}
    settings = recipe(export={"include_human": False})
    result = exported(tmp_path, kept, [(pair(9, "human"), "length ratio")], settings)
    assert [row["id"] for row in lines(tmp_path, "data/train")] == ["zero_shot/1"]
    assert result.drops == {"human: left out by export.include_human": 2}
    assert not (tmp_path / "out" / "dropped").exists()


def test_human_pairs_in_a_file_stay_at_home_too(plain: None, tmp_path: Path) -> None:
    kept = {"pairs": [pair(1, "human"), pair(2), pair(3, "human")]}
    result = exported(tmp_path, kept, settings=recipe(export={"include_human": False}))
    assert [row["id"] for row in lines(tmp_path, "data/train")] == ["zero_shot/2"]
    assert result.drops == {"human: left out by export.include_human": 2}


def test_an_export_is_made_anew_once_parquet_can_be_written(monkeypatch: pytest.MonkeyPatch) -> None:
    made = recipe({"zero_shot": 1}, corpus={"tasks": {}})

    def parts() -> list[Any]:
        (unit,) = [unit for unit in pipeline.units(made, Path("base")) if unit.name == "export"]
        return [unit.part["format"], pipeline.part_alone(made, "export")["format"]]

    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert parts() == ["jsonl", "jsonl"]
    library = types.ModuleType("pyarrow")
    library.__spec__ = importlib.machinery.ModuleSpec("pyarrow", None)
    monkeypatch.setitem(sys.modules, "pyarrow", library)
    assert parts() == ["parquet", "parquet"]
    assert "format" not in pipeline.part_alone(made, "audit")


def test_a_dropped_pair_that_was_never_made_is_an_error_and_not_a_loss(tmp_path: Path) -> None:
    inputs = {name: tmp_path / f"{name}.jsonl" for name in ("kept_zero_shot", "made_zero_shot", "dropped")}
    for name in ("kept_zero_shot", "made_zero_shot"):
        write_records(inputs[name], [pair(1)])
    write_records(inputs["dropped"], [screen.DroppedPair(id="gone", kind="zero_shot", reason="x")])
    with pytest.raises(InputError, match="names the zero_shot pair 'gone', which is not among those made"):
        export.run(recipe(), inputs, tmp_path / "out")
    inputs["dropped"].write_text('{"id": "gone"}\n')
    with pytest.raises(InputError, match=r"dropped\.jsonl, line 1: expected a dropped pair"):
        export.run(recipe(), inputs, tmp_path / "out")


def full() -> list[Pair]:
    """Pairs with everything that a pair can have, and with nothing of it."""
    known = {"teacher": "openai:x", "template": "z@1", "request_key": "k", "mined_from": "m", "placed_after": "h/1"}
    return [
        pair(1, swapped=True, prompt=TURNS, problem=PROBLEM, scores={"margin": 1.25}, reference_response="R", **known),
        pair(2, "on_policy", chosen="  spaces stay \n", rejected="\x1b[2J[red]{}"),
    ]


def read_back(path: Path) -> list[Pair]:
    return list(Reader(seed=1).pairs("preferences", [Dataset(path=str(path))]))


def unplaced(rows: Sequence[Pair]) -> list[Pair]:
    return [row.model_copy(update={"id": "", "placed_after": None}) for row in rows]


def test_limbeck_reads_its_json_lines_back_with_their_provenance(plain: None, tmp_path: Path) -> None:
    exported(tmp_path, {"zero_shot": full()}, [(pair(3, problem=PROBLEM), "why not")])
    assert unplaced(read_back(tmp_path / "out")) == unplaced(full())
    dropped = tmp_path / "out" / "dropped" / "dropped-00000-of-00001.jsonl"
    assert unplaced(read_back(dropped)) == unplaced([pair(3, problem=PROBLEM)])
    assert unplaced(read_back(tmp_path / "kept_zero_shot.jsonl")) == unplaced(full())


@pytest.mark.parametrize(
    ("field", "value", "complaint"),
    [
        ("problem", "[" * 100_000, "the field 'problem' should hold a problem as JSON"),
        ("problem", "{", "the field 'problem' should hold a problem as JSON"),
        ("scores", "high", "row 1: scores: input should be a valid dictionary"),
        ("swapped", "perhaps", "row 1: swapped: input should be a valid boolean"),
        ("teacher", 3, "row 1: teacher: input should be a valid string"),
        ("source", None, "row 1: source: input should be a valid string"),
    ],
)
def test_spoilt_provenance_is_named_by_file_row_and_field(
    tmp_path: Path, field: str, value: object, complaint: str
) -> None:
    path = tmp_path / "spoilt.jsonl"
    path.write_text(json.dumps({**row_of(pair(1)), field: value}) + "\n")
    with pytest.raises(InputError, match=r"spoilt\.jsonl, row 1: ") as caught:
        read_back(path)
    assert complaint in str(caught.value)


def test_limbeck_reads_its_parquet_back_with_its_provenance(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    exported(tmp_path, {"zero_shot": full()}, [(pair(3), "why not")])
    assert unplaced(read_back(tmp_path / "out")) == unplaced(full())
    assert unplaced(read_back(tmp_path / "out" / "data" / "train-00000-of-00001.parquet")) == unplaced(full())


def test_the_same_pairs_give_the_same_bytes(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    folders = [tmp_path / name for name in ("one", "two")]
    for folder in folders:
        exported(folder, {"zero_shot": [pair(number) for number in range(1200)]}, [(pair(2000), "x")])
    assert digest_path(folders[0] / "out") == digest_path(folders[1] / "out")


def test_the_schema_is_the_same_whether_scores_are_there_or_not(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    rows = {"with": full(), "without": [pair(1)], "none": []}
    for name, pairs in rows.items():
        exported(tmp_path / name, {"zero_shot": pairs})
    files = [tmp_path / name / "out" / "data" / "train-00000-of-00001.parquet" for name in rows]
    schemas = [parquet.read_schema(file) for file in files]
    assert schemas[0].equals(schemas[1])
    assert schemas[0].equals(schemas[2])
    assert [parquet.read_metadata(file).num_rows for file in files] == [2, 1, 0]


def test_the_hubs_library_loads_the_folder_by_its_card(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    kept = {"zero_shot": [*full(), *(pair(number) for number in range(20, 30))]}
    exported(tmp_path, kept, [(pair(3), "why not")], recipe(heldout=2))
    where: dict[str, Any] = {"cache_dir": str(tmp_path / "cache")}
    loaded = datasets.load_dataset(str(tmp_path / "out"), **where)
    assert {split: len(rows) for split, rows in loaded.items()} == {"train": 10, "validation": 2}
    rows = {row["id"]: row for row in chain(*loaded.values())}
    assert [rows[one.id] for one in kept["zero_shot"]] == [row_of(one) for one in kept["zero_shot"]]
    (dropped,) = datasets.load_dataset(str(tmp_path / "out"), "dropped", split="dropped", **where)
    assert dropped == row_of(pair(3), "why not")


def test_trl_takes_the_rows_as_they_are(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    utilities = pytest.importorskip("trl.data_utils")
    exported(tmp_path, {"zero_shot": full()})
    rows = datasets.load_dataset(str(tmp_path / "out"), split="train", cache_dir=str(tmp_path / "cache"))
    assert [utilities.is_conversational(row) for row in rows] == [True, True]
    assert [utilities.maybe_extract_prompt(row) for row in rows] == list(rows)
    implicit = {side: rows[0]["prompt"] + rows[0][side] for side in ("chosen", "rejected")}
    extracted = utilities.extract_prompt(implicit)
    assert extracted == {name: rows[0][name] for name in ("prompt", "chosen", "rejected")}
