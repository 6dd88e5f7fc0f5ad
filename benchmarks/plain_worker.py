"""The slow, obvious form: one sequence at a time under transformers' own attention, log-softmax over the vocabulary."""

import sys
from collections.abc import Sequence
from typing import Any

import torch
from transformers import AutoModelForCausalLM

from benchmarks.contract import Job, Outcome, read_job, read_rows, report


def logps(job: Job) -> Outcome:
    """Summed log-probability of every response, in nats."""
    dtype = torch.bfloat16 if job.dtype == "bf16" else torch.float32
    network: Any = AutoModelForCausalLM.from_pretrained(job.model, dtype=dtype)
    network.to(job.device).eval()
    rows = read_rows(job.rows).timed
    found: dict[str, list[float]] = {}
    for row in rows:
        found[row.id] = [_logps_of(network, row.prompt, response, job.device) for response in row.responses]
    return Outcome(rows=len(rows), facts={"logps": found})


@torch.no_grad()
def _logps_of(network: Any, prompt: list[int], response: list[int], device: str) -> float:
    ids = torch.tensor([prompt + response], device=device)  # [1, T]
    logits = network(input_ids=ids, use_cache=False).logits[0].float()  # [T, V]
    everywhere = logits.log_softmax(-1)[:-1].gather(1, ids[0, 1:, None])[:, 0]  # [T - 1]
    return float(everywhere[len(prompt) - 1 :].sum())


def main(arguments: Sequence[str]) -> None:
    """Do the job and print its outcome."""
    report(logps(read_job(arguments)))


if __name__ == "__main__":
    main(sys.argv[1:])
