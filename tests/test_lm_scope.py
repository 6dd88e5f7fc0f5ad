"""A preference about the first differing step: what follows a mistake neither earns nor loses anything."""

import dataclasses
from collections.abc import Iterable
from typing import Literal

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny_models import ragged_pairs, tiny_folder, tiny_model
from torch import Tensor

from limbeck.lm.items import of_first_step, pair_items
from limbeck.lm.load import LanguageModel
from limbeck.lm.logps import token_logps
from limbeck.lm.losses import Rewards
from limbeck.lm.objectives import DpoObjective, pair_logps, preference_loss
from limbeck.lm.packing import Item, pack
from limbeck.lm.reference_logps import pair_key
from limbeck.lm.scope import Part, first_step
from limbeck.recipe import Model
from limbeck.recipe.training import Dpo
from limbeck.records import Pair, user_prompt

END, LINE, BLANK, DOT, COMMA = 0, 6, 7, 8, 9
TEXTS = {END: "<end>", LINE: "\n", BLANK: "\n\n", DOT: ".\n", COMMA: ",\n"}


def text(token: int) -> str:
    return TEXTS.get(token, str(token))


def ends_line(token: int) -> bool:
    return "\n" in text(token)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> LanguageModel:
    return tiny_model(tiny_folder(tmp_path_factory.mktemp("model")))


@pytest.mark.parametrize(
    ("chosen", "rejected", "parts"),
    [
        ((1, LINE, 2, 3, LINE, 4, END), (1, LINE, 2, 5, LINE, 6, END), ((3, 5), (3, 5))),  # the line's end included
        ((1, 2, END), (1, 3, LINE, 4, END), ((1, 3), (1, 3))),  # no line ends on the one side
        ((1, LINE, 2, END), (1, END), ((1, 2), (1, 2))),  # one goes on where the other stops
        ((1, LINE, 2, LINE, END), (1, LINE, END), ((2, 4), (2, 3))),
        ((1, LINE, 2, LINE, END), (1, BLANK, 3, LINE, END), ((1, 4), (1, 4))),  # another end of line is no step
        ((1, DOT, 2, LINE, END), (1, COMMA, 3, LINE, END), ((1, 2), (1, 2))),  # what stands before its end is one
        ((1, DOT, 2, LINE, END), (1, LINE, 3, LINE, END), ((1, 2), (1, 2))),
        ((1, 2, END), (1, 2, END), ((0, 3), (0, 3))),
    ],
)
def test_the_step_goes_from_the_first_difference_to_the_end_of_its_line(
    chosen: tuple[int, ...], rejected: tuple[int, ...], parts: tuple[tuple[int, int], tuple[int, int]]
) -> None:
    assert first_step((chosen, rejected), text) == parts


TOKENS = st.lists(st.integers(1, COMMA), max_size=12).map(lambda ids: (*ids, END))


@given(TOKENS, TOKENS)
def test_before_a_step_both_sides_are_alike_and_no_line_but_its_own_ends_in_it(
    chosen: tuple[int, ...], rejected: tuple[int, ...]
) -> None:
    parts = first_step((chosen, rejected), text)
    sides = (chosen, rejected)
    assert chosen[: parts[0].start] == rejected[: parts[1].start]
    if chosen == rejected:
        assert parts == ((0, len(chosen)),) * 2
        return
    assert chosen[parts[0].start] != rejected[parts[1].start]
    differ_in_line_end = all(side[part.start] in {LINE, BLANK} for side, part in zip(sides, parts, strict=True))
    for side, (start, end) in zip(sides, parts, strict=True):
        assert not any(ends_line(token) for token in side[start + differ_in_line_end : end - 1])
        assert end == len(side) or ends_line(side[end - 1])


def counted_pairs() -> list[Item]:
    """Ragged pairs, of whose responses all, some and single tokens count, at the beginning, inside and at the end."""
    found = []
    for number, item in enumerate(ragged_pairs()):
        lengths = [len(response) for response in item.responses]
        starts = [(number * n) // 7 for n in lengths]
        parts = tuple(Part(a, max(a + 1, n - number % 3)) for a, n in zip(starts, lengths, strict=True))
        found.append(dataclasses.replace(item, counted=parts))
    return found


def slow_logps(model: LanguageModel, item: Item) -> list[Tensor]:
    """The slow definition: each response alone, its counted tokens summed."""
    alone = [pack([Item(item.id, item.prompt, (response,))], model.device) for response in item.responses]
    return [token_logps(model, row)[part.start : part.end].sum() for row, part in zip(alone, item.parts, strict=True)]


@pytest.mark.parametrize("loss", ["sigmoid", "apo_zero"])
def test_log_probabilities_and_gradients_are_those_of_the_counted_tokens_alone(
    model: LanguageModel, loss: Literal["sigmoid", "apo_zero"]
) -> None:
    pairs = counted_pairs()
    settings = Dpo(loss=loss, nll_weight=0, beta=0.5, micro_batch_tokens=40)
    reference = {item.id: (-3.0, -4.0) for item in pairs}

    def gradients(losses: Iterable[Tensor]) -> list[Tensor]:
        model.network.zero_grad()
        for each in losses:
            each.backward()  # type: ignore[no-untyped-call]
        return [p.grad.clone() for p in model.network.parameters() if p.grad is not None]

    def slowly(item: Item) -> Tensor:
        chosen, rejected = slow_logps(model, item)
        implied = Rewards(0.5 * (chosen[None] + 3), 0.5 * (rejected[None] + 4))
        return preference_loss(implied, settings).sum() / len(pairs)

    got = gradients(one.loss for one in DpoObjective(pairs, [], reference, settings).losses(model, pairs))
    wanted = gradients(slowly(item) for item in pairs)
    assert any(gradient.abs().max() > 0 for gradient in wanted)
    for one, other in zip(got, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-5)
    with torch.no_grad():
        slow = {item.id: tuple(map(float, slow_logps(model, item))) for item in pairs}
    found = pair_logps(model, pairs, 40)
    assert all(found[id_] == pytest.approx(wanted, abs=1e-4) for id_, wanted in slow.items())


def test_the_anchor_is_of_the_whole_chosen_response(model: LanguageModel) -> None:
    pairs = counted_pairs()
    objective = DpoObjective([], pairs, pair_logps(model, pairs, 999), Dpo())
    with torch.no_grad():
        whole = [-float(token_logps(model, pack([cut_to_chosen(item)], model.device)).mean()) for item in pairs]
    assert objective.validate(model)["nll"] == pytest.approx(sum(whole) / len(whole), rel=1e-4)


def cut_to_chosen(item: Item) -> Item:
    return Item(item.id, item.prompt, item.responses[:1])


def test_lengths_in_per_token_values_are_those_that_count(model: LanguageModel) -> None:
    (item,) = counted_pairs()[2:3]
    policy = pair_logps(model, [item], 999)[item.id]
    objective = DpoObjective([], [item], {item.id: (policy[0] - 1, policy[1] + 2)}, Dpo())
    values = objective.validate(model)
    chosen, rejected = (part.end - part.start for part in item.parts)
    assert (chosen, rejected) != tuple(map(len, item.responses))
    assert values["chosen_logps_change_per_token"] == pytest.approx(1 / chosen, rel=1e-3)
    assert values["rejected_logps_change_per_token"] == pytest.approx(-2 / rejected, rel=1e-3)


def test_a_reference_of_steps_is_another_than_one_of_responses() -> None:
    whole, item = ragged_pairs()[2], counted_pairs()[2]
    assert item.responses == whole.responses
    assert pair_key(b"x", item) != pair_key(b"x", whole)
    assert pair_key(b"x", item) == pair_key(b"x", dataclasses.replace(whole, counted=item.counted))


def items_of(model: LanguageModel, chosen: str, rejected: str) -> tuple[Item, Item]:
    """A pair as it is, and with its step alone."""
    pair = Pair(id="a", prompt=user_prompt("?"), source="own", chosen=chosen, rejected=rejected)
    whole = pair_items(model.chat, [pair], Model()).items
    return whole[0], of_first_step(model.chat, whole)[0]


def test_of_texts_the_line_of_the_first_slip_counts_from_where_they_differ(model: LanguageModel) -> None:
    _, item = items_of(model, "2*c = 20 - 6 = 14\nc = 14 / 2 = 7\n#### 7", "2*c = 20 - 6 = 16\nc = 16 / 2 = 8\n#### 8")
    texts = [model.chat.text(r[: part.end]) for r, part in zip(item.responses, item.parts, strict=True)]
    assert texts == ["2*c = 20 - 6 = 14\n", "2*c = 20 - 6 = 16\n"]
    begun = {model.chat.text(r[: part.start]) for r, part in zip(item.responses, item.parts, strict=True)}
    assert begun == {"2*c = 20 - 6 = 1"}


def test_a_step_that_is_all_of_both_responses_is_the_pair_as_it_is(model: LanguageModel) -> None:
    whole, item = items_of(model, "7", "8")
    assert item == whole
