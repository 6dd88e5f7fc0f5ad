"""The formats people have: one reader each, told apart by their fields. Pure; the table `FORMATS` is the whole list.

A format is found from a file's first rows and then holds for all of its rows.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from limbeck.errors import InputError
from limbeck.records import Message, Problem, user_prompt
from limbeck.stages.corpus.problems import problem_in
from limbeck.stages.corpus.turns import (
    HH_ASSISTANT,
    HH_HUMAN,
    UnusableRowError,
    check_prompt,
    hh_messages,
    message,
    messages,
    text,
)
from limbeck.tasks import numeric

Values = Mapping[str, Any]
Gives = Literal["prompts", "responses", "pairs"]


class Example(NamedTuple):
    """What a row holds: a prompt; its response (of a pair: the chosen one) and a rejected one where it has them.

    `follow_ups`: the user's later turns, each after a reply of the model's own. `problem`: where the answer is a
    number, by which replies can be judged exactly.
    """

    prompt: tuple[Message, ...]
    response: str | None = None
    rejected: str | None = None
    follow_ups: tuple[str, ...] = ()
    problem: Problem | None = None


@dataclass(frozen=True, slots=True)
class Format:
    """A schema: the fields by which it is known, what its rows give, and their reader."""

    name: str
    fields: tuple[str, ...]
    gives: Gives
    read: Callable[[Values], Example]


def detect(rows: Sequence[Values], place: str) -> Format:
    """Return the first format of `FORMATS` whose fields the rows have, in any of them: a field that one row lacks is
    that row's fault, and named as such when the row is read.

    Raises:
        InputError: none has.
    """
    fields = {field for row in rows for field in row}
    for each in FORMATS:
        if fields.issuperset(each.fields):
            return each
    known = "; ".join(" + ".join(each.fields) for each in FORMATS)
    raise InputError(f"{place}: its fields ({', '.join(sorted(fields))}) are those of no known format ({known})")


def read_example(form: Format, values: Values, needed: Gives = "pairs") -> Example:
    """Read one row and check that its prompt can be asked and that what is `needed` of it is worth anything.

    Where prompts are, those of a pair with equal or empty responses can be asked like any other's.

    Raises:
        InputError: a field is missing or of the wrong type; the message names it, but neither file nor row.
        UnusableRowError: the row is well-formed, but of no use.
    """
    try:
        example = form.read(values)
    except KeyError as error:
        raise InputError(f"the field {error} is missing") from error
    example = _with_system(example, values)
    check_prompt(example.prompt)
    if needed != "pairs":
        example = example._replace(rejected=None)
    if needed == "prompts" and not (example.response or "").strip():
        example = example._replace(response=None)
    for response in (example.response, example.rejected):
        if response is not None and not response.strip():
            raise UnusableRowError("empty response")
    if example.rejected is not None and (example.response or "").strip() == example.rejected.strip():
        raise UnusableRowError("chosen equals rejected")
    return example


def _with_system(example: Example, values: Values) -> Example:
    """The system turn that stands in a column of its own belongs before the prompt."""
    if not values.get("system") or not example.prompt or example.prompt[0].role == "system":
        return example
    opened = (Message(role="system", content=text(values, "system")), *example.prompt)
    return example._replace(prompt=opened)


def last_response(example: Example) -> Example:
    """The example itself where it has a response, else the last assistant turn inside its prompt as the response.

    Raises:
        UnusableRowError: there is none.
    """
    if example.response is not None:
        return example
    places = [place for place, turn in enumerate(example.prompt) if turn.role == "assistant"]
    if not places:
        raise UnusableRowError("no response")
    return Example(example.prompt[: places[-1]], example.prompt[places[-1]].content)


def _conversation(turns: Sequence[Message]) -> Example:
    """A conversation that ends with the assistant has a response; one that ends with the user waits for it."""
    if turns and turns[-1].role == "assistant":
        return Example(tuple(turns[:-1]), turns[-1].content)
    return Example(tuple(turns))


def _pair(chosen: Sequence[Message], rejected: Sequence[Message]) -> Example:
    """Two whole conversations that differ in their last turn; what they share is the prompt."""
    if not (chosen and rejected and chosen[-1].role == rejected[-1].role == "assistant"):
        raise UnusableRowError("no response")
    if chosen[:-1] != rejected[:-1]:
        raise UnusableRowError("chosen and rejected answer different prompts")
    return Example(tuple(chosen[:-1]), chosen[-1].content, rejected[-1].content)


def _prompt(row: Values, field: str = "prompt") -> tuple[Message, ...]:
    if not isinstance(row[field], str):
        return messages(row, field)
    said = text(row, field)
    if said.startswith(HH_HUMAN):  # HH-RLHF's text, up to where the assistant is to speak
        return hh_messages({field: said.rstrip().removesuffix(HH_ASSISTANT)}, field)
    return user_prompt(said)


def _continued(row: Values, field: str) -> tuple[Message, ...]:
    """The whole conversation: the prompt and what `field` adds to it, or `field` itself where it repeats the prompt."""
    if isinstance(row[field], str):
        return (*_prompt(row), Message(role="assistant", content=text(row, field)))
    turns = messages(row, field)
    repeats = bool(turns) and turns[0].role != "assistant"
    return turns if repeats else (*_prompt(row), *turns)


def _prompt_and_pair(row: Values) -> Example:
    return _pair(_continued(row, "chosen"), _continued(row, "rejected"))


def _implicit_prompt(row: Values) -> Example:
    read = hh_messages if isinstance(row["chosen"], str) else messages
    return _pair(read(row, "chosen"), read(row, "rejected"))


def _sharegpt_pair(row: Values) -> Example:
    before = messages(row, "conversations")
    return _pair((*before, message(row, "chosen")), (*before, message(row, "rejected")))


def _completed(row: Values) -> Example:
    """TRL's unpaired preferences label each completion; one that is labelled bad is nothing to learn from."""
    if row.get("label") is not None and not row["label"]:
        raise UnusableRowError("labelled as a bad completion")
    return _conversation(_continued(row, "completion"))


def _own_row(row: Values) -> Example:
    """A prompt or demonstration that limbeck wrote: its problem, reference and later turns come back with it."""
    answer = "response" if "response" in row else "reference_response"
    return Example(
        _prompt(row),
        None if row.get(answer) is None else text(row, answer),
        follow_ups=_texts(row, "follow_ups") if row.get("follow_ups") else (),
        problem=problem_in(row),
    )


def _alpaca(row: Values) -> Example:
    extra = text(row, "input") if row.get("input") is not None else ""
    asked = text(row, "instruction")
    prompt = user_prompt(f"{asked}\n\n{extra}" if extra.strip() else asked)
    if row.get("history"):
        raise UnusableRowError("Alpaca's field 'history' is not read")
    return Example(prompt, text(row, "output"))


def _gsm8k(row: Values) -> Example:
    if several := next((field for field in ("options", "choices") if row.get(field)), None):
        raise InputError(f"the field '{several}' beside question and answer is not read: write the options into the "
                         "question, and the answer in words")  # fmt: skip
    question, answer = text(row, "question"), numeric.read_answer(text(row, "answer"))
    return Example(user_prompt(question), answer.text, problem=numeric.problem_of(question, answer))


def _texts(row: Values, field: str) -> tuple[str, ...]:
    given = row[field]
    if not isinstance(given, Sequence) or isinstance(given, str):
        raise InputError(f"the field '{field}' should hold a list of texts, but holds {type(given).__name__}")
    return tuple(text({f"{field}.{place}": turn}, f"{field}.{place}") for place, turn in enumerate(given))


def _mt_bench(row: Values) -> Example:
    turns = _texts(row, "turns")
    if not turns:
        raise UnusableRowError("no user turn")
    first, *later = turns
    if any(not turn.strip() for turn in later):
        raise UnusableRowError("empty turn")
    return Example(user_prompt(first), follow_ups=tuple(later))  # they comment on an answer that is not there yet


OWN = "limbeck's own pairs"  # their provenance is read too (own.py)
# In the order of detection: a format whose fields include another's comes before it.
FORMATS: tuple[Format, ...] = (
    Format(
        OWN,
        ("source", "prompt", "chosen", "rejected", "request_key", "mined_from"),
        "pairs",
        lambda row: _prompt_and_pair(row)._replace(problem=problem_in(row)),
    ),
    Format(
        "limbeck's own demonstrations", ("source", "prompt", "problem", "follow_ups", "response"), "responses", _own_row
    ),
    Format("limbeck's own prompts", ("source", "prompt", "problem", "follow_ups"), "prompts", _own_row),
    Format("ShareGPT preference", ("conversations", "chosen", "rejected"), "pairs", _sharegpt_pair),
    Format("ShareGPT", ("conversations",), "responses", lambda row: _conversation(messages(row, "conversations"))),
    Format("preference", ("prompt", "chosen", "rejected"), "pairs", _prompt_and_pair),
    Format("preference, implicit prompt", ("chosen", "rejected"), "pairs", _implicit_prompt),
    Format("messages", ("messages",), "responses", lambda row: _conversation(messages(row, "messages"))),
    Format("prompt and completion", ("prompt", "completion"), "responses", _completed),
    Format("Alpaca", ("instruction", "output"), "responses", _alpaca),
    Format("GSM8K", ("question", "answer"), "responses", _gsm8k),
    Format("MT-bench", ("turns",), "prompts", _mt_bench),
    Format(
        "prompt and response",
        ("prompt", "response"),
        "responses",
        lambda row: Example(_prompt(row), text(row, "response")),
    ),
    Format("prompts", ("prompt",), "prompts", lambda row: Example(_prompt(row))),
    Format("texts", ("text",), "prompts", lambda row: Example(user_prompt(text(row, "text")))),
)
