"""Guided decoding: at every step only the tokens that can still become a reply of a JSON schema.

llguidance, an extra, holds the grammar: one state a sample, and for all samples of a step one call that fills in a bit
a token. Keys stand in the schema's order, with `, ` and `: ` between them and no other white space: no model can go on
with line breaks for ever. Knows nothing of which token is then chosen (choosing.py).
"""

import importlib.util
import json
from collections.abc import Sequence
from typing import Any, Protocol
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from transformers import PreTrainedTokenizerFast

from limbeck.errors import ModelError
from limbeck.lm.load import LanguageModel

MISSING = "a reply that keeps to a schema needs the library 'llguidance': pip install 'limbeck[local]'"
_BITS = 32  # tokens a number of the mask
_ALL = -1  # int32 with every bit set
_FORM = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}


class Grammar(Protocol):
    """Where one sample stands in its grammar (llguidance's LLMatcher)."""

    def consume_token(self, sampled_token: int, /) -> bool:
        """Go on by a token; False where the grammar does not allow it."""

    def get_error(self) -> str:
        """What went wrong, or nothing."""


class Guide:
    """Grammars over the vocabulary of one model. Once a reply is whole, only `stops` are allowed.

    Raises:
        ModelError: without llguidance, or where it cannot read the tokenizer.
    """

    def __init__(self, tokenizer: object, vocabulary: int, stops: frozenset[int], name: str) -> None:
        if not installed():
            raise ModelError(MISSING)
        import llguidance
        import llguidance.hf

        if not isinstance(tokenizer, PreTrainedTokenizerFast):
            raise ModelError(f"{name} has no fast tokenizer (tokenizer.json), so its replies cannot keep to a schema")
        try:
            self._tokens = llguidance.hf.from_tokenizer(tokenizer, n_vocab=vocabulary, eos_token=sorted(stops))
        except ValueError as error:
            raise ModelError(f"replies of {name} cannot keep to a schema: {error}") from error
        self._name = name
        self._words = -(-vocabulary // _BITS)
        self._executor = llguidance.LLExecutor()
        self._compiled: dict[str, Any] = {}

    def begin(self, schema: str) -> Grammar:
        """A sample's state at the beginning of a reply to `schema`, JSON.

        Raises:
            ModelError: where the schema asks for what no grammar can say.
        """
        if schema not in self._compiled:
            from llguidance import LLMatcher

            grammar = LLMatcher.grammar_from_json_schema(json.loads(schema), overrides=_FORM)
            self._compiled[schema] = LLMatcher(self._tokens, grammar, log_level=0)
        compiled = self._compiled[schema]
        if compiled.is_error():
            raise ModelError(f"the schema {schema} cannot guide replies of {self._name}: {compiled.get_error()}")
        begun: Grammar = compiled.deep_copy()
        return begun

    def allowed(self, grammars: Sequence[Grammar | None]) -> Tensor:
        """A bit a token, [R, V / 32] int32 on the CPU, the lowest bit the first token; all set without a grammar."""
        bits = torch.full((len(grammars), self._words), _ALL, dtype=torch.int32)
        states = [(grammar, row) for row, grammar in enumerate(grammars) if grammar is not None]
        self._executor.unsafe_compute_mask_ptr(states, bits.data_ptr(), self._words * 4, len(grammars))
        return bits


_guides: WeakKeyDictionary[nn.Module, dict[frozenset[int], Guide]] = WeakKeyDictionary()


def installed() -> bool:
    """Whether llguidance is there."""
    return importlib.util.find_spec("llguidance") is not None


def guide_for(model: LanguageModel) -> Guide:
    """The guide of a model, made once: reading a vocabulary takes about half a second."""
    stops = model.chat.stop_tokens
    known = _guides.setdefault(model.network, {})
    if stops not in known:
        known[stops] = Guide(model.chat.tokenizer, model.head.out_features, stops, model.name)
    return known[stops]
