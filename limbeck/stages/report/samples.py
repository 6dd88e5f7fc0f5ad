"""A few prompts with every model's reply side by side, drawn by the recipe's seed and by nobody's taste.

Every text is cut and made visible here. Refuses to choose by score: a draw that may not look at scores cannot flatter.
"""

from typing import NamedTuple

from limbeck import seeds
from limbeck.records import PromptRow, Reply
from limbeck.stages.report import wording
from limbeck.stages.report.gather import Answers, Gathered, ReplyKey
from limbeck.stages.report.results import baseline_of, series_of
from limbeck.stages.report.safe import Cut, cut
from limbeck.stages.report.svg import colour_class

_TEXT_CHARACTERS = 1_600  # of one reply: a card that is still read beside others; the browser below holds more


class Card(NamedTuple):
    """One model's reply. `colour`: the class of its series; `facts`: how it was judged, and how long it is."""

    model: str
    colour: str
    said: Cut
    facts: str


class Sample(NamedTuple):
    """One prompt: its turns, by role, and a card a model."""

    prompt_id: str
    turns: tuple[tuple[str, Cut], ...]
    cards: tuple[Card, ...]


def samples_of(gathered: Gathered, how_many: int) -> tuple[Sample, ...]:
    """So many test prompts to which the baseline and every arm replied, in the order drawn; fewer where fewer did."""
    models = (baseline_of(gathered.verdict), *gathered.recipe.arms)
    first = {model: _first_replies(gathered.answers.get(model)) for model in models}
    rows = [held.row for held in gathered.prompts if held.split == "test"]
    asked = [row for row in rows if all(row.id in replies for replies in first.values())]
    drawn = seeds.rng(gathered.recipe.seed, "report samples").sample(asked, min(how_many, len(asked)))
    return tuple(_sample(gathered, row, {model: replies[row.id] for model, replies in first.items()}) for row in drawn)


def _first_replies(answers: Answers | None) -> dict[str, Reply]:
    return {} if answers is None else {r.prompt_id: r for r in answers.replies if r.sample_index == 0}


def _sample(gathered: Gathered, row: PromptRow, replies: dict[str, Reply]) -> Sample:
    series = series_of(gathered.verdict)
    cards = tuple(
        Card(
            model, colour_class(series.get(model, 0)), cut(reply.text, _TEXT_CHARACTERS), _facts(gathered, model, reply)
        )
        for model, reply in replies.items()
    )
    turns = tuple((message.role, cut(message.content, _TEXT_CHARACTERS)) for message in row.prompt)
    return Sample(row.id, turns, cards)


def _facts(gathered: Gathered, model: str, reply: Reply) -> str:
    """What each judge said, the length in tokens, and whether it was cut off."""
    key, said = ReplyKey(reply.prompt_id, reply.sample_index), []
    for judge, lines in gathered.answers[model].judgements.items():
        judged = lines.get(key)
        if judged is None:
            continue
        if judged.score is None:
            said.append(f"{judge}: unscored")
        elif judged.solved is None:
            said.append(f"{judge} {wording.plain(judged.score)}")
        else:
            said.append("solved" if judged.solved else "wrong")
    preference = gathered.answers[model].preferences.get(key)
    said += [f"pairwise: {preference.outcome or 'unscored'}"] if preference else []
    said += [] if reply.num_tokens is None else [f"{wording.count(reply.num_tokens)} tokens"]
    said += ["cut off at its longest"] if reply.finish_reason == "length" else []
    return ", ".join(said)
