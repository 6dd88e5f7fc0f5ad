"""Public files as people have them: nothing is malformed, nearly everything is used, the rest has a reason."""

from pathlib import Path

import pytest

from limbeck.recipe import Evaluate, Recipe
from limbeck.recipe.corpus import Corpus, Dataset
from limbeck.records import Demonstration, Pair, PromptRow
from limbeck.stages.corpus import run
from limbeck.stages.corpus.sources import Sources
from limbeck.store import read_records

SHARED = Path(__file__).parents[2] / "shared" / "data"
pytestmark = pytest.mark.skipif(not SHARED.is_dir(), reason=f"the real data files are not at {SHARED}")


def real(name: str) -> tuple[Dataset, ...]:
    return (Dataset(path=str(SHARED / name)),)


@pytest.mark.parametrize(
    ("name", "found", "rows"),
    [
        ("alpaca_en_demo.json", "Alpaca", 999),
        ("dpo_en_demo.json", "ShareGPT preference", 300),
        ("hh_harmless_test.jsonl.gz", "preference, implicit prompt", 2312),
        ("gsm8k_train.jsonl", "GSM8K", 7473),
        ("mt_bench.jsonl", "MT-bench", 80),
    ],
)
def test_the_format_is_found_and_every_row_is_read(name: str, found: str, rows: int) -> None:
    sources = Sources(1)
    assert len(list(sources.rows(*real(name)))) == rows
    assert list(sources.formats.values()) == [found]


def test_a_corpus_of_real_files_uses_99_of_100_rows_and_writes_prompts_that_end_with_the_user(tmp_path: Path) -> None:
    corpus = Corpus(
        demonstrations=(*real("alpaca_en_demo.json"), *real("gsm8k_train.jsonl")),
        preferences=(*real("dpo_en_demo.json"), *real("hh_harmless_test.jsonl.gz")),
        evaluation=real("mt_bench.jsonl"),
    )
    result = run(Recipe(name="real", corpus=corpus, evaluate=Evaluate(judges=("nemotron",))), {}, tmp_path)
    assert result.counts_in == {"demonstrations": 8472, "preferences": 2612, "evaluation": 80}
    assert sum(result.drops.values()) < 0.01 * sum(result.counts_in.values())
    demonstrations = read_records(tmp_path / "demonstrations.jsonl", Demonstration)
    validation = read_records(tmp_path / "demonstrations_validation.jsonl", Demonstration)
    pairs = read_records(tmp_path / "human.jsonl", Pair)
    test = read_records(tmp_path / "test.jsonl", PromptRow)
    assert len(validation) == 170  # 2 % of 8,458 distinct ones, rounded up
    assert len(test) == 80
    for rows in (demonstrations, validation, pairs, test):
        assert len({row.id for row in rows}) == len(rows)
        assert all(row.prompt[-1].role == "user" for row in rows)
    assert all("<<" not in row.response for row in demonstrations if row.source == "gsm8k_train")
    assert {len(pair.prompt) for pair in pairs} > {1, 3, 5, 7}
    assert all(pair.chosen.strip() != pair.rejected.strip() != "" for pair in pairs)
