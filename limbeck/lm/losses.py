"""The losses: pure functions of log-probabilities, each with its source. No model, no batch, no state.

`logps` are summed over response tokens, in nats.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid


class DpoTerms(NamedTuple):
    """Per pair, [P] each: the loss, and the implicit rewards of both responses, in nats times beta."""

    loss: Tensor
    chosen_reward: Tensor
    rejected_reward: Tensor

    @property
    def margin(self) -> Tensor:
        """Chosen reward minus rejected reward, [P]."""
        return self.chosen_reward - self.rejected_reward


def sigmoid_dpo(
    policy_chosen_logps: Tensor,
    policy_rejected_logps: Tensor,
    reference_chosen_logps: Tensor,
    reference_rejected_logps: Tensor,
    beta: float,
) -> DpoTerms:
    """-log sigmoid(beta * ((log pi/pi_ref)(chosen) - (log pi/pi_ref)(rejected))), [P] each.

    Rafailov et al. 2023, "Direct Preference Optimization", equation 7; ln 2 where policy and reference agree.
    """
    chosen = beta * (policy_chosen_logps - reference_chosen_logps)
    rejected = beta * (policy_rejected_logps - reference_rejected_logps)
    return DpoTerms(-logsigmoid(chosen - rejected), chosen, rejected)


def nll_per_token(logps: Tensor, num_tokens: Tensor) -> Tensor:
    """Negative log-likelihood per response token, [P], nats a token.

    The anchor term of Pang et al. 2024, "Iterative Reasoning Preference Optimization", equation 2.
    """
    return -logps / num_tokens


def mean_nll(token_logps: Tensor, num_target_tokens: int) -> Tensor:
    """Cross-entropy summed over [N] targets and divided by the target tokens of the whole optimizer step, a scalar."""
    return -torch.sum(token_logps) / num_target_tokens
