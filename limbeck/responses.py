"""Somebody's responses to prompts, as `prompt` and `response` a line: read, and matched with prompt rows."""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import ValidationError

from limbeck.errors import InputError
from limbeck.records import Message, PromptRow, user_prompt
from limbeck.store import first_problem, read_json_lines

Conversation = tuple[Message, ...]
# What is counted under which words.
MISSING = "held-out prompt without a given response"
REPEATED = "another given response to the same prompt"
EXTRA = "given response to a prompt that is not held out"
LATER = "later turn of a conversation, which a given response does not answer"
_RIGHT = "a text, or a list of turns with `role` and `content`"


class Given(NamedTuple):
    """A line of a file of responses."""

    line: int
    prompt: Conversation
    response: str


class Matched(NamedTuple):
    """Responses by the id of the prompt row, in the order of the rows and of the lines. `missing`: ids of rows without
    one. `repeated`: lines of further responses to a prompt. `extra`: lines of prompts that no row has, once each.
    """

    every: dict[str, list[Given]]
    missing: list[str]
    repeated: list[int]
    extra: list[int]

    @property
    def by_id(self) -> dict[str, str]:
        """The first response of each, where one counts."""
        return {id_: found[0].response for id_, found in self.every.items()}


def read_responses(path: Path) -> list[Given]:
    """Read a JSON Lines file of `prompt` (a text, or messages) and `response` (a text, or messages that end with it).

    Raises:
        InputError: naming file, line and field, where a line is anything else or there is no line.
    """
    found = []
    for line, value in read_json_lines(path):
        where = f"{path}, line {line}"
        for field in ("prompt", "response"):
            if field not in value:
                raise InputError(f"{where}: the field '{field}' is missing; a line is {{\"prompt\": ..., "
                                 '"response": ...}')  # fmt: skip
        response = conversation(value["response"], f"{where}: response")[-1].content
        found.append(Given(line, conversation(value["prompt"], f"{where}: prompt"), response))
    if not found:
        raise InputError(f"{path} holds no response")
    return found


def conversation(value: Any, where: str) -> Conversation:
    """A prompt as a conversation: a text is one user turn.

    Raises:
        InputError: where it is neither text nor messages; the message begins with `where`.
    """
    if not isinstance(value, str | list) or value == []:
        raise InputError(f"{where} should be {_RIGHT}")
    try:
        found = user_prompt(value) if isinstance(value, str) else tuple(map(Message.model_validate, value))
        "".join(turn.content for turn in found).encode()
    except ValidationError as error:
        raise InputError(f"{where} should be {_RIGHT}: {first_problem(error)}") from error
    except UnicodeEncodeError as error:  # JSON can spell half of a surrogate pair, which no tokenizer takes
        raise InputError(f"{where} should be {_RIGHT}, and is no valid Unicode") from error
    return found


def match(rows: Sequence[PromptRow], given: Sequence[Given]) -> Matched:
    """Find each row's response by the exact text of its prompt.

    Where no response has the exact text, white space may differ, if that leaves one prompt on either side.
    """
    exact: dict[Conversation, list[Given]] = {}
    repeated = []
    for each in given:
        if each.prompt in exact:
            repeated.append(each.line)
        exact.setdefault(each.prompt, []).append(each)
    loose = _loose_matches({row.prompt for row in rows} - exact.keys(), exact.keys() - {row.prompt for row in rows})
    every: dict[str, list[Given]] = {}
    used: set[int] = set()
    for row in rows:
        found = exact.get(loose.get(row.prompt, row.prompt))
        if found is not None:
            every[row.id] = found
            used.add(found[0].line)
    missing = [row.id for row in rows if row.id not in every]
    return Matched(every, missing, repeated, [first.line for first, *_ in exact.values() if first.line not in used])


def _loose_matches(asked: set[Conversation], answered: set[Conversation]) -> dict[Conversation, Conversation]:
    """Of prompts without an exact match, those that differ from one other alone, and only in white space."""
    sides: defaultdict[Any, tuple[list[Conversation], list[Conversation]]] = defaultdict(lambda: ([], []))
    for side, prompts in enumerate((asked, answered)):
        for prompt in prompts:
            sides[tuple((turn.role, tuple(turn.content.split())) for turn in prompt)][side].append(prompt)
    return {ours[0]: theirs[0] for ours, theirs in sides.values() if len(ours) == len(theirs) == 1}
