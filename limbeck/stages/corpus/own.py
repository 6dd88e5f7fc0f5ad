"""Pairs that limbeck wrote, as JSON Lines or as an exported data set: what is known about a row comes back with it.

Its id does not: rows are named by their place, as those of any source, since the same pairs may be read twice. So what
names other rows by their ids (`placed_after`) means nothing any more.
"""

import math
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from limbeck.errors import InputError
from limbeck.records import Pair
from limbeck.stages.corpus.formats import Example
from limbeck.stages.corpus.problems import problem_in
from limbeck.store import first_problem, storable

_AS_IT_IS = ("source", "teacher", "template", "request_key", "mined_from", "reference_response")


def own_pair(id_: str, values: Mapping[str, Any], example: Example) -> Pair:
    """The pair in a row of limbeck's own, with its provenance.

    Raises:
        InputError: a field is not what limbeck writes there; the message names it, but neither file nor row.
    """
    known: dict[str, Any] = {name: values.get(name) for name in _AS_IT_IS}
    known["problem"] = problem_in(values)
    known["scores"] = _scores(values.get("scores"))
    known["swapped"] = False if values.get("swapped") is None else values["swapped"]
    said = {"prompt": example.prompt, "chosen": example.response, "rejected": example.rejected}
    try:
        return storable(Pair.model_validate({"id": id_, **known, **said}))
    except ValidationError as error:
        raise InputError(first_problem(error)) from error


def _scores(value: object) -> object:
    """Scores by name; in parquet a list of name and value, so that the schema is always the same."""
    if value is None:
        return {}
    if isinstance(value, list) and all(map(_is_named, value)):
        # A score that was not finite is null in JSON Lines.
        return {score["name"]: math.nan if score.get("value") is None else score["value"] for score in value}
    return value


def _is_named(score: object) -> bool:
    return isinstance(score, dict) and isinstance(score.get("name"), str)
