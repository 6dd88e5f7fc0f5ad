"""Which prompts a model was asked in a folder of evaluation: its manifest says by digest, the corpus beside it by text.

The id of a prompt is its place in a draw or in a file: what has one id in two evaluations may be two prompts.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from limbeck.errors import InputError
from limbeck.likeness import PromptIdentity, prompt_identity
from limbeck.manifest import read_manifest
from limbeck.records import PromptRow
from limbeck.round_folders import whole_run
from limbeck.store import digest_path, read_records
from limbeck.turns import conversation_of


class Place(NamedTuple):
    """What a conversation is in any evaluation; `copy` counts those of one file that are the same."""

    prompt: PromptIdentity
    follow_ups: tuple[str, ...]
    copy: int


class AskedPrompts(NamedTuple):
    """Conversations by id, None where their file is not at hand; the digest of that file, None where nobody noted it.

    `transfer`: ids of a run's transfer problems, which are no test prompts.
    """

    places: Mapping[str, Place] | None = None
    digest: str | None = None
    transfer: frozenset[str] = frozenset()

    def is_test(self, prompt_id: str) -> bool:
        """Whether a prompt is one to compare by."""
        return conversation_of(prompt_id) not in self.transfer


UNKNOWN_PROMPTS = AskedPrompts()


def asked_prompts(folder: Path) -> AskedPrompts:
    """Read what the model whose replies lie in `folder` was asked.

    Raises:
        InputError: where a run's transfer problems are no longer there, so that they cannot be told from its test.
    """
    manifest = read_manifest(folder)
    digests = {} if manifest is None else manifest.inputs
    test, transfer = (_rows(folder, digests.get(name)) for name in ("test", "transfer"))
    if "transfer" in digests and transfer is None:
        raise InputError(f"{folder}: the corpus was made anew since this model was asked, and its transfer problems "
                         "can no longer be told from its test; `limbeck run` asks it anew")  # fmt: skip
    places = None if test is None else dict(_places(test))
    return AskedPrompts(places, digests.get("test"), frozenset(row.id for row in transfer or ()))


def _rows(folder: Path, digest: str | None) -> list[PromptRow] | None:
    """The prompts of the file that has this digest, where the corpus of a run or of a command still holds it."""
    out = folder.resolve().parent.parent
    for corpus in (out / "corpus", whole_run(out) / "corpus"):
        for file in sorted(corpus.glob("*.jsonl")) if digest is not None else ():
            if digest_path(file) == digest:
                return list(read_records(file, PromptRow))
    return None


def _places(rows: Iterable[PromptRow]) -> Iterable[tuple[str, Place]]:
    seen: Counter[tuple[PromptIdentity, tuple[str, ...]]] = Counter()
    for row in rows:
        prompt, follow_ups = prompt_identity(row), row.follow_ups
        yield row.id, Place(prompt, follow_ups, seen[prompt, follow_ups])
        seen[prompt, follow_ups] += 1
