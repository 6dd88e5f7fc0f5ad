"""A model that many callers await at once: together, as they finish, and nobody is left waiting."""

import asyncio
import time
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_models import random_ids, tiny_folder, tiny_model

from limbeck.errors import ModelError
from limbeck.lm.free_memory import Memory
from limbeck.lm.generate import PromptIds, Sample, Sampling, generate
from limbeck.lm.load import LanguageModel
from limbeck.lm.writing import Writer

SAMPLING = Sampling(24, temperature=1.0, seed=5, slots=4)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> LanguageModel:
    return tiny_model(tiny_folder(tmp_path_factory.mktemp("llama")))


def prompts(number: int) -> list[PromptIds]:
    draw = torch.Generator().manual_seed(4)
    return [PromptIds(str(n), random_ids(draw, 3 + n % 7), max_new_tokens=4 + n) for n in range(number)]


def run(work: Coroutine[Any, Any, list[Sample]]) -> list[Sample]:
    return asyncio.run(asyncio.wait_for(work, 60))


def test_what_is_awaited_at_once_is_written_together_and_each_is_told_when_it_ends(model: LanguageModel) -> None:
    asked, steps_before = prompts(9), list[int]()

    async def work() -> list[Sample]:
        async with Writer(model, SAMPLING) as writer:

            async def one(prompt: PromptIds) -> Sample:
                sample = await writer.write(prompt)
                steps_before.append(writer.tally.steps)
                return sample

            return await asyncio.gather(*map(one, asked))

    slow = {sample.prompt_id: sample for sample in generate(model, asked, SAMPLING)}
    assert run(work()) == [slow[prompt.id] for prompt in asked]
    assert len(set(steps_before)) > 3  # none waited for the last


def test_what_comes_while_others_are_written_joins_them(model: LanguageModel) -> None:
    async def work() -> list[Sample]:
        async with Writer(model, SAMPLING) as writer:
            queue, done = iter(prompts(20)), list[Sample]()

            async def worker() -> None:
                for prompt in queue:
                    done.append(await writer.write(prompt))

            await asyncio.gather(*(worker() for _ in range(4)))
            steps.append(writer.tally.steps)
            return done

    steps: list[int] = []
    samples = run(work())
    tokens = sum(len(sample.ids) for sample in samples)
    assert len(samples) == 20
    assert steps[0] < 0.6 * tokens  # of four slots, more than half are busy: not one batch after another


def test_a_longer_prompt_than_the_cache_was_made_for_is_written_next(model: LanguageModel) -> None:
    async def work() -> list[Sample]:
        async with Writer(model, SAMPLING) as writer:
            first = asyncio.ensure_future(writer.write(PromptIds("first", (7,) * 5, max_new_tokens=60)))
            await asyncio.sleep(0.05)
            long = PromptIds("long", (9,) * 200, max_new_tokens=9)
            return [await writer.write(long), await first]

    samples = run(work())
    assert samples[0] == next(iter(generate(model, [PromptIds("long", (9,) * 200, max_new_tokens=9)], SAMPLING)))


def test_the_same_prompt_awaited_twice_at_once_is_written_once(model: LanguageModel) -> None:
    async def work() -> list[Sample]:
        async with Writer(model, SAMPLING) as writer:
            (prompt,) = prompts(1)
            samples = await asyncio.gather(writer.write(prompt), writer.write(prompt))
            steps.append(writer.tally.steps)
            return [*samples, await writer.write(prompt)]

    steps: list[int] = []
    first, second, again = run(work())
    assert first == second == again
    assert steps[0] == len(first.ids)


def test_what_ends_the_engine_reaches_all_who_wait_and_all_who_come_later(tmp_path: Path) -> None:
    model = tiny_model(tiny_folder(tmp_path))
    with torch.no_grad():
        model.head.weight[7] = float("nan")

    async def work() -> list[Sample]:
        async with Writer(model, SAMPLING) as writer:
            failures = await asyncio.gather(*map(writer.write, prompts(9)), return_exceptions=True)
            assert all(isinstance(failure, ModelError) for failure in failures)
            with pytest.raises(ModelError, match="no numbers"):
                await writer.write(prompts(1)[0])
        return []

    run(work())


def test_a_long_prompt_leaves_later_short_ones_the_slots_that_were_asked_for(
    model: LanguageModel, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    token_bytes = 2 * 2 * 2 * 8 * 4  # keys and values, layers, key/value heads, head size, fp32
    monkeypatch.setattr("limbeck.lm.generate.device_memory", lambda _: Memory(2 * 100 * token_bytes, 1 << 40))

    async def work() -> list[Sample]:
        async with Writer(model, SAMPLING) as writer:
            for length in (76, 70):
                await writer.write(PromptIds(str(length), tuple(range(20, 20 + length))))
                assert writer.slots == 1
            for place in range(100):
                await asyncio.sleep(0.02)  # what is asked for too soon joins those being written, in their slots
                await writer.write(PromptIds(f"short/{place}", (20,)))
                if writer.slots == 4:
                    return []
        raise AssertionError("the slots never grew again")

    run(work())
    said = capsys.readouterr()
    assert (said.out + said.err).count("memory allows") == 1  # not with every prompt


def test_leaving_stops_what_is_being_written_within_a_step(model: LanguageModel) -> None:
    async def work() -> list[Sample]:
        async with Writer(model, Sampling(400, temperature=1.0, ignore_end_of_turn=True)) as writer:
            waiting = [asyncio.ensure_future(writer.write(PromptIds(str(n), (5, 6)))) for n in range(8)]
            while not writer.tally.steps:
                await asyncio.sleep(0.01)
            for one in waiting:
                one.cancel()
        assert writer.tally.steps < 400
        return []

    started = time.monotonic()
    run(work())
    assert time.monotonic() - started < 50


def test_leaving_without_having_asked_ends_the_thread(model: LanguageModel) -> None:
    async def work() -> list[Sample]:
        async with Writer(model, SAMPLING):
            return []

    assert run(work()) == []
