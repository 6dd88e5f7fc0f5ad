"""The losses: pure functions of log-probabilities, each with its source. No model, no batch, no state.

`logps` are summed over response tokens, in nats. Where policy and reference agree, every preference loss has a value
that is known beforehand: ln 2 (sigmoid), 1 / (4 beta^2) (IPO), 1 (APO-zero).
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid


class Rewards(NamedTuple):
    """Implicit rewards beta * log(pi / pi_ref) of both responses of each pair, [P] each."""

    chosen: Tensor
    rejected: Tensor

    @property
    def margin(self) -> Tensor:
        """Chosen reward minus rejected reward, [P]."""
        return self.chosen - self.rejected


def rewards(policy_logps: Tensor, reference_logps: Tensor, beta: float, num_tokens: Tensor | None = None) -> Rewards:
    """[P, 2] each (chosen, rejected) -> rewards in nats times beta; where `num_tokens` [P, 2] is given, nats a token.

    Rafailov et al. 2023, "Direct Preference Optimization", section 4. Per token: the length-normalised DPO of Lambert
    et al. 2024, "Tulu 3", whose beta is 5 where plain DPO's would be 0.1: a response has tens of tokens or more.
    """
    ratios = policy_logps - reference_logps  # [P, 2]
    if num_tokens is not None:
        ratios = ratios / num_tokens
    return Rewards(*(beta * ratios).unbind(1))


def sigmoid_dpo(rewards: Rewards, label_smoothing: float = 0.0) -> Tensor:
    """-(1 - e) log sigmoid(margin) - e log sigmoid(-margin), [P], where e is the chance that a pair is mislabelled.

    Rafailov et al. 2023, equation 7; e > 0: conservative DPO, Mitchell 2023, "A note on DPO with noisy preferences and
    relationship to IPO", whose margin goes to log((1 - e) / e) and not to infinity.
    """
    loss = -logsigmoid(rewards.margin)
    # log sigmoid(-m) = log sigmoid(m) - m
    return loss + label_smoothing * rewards.margin if label_smoothing else loss


def ipo(rewards: Rewards, beta: float) -> Tensor:
    """((margin - 1/2) / beta)^2, [P]: the margin goes to 1/2 and not to infinity.

    Azar et al. 2023, "A General Theoretical Paradigm to Understand Learning from Human Preferences", equation 17,
    (h - 1 / (2 tau))^2 with tau = beta and h = margin / beta. The paper's h is of whole responses; by TRL's account,
    what its authors ran is per token: `rewards` with `num_tokens`.
    """
    return ((rewards.margin - 0.5) / beta).square()


def apo_zero(rewards: Rewards) -> Tensor:
    """(1 - sigmoid(chosen reward)) + sigmoid(rejected reward), [P]: chosen up and rejected down, each by itself.

    D'Oosterlinck et al. 2024, "Anchored Preference Optimization and Contrastive Revisions", equation 7, plus 1.
    """
    return torch.sigmoid(-rewards.chosen) + torch.sigmoid(rewards.rejected)


def bradley_terry(chosen: Tensor, rejected: Tensor) -> Tensor:
    """-log sigmoid(chosen - rejected), [P], of the rewards of both responses of each pair, [P] each.

    Ouyang et al. 2022, "Training language models to follow instructions with human feedback", equation 1, of one pair:
    the likelihood of Bradley and Terry 1952, with rewards as log-strengths.
    """
    return -logsigmoid(chosen - rejected)


def nll_per_token(logps: Tensor, num_tokens: Tensor) -> Tensor:
    """Negative log-likelihood per response token, [P], nats a token.

    The anchor term of Pang et al. 2024, "Iterative Reasoning Preference Optimization", equation 2.
    """
    return -logps / num_tokens


def mean_nll(token_logps: Tensor, num_target_tokens: int) -> Tensor:
    """Cross-entropy summed over [N] targets and divided by the target tokens of the whole optimizer step, a scalar."""
    return -torch.sum(token_logps) / num_target_tokens
