"""Which settings of TRL are tried to find its best, and which are not, with the reason. Read in the sources of 1.16."""

from benchmarks.compare import COMPILE_SECONDS, Change
from benchmarks.contract import TrlSettings

AS_IT_COMES_SETTINGS = TrlSettings()


def starts(precompute_reference: bool, packed_to: int | None = None) -> list[TrlSettings]:
    """The three precisions that a CPU can train in."""
    common = {"precompute_reference": precompute_reference, "packed_to": packed_to}
    settings: list[dict[str, object]] = [
        {"weights": "fp32", "autocast_bf16": True},
        {"weights": "fp32", "autocast_bf16": False},
        {"weights": "bf16", "autocast_bf16": False},
    ]
    return [TrlSettings.model_validate(common | chosen) for chosen in settings]


def changes(batch: int, compiled: bool) -> list[Change]:
    """What is tried on top of the fastest precision. `batch`: rows a step."""
    halves = [batch // 2**k for k in range(1, batch.bit_length()) if batch // 2**k >= 1]
    found = [Change({"attention": "eager"}), *(Change({"micro_batch": half}) for half in halves)]
    if compiled:
        found.append(Change({"compile": True}, COMPILE_SECONDS))
    return found


NOT_TRIED = {
    "padding_free (DPO)": "DPOConfig takes it, warns that it is temporarily unavailable, and pads all the same",
    "padding_free (SFT, without packing)": "what packing switches on by itself; it is measured as packing",
    "use_liger_kernel": "Liger's kernels are Triton's, which has no CPU backend here; TRL takes only its layer kernels "
    "and computes the head itself",
    "attn_implementation flash_attention_2": "needs CUDA",
    "gradient checkpointing": "on by default; switched off for every contender, since it recomputes to save memory",
    "PEFT adapters": "train other weights: no comparison",
}
