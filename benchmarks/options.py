"""What the command line decides."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from benchmarks.results import RESULTS, ROOT

QUICK_RESULTS = RESULTS.with_name("results.quick.json")


@dataclass(frozen=True)
class Options:
    """Sizes of a run. `trial_rows`: rows of one trial of TRL's settings; `trial_prompts`: of others' samplers.

    `vllm_python`: the interpreter of the environment that vLLM is installed in; without one, vLLM is left out.
    `openai_python`: the same of the `openai` package.
    """

    model: str = "smollm2-135m"
    data: Path = ROOT.parent / "shared" / "data" / "alpaca_en_demo.json"
    results: Path = RESULTS
    pairs: int = 64
    epochs: int = 2
    repeats: int = 3
    sft_rows: int = 128
    trial_rows: int = 8
    seed: int = 1
    prompts: int = 512
    max_new_tokens: int = 200
    slots: int = 96
    trial_prompts: int = 128
    sampling_repeats: int = 1  # long on a small machine: every contender writes all replies
    device: Literal["cpu", "cuda"] = "cpu"  # for sampling
    vllm_python: Path | None = None
    requests: int = 10_000  # to a teacher's server
    in_flight: int = 256
    openai_python: Path | None = None
    quick: bool = False
    tiny: bool = False  # sizes for tests: seconds, and figures that mean nothing


# The same in several minutes: less of everything, and a file of its own.
QUICK = Options(
    results=QUICK_RESULTS, pairs=8, epochs=1, repeats=1, sft_rows=16, trial_rows=4, quick=True, prompts=24,
    max_new_tokens=24, slots=8, trial_prompts=8, requests=500, in_flight=64,
)  # fmt: skip
