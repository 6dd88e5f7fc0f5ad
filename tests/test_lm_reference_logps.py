"""Reference log-probabilities: right, computed once for all runs, anew when anything changes, and never lost."""

import itertools
import json
import multiprocessing
import os
import shutil
import signal
from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from tiny_models import plain_logps, plain_model, ragged_pairs, tiny_folder, tiny_model
from torch import Tensor

from limbeck.errors import TrainingError
from limbeck.lm.attention import Layout
from limbeck.lm.load import LanguageModel
from limbeck.lm.packing import Item
from limbeck.lm.reference_logps import (
    Computation,
    Reference,
    ReferenceLogps,
    Scored,
    computation,
    pair_key,
    reference_logps,
    weights_digest,
)
from limbeck.store import read_records, write_records

CPU = torch.device("cpu")
MAX_TOKENS = 30  # four of the ragged pairs share a row or two, the longest goes alone
ids = st.lists(st.integers(0, 2**31), min_size=1, max_size=4).map(tuple)
triples = st.tuples(ids, ids, ids)


class Killed(LanguageModel):
    """Ends its process, as `kill -9` does, when it is asked for its third row."""

    asked = itertools.count(1)

    def hidden(self, input_ids: Tensor, position_ids: Tensor, layout: Layout) -> Tensor:
        if next(self.asked) == 3:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().hidden(input_ids, position_ids, layout)


def must_not_load() -> LanguageModel:
    raise AssertionError("the reference was loaded")


def score(
    folder: Path, run: Path, cache: Path, items: Sequence[Item] = (), load: Callable[[], LanguageModel] | None = None
) -> Scored:
    reference = Reference(folder, CPU, torch.float32, load or (lambda: tiny_model(folder)))
    return reference_logps(reference, items or ragged_pairs(), MAX_TOKENS, run / "own.jsonl", cache, "DPO human")


def score_until_killed(folder: Path, run: Path, cache: Path) -> None:
    """Runs in a process of its own."""
    score(folder, run, cache, load=lambda: Killed(**vars(tiny_model(folder))))


def counts(scored: Scored) -> tuple[int, int, int]:
    return scored.facts["computed"], scored.facts["from_cache"], scored.facts["resumed"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_folder(tmp_path_factory.mktemp("reference") / "model", "qwen2")


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "logps.sqlite"


@pytest.mark.parametrize("architecture", ["llama", "qwen3", "gemma3_text"])
def test_values_are_those_of_one_sequence_at_a_time(tmp_path: Path, cache: Path, architecture: str) -> None:
    folder = tiny_folder(tmp_path / "model", architecture)
    scored = score(folder, tmp_path / "run", cache)
    plain = plain_model(folder)
    for item in ragged_pairs():
        slow = [float(plain_logps(plain, item.prompt, response).detach().sum()) for response in item.responses]
        assert scored.logps[item.id] == pytest.approx(slow, abs=1e-4)


def test_another_run_folder_finds_every_pair_to_the_last_bit_and_loads_no_reference(
    tmp_path: Path, cache: Path, folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    first = score(folder, tmp_path / "one", cache)
    moved = shutil.copytree(folder, tmp_path / "elsewhere")
    (moved / "README.md").write_text("A model card decides nothing.")
    second = score(moved, tmp_path / "two", cache, load=must_not_load)
    assert (counts(first), counts(second)) == ((6, 0, 0), (0, 6, 0))
    assert second.logps == first.logps
    assert (tmp_path / "two" / "own.jsonl").read_bytes() == (tmp_path / "one" / "own.jsonl").read_bytes()
    lines = [line for line in capfd.readouterr().err.splitlines() if "reference:" in line]
    assert lines[0].startswith("  DPO human: reference: 6 pairs computed, 0 from the cache, in 0:")
    assert lines[1].startswith("  DPO human: reference: 0 pairs computed, 6 from the cache, in 0:")


def test_an_arm_that_shares_some_pairs_computes_the_others(tmp_path: Path, cache: Path, folder: Path) -> None:
    score(folder, tmp_path / "one", cache, ragged_pairs()[:4])
    renamed = [replace(item, id=f"arm/{item.id}") for item in reversed(ragged_pairs())]
    both = score(folder, tmp_path / "two", cache, renamed)
    assert counts(both) == (2, 4, 0)
    assert [row.pair_id for row in read_records(tmp_path / "two" / "own.jsonl", ReferenceLogps)] == list(both.logps)
    assert list(both.logps) == [item.id for item in renamed]


def test_the_same_pairs_share_the_same_rows_whatever_their_order_and_names(
    tmp_path: Path, cache: Path, folder: Path
) -> None:
    renamed = [replace(item, id=f"x{9 - n}") for n, item in enumerate(ragged_pairs())]
    one = score(folder, tmp_path / "one", cache)
    two = score(folder, tmp_path / "two", tmp_path / "empty.sqlite", renamed[::-1])
    assert [two.logps[item.id] for item in renamed] == [one.logps[item.id] for item in ragged_pairs()]


def test_pairs_of_the_same_ids_are_computed_once(tmp_path: Path, cache: Path, folder: Path) -> None:
    twins = [*ragged_pairs(), replace(ragged_pairs()[2], id="twin")]
    scored = score(folder, tmp_path, cache, twins)
    assert counts(scored) == (6, 0, 0)
    assert scored.logps["twin"] == scored.logps["pair/2"]
    assert len(read_records(tmp_path / "own.jsonl", ReferenceLogps)) == 7


# The key


@given(one=triples, two=triples)
def test_two_pairs_have_one_key_only_where_prompt_chosen_and_rejected_are_the_same(one: Any, two: Any) -> None:
    def key(ids: Any) -> bytes:
        return pair_key(b"computed", Item("id", ids[0], ids[1:]))

    assert (key(one) == key(two)) == (one == two)
    prompt, chosen, rejected = one
    assert key((prompt + chosen[:1], chosen[1:], rejected)) != key(one)  # the same ids, split elsewhere
    assume(chosen != rejected)
    assert key((prompt, rejected, chosen)) != key(one)


@pytest.mark.parametrize("field", [field.name for field in fields(Computation)])
def test_each_thing_that_decides_a_computation_alone_changes_every_key(folder: Path, field: str) -> None:
    now = computation(Reference(folder, CPU, torch.float32, must_not_load))
    value = (("limbeck", "9"), *now.versions[1:]) if field == "versions" else "another"
    assert getattr(now, field) not in ("", ())
    for item in ragged_pairs():
        assert pair_key(replace(now, **{field: value}).digest, item) != pair_key(now.digest, item)


def test_dtype_and_device_in_the_key_are_those_that_the_reference_computes_with(folder: Path) -> None:
    fp32 = computation(Reference(folder, CPU, torch.float32, must_not_load))
    assert computation(Reference(folder, CPU, torch.bfloat16, must_not_load)) == replace(fp32, dtype="torch.bfloat16")
    cuda = Reference(folder, torch.device("cuda", 1), torch.float32, must_not_load)
    assert computation(cuda) == replace(fp32, device="cuda")


def test_other_weights_in_the_same_folder_are_scored_anew(tmp_path: Path, cache: Path, folder: Path) -> None:
    changing = shutil.copytree(folder, tmp_path / "model")
    before = score(changing, tmp_path / "run", cache)
    model = tiny_model(changing)
    with torch.no_grad():
        model.head.weight[7, 3] += 0.5
    model.network.save_pretrained(changing)
    after = score(changing, tmp_path / "run", cache)  # in the same run folder: its own file must not be believed either
    assert counts(after) == (6, 0, 0)
    assert all(after.logps[id_] != values for id_, values in before.logps.items())


def test_a_config_that_computes_otherwise_is_scored_anew(tmp_path: Path, cache: Path, folder: Path) -> None:
    score(folder, tmp_path / "run", cache)
    other = shutil.copytree(folder, tmp_path / "model")
    config = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps(config | {"rms_norm_eps": 0.5}))
    assert counts(score(other, tmp_path / "two", cache)) == (6, 0, 0)


def test_the_weights_of_an_adapter_are_those_of_its_base_too(tmp_path: Path, folder: Path) -> None:
    base = shutil.copytree(folder, tmp_path / "base")
    adapter = shutil.copytree(folder, tmp_path / "adapter")
    (adapter / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": str(base)}))
    before = weights_digest(adapter)
    (base / "config.json").write_text((base / "config.json").read_text() + "\n")
    assert weights_digest(adapter) != before


# Interruptions


def test_after_kill_9_nothing_that_was_computed_is_computed_again_and_the_numbers_are_the_same(
    tmp_path: Path, cache: Path, folder: Path
) -> None:
    undisturbed = score(folder, tmp_path / "whole", tmp_path / "other.sqlite")
    process = multiprocessing.get_context("spawn").Process(
        target=score_until_killed, args=(folder, tmp_path / "run", cache)
    )
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    kept = len(read_records(tmp_path / "run" / "own.jsonl", ReferenceLogps))
    assert 0 < kept < 6
    stranger = score(folder, tmp_path / "stranger", cache)
    assert counts(stranger) == (6 - kept, kept, 0)
    shutil.rmtree(cache.parent)
    resumed = score(folder, tmp_path / "run", cache)
    assert counts(resumed) == (6 - kept, 0, kept)
    assert undisturbed.logps == stranger.logps == resumed.logps
    one, two = (tmp_path / name / "own.jsonl" for name in ("whole", "run"))
    assert one.read_bytes() == two.read_bytes()
    assert counts(score(folder, tmp_path / "later", cache, load=must_not_load)) == (0, 6, 0)


def test_a_run_goes_on_without_a_cache_that_cannot_be_used(tmp_path: Path, folder: Path, cache: Path) -> None:
    broken = tmp_path / "broken.sqlite"
    broken.write_bytes(b"no database at all" * 100)
    with_it = score(folder, tmp_path / "one", cache)
    without = score(folder, tmp_path / "two", broken)
    assert without.logps == with_it.logps
    assert (with_it.facts["cache_problem"], without.facts["cache_problem"]) == (None, "file is not a database")
    assert counts(score(folder, tmp_path / "two", broken, load=must_not_load)) == (0, 0, 6)


def test_lines_of_another_computation_in_the_runs_own_file_are_not_believed(
    tmp_path: Path, folder: Path, cache: Path
) -> None:
    own = tmp_path / "own.jsonl"
    rows = [ReferenceLogps(pair_id=item.id, chosen_logps=-1, rejected_logps=-2) for item in ragged_pairs()]
    write_records(own, [rows[0].model_copy(update={"key": "ab" * 32}), *rows[1:]])
    scored = score(folder, tmp_path, cache)
    assert counts(scored) == (6, 0, 0)
    assert {row.pair_id: (row.chosen_logps, row.rejected_logps) for row in read_records(own, ReferenceLogps)} == (
        scored.logps
    )


def test_a_reference_without_finite_numbers_is_refused_by_pair(tmp_path: Path, folder: Path, cache: Path) -> None:
    model = tiny_model(folder)
    with torch.no_grad():
        model.head.weight.fill_(float("inf"))
    with pytest.raises(
        TrainingError, match=r"DPO human: the reference gives the pair 'pair/\d' log-probabilities of nan"
    ):
        score(folder, tmp_path, cache, load=lambda: model)
    assert read_records(tmp_path / "own.jsonl", ReferenceLogps) == []
