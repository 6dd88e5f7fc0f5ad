"""A preference about the first differing step: what follows a mistake neither earns nor loses anything."""

import dataclasses

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny_models import ragged_pairs, tiny_folder, tiny_model

from limbeck.lm.items import pair_items, up_to_first_step
from limbeck.lm.load import LanguageModel
from limbeck.lm.logps import logps, token_logps
from limbeck.lm.objectives import DpoObjective, pair_logps
from limbeck.lm.packing import Item, pack
from limbeck.lm.reference_logps import pair_key
from limbeck.lm.scope import first_step
from limbeck.recipe import Model
from limbeck.recipe.training import Dpo
from limbeck.records import Pair, user_prompt

END, LINE = 0, 9


def ends_line(token: int) -> bool:
    return token == LINE


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> LanguageModel:
    return tiny_model(tiny_folder(tmp_path_factory.mktemp("model")))


@pytest.mark.parametrize(
    ("chosen", "rejected", "counted"),
    [
        ((1, LINE, 2, 3, LINE, 4, END), (1, LINE, 2, 5, LINE, 6, END), (5, 5)),  # the second line, its end included
        ((1, 2, END), (1, 3, LINE, 4, END), (3, 3)),  # no line ends on the one side
        ((1, LINE, 2, END), (1, END), (2, 2)),  # one stops where the other's line ends: both ends are what differs
        ((1, LINE, 2, LINE, END), (1, LINE, END), (4, 3)),
        ((1, 2, END), (1, 2, END), (3, 3)),
    ],
)
def test_the_line_in_which_both_first_differ_is_the_last_that_counts(
    chosen: tuple[int, ...], rejected: tuple[int, ...], counted: tuple[int, int]
) -> None:
    assert first_step((chosen, rejected), ends_line) == counted


TOKENS = st.lists(st.integers(1, LINE), max_size=12).map(lambda ids: (*ids, END))


@given(TOKENS, TOKENS)
def test_what_counts_begins_alike_differs_and_ends_with_its_line(
    chosen: tuple[int, ...], rejected: tuple[int, ...]
) -> None:
    counted = first_step((chosen, rejected), ends_line)
    kept = (chosen[: counted[0]], rejected[: counted[1]])
    assert (kept[0] != kept[1]) == (chosen != rejected)
    apart = next((at for at, (a, b) in enumerate(zip(*kept, strict=False)) if a != b), len(chosen))
    for side, whole in zip(kept, (chosen, rejected), strict=True):
        assert LINE not in side[apart:-1]
        assert side == whole or side[-1] == LINE


def cut(item: Item) -> Item:
    """The slow definition: a pair of responses that end where counting ends."""
    counted = item.counted or ()
    return Item(item.id, item.prompt, tuple(r[:n] for r, n in zip(item.responses, counted, strict=True)))


def counted_pairs() -> list[Item]:
    """Ragged pairs, of whose responses some, one and all tokens count."""
    pairs = ragged_pairs()
    parts = [tuple(max(1, len(r) * (share % 5) // 4) for r in item.responses) for share, item in enumerate(pairs)]
    return [dataclasses.replace(item, counted=part) for item, part in zip(pairs, parts, strict=True)]


def test_log_probabilities_and_gradients_are_those_of_responses_cut_where_counting_ends(model: LanguageModel) -> None:
    pairs = counted_pairs()
    reference = {item.id: (-3.0, -4.0) for item in pairs}
    settings = Dpo(nll_weight=0, beta=0.5, micro_batch_tokens=40)
    found = {}
    for name, items in {"counted": pairs, "cut": [cut(item) for item in pairs]}.items():
        model.network.zero_grad()
        for loss in DpoObjective(items, [], reference, settings).losses(model, items):
            loss.loss.backward()
        gradients = [p.grad.clone() for p in model.network.parameters() if p.grad is not None]
        found[name] = (pair_logps(model, items, 40), gradients)
    for id_, values in found["counted"][0].items():
        assert values == pytest.approx(found["cut"][0][id_], abs=1e-4)
    assert any(gradient.abs().max() > 0 for gradient in found["cut"][1])
    for one, other in zip(found["counted"][1], found["cut"][1], strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-5)


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
    assert item.counted is not None
    assert values["chosen_logps_change_per_token"] == pytest.approx(1 / item.counted[0], rel=1e-3)
    assert values["rejected_logps_change_per_token"] == pytest.approx(-2 / item.counted[1], rel=1e-3)


def test_a_reference_of_steps_is_another_than_one_of_responses() -> None:
    whole, item = ragged_pairs()[0], counted_pairs()[0]
    assert item.responses == whole.responses
    assert pair_key(b"x", item) != pair_key(b"x", whole)
    assert pair_key(b"x", item) == pair_key(b"x", dataclasses.replace(whole, counted=item.counted))


def test_pairs_of_text_count_to_the_line_of_the_first_slip(model: LanguageModel) -> None:
    pair = Pair(
        id="a", prompt=user_prompt("2*c + 6 = 20"), source="own",
        chosen="2*c = 20 - 6 = 14\nc = 14 / 2 = 7\n#### 7", rejected="2*c = 20 - 6 = 16\nc = 16 / 2 = 8\n#### 8",
    )  # fmt: skip
    (item,) = up_to_first_step(model.chat, pair_items(model.chat, [pair], Model()).items)
    assert item.counted is not None
    texts = [model.chat.text(r[:n]) for r, n in zip(item.responses, item.counted, strict=True)]
    assert texts == ["2*c = 20 - 6 = 14\n", "2*c = 20 - 6 = 16\n"]
    row = pack([item], model.device)
    assert int(row.counts.sum()) == sum(item.counted)
    assert logps(model, row).shape == (2,)
