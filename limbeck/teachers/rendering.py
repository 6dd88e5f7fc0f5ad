"""Templates to messages: which data each kind of request shows, between which tags (`api/template_text.py`)."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from limbeck.api.json_replies import SENTENCES, ParseFailure
from limbeck.api.template_text import Turns, data, filled, plain
from limbeck.records import Message, Pair, PromptRow
from limbeck.teachers.protocol import NewPromptRow, Request, RequestKind
from limbeck.teachers.schemas import KEYS
from limbeck.teachers.template_files import PACKAGED, Templates


def zero_shot_request(row: PromptRow, templates: Templates = PACKAGED) -> Request:
    """Ask for a pair on `row`, without examples."""
    return Request("zero_shot", row, fill("zero_shot", {"prompt": data(plain(row.prompt))}, templates))


def few_shot_request(row: PromptRow, examples: Sequence[Pair], templates: Templates = PACKAGED) -> Request:
    """Ask for a pair on `row`, shown `examples`."""
    shown = "\n".join(f"<example>{data(_example(pair))}</example>" for pair in examples)
    values = {"prompt": data(plain(row.prompt)), "examples": shown or "(no examples this time)"}
    return Request("few_shot", row, fill("few_shot", values, templates))


def new_prompt_request(row: NewPromptRow, sample_index: int, templates: Templates = PACKAGED) -> Request:
    """Ask for one new prompt like the weak ones of `row`."""
    shown = "\n".join(f"<weak_prompt>{data(plain(weak.prompt))}</weak_prompt>" for weak in row.weak)
    return Request("new_prompt", row, fill("new_prompt", {"weak_prompts": shown}, templates), sample_index)


def rolling_prompt_request(row: NewPromptRow, templates: Templates = PACKAGED) -> Request:
    """Ask for the new prompt that comes after the context pairs of `row`, shown their prompts."""
    shown = "\n".join(f"<context_prompt>{data(plain(pair.prompt))}</context_prompt>" for pair in row.context)
    return Request("rolling_prompt", row, fill("rolling_prompt", {"context_prompts": shown}, templates))


def rolling_request(row: PromptRow, context: Sequence[Pair], templates: Templates = PACKAGED) -> Request:
    """Ask for a pair on `row`, shown the pairs that come just before it, chosen and rejected."""
    shown = "\n".join(f"<context>{data(_example(pair))}</context>" for pair in context)
    values = {"prompt": data(plain(row.prompt)), "context_pairs": shown}
    return Request("rolling", row, fill("rolling", values, templates))


def revise_request(row: PromptRow, reply: str, templates: Templates = PACKAGED) -> Request:
    """Ask for the minimal correction of the student's own `reply` to `row`.

    A contrast of small edits says what was wrong, where two free answers differ in everything (CLAIR, D'Oosterlinck
    et al. 2024, "Anchored Preference Optimization and Contrastive Revisions").
    """
    values = {"prompt": data(plain(row.prompt)), "reply": data(reply)}
    return Request("revise", row, fill("revise", values, templates))


def plain_request(row: PromptRow) -> Request:
    """Ask for an answer to `row` as it is: no template, no JSON."""
    return Request("plain", row, row.prompt)


def ask_again(request: Request, reply: str, failure: ParseFailure) -> Request:
    """The same request once more, after the model's own reply and a sentence that says what was wrong with it."""
    keys = [f'"{key}"' for key in KEYS.get(request.kind, ())]
    wanted = (
        f"one JSON object and nothing else, with exactly the {'keys' if len(keys) > 1 else 'key'} "
        f"{' and '.join(keys)}, and a non-empty string as {'each' if len(keys) > 1 else 'its'} value"
        if keys
        else "the answer alone"
    )
    complaint = f"That reply cannot be used: {SENTENCES[failure.reason]}. Answer the same request again: {wanted}."
    more = (Message(role="assistant", content=reply), Message(role="user", content=complaint))
    return replace(request, messages=(*request.messages, *more), reask=request.reask + 1)


def fill(kind: RequestKind, values: Mapping[str, str], templates: Templates = PACKAGED) -> tuple[Message, ...]:
    """Fill a template in one pass. Every placeholder has a value (KeyError where one has none)."""
    template = templates.of(kind)
    return filled(Turns(template.system, template.user), values)


def template_id(kind: RequestKind, templates: Templates = PACKAGED) -> str | None:
    """A template's name and digest, for provenance: `zero_shot@1a2b3c4d`; None for `plain`, which has none."""
    return None if kind == "plain" else templates.of(kind).id


def _example(pair: Pair) -> dict[str, object]:
    return {"prompt": plain(pair.prompt), "preferred": pair.chosen, "dispreferred": pair.rejected}
