"""The corpus stage: all files always, nothing of the evaluation in what is trained on, all decided by the seed."""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from limbeck.errors import InputError, RecipeError
from limbeck.manifest import StageResult
from limbeck.recipe import Evaluate, Recipe
from limbeck.recipe.corpus import Chat, Corpus, Dataset, Tasks
from limbeck.records import Demonstration, Pair, PromptRow
from limbeck.stages.corpus import run
from limbeck.stages.corpus.chat import by_turns, choose_chat, everyday_chat
from limbeck.store import read_records

KINDS: dict[str, type[PromptRow]] = {
    "demonstrations": Demonstration,
    "demonstrations_validation": Demonstration,
    "chat_train": PromptRow,
    "chat_heldout": PromptRow,
    "pool": PromptRow,
    "fresh": PromptRow,
    "validation": PromptRow,
    "test": PromptRow,
    "transfer": PromptRow,
    "human": Pair,
}
SMALL = Tasks(sft=22, pool=12, fresh=11, validation=11, test=13, transfer=6)
LONG = "one two three four five six seven eight nine ten eleven twelve thirteen fourteen"


class Room:
    """A folder with the user's files, and the stage's output beside them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.result = StageResult()

    def data(self, name: str, rows: Iterable[dict[str, Any]]) -> tuple[Dataset, ...]:
        path = self.folder / f"{name}.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        return (Dataset(path=str(path)),)

    def run(self, seed: int = 1, out: str = "out", **corpus: Any) -> dict[str, list[Any]]:
        # Not validated: a recipe refuses a corpus that leaves nothing to learn from, the stage does not.
        judges = Evaluate(judges=("verifier",))  # so that no pair is set aside to train a judge
        recipe = Recipe.model_construct(name="x", seed=seed, corpus=Corpus(**corpus), evaluate=judges)
        (self.folder / out).mkdir(exist_ok=True)
        self.result = run(recipe, {}, self.folder / out)
        files = {path.stem for path in (self.folder / out).iterdir()}
        assert files == set(KINDS)
        return {name: read_records(self.folder / out / f"{name}.jsonl", kind) for name, kind in KINDS.items()}


@pytest.fixture
def room(tmp_path: Path) -> Room:
    return Room(tmp_path)


def asked(rows: Iterable[PromptRow]) -> list[str]:
    return [row.prompt[-1].content for row in rows]


def test_tasks_and_chat_alone_fill_their_files_and_leave_human_empty(room: Room) -> None:
    tables = room.run(tasks=SMALL, chat=Chat(train=20, heldout=10))
    assert {name: len(rows) for name, rows in tables.items()} == {
        "demonstrations": 22, "demonstrations_validation": 11, "chat_train": 20, "chat_heldout": 10, "pool": 12,
        "fresh": 11, "validation": 11, "test": 13, "transfer": 6, "human": 0,
    }  # fmt: skip
    assert room.result.counts_out == {name: len(rows) for name, rows in tables.items()}
    assert (room.result.drops, room.result.facts) == ({}, {})
    for row in [*tables["demonstrations"], *tables["demonstrations_validation"]]:
        assert row.response == row.problem.solution
    contents = [row.problem.content for name in ("demonstrations", "pool", "fresh", "test", "validation", "transfer")
                for row in tables[name]]  # fmt: skip
    assert len(set(contents)) == len(contents) == 22 + 12 + 11 + 13 + 11 + 6
    assert {row.problem.content for row in tables["demonstrations_validation"]} == {
        row.problem.content for row in tables["validation"]
    }
    assert {row.source for row in [*tables["chat_train"], *tables["chat_heldout"]]} == {"chat"}
    assert not set(asked(tables["chat_train"])) & set(asked(tables["chat_heldout"]))


def digest(room: Room, out: str) -> str:
    files = sorted((room.folder / out).iterdir())
    return hashlib.sha256(b"".join(path.name.encode() + path.read_bytes() for path in files)).hexdigest()


def test_the_same_seed_writes_the_same_bytes_and_another_does_not(room: Room) -> None:
    demonstrations = room.data("d", ({"prompt": f"Say {n}.", "response": str(n)} for n in range(30)))
    preferences = room.data("p", ({"prompt": f"Tell {n}.", "chosen": "a", "rejected": "b"} for n in range(30)))
    settings: dict[str, Any] = {"tasks": SMALL, "chat": Chat(train=5, heldout=5), "demonstrations": demonstrations}
    first = room.run(out="a", preferences=preferences, **settings)
    room.run(out="b", preferences=preferences, **settings)
    other = room.run(out="c", seed=2, preferences=preferences, **settings)
    assert digest(room, "a") == digest(room, "b") != digest(room, "c")
    assert [pair.id for pair in first["human"]] != [pair.id for pair in other["human"]]
    assert {pair.id for pair in first["human"]} == {f"p/{number}" for number in range(1, 31)}
    assert [pair.id for pair in first["human"]] != [f"p/{number}" for number in range(1, 31)]


def test_to_train_on_more_moves_no_evaluation_row(room: Room) -> None:
    few = room.run(out="a", tasks=SMALL, chat=Chat(train=5, heldout=5))
    many = room.run(out="b", tasks=SMALL.model_copy(update={"sft": 44, "pool": 30}), chat=Chat(train=50, heldout=5))
    for name in ("test", "transfer", "validation", "chat_heldout", "demonstrations_validation"):
        assert few[name] == many[name]


def test_user_demonstrations_join_the_worked_ones_and_a_share_validates(room: Room) -> None:
    rows = [{"prompt": f"Say {number}.", "response": str(number)} for number in range(50)]
    tables = room.run(tasks=SMALL, demonstrations=room.data("d", rows), validation_share=0.1)
    mine = [row for row in tables["demonstrations"] if row.source == "d"]
    held = [row for row in tables["demonstrations_validation"] if row.source == "d"]
    assert (len(tables["demonstrations"]), len(mine), len(held)) == (22 + 45, 45, 5)
    assert not set(asked(mine)) & set(asked(held))
    assert room.result.facts == {"formats": {"d": "prompt and response"}}


def test_no_prompt_of_a_validation_demonstration_is_trained_on_though_it_has_another_response(room: Room) -> None:
    rows = [{"prompt": f"Say {number % 5}.", "response": str(number)} for number in range(20)]
    tables = room.run(demonstrations=room.data("d", rows), validation_share=0.05)
    (held,) = asked(tables["demonstrations_validation"])
    assert len(tables["demonstrations"]) == 16
    assert held not in asked(tables["demonstrations"])
    assert room.result.drops == {"demonstrations: same prompt as a validation demonstration": 3}


@pytest.mark.parametrize(("share", "held"), [(0.0, 0), (0.001, 1), (0.07, 7), (1.0, 99)])
def test_a_share_is_rounded_up_and_leaves_something_to_train_on(room: Room, share: float, held: int) -> None:
    rows = [{"prompt": f"Say {number}.", "response": "x"} for number in range(100)]
    tables = room.run(demonstrations=room.data("d", rows), validation_share=share)
    assert len(tables["demonstrations_validation"]) == held
    assert len(tables["demonstrations"]) == 100 - held


def test_the_pool_is_the_prompts_or_where_there_are_none_those_of_the_preferences(room: Room) -> None:
    preferences = room.data("p", [{"prompt": "A?", "chosen": "good", "rejected": "bad"}])
    by_pairs = room.run(preferences=preferences)
    assert [(row.id, row.source, row.reference_response) for row in by_pairs["pool"]] == [
        ("p/1", "preferences", "good")
    ]
    (pair,) = by_pairs["human"]
    assert (pair.id, pair.source, pair.chosen, pair.rejected) == ("p/1", "human", "good", "bad")
    by_prompts = room.run(preferences=preferences, prompts=room.data("q", [{"text": "B?"}]))
    assert asked(by_prompts["pool"]) == ["B?"]
    assert by_prompts["pool"][0].reference_response is None
    assert len(by_prompts["human"]) == 1


def test_an_evaluation_prompt_is_in_no_training_file_and_each_drop_is_counted(room: Room) -> None:
    evaluation = room.data("e", [{"prompt": "What is  LOVE?"}, {"prompt": LONG}, {"prompt": "What is love?"}])
    near = f"Well then: {LONG.upper().replace(' ', ', ')}!"  # the same words in a row, in other clothes
    far = LONG.replace("seven", "7")  # no 13 words in a row
    prompts = ["what is love?", near, far, "Something else."]
    tables = room.run(
        evaluation=evaluation,
        demonstrations=room.data("d", [{"prompt": prompt, "response": "x"} for prompt in prompts]),
        preferences=room.data("p", [{"prompt": prompt, "chosen": "x", "rejected": "y"} for prompt in prompts]),
        prompts=room.data("q", [{"prompt": prompt} for prompt in prompts]),
        validation_share=0,
    )
    assert sorted(asked(tables["test"])) == ["What is  LOVE?", LONG]
    for name in ("demonstrations", "human", "pool"):
        assert sorted(asked(tables[name])) == ["Something else.", far]
    assert room.result.drops == {
        "evaluation: duplicate": 1,
        **{
            f"{section}: overlap with evaluation: same prompt": 1
            for section in ("demonstrations", "preferences", "pool")
        },
        **{
            f"{section}: overlap with evaluation: 13 words in a row": 1
            for section in ("demonstrations", "preferences", "pool")
        },
    }
    assert room.result.counts_in == {"evaluation": 3, "demonstrations": 4, "preferences": 4, "prompts": 4}


def test_conversations_that_begin_alike_and_go_on_otherwise_are_no_duplicates(room: Room) -> None:
    asked_of = [["2+2?", "And 3?"], ["2+2?", "Sure?"], ["2+2?", " sure? "], ["2+2?"], ["2+2?"]]
    rows = [{"question_id": number, "category": "math", "turns": turns} for number, turns in enumerate(asked_of)]
    tables = room.run(evaluation=room.data("e", rows))
    kept = sorted(row.follow_ups for row in tables["test"])
    assert kept == [(), ("And 3?",), ("Sure?",)]
    assert room.result.drops == {"evaluation: duplicate": 2}


def test_an_earlier_turn_of_a_conversation_counts_as_part_of_its_prompt(room: Room) -> None:
    turns = [{"role": "user", "content": LONG}, {"role": "assistant", "content": "x"},
             {"role": "user", "content": "More."}, {"role": "assistant", "content": "y"}]  # fmt: skip
    settings: dict[str, Any] = {"evaluation": room.data("e", [{"prompt": LONG}]), "validation_share": 0}
    tables = room.run(
        demonstrations=room.data("d", [{"messages": turns}, {"prompt": "A", "messages": turns[2:]}]), **settings
    )
    assert asked(tables["demonstrations"]) == ["More."]


def test_a_test_task_or_heldout_chat_prompt_is_dropped_from_the_users_data(room: Room) -> None:
    chosen = room.run(out="a", tasks=SMALL, chat=Chat(train=3, heldout=3))
    leaked = asked([chosen["test"][0], chosen["validation"][0], chosen["transfer"][0], chosen["chat_heldout"][0]])
    prompts = [*leaked, asked(chosen["chat_train"])[0]]
    demonstrations = room.data("d", [{"prompt": prompt, "response": "x"} for prompt in prompts])
    tables = room.run(tasks=SMALL, chat=Chat(train=3, heldout=3), demonstrations=demonstrations, validation_share=0)
    assert [row.prompt[0].content for row in tables["demonstrations"] if row.source == "d"] == prompts[4:]
    assert room.result.drops == {"demonstrations: overlap with evaluation: same prompt": 4}


def test_chat_prompts_that_the_user_evaluates_on_are_not_trained_on_and_another_takes_their_place(room: Room) -> None:
    everything = Chat(train=259, heldout=0)
    evaluation = room.data("e", [{"prompt": everyday_chat()[0].text}])
    tables = room.run(chat=everything, evaluation=evaluation)
    assert len(tables["chat_train"]) == 259
    assert "chat/001" not in {row.id for row in tables["chat_train"]}
    with pytest.raises(RecipeError, match=r"ask for 260 prompts, but there are 259"):
        room.run(chat=Chat(train=259, heldout=1), evaluation=evaluation)


def test_chat_prompts_are_balanced_over_topics_in_both_parts() -> None:
    prompts = everyday_chat()
    topic = {prompt.id: prompt.topic for prompt in prompts}
    smallest = min(Counter(topic.values()).values())
    topics = len(set(topic.values()))
    choice = choose_chat(prompts, Chat(train=topics * (smallest - 4) + 1, heldout=topics * 3 + 5), seed=4)
    for part in choice:
        counts = Counter(topic[row.id] for row in part)
        assert len(counts) == topics
        assert max(counts.values()) - min(counts.values()) <= 1
    assert sorted(prompt.id for prompt in by_turns(prompts, 4)) == sorted(topic)


def test_well_formed_rows_of_no_use_are_counted_and_malformed_ones_stop_the_run(room: Room) -> None:
    good = {"prompt": "A?", "chosen": "x", "rejected": "y"}
    rows = [good, {**good, "rejected": "x"}, {**good, "chosen": ""}, good]
    tables = room.run(preferences=room.data("p", rows))
    assert len(tables["human"]) == 1
    assert room.result.drops == {
        "preferences: chosen equals rejected": 1, "preferences: empty response": 1, "preferences: duplicate": 1
    }  # fmt: skip
    with pytest.raises(InputError, match=r"p\.jsonl, row 3: the field 'chosen' is missing"):
        room.run(preferences=room.data("p", [good, good, {"prompt": "A?", "rejected": "y"}]))


def test_a_data_set_that_cannot_serve_its_purpose_is_refused(room: Room) -> None:
    with pytest.raises(InputError, match=r"d\.jsonl, row 1: corpus\.demonstrations needs responses, .*'prompts'"):
        room.run(demonstrations=room.data("d", [{"prompt": "A?"}]))
    with pytest.raises(InputError, match=r"corpus\.preferences needs chosen and rejected responses"):
        room.run(preferences=room.data("p", [{"prompt": "A?", "response": "B"}]))
    with pytest.raises(InputError, match=r"none of the rows of .*d\.jsonl can be used \(2 x empty response"):
        room.run(demonstrations=room.data("d", [{"prompt": "A?", "response": ""}] * 2))


def test_pairs_serve_as_demonstrations_by_their_chosen_response(room: Room) -> None:
    data = room.data(
        "p", [{"prompt": "A?", "chosen": "x", "rejected": "y"}, {"prompt": "B?", "chosen": "x", "rejected": "y"}]
    )
    tables = room.run(demonstrations=data, validation_share=0)
    assert {row.response for row in tables["demonstrations"]} == {"x"}
