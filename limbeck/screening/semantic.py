"""Prompts that mean nearly the same, by the cosine of their embeddings. Pure, given somebody who embeds.

Only prompts of one user turn are compared: of a longer conversation an encoder sees mostly the history, which
different questions share. Knows nothing of models: limbeck/lm/embedding.py does.
Start reading at: `Meanings`.
"""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from limbeck.records import PromptRow
from limbeck.screening.words import figures, prompt_words

Vectors = NDArray[np.float32]
Embedder = Callable[[Sequence[str]], Vectors]  # N texts -> [N, D], rows of length 1


def embedded_text(row: PromptRow) -> str | None:
    """What is embedded of a prompt: its one user turn; None for a longer conversation."""
    turns = [turn.content for turn in row.prompt if turn.role != "system"]
    return turns[0] if len(turns) == 1 else None


class Meanings:
    """An index of embedded texts that grows. `same_figures`: texts whose numbers differ are different texts."""

    def __init__(self, threshold: float, *, same_figures: bool) -> None:
        self._threshold, self._same_figures = threshold, same_figures
        self._vectors: Vectors = np.zeros((0, 0), dtype=np.float32)  # [room, D], of which `len(self._figures)` are used
        self._figures: list[tuple[str, ...]] = []

    def add(self, text: str, vector: Vectors) -> None:
        """Remember a text by its vector [D]."""
        used = len(self._figures)
        if used == len(self._vectors):
            grown = np.zeros((max(64, 2 * used), len(vector)), dtype=np.float32)
            grown[:used] = self._vectors[:used] if used else 0
            self._vectors = grown
        self._vectors[used] = vector
        self._figures.append(figures(prompt_words(text)))

    def found(self, text: str, vector: Vectors) -> bool:
        """Whether a text that is remembered means nearly the same."""
        used = len(self._figures)
        if not used:
            return False
        cosines = self._vectors[:used] @ vector  # [used]
        near = np.flatnonzero(cosines >= self._threshold).tolist()
        return bool(near) and (
            not self._same_figures or any(self._figures[place] == figures(prompt_words(text)) for place in near)
        )
