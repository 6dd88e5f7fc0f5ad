"""Problems in rows that limbeck wrote: an object in JSON Lines, a text of JSON in parquet. Pure."""

import json
from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from limbeck.errors import InputError
from limbeck.records import Problem
from limbeck.store import first_problem

Kind = TypeVar("Kind", bound=BaseModel)


def problem_in(values: Mapping[str, Any]) -> Problem | None:
    """The problem behind a row; None where it has none.

    Raises:
        InputError: the field is not what limbeck writes there.
    """
    value = values.get("problem")
    if value is None:
        return None
    if isinstance(value, str):  # in parquet, where its metadata have no schema
        try:
            value = json.loads(value)
        except (ValueError, RecursionError) as error:
            raise InputError("the field 'problem' should hold a problem as JSON") from error
    try:
        return storable(Problem.model_validate(value))
    except ValidationError as error:
        raise InputError(f"problem.{first_problem(error)}") from error


def storable(record: Kind) -> Kind:
    """The record itself, where a file can hold it.

    Raises:
        InputError: a text in it holds half a character, as JSON can spell one.
    """
    try:
        record.model_dump_json()
    except ValueError as error:  # pydantic's own error is one
        raise InputError("a text holds half of a surrogate pair, which is no character") from error
    return record
