"""The paper's two data sets in the hub's own schemas: streamed by id, or read from a folder, to the same records."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hub_schemas import EMPTY, EQUAL, Row, smoltalk_rows, ultrafeedback_rows, write_hub_folders
from pydantic import ValidationError

from limbeck.errors import InputError
from limbeck.recipe import Evaluate, Recipe
from limbeck.recipe.corpus import Corpus, Dataset
from limbeck.records import Demonstration, Pair, PromptRow
from limbeck.stages.corpus import run
from limbeck.stages.corpus.hub import BUFFER_ROWS
from limbeck.stages.corpus.sources import Sources
from limbeck.store import read_records

SMOLTALK, ULTRAFEEDBACK = "HuggingFaceTB/smoltalk", "HuggingFaceH4/ultrafeedback_binarized"


class Hub:
    """Stands where the library would go online: rows by data set, configuration and split. `read`: rows it handed out.

    What it hands out is the library's own streamed data set, with the library's own shuffling.
    """

    def __init__(self, tables: dict[tuple[str, str | None, str], list[Row]]) -> None:
        self.read = 0
        self._tables = tables

    def load_dataset(self, path: str, config: str | None = None, *, split: str, streaming: bool = False) -> Any:
        import datasets

        assert streaming, "a data set of the hub is never downloaded as a whole"
        rows = self._tables[path, config, split]

        def handed_out() -> Iterator[Row]:
            for row in rows:
                self.read += 1
                yield row

        return datasets.IterableDataset.from_generator(handed_out)


def on_hub(monkeypatch: pytest.MonkeyPatch, **tables: list[Row]) -> Hub:
    datasets = pytest.importorskip("datasets")
    hub = Hub(
        {
            (SMOLTALK, "all", "train"): tables.get("talk", []),
            (ULTRAFEEDBACK, None, "train_prefs"): tables.get("train", []),
            (ULTRAFEEDBACK, None, "test_prefs"): tables.get("test", []),
        }
    )
    monkeypatch.setattr(datasets, "load_dataset", hub.load_dataset)
    return hub


def recipe(talk: str, feedback: str) -> Recipe:
    corpus = Corpus(
        demonstrations=(Dataset(path=talk, config="all", split="train", limit=20),),
        preferences=(Dataset(path=feedback, split="train_prefs"),),
        evaluation=(Dataset(path=feedback, split="test_prefs", limit=16),),
        validation_share=0.1,
    )
    return Recipe(name="hub", corpus=corpus, evaluate=Evaluate(judges=("nemotron",)))


def texts(out: Path) -> dict[str, list[object]]:
    """What the stage wrote, without ids and names of sources; what has an order of its own, sorted."""
    kinds: dict[str, type[PromptRow]] = {"human": Pair, "pool": PromptRow, "test": PromptRow}
    rows = {name: read_records(out / f"{name}.jsonl", kind) for name, kind in kinds.items()}
    keep: Any = {"prompt", "chosen", "rejected", "reference_response"}
    return {name: sorted(str(row.model_dump(include=keep)) for row in found) for name, found in rows.items()}


def test_a_hub_id_and_a_folder_of_its_files_give_the_same_records(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    on_hub(
        monkeypatch, talk=smoltalk_rows(30), train=ultrafeedback_rows(40), test=ultrafeedback_rows(16, "prefs tests")
    )
    write_hub_folders(tmp_path / "files", pairs=40, test=16)
    streamed = run(recipe(SMOLTALK, ULTRAFEEDBACK), {}, tmp_path / "streamed")
    said = capsys.readouterr().err
    assert f"streaming {SMOLTALK} from the Hugging Face hub: 20 rows drawn uniformly, for which the whole split" in said
    assert f"streaming {ULTRAFEEDBACK} from the Hugging Face hub: every row" in said
    folders = (str(tmp_path / "files" / name) for name in ("smoltalk", "ultrafeedback_binarized"))
    read = run(recipe(*folders), {}, tmp_path / "read")
    assert texts(tmp_path / "streamed") == texts(tmp_path / "read")
    assert streamed.counts_in == read.counts_in == {"demonstrations": 20, "preferences": 40, "evaluation": 16}
    assert list(streamed.facts["formats"].values()) == ["preference", "preference", "messages"]


def test_pairs_that_are_none_are_counted_and_their_prompts_are_still_asked(tmp_path: Path) -> None:
    write_hub_folders(tmp_path, pairs=40, test=16)
    found = run(recipe(str(tmp_path / "smoltalk"), str(tmp_path / "ultrafeedback_binarized")), {}, tmp_path / "out")
    assert found.drops["preferences: chosen equals rejected"] == found.drops["preferences: empty response"] == 1
    assert found.counts_out["human"] == 38
    test = read_records(tmp_path / "out" / "test.jsonl", PromptRow)
    assert len(test) == 16  # rows EQUAL and EMPTY too: what is judged there is somebody else's answer
    by_number = {row.prompt[-1].content.rstrip(".").rpartition(" ")[2]: row for row in test}
    assert by_number[str(EMPTY)].reference_response is None
    assert by_number[str(EQUAL)].reference_response is not None


def test_a_system_turn_of_smoltalk_opens_the_prompt_and_the_last_turn_is_learnt(tmp_path: Path) -> None:
    write_hub_folders(tmp_path)
    given = recipe(str(tmp_path / "smoltalk"), str(tmp_path / "ultrafeedback_binarized"))
    talk = given.corpus.demonstrations[0].model_copy(update={"limit": None})  # a sample of rows depends on their place
    corpus = given.corpus.model_copy(update={"demonstrations": (talk,), "validation_share": 0.0})
    run(given.model_copy(update={"corpus": corpus}), {}, tmp_path / "out")
    rows = read_records(tmp_path / "out" / "demonstrations.jsonl", Demonstration)
    assert {row.prompt[0].role for row in rows} == {"system", "user"}
    assert {len(row.prompt) for row in rows} == {1, 2, 3, 4}
    assert all(row.prompt[-1].role == "user" and row.response for row in rows)


def drawn(seed: int, **settings: Any) -> list[str]:
    dataset = Dataset(path=SMOLTALK, config="all", limit=50, **settings)
    return [row.values["messages"][0]["content"] for row in Sources(seed).rows(dataset)]


def test_a_buffered_sample_fetches_its_rows_and_the_buffer_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [{"messages": [{"role": "user", "content": str(n)}], "source": "s"} for n in range(3 * BUFFER_ROWS)]
    hub = on_hub(monkeypatch, talk=rows)
    sample = drawn(1, sample="buffered")
    assert len(set(sample)) == 50
    assert hub.read <= BUFFER_ROWS + 51
    assert sample == drawn(1, sample="buffered") != drawn(2, sample="buffered")
    assert max(map(int, sample)) > 50  # no mere beginning


def test_a_uniform_sample_of_the_hub_reaches_into_the_last_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [{"messages": [{"role": "user", "content": str(n)}], "source": "s"} for n in range(3 * BUFFER_ROWS)]
    hub = on_hub(monkeypatch, talk=rows)
    numbers = sorted(map(int, drawn(1)))
    assert hub.read == len(rows)
    # Of 50 uniform draws the mean lies within 5 standard errors of the middle: 5 x 30,000 / sqrt(12 x 50) = 6,124.
    assert abs(sum(numbers) / 50 - 15_000) < 6_124
    assert len(set(numbers)) == 50


def test_a_buffered_sample_without_a_limit_is_refused() -> None:
    with pytest.raises(ValidationError, match="goes with a limit"):
        Dataset(path=SMOLTALK, sample="buffered")


@pytest.mark.parametrize("error", [
    RuntimeError("Dataset scripts are no longer supported, but found x.py"),
    TypeError("Couldn't cast array of type string to int64"),
])  # fmt: skip
def test_a_data_set_that_the_library_cannot_read_is_one_sentence(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuses(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(pytest.importorskip("datasets"), "load_dataset", refuses)
    with pytest.raises(InputError, match=re.escape(str(error))):
        run(recipe(SMOLTALK, ULTRAFEEDBACK), {}, tmp_path / "out")
