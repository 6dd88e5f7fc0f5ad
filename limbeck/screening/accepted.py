"""Screening as pairs come in: the rules of one pair, then its likeness to what was accepted before it.

Near-duplicates are sought in the evaluation, and among the prompts of one kind that a teacher wrote. Human prompts may
resemble each other, in whatever kind of pair they stand; problems have fixed wording, so among each other they are
compared by content alone.
Start reading at: `Screening.judge`.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from limbeck.likeness import EvaluationPrompts, PromptIdentity, is_worded, prompt_identity
from limbeck.recipe.pairs import Screen
from limbeck.records import Pair, PromptRow
from limbeck.screening.echoes import TemplateEcho
from limbeck.screening.near_duplicates import Fingerprint, NearDuplicates, fingerprint
from limbeck.screening.rules import reason_to_drop
from limbeck.screening.semantic import Embedder, Meanings, Vectors, embedded_text
from limbeck.screening.verifier import Solves, exchanged
from limbeck.screening.words import prompt_words

PROMPTS_WRITTEN = frozenset({"few_shot", "rolling"})  # by a teacher; other kinds stand on human or task prompts

_STEM_LETTERS = 3  # of a content's word that may begin a longer word of the text: "wasp" in "wasps"


class Judged(NamedTuple):
    """A pair as it should be trained on, the reason to drop it or None, and whether its answers were exchanged here."""

    pair: Pair
    reason: str | None
    swapped: bool


class HeldOut:
    """The evaluation in the forms that near-duplicates are sought by; made once, for all kinds of pair."""

    def __init__(self, exact: EvaluationPrompts, rules: Screen, embedder: Embedder | None = None) -> None:
        self.exact = exact
        # In a long prompt a number exchanged makes another exercise, but still gives the test away.
        self.words = NearDuplicates(rules.max_prompt_similarity, same_figures=False)
        self.words.extend(map(fingerprint, exact.free_text))
        # Problems share their wording by design, so figures decide, and what makes each the one it is.
        self._problems = NearDuplicates(rules.max_prompt_similarity, same_figures=True)
        self._problems.extend(map(fingerprint, exact.problems))
        self._contents = list(map(_content_words, exact.problems))
        self.meanings = Meanings(rules.max_prompt_cosine, same_figures=False)
        texts = [text for text in map(embedded_text, exact.free_text) if text is not None]
        if embedder is not None and texts:
            for text, vector in zip(texts, embedder(texts), strict=True):
                self.meanings.add(text, vector)

    def nearly_a_problem(self, shape: Fingerprint) -> bool:
        """Whether a free text is nearly the text of a held-out problem, with that one's figures and content."""
        said = {word for shingle in shape.whole for word in shingle}
        return any(self._contents[place] <= said for place in self._problems.near(shape))


class Screening:
    """Judges pairs of one kind one after another, and remembers the prompts of those it accepted.

    `embedder`: without one, prompts are compared by words only. `templates`: texts the teacher was instructed by.
    """

    def __init__(
        self,
        rules: Screen,
        held_out: HeldOut,
        solves: Solves,
        embedder: Embedder | None = None,
        templates: Sequence[str] = (),
    ) -> None:
        self._rules, self._solves, self._embedder = rules, solves, embedder
        self._held_out = held_out
        self._template_echo = TemplateEcho(templates)
        self._identities: set[PromptIdentity] = set()
        self._words = NearDuplicates(rules.max_prompt_similarity, same_figures=True)
        self._meanings = Meanings(rules.max_prompt_cosine, same_figures=True)
        self._vectors: dict[str, Vectors] = {}

    def reason(self, pair: Pair) -> str | None:
        """Return the reason to drop `pair`, or None; then it counts as accepted, and later ones must differ from it."""
        return self.judge(pair).reason

    def judge(self, pair: Pair) -> Judged:
        """Do what `reason` does, and return the pair as it should be trained on."""
        other = exchanged(pair, self._solves) if self._rules.on_verifier_disagreement == "swap" else None
        pair = other or pair
        reason = reason_to_drop(pair, self._held_out.exact, self._rules, self._solves, self._template_echo)
        return Judged(pair, reason or self._like_another(pair), swapped=other is not None)

    def prepare(self, pairs: Iterable[Pair]) -> None:
        """Embed the prompts of pairs that will be judged, together, which is many times faster than one by one."""
        if self._embedder is None:
            return
        texts = {text for pair in pairs if (text := _compared_text(pair)) is not None} - self._vectors.keys()
        listed = sorted(texts)
        if listed:
            self._vectors |= zip(listed, self._embedder(listed), strict=True)

    def _like_another(self, pair: Pair) -> str | None:
        identity = prompt_identity(pair)
        if identity in self._identities:
            return "duplicate prompt"
        if not is_worded(pair):
            self._identities.add(identity)
            return None
        shape = fingerprint(pair)
        reason = self._alike_in_words(pair, shape) or self._alike_in_meaning(pair)
        if reason is None:
            self._accept(pair, identity, shape)
        return reason

    def _alike_in_words(self, pair: Pair, shape: Fingerprint) -> str | None:
        if self._held_out.words.found(shape):
            return "overlap with evaluation: nearly the same words"
        if self._held_out.nearly_a_problem(shape):
            return "overlap with evaluation: nearly the same problem"
        return "near-duplicate prompt: words" if _is_written(pair) and self._words.found(shape) else None

    def _alike_in_meaning(self, pair: Pair) -> str | None:
        text, vector = self._embedded(pair)
        if text is None or vector is None:
            return None
        if self._held_out.meanings.found(text, vector):
            return "overlap with evaluation: nearly the same meaning"
        if _is_written(pair) and self._meanings.found(text, vector):
            return "near-duplicate prompt: meaning"
        return None

    def _accept(self, pair: Pair, identity: PromptIdentity, shape: Fingerprint) -> None:
        self._identities.add(identity)
        if _is_written(pair):
            self._words.add(shape)
            text, vector = self._embedded(pair)
            if text is not None and vector is not None:
                self._meanings.add(text, vector)

    def _embedded(self, pair: Pair) -> "_Embedded":
        text = _compared_text(pair)
        if text is None or self._embedder is None:
            return _Embedded(None, None)
        if text not in self._vectors:
            self.prepare([pair])
        return _Embedded(text, self._vectors[text])


class _Embedded(NamedTuple):
    text: str | None
    vector: Vectors | None


def _is_written(pair: Pair) -> bool:
    return pair.source in PROMPTS_WRITTEN


def _content_words(row: PromptRow) -> frozenset[str]:
    """The words of a problem's content that its text says, plurals too: `pilot` of "Spell this word: pilot"."""
    content = prompt_words(row.problem.content if row.problem is not None else "")
    stems = tuple(word for word in content if len(word) >= _STEM_LETTERS)
    return frozenset(
        word for word in prompt_words(row.prompt[-1].content) if word in content or (stems and word.startswith(stems))
    )


def _compared_text(pair: Pair) -> str | None:
    return embedded_text(pair) if is_worded(pair) else None
