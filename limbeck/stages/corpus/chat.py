"""The everyday chat prompts that come with limbeck: a seeded, disjoint choice, spread evenly over their topics."""

from collections import defaultdict
from collections.abc import Sequence
from importlib.resources import as_file, files
from itertools import zip_longest
from typing import NamedTuple

from limbeck import seeds
from limbeck.errors import RecipeError
from limbeck.recipe.corpus import Chat
from limbeck.records import PromptRow, Record, user_prompt
from limbeck.store import read_records


class ChatPrompt(Record):
    """One line of the file."""

    id: str
    text: str
    topic: str

    def row(self) -> PromptRow:
        """The prompt as stages exchange it."""
        return PromptRow(id=self.id, prompt=user_prompt(self.text), source="chat")


class ChatChoice(NamedTuple):
    """Prompts to train on and prompts to measure retention by; no prompt is in both."""

    train: list[PromptRow]
    heldout: list[PromptRow]


def everyday_chat() -> list[ChatPrompt]:
    """Read all prompts that come with the package."""
    with as_file(files("limbeck.data").joinpath("everyday_chat.jsonl")) as path:
        return read_records(path, ChatPrompt)


def choose_chat(prompts: Sequence[ChatPrompt], settings: Chat, seed: int) -> ChatChoice:
    """Choose `settings.heldout` and `settings.train` of `prompts`.

    The held-out ones are taken first, so that to train on more never moves one of them.

    Raises:
        RecipeError: there are not so many.
    """
    asked = settings.heldout + settings.train
    if asked > len(prompts):
        raise RecipeError(
            f"corpus.chat: train = {settings.train} and heldout = {settings.heldout} ask for {asked} prompts, but "
            f"there are {len(prompts)} everyday chat prompts: lower one of them"
        )
    rows = [prompt.row() for prompt in by_turns(prompts, seed)]
    return ChatChoice(train=rows[settings.heldout : asked], heldout=rows[: settings.heldout])


def by_turns(prompts: Sequence[ChatPrompt], seed: int) -> list[ChatPrompt]:
    """Order prompts so that every run of them holds as many of one topic as of another, as long as topics last."""
    topics: dict[str, list[ChatPrompt]] = defaultdict(list)
    for prompt in prompts:
        topics[prompt.topic].append(prompt)
    rng = seeds.rng(seed, "corpus", "chat")
    stacks = [topics[topic] for topic in sorted(topics)]
    rng.shuffle(stacks)
    for stack in stacks:
        rng.shuffle(stack)
    return [prompt for turn in zip_longest(*stacks) for prompt in turn if prompt is not None]
