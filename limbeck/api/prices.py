"""What a million tokens cost, from a dated file that the user can edit. An unknown price is unknown, never zero."""

import math
import tomllib
from importlib import resources
from pathlib import Path
from typing import Annotated, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from limbeck.errors import InputError

NANO = 1_000_000_000  # a dollar; whole numbers add up exactly, however many requests there are
_Dollars = Annotated[float, Field(ge=0, le=100_000)]


class Price(BaseModel):
    """Dollars for a million tokens, of prompts and of replies."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
    input: _Dollars
    output: _Dollars

    def times(self, factor: float) -> "Price":
        """This price at a discount."""
        return Price(input=self.input * factor, output=self.output * factor)

    def nano_dollars(self, tokens_in: int, tokens_out: int) -> int:
        """The cost of so many tokens, in billionths of a dollar, rounded up."""
        return math.ceil(round(tokens_in * self.input * 1000 + tokens_out * self.output * 1000, 3))


class _File(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")
    date: Annotated[str, Field(pattern=r"^\d{4}-\d{2}-\d{2}$")]
    batch: Annotated[float, Field(gt=0, le=1)] = 1.0
    models: dict[str, Price]


class Listed(NamedTuple):
    """A price, and the date of the list that has it."""

    price: Price
    date: str


def find_price(model: str, own_file: Path | None = None, *, batch: bool = False) -> Listed | None:
    """The price of `model` in the user's file or, without one, in the list that comes with limbeck.

    With `batch`, what it costs through the batch API: the full price where the list names no factor for it.

    A dated name (gpt-4o-2024-08-06) costs what its undated one does, where it has no line of its own.

    Raises:
        InputError: the file is missing or is no price list.
    """
    listed = _read(own_file)
    names = [name for name in listed.models if model == name or _is_dated(model, name)]
    if not names:
        return None
    price = listed.models[max(names, key=len)]
    return Listed(price.times(listed.batch) if batch else price, listed.date)


def _is_dated(model: str, name: str) -> bool:
    rest = model.removeprefix(f"{name}-")
    return rest != model and rest.replace("-", "").isdigit()


def _read(own_file: Path | None) -> _File:
    packaged = resources.files("limbeck.api") / "prices.toml"
    where = own_file or "the packaged price list"
    example = 'models."gpt-4o" = { input = 2.5, output = 10.0 } and date = "2026-06-21"'
    try:
        text = own_file.expanduser().read_text(encoding="utf-8") if own_file else packaged.read_text(encoding="utf-8")
        return _File.model_validate(tomllib.loads(text))
    except OSError as error:
        raise InputError(f"the price list {where} cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{where} is no price list in TOML: {error}") from None
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"]))
        raise InputError(f"{where}: {field}: {first['msg'].lower()}; a price list holds {example}") from None
