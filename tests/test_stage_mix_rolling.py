"""Rolling pairs in the stream: each where it was written for, from the teacher to the file that is trained on."""

import json
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import pytest

from limbeck import pipeline
from limbeck.api import ChatClient
from limbeck.api.fake_server import Body, FakeServer, completion
from limbeck.errors import InputError
from limbeck.recipe import Recipe
from limbeck.recipe.pairs import Arm, PairKind
from limbeck.records import Demonstration, Pair, user_prompt
from limbeck.stages import mix, teach
from limbeck.store import digest_json, read_records, write_records
from limbeck.stream import stream_order
from limbeck.teachers import OpenAITeacher

Demand = dict[PairKind, list[Pair]]


def pairs(kind: PairKind, numbers: range) -> list[Pair]:
    return [
        Pair(id=f"{kind}/{n}", prompt=user_prompt(f"{kind} {n}"), source=kind, chosen="good", rejected="b")
        for n in numbers
    ]


def mixed(there: Demand, arm: Arm, heldout: int) -> mix.Mixture[Pair]:
    return mix.Mixer("a", arm, heldout, seed=1).mix_pairs(there)


def rolling(follows: Mapping[int, str | None]) -> list[Pair]:
    return [pair.model_copy(update={"placed_after": follows[n]})
            for n, pair in zip(follows, pairs("rolling", range(len(follows))), strict=True)]  # fmt: skip


def test_a_rolling_pair_stands_right_after_the_human_pair_it_was_written_from() -> None:
    there: Demand = {"human": pairs("human", range(6)), "zero_shot": pairs("zero_shot", range(2))}
    there["rolling"] = rolling(dict(enumerate(f"human/{n}" for n in (4, 0, 2))))
    train = mixed(there, Arm(human=6, zero_shot=2, rolling=3, mixing="interleave"), 0).train
    before = {second.id: first.id for first, second in pairwise(train)}
    assert {pair.id: before[pair.id] for pair in there["rolling"]} == {
        pair.id: pair.placed_after for pair in there["rolling"]
    }
    sides = "".join("h" if pair.source == "human" else "s" for pair in train)
    assert (len(sides), sides.count("h"), sides[0], "ss" in sides) == (11, 6, "h", False)


def written_along(human: list[Pair], number: int, shown: int = 5, missing: tuple[int, ...] = ()) -> list[Pair]:
    """What a teacher writes of whom every candidate but those of `missing` was accepted; the file backwards."""
    follows = [pair.id for pair in stream_order(human, 1)[2:]][shown - 1 :]  # two human pairs are held out
    made = rolling(dict(enumerate(follows[: number + len(missing)])))
    return [pair for place, pair in enumerate(made) if place not in missing][::-1]


def before_each(train: Sequence[Pair]) -> list[tuple[str | None, str]]:
    return [(second.placed_after, first.id) for first, second in pairwise(train) if second.source == "rolling"]


def test_as_many_rolling_pairs_as_the_arms_human_pairs_have_places_for_all_have_theirs() -> None:
    human = pairs("human", range(40))
    there: Demand = {"human": human, "rolling": written_along(human, 16 + 2)}
    mixture = mixed(there, Arm(human=20, rolling=16, mixing="interleave"), 2)
    assert [placed for placed, _ in before_each(mixture.train)] == [first for _, first in before_each(mixture.train)]
    assert ([pair.source for pair in mixture.train].count("rolling"), mixture.rolling_elsewhere) == (16, 0)
    assert mixture.train[-1].source == "rolling"
    assert [pair.id for pair in mixture.validation[2:]] == ["rolling/17", "rolling/16"]


def test_the_next_rolling_pairs_stand_in_for_candidates_that_failed_at_every_other_position_and_are_counted() -> None:
    human = pairs("human", range(40))
    there: Demand = {"human": human, "rolling": written_along(human, 16 + 2, missing=(0, 7))}
    mixture = mixed(there, Arm(human=20, rolling=16, mixing="interleave"), 2)
    sides = "".join(pair.source[0] for pair in mixture.train)
    assert (sides.count("r"), "rr" in sides, mixture.rolling_elsewhere) == (16, False, 2)
    astray = [pair for pair, (placed, first) in zip(
        [pair for pair in mixture.train if pair.source == "rolling"], before_each(mixture.train), strict=True
    ) if placed != first]  # fmt: skip
    assert {pair.id for pair in astray} == {"rolling/16", "rolling/17"}  # the rest is held out


def test_rolling_pairs_whose_pair_is_not_there_are_held_out_first_and_none_with_a_place_is_an_error() -> None:
    there: Demand = {"human": pairs("human", range(5))}
    there["rolling"] = rolling({0: "human/1", 1: "gone", 2: None, 3: "human/3"})
    arm = Arm(human=3, rolling=2, mixing="interleave")
    held = mixed(there, arm, 2)
    assert {pair.id for pair in held.validation if pair.source == "rolling"} == {"rolling/1", "rolling/2"}
    there["rolling"] = rolling({0: "gone", 1: None})
    with pytest.raises(InputError, match=r"the arm 'a' interleaves rolling pairs, and not one .* follows a human pair"):
        mixed(there, arm, 0)
    assert mixed(there, arm.model_copy(update={"mixing": "append"}), 0).rolling_elsewhere == 0


def test_an_arm_without_the_pairs_that_rolling_ones_follow_holds_out_the_same_of_them() -> None:
    human = pairs("human", range(40))
    there: Demand = {"human": human, "rolling": written_along(human, 18)}
    one = mixed(there, Arm(human=20, rolling=16, mixing="interleave"), 2)
    alone = mix.Mixer("b", Arm(rolling=16), 2, 1, written_along=human).mix_pairs({"rolling": there["rolling"]})
    assert alone.validation == one.validation[2:]


def test_a_rolling_pair_follows_a_human_pair_among_the_demonstrations_too() -> None:
    there: Demand = {"human": pairs("human", range(3)), "rolling": rolling({0: "human/2", 1: "demo/4", 2: "gone"})}
    arm = Arm(human=3, rolling=2, trains="sft", mixing="interleave")
    own = [Demonstration(id=f"demo/{n}", prompt=user_prompt(f"d {n}"), source="demo", response="r") for n in range(6)]
    mixture = mix.Mixer("a", arm, 0, seed=1).mix_demonstrations(there, mix.Demonstrations(own, []))
    before = {second.id: first.id for first, second in pairwise(mixture.train)}
    assert (before["rolling/0"], before["rolling/1"]) == ("human/2", "demo/4")
    assert mixture.rolling_elsewhere == 0


# From the teacher to the stream


def interleaved(**arms: dict[str, Any]) -> Recipe:
    teacher = {"endpoint": {"base_url": "http://fake/v1", "max_retries": 0, "concurrency": 1}}
    arms = {"a": {"human": 10, "rolling": 6, "mixing": "interleave"}} | arms
    return Recipe.model_validate({"name": "r", "arms": arms, "mix": {"heldout_pairs": 1}, "teach": teacher})


def answer(body: Body) -> httpx.Response:
    asked = str(body["messages"][-1]["content"])
    if "holding one new prompt" in asked:
        return completion(json.dumps({"prompt": f"New {digest_json(asked)[:8]}"}))
    return completion(json.dumps({"preferred": "the better one", "dispreferred": "the worse"}))


def test_an_arm_with_as_many_rolling_pairs_as_its_human_pairs_have_places_for_works_from_the_teacher_on(
    tmp_path: Path,
) -> None:
    found, files = interleaved(), {"human": tmp_path / "human.jsonl"}
    write_records(files["human"], pairs("human", range(1 + found.rolling_stream_length())))  # one of them is held out
    client = ChatClient(found.teach.endpoint, transport=FakeServer(answer).transport, environ={})
    made = teach.teach_pairs(found, OpenAITeacher("m", found.teach, client), files, tmp_path)
    assert (made.counts_out, made.facts["exhausted"]) == ({"rolling": 7}, {})
    result = mix.run(found, files | {"rolling": tmp_path / "rolling.jsonl"}, tmp_path / "a", "a")
    assert (result.counts_out, result.facts["rolling_elsewhere"]) == ({"train": 16, "validation": 2}, 0)
    train = read_records(tmp_path / "a" / "train.jsonl", Pair)
    assert "".join(pair.source[0] for pair in train) == "hhhh" + "hr" * 6
    assert all(placed == first for placed, first in before_each(train))


def test_an_arm_without_human_pairs_reads_those_that_its_rolling_pairs_follow_and_holds_out_the_same(
    tmp_path: Path,
) -> None:
    found = interleaved(b={"rolling": 6})
    units = {unit.name: unit for unit in pipeline.units(found, tmp_path)}
    assert units["mix/b"].inputs["rolling_stream"] == Path("screen/human.jsonl")
    assert "rolling_stream" not in units["mix/a"].inputs
    human = pairs("human", range(12))
    files = {"human": tmp_path / "human", "rolling": tmp_path / "rolling"}
    write_records(files["human"], human)
    follows = [pair.id for pair in stream_order(human, 1)[5:]]
    write_records(files["rolling"], rolling(dict(enumerate(follows))))
    mix.run(found, files, tmp_path / "a", "a")
    mix.run(found, {"rolling": files["rolling"], "rolling_stream": files["human"]}, tmp_path / "b", "b")
    held = {arm: read_records(tmp_path / arm / "validation.jsonl", Pair) for arm in ("a", "b")}
    assert (
        [pair.id for pair in held["a"] if pair.source == "rolling"] == [pair.id for pair in held["b"]] == ["rolling/6"]
    )
