"""Training a reward head: the loss by hand and the slow way, one gradient for every micro-batch, resuming, saving."""

import math
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from tiny_models import CHATML, IM_END, tiny_classifier, tiny_encoder, tiny_folder, tiny_tokenizer
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from limbeck.errors import ModelError
from limbeck.lm.losses import bradley_terry
from limbeck.lm.memory import probe_item
from limbeck.lm.packing import Item, pack
from limbeck.lm.reward_head import with_reward_head
from limbeck.lm.reward_model import RewardModel, load_reward_model
from limbeck.lm.reward_objective import SAME, RewardObjective, reward_items
from limbeck.lm.rewards import alone, compared, packed_rewards, sequence_rewards
from limbeck.lm.train import METRICS, Trainer, Values
from limbeck.recipe.verdict import Reward
from limbeck.records import Metric, Pair, user_prompt
from limbeck.store import read_records

CPU = torch.device("cpu")
SETTINGS = Reward(
    learning_rate=3e-3, batch_size=3, epochs=3, warmup_steps=2, micro_batch_tokens=80, checkpoint_every_minutes=1e-9
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_folder(tmp_path_factory.mktemp("base"), "qwen2")


def model_of(folder: Path, dtype: torch.dtype = torch.float32, seed: int = 1) -> RewardModel:
    return with_reward_head(str(folder), CPU, dtype, seed)


def pairs() -> list[Pair]:
    """Ragged pairs of two sources; of one, the rejected response begins with the whole chosen one."""
    said = [("Five.", "Six, I think."), ("Yes", "Yes, yes, yes!"), ("a b" * 40, "b"), ("No.", "Maybe not."), ("1", "2")]
    return [
        Pair(
            id=str(n),
            prompt=user_prompt(f"What is {n}{'?' * n}"),
            source="human" if n % 2 else "made",
            chosen=chosen,
            rejected=rejected,
        )
        for n, (chosen, rejected) in enumerate(said)
    ]


def items_of(model: RewardModel) -> list[Item]:
    return reward_items(model.conversations, pairs(), 1000).items


def objective_of(model: RewardModel, settings: Reward = SETTINGS) -> RewardObjective:
    items = items_of(model)
    return RewardObjective(items, items[:2], settings, seed=5)


def slow_rewards(model: RewardModel) -> torch.Tensor:
    """[P, 2]: each conversation alone, templated anew, its last state times the head."""
    found = []
    for pair in pairs():
        for text in (pair.chosen, pair.rejected):
            row = pack([alone("", model.conversations.ids(pair.prompt, text))], CPU)
            states = model.hidden(row.input_ids, row.position_ids, row.layout)
            found.append((states[-1] * model.head.weight[0]).sum())
    return torch.stack(found).view(-1, 2)


def test_the_loss_by_hand() -> None:
    loss = bradley_terry(torch.tensor([2.0, 0.0, -3.0]), torch.tensor([1.0, 0.0, 1.0]))
    assert loss.tolist() == pytest.approx([math.log1p(math.exp(-1)), math.log(2), math.log1p(math.exp(4))], abs=1e-6)


@pytest.mark.parametrize("budget", [1, 70, 100_000])
def test_pairs_that_share_their_beginning_score_as_each_conversation_alone(folder: Path, budget: int) -> None:
    model = model_of(folder)
    found = packed_rewards(model, items_of(model), budget)
    assert found == pytest.approx(slow_rewards(model).flatten().tolist(), abs=1e-4)


@pytest.mark.parametrize("budget", [1, 70, 100_000])
def test_the_loss_divides_by_the_pairs_of_the_step_for_any_micro_batch(folder: Path, budget: int) -> None:
    model = model_of(folder)
    objective = objective_of(model, SETTINGS.model_copy(update={"micro_batch_tokens": budget}))
    total, sums = 0.0, dict[str, float]()
    for part in objective.losses(model, items_of(model)):
        part.loss.backward()
        total += float(part.sums["loss"].detach())
        sums = {name: sums.get(name, 0.0) + float(value.detach()) for name, value in part.sums.items()} | {
            name: value for name, value in sums.items() if name not in part.sums
        }
    got = {name: p.grad.clone() for name, p in model.network.named_parameters() if p.grad is not None}
    model.network.zero_grad()
    rewards = slow_rewards(model)
    margin = rewards[:, 0] - rewards[:, 1]
    slow = torch.log1p(torch.exp(-margin)).mean()
    slow.backward()
    assert total == pytest.approx(slow.item(), abs=1e-5)
    assert sums["margin"] == pytest.approx(margin.mean().item(), abs=1e-4)
    assert sums["accuracy"] == pytest.approx((margin > 0).float().mean().item())
    assert sums["reward"] == pytest.approx(rewards.mean().item(), abs=1e-4)
    assert sums["margin/human"] == pytest.approx(margin[1::2].mean().item(), abs=1e-4)
    for name, parameter in model.network.named_parameters():
        if parameter.grad is not None:
            scale = float(parameter.grad.abs().max())
            torch.testing.assert_close(got[name], parameter.grad, atol=1e-4 * scale, rtol=1e-3, msg=name)


def test_validation_is_the_mean_over_the_held_out_pairs(folder: Path) -> None:
    model = model_of(folder)
    values = objective_of(model).validate(model)
    with torch.no_grad():
        rewards = slow_rewards(model)[:2]
    loss = torch.log1p(torch.exp(rewards[:, 1] - rewards[:, 0]))
    assert values["loss"] == pytest.approx(loss.mean().item(), abs=1e-4)
    assert values["loss/made"] == pytest.approx(loss[0].item(), abs=1e-4)


def test_two_conversations_that_are_the_same_are_no_pair() -> None:
    assert compared("x", (1, 2, 3), (1, 2, 3), "human") is None
    assert compared("x", (1, 2), (4, 2), "human") is None
    prefix = compared("x", (1, 2), (1, 2, 3), "human")
    assert prefix is not None
    assert (prefix.prompt, [len(response) for response in prefix.responses]) == ((1, 2), [1, 2])


def test_pairs_that_are_too_long_or_read_the_same_are_dropped_and_counted(folder: Path) -> None:
    model = model_of(folder)
    rows = [*pairs(), pairs()[0].model_copy(update={"id": "same", "rejected": "Five."})]
    found = reward_items(model.conversations, rows, 100)
    assert [item.id for item in found.items] == ["0", "1", "3", "4"]
    assert found.drops == {"conversation over 100 tokens": 1, SAME: 1}


def test_the_same_seed_draws_the_same_small_head_and_another_another(folder: Path) -> None:
    first, again, other = (model_of(folder, seed=seed).head.weight.detach() for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert first.shape == (1, 32)
    assert float(first.detach().std()) == pytest.approx(33**-0.5, rel=0.5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_saved_model_opens_as_a_classifier_with_one_label_and_scores_the_same(
    folder: Path, tmp_path: Path, dtype: torch.dtype
) -> None:
    model = model_of(folder, dtype)
    trainer = Trainer(model, objective_of(model), SETTINGS, tmp_path / "run", "reward")
    trainer.run()
    ours = packed_rewards(model, items_of(model), 1000)
    model.save(tmp_path / "model")
    network = AutoModelForSequenceClassification.from_pretrained(tmp_path / "model", dtype=torch.float32).eval()
    assert network.config.num_labels == 1
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "model")
    texts = [
        tokenizer.apply_chat_template(
            [{"role": "user", "content": pair.prompt[0].content}, {"role": "assistant", "content": text}],
            tokenize=False,
        )
        for pair in pairs()
        for text in (pair.chosen, pair.rejected)
    ]
    padded = tokenizer(texts, return_tensors="pt", padding=True, add_special_tokens=False)
    with torch.no_grad():
        theirs = network(input_ids=padded["input_ids"], attention_mask=padded["attention_mask"]).logits[:, 0]
    assert ours == pytest.approx(theirs.tolist(), abs=1e-4 if dtype == torch.float32 else 0.3)
    assert load_reward_model(str(tmp_path / "model"), CPU, torch.float32).packed is not None


def test_what_pads_is_never_what_ends_a_conversation(tmp_path: Path) -> None:
    folder = tiny_folder(tmp_path, "qwen2", "pad_is_eos")
    tokenizer = tiny_tokenizer("pad_is_eos")
    tokenizer.chat_template = CHATML.replace("'<|im_end|>' + '\n'", "'<|im_end|>'")
    tokenizer.save_pretrained(folder)
    model = model_of(folder)
    end = tokenizer.convert_tokens_to_ids(IM_END)
    assert model.conversations.ids(user_prompt("Hi"), "Yes")[-1] == end
    assert model.network.config.pad_token_id == model.conversations.tokenizer.pad_token_id
    assert model.network.config.pad_token_id not in (end, None)


class KilledError(Exception):
    """Stands for the end of the process."""


class Dying(RewardObjective):
    """Ends the process before one step."""

    killed_at = -1

    def rows(self, step: int) -> Sequence[Item]:
        if step == self.killed_at:
            raise KilledError
        return super().rows(step)


def points(out: Path) -> list[tuple[int, str, Values]]:
    return [
        (metric.step, metric.split, {k: v for k, v in metric.values.items() if k != "tokens_per_second"})
        for metric in read_records(out / METRICS, Metric)
    ]


@pytest.mark.parametrize("killed_at", range(1, 5))
def test_a_killed_run_resumes_to_the_uninterrupted_one_bit_for_bit(
    folder: Path, tmp_path: Path, killed_at: int
) -> None:
    model = model_of(folder)
    dying = Dying(items_of(model), items_of(model)[:2], SETTINGS, seed=5)
    dying.killed_at = killed_at
    with pytest.raises(KilledError):
        Trainer(model, dying, SETTINGS, tmp_path / "killed", "reward").run()
    outcomes = []
    for name in ("killed", "whole"):
        model = model_of(folder)
        Trainer(model, objective_of(model), SETTINGS, tmp_path / name, "reward").run()
        outcomes.append(([p.detach().clone() for p in model.network.parameters()], points(tmp_path / name)))
    assert all(torch.equal(x, y) for x, y in zip(outcomes[0][0], outcomes[1][0], strict=True))
    assert outcomes[0][1] == outcomes[1][1]


def test_training_tells_chosen_from_rejected(folder: Path, tmp_path: Path) -> None:
    model = model_of(folder)
    settings = SETTINGS.model_copy(update={"epochs": 20.0})
    items = items_of(model)
    Trainer(model, RewardObjective(items, items, settings, seed=5), settings, tmp_path, "reward").run()
    last = [values for _, split, values in points(tmp_path) if split == "validation"][-1]
    assert last["accuracy"] == pytest.approx(1.0)
    assert last["loss"] < 0.1


def test_a_reward_model_trained_on_keeps_its_head(tmp_path: Path) -> None:
    folder = tiny_classifier(tmp_path)
    before = AutoModelForSequenceClassification.from_pretrained(folder).score.weight
    assert torch.equal(model_of(folder).head.weight, before)


def test_a_base_without_a_head_over_its_last_token_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="takes no linear reward head over its last token"):
        model_of(tiny_encoder(tmp_path, reads=200))


def test_gradients_reach_every_weight_of_the_decoder_and_the_head(folder: Path) -> None:
    model = model_of(folder)
    items = items_of(model)
    sequence_rewards(model, pack(items, CPU), items).square().sum().backward()
    without = [name for name, parameter in model.network.named_parameters() if parameter.grad is None]
    assert without == []


def test_a_probe_of_memory_holds_as_many_tokens_as_it_says_though_a_reward_head_has_one_output(folder: Path) -> None:
    model = model_of(folder)
    for responses in (1, 2):
        row = pack([probe_item(model, 64, responses)], CPU)
        assert (row.input_ids.shape[1], len(row.distinct)) == (64, 32 + responses)
