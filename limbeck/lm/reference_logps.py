"""Log-probabilities of pairs under the reference: computed once, by the path that the policy takes, and kept.

A pair's key is a digest of everything that decides its numbers: the reference's weights, how they are computed with,
and the pair's token ids. So arms, rounds, sweeps and other run folders find what one of them computed, and whatever
changes is computed again. How the ids came about (tokenizer, chat template) needs no place in the key: a network sees
ids only.
Knows nothing of losses.
"""

import functools
import hashlib
import importlib.metadata
import math
import struct
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import Field

from limbeck.console import clock, meter, say
from limbeck.errors import TrainingError
from limbeck.lm import attention
from limbeck.lm.free_memory import is_out_of_memory
from limbeck.lm.load import LanguageModel
from limbeck.lm.logps_cache import LogpsCache, PairLogps
from limbeck.lm.memory import memory_told
from limbeck.lm.names import model_folder
from limbeck.lm.objectives import pair_logps
from limbeck.lm.packing import Item, under_budget
from limbeck.recipe.training import USUAL_TOKENS
from limbeck.records import Record
from limbeck.store import RecordStream, digest_json, digest_path, read_json, write_records

# What decides the numbers of a network that `from_pretrained` opens; not tokenizer, model card or generation config.
_DECISIVE = ("*.safetensors", "*.bin", "*.index.json", "config.json", "adapter_config.json")


class ReferenceLogps(Record):
    """Log-probabilities of one pair under the reference, in nats, summed over the response tokens that count.

    `key`: what they were computed from (see `pair_key`), in hexadecimal; a line with another key is not believed.
    """

    pair_id: str
    chosen_logps: float
    rejected_logps: float
    key: str = Field("", pattern=r"^([0-9a-f]{64})?$")


@dataclass(frozen=True)
class Reference:
    """The model to stay near: its folder, how it computes, and how to get it (called only where a pair is missing)."""

    folder: Path
    device: torch.device
    dtype: torch.dtype
    load: Callable[[], LanguageModel]


@dataclass(frozen=True)
class Computation:
    """All but the token ids that decides a log-probability. Any change of a field is another key."""

    weights: str  # digest of their content
    dtype: str
    device: str
    matmul_precision: str  # fp32 products may be cut to TF32
    attention: str
    code: str  # digest of this package's source, so that nobody has to remember to raise a number
    versions: tuple[tuple[str, str], ...]

    @property
    def digest(self) -> bytes:
        """32 bytes that stand for all fields."""
        return bytes.fromhex(digest_json(vars(self)))


@dataclass(frozen=True)
class Scored:
    """`logps`: (chosen, rejected) in nats, by pair id. `facts`: where they came from, for the manifest."""

    logps: dict[str, PairLogps]
    facts: dict[str, Any]


def computation(reference: Reference) -> Computation:
    """How `reference` would compute here and now."""
    return computation_of(reference.folder, reference.device, reference.dtype)


def computation_of(folder: Path, device: torch.device, dtype: torch.dtype) -> Computation:
    """How the model in `folder` would compute here and now."""
    versions = {"limbeck": importlib.metadata.version("limbeck"), "torch": str(torch.__version__)}
    versions["transformers"] = importlib.metadata.version("transformers")
    return Computation(
        weights=weights_digest(folder),
        dtype=str(dtype),
        device=device.type,
        matmul_precision=torch.get_float32_matmul_precision(),
        attention=attention.NAME,
        code=_code_digest(),
        versions=tuple(versions.items()),
    )


def weights_digest(folder: Path) -> str:
    """Digest of a model's weights and configuration by their content, wherever the folder lies.

    A folder with an adapter names the folder of its base, whose weights count too.
    """
    files = sorted({file for pattern in _DECISIVE for file in folder.glob(pattern) if file.is_file()})
    parts = [[file.name, digest_path(file)] for file in files]
    adapter = folder / "adapter_config.json"
    if adapter.is_file():
        base = read_json(adapter).get("base_model_name_or_path")
        parts.append(["base", weights_digest(model_folder(str(base)))])
    return digest_json(parts)


@functools.cache
def _code_digest() -> str:
    return digest_json([[file.name, digest_path(file)] for file in sorted(Path(__file__).parent.glob("*.py"))])


def pair_key(computed: bytes, item: Item) -> bytes:
    """SHA-256 of a computation's digest and a pair's ids: prompt, chosen, rejected, each preceded by its length; and
    which parts count, where not all tokens do.
    """
    total = hashlib.sha256(computed)
    for ids in (item.prompt, *item.responses, *(item.counted or ())):
        total.update(struct.pack(f"<{1 + len(ids)}q", len(ids), *ids))
    return total.digest()


def reference_logps(
    reference: Reference,
    items: Sequence[Item],
    max_tokens: int,
    path: Path,
    cache_path: Path,
    label: str,
    *,
    role: str = "reference",
) -> Scored:
    """Log-probabilities of all pairs under the reference, before the policy moves.

    `path`, the run's own file, is filled as rows are computed, so that an interruption keeps what is done; on return it
    holds every pair in the items' order, and a resumed run reads that alone. `cache_path` is shared by all runs. Values
    that another run computed differ from one's own by rounding (different pairs shared a row), by no more. `role`: what
    messages call the model, which need not be a reference.

    Raises:
        TrainingError: where the reference gives a pair a log-probability that is not finite.
    """
    started = time.monotonic()
    computed = computation(reference).digest
    keys = {item.id: pair_key(computed, item) for item in items}
    pairs = {keys[item.id]: item for item in items}  # two pairs of the same ids are computed once
    with RecordStream(path, ReferenceLogps) as stream, LogpsCache(cache_path) as cache:
        own = {key: values for key, values in map(_entry, stream.done) if key in pairs}
        cache.put(own)
        cached = cache.get([key for key in pairs if key not in own])
        found = own | cached
        missing = [item for key, item in pairs.items() if key not in found]
        for row in _computed_rows(reference, missing, max_tokens, label, role):
            values = {keys[id_]: pair for id_, pair in row.items()}
            cache.put(values)  # before the run's own file: what a resumed run knows, other runs know too
            for id_, pair in row.items():
                stream.append(_record(id_, keys[id_], pair))
            found |= values
        facts: dict[str, Any] = {"computed": len(missing), "from_cache": len(cached), "resumed": len(own)}
        facts |= {"damaged_in_cache": cache.num_damaged, "cache_problem": cache.problem}
    facts["tokens"] = sum(item.num_tokens for item in missing)
    facts["seconds"] = round(time.monotonic() - started, 2)
    write_records(path, (_record(item.id, keys[item.id], found[keys[item.id]]) for item in items))
    _tell(f"{label}: {role}", facts)
    return Scored({item.id: found[keys[item.id]] for item in items}, facts)


def _computed_rows(
    reference: Reference, missing: Sequence[Item], max_tokens: int, label: str, role: str
) -> Iterator[dict[str, PairLogps]]:
    """Yield one packed row's log-probabilities after the other, by pair id."""
    if not missing:
        return
    model = reference.load()
    # The longest first: what does not fit into memory says so at once. By content, not by id or place: the same pairs
    # share the same rows in every run, and so get the same last bits.
    ordered = sorted(missing, key=lambda item: (-item.num_tokens, item.prompt, item.responses))
    started, tokens = time.monotonic(), 0
    with (
        meter(f"{label}: {role}", sum(item.num_tokens for item in ordered), "tokens") as bar,
        memory_told(f"{label}: {role}", model.device, "a lower micro_batch_tokens"),
    ):
        for items, values in _by_rows(model, ordered, max_tokens):
            _refuse_non_finite(values, label, role)
            yield values
            now = sum(item.num_tokens for item in items)
            tokens += now
            bar.advance(now, f"{tokens / (time.monotonic() - started + 1e-9):.0f} tok/s")


def _by_rows(
    model: LanguageModel, ordered: Sequence[Item], max_tokens: int
) -> Iterator[tuple[Sequence[Item], dict[str, PairLogps]]]:
    """Score row after row, in narrower ones where memory runs out, down to those that are usual."""
    done = 0
    while done < len(ordered):
        try:
            for items in under_budget(ordered[done:], max_tokens):
                values = pair_logps(model, items, max_tokens)  # one transfer from the device a row, to keep it
                done += len(items)
                yield items, values
        except RuntimeError as error:
            if not is_out_of_memory(error) or max_tokens <= USUAL_TOKENS:
                raise
            max_tokens = max(max_tokens // 2, USUAL_TOKENS)


def _refuse_non_finite(values: Mapping[str, PairLogps], label: str, role: str) -> None:
    for id_, pair in values.items():
        if not all(map(math.isfinite, pair)):
            raise TrainingError(
                f"{label}: the {role} gives the pair {id_!r} log-probabilities of {pair[0]} (chosen) and {pair[1]} "
                '(rejected); nothing can be learnt from these; model.dtype = "fp32" usually cures it'
            )


def _entry(record: ReferenceLogps) -> tuple[bytes, PairLogps]:
    return bytes.fromhex(record.key), (record.chosen_logps, record.rejected_logps)


def _record(pair_id: str, key: bytes, values: PairLogps) -> ReferenceLogps:
    return ReferenceLogps(pair_id=pair_id, chosen_logps=values[0], rejected_logps=values[1], key=key.hex())


def _tell(label: str, facts: Mapping[str, Any]) -> None:
    resumed = f", {facts['resumed']} from before the interruption" if facts["resumed"] else ""
    damaged = f" ({facts['damaged_in_cache']} there were damaged)" if facts["damaged_in_cache"] else ""
    say(
        f"  {label}: {facts['computed']} pairs computed{resumed}, {facts['from_cache']} from the cache"
        f"{damaged}, in {clock(facts['seconds'])}"
    )
