"""Rounding fp32 to bf16 by chance, so that what is too small for the nearest value is kept on average.

bf16 has 8 bits of precision: a weight near 1 that has learnt 0.001 is 1 again once rounded to the nearest. Rounded up
in 13 cases of 100, many such weights have learnt 0.001 together.
"""

import torch
from torch import Tensor

_KEPT = -(1 << 16)  # the upper 16 bits of an fp32 number are a bf16 number


def stochastic_bf16(values: Tensor, generator: torch.Generator) -> Tensor:
    """Round fp32 `values` to one of the two bf16 numbers around each, the nearer the likelier: the mean is exact.

    Gupta et al. 2015, "Deep Learning with Limited Numerical Precision", section 2.1. What bf16 can hold stays as it is.
    `generator` is the CPU's, so that every device rounds alike.
    """
    noise = torch.randint(0, 1 << 16, values.shape, dtype=torch.int32, generator=generator).to(values.device)
    return (values.view(torch.int32) + noise).bitwise_and_(_KEPT).view(torch.float32).bfloat16()
