"""What an audit of pairs found: the record that the audit stage writes and the report reads."""

from typing import Literal

from limbeck.records import Estimate, Record
from limbeck.records.alarms import Alarm


class Lengths(Record):
    """Mean lengths of one side of the pairs."""

    characters: float
    words: float


class Variety(Record):
    """How varied texts are among each other, from `num_texts` of them. What does not exist is None (no two words)."""

    num_texts: int
    distinct_1: float | None
    distinct_2: float | None
    distinct_3: float | None
    self_bleu: float | None
    vendi: float | None


class Shortcut(Record):
    """How well chosen can be told from rejected by their surface, on prompts not seen: areas under the ROC curve.

    `telling_chosen`, `telling_rejected`: the words that add most to the mean score of a pair (weight times mean
    difference, chosen minus rejected), of those that the chosen or the rejected have more of.
    """

    num_pairs: int
    words_auc: Estimate
    length_auc: Estimate
    telling_chosen: tuple[str, ...]
    telling_rejected: tuple[str, ...]

    def telling(self) -> list[str]:
        """The telling words as text, one line a side that has some."""
        sides = (("chosen", self.telling_chosen), ("rejected", self.telling_rejected))
        return [f"{side}: {' '.join(map(_quoted, words))}" for side, words in sides if words]


def _quoted(word: str) -> str:
    return "line break" if word == "\n" else f"‘{word}’"


class PromptCoverage(Record):
    """How the prompts spread over the clusters of `anchor` prompts, and how as many held-back ones of those do.

    `vendi`, `vendi_of_anchor`: Vendi scores of `num_vendi` prompts of each. `num_shared` prompts were not compared:
    they are among the anchor's.
    """

    anchor: str
    num_clusters: int
    num_compared: int
    reached: float
    reached_by_anchor: float
    effective: float
    effective_of_anchor: float
    far: float
    num_vendi: int
    vendi: float
    vendi_of_anchor: float
    num_shared: int = 0


class PairsAudit(Record):
    """One set of pairs: a kind, or an arm's mixture. `num_sampled` of `num_pairs` were looked at closely.

    `longer_is_chosen`: share among the pairs whose sides differ in characters; None where none does.
    `not_measured`: what could not be measured, and why.
    """

    name: str
    of: Literal["kind", "arm"]
    num_pairs: int
    num_sampled: int
    chosen_length: Lengths
    rejected_length: Lengths
    longer_is_chosen: Estimate | None
    prompts: Variety
    chosen: Variety
    rejected: Variety
    shortcut: Shortcut | None
    coverage: PromptCoverage | None
    not_measured: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """What sentences and tables call it."""
        return f"arm {self.name}" if self.of == "arm" else self.name


class Audit(Record):
    """All sets of a run, in the order of its kinds and then its arms, and the alarms that they raise."""

    audits: tuple[PairsAudit, ...]
    alarms: tuple[Alarm, ...]
