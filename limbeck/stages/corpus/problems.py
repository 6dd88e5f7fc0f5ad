"""Problems in rows that limbeck wrote: an object in JSON Lines, a text of JSON in parquet. Pure."""

import json
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from limbeck.errors import InputError
from limbeck.records import Problem
from limbeck.store import first_problem, storable


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
