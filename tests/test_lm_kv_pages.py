"""Pages of the key/value cache: against a memory of dictionaries in which every slot must find what it wrote."""

from math import ceil
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from limbeck.lm.kv_pages import Pages, Shape, untouched

PAGE = 16
SHAPE = Shape(groups=1, size=16)


class Books:
    """Pages, what is written where, and what each slot must find at each of its positions.

    What is written is a name: of a prompt's token, or of a sample's own.
    """

    def __init__(self, slots: int, capacity: int) -> None:
        self.pages = Pages(slots, capacity, 1, SHAPE, torch.float32)
        self.capacity = capacity
        self.width = ceil(capacity / PAGE)
        self.memory: dict[tuple[int, int], str] = {}
        self.found: list[list[str] | None] = [None] * slots  # None: a free slot
        self.written = 0

    def free(self) -> list[int]:
        return [slot for slot, found in enumerate(self.found) if found is None]

    def taken(self) -> list[int]:
        return [slot for slot, found in enumerate(self.found) if found is not None]

    def held(self, slot: int) -> list[int]:
        """The pages of a slot, as its table tells."""
        found = self.found[slot]
        return self.pages.tables[slot, : ceil(len(found or []) / PAGE)].tolist()

    def fill(self, prompts: list[tuple[list[int], list[int]]]) -> int:
        """Fill slots with prompts; returns how many tokens had to be computed."""
        row: list[str] = []
        for ids, slots in prompts:
            filled = self.pages.fill(ids, slots, len(row))
            assert filled.places.dtype == torch.int32
            names = [str(ids[: place + 1]) for place in range(len(ids))]  # a token's keys depend on all before it
            row += names[filled.start :]
            for slot in slots:
                self.found[slot] = list(names)
            cells = [(page, place) for _, page, place in filled.places.tolist()]
            assert len(set(cells)) == len(cells)  # nothing is written over
            for token, page, place in filled.places.tolist():
                self.memory[page, place] = row[token]
        return len(row)

    def write(self, slot: int) -> None:
        """One token more."""
        found = self.found[slot]
        assert found is not None
        self.pages.extend(slot, len(found))
        page = int(self.pages.tables[slot, len(found) // PAGE])
        self.written += 1
        self.memory[page, len(found) % PAGE] = f"token {self.written}"
        found.append(f"token {self.written}")

    def release(self, slot: int) -> None:
        self.pages.release(slot)
        self.found[slot] = None

    def move(self, source: int, target: int) -> None:
        self.pages.move(source, target)
        self.found[target], self.found[source] = self.found[source], None

    def check(self) -> None:
        for slot, found in enumerate(self.found):
            table = self.pages.tables[slot].tolist()
            held = self.held(slot)
            assert table[len(held) :] == [0] * (self.width - len(held))  # beyond: the scratch page
            assert 0 not in held
            for position, name in enumerate(found or []):
                assert self.memory[table[position // PAGE], position % PAGE] == name
        distinct = {page for slot in self.taken() for page in self.held(slot)}
        assert self.pages.in_use == len(distinct)


@given(st.data())
def test_every_slot_finds_what_was_written_for_it_and_every_page_comes_back(data: st.DataObject) -> None:
    slots = data.draw(st.integers(1, 5))
    books = Books(slots, capacity=data.draw(st.integers(1, 70)))
    for _ in range(data.draw(st.integers(1, 25))):
        able = [slot for slot in books.taken() if len(books.found[slot] or []) < books.capacity]
        acts = {"fill": books.free(), "write": able, "release": books.taken(), "move": books.free() and books.taken()}
        act = data.draw(st.sampled_from([name for name, possible in acts.items() if possible]))
        if act == "fill":
            left = data.draw(st.permutations(books.free()))
            prompts = []
            while left and (not prompts or data.draw(st.booleans())):
                share = data.draw(st.integers(1, len(left)))
                length = data.draw(st.integers(1, books.capacity))
                common = data.draw(st.sampled_from([0, 16, 20, 32, length]))
                ids = ([7] * common + [data.draw(st.integers(0, 1))] * length)[:length]
                prompts.append((ids, left[:share]))
                left = left[share:]
            books.fill(prompts)
        elif act == "write":
            for slot in able:  # as a step of decoding does; often enough to pass the end of a page
                for _ in range(min(data.draw(st.integers(0, 20)), books.capacity - len(books.found[slot] or []))):
                    books.write(slot)
        elif act == "release":
            books.release(data.draw(st.sampled_from(books.taken())))
        else:
            books.move(data.draw(st.sampled_from(books.taken())), data.draw(st.sampled_from(books.free())))
        books.check()
    for slot in books.taken():
        books.release(slot)
    books.check()
    assert books.pages.in_use == 0
    assert not books.pages.tables.any()


def test_all_slots_can_be_full_at_once_and_again() -> None:
    books = Books(slots=3, capacity=40)
    for _ in range(2):
        books.fill([([slot] * 40, [slot]) for slot in range(3)])
        books.check()
        assert books.pages.in_use == 3 * 3
        for slot in range(3):
            books.release(slot)


def test_samples_of_a_prompt_share_its_full_pages_and_no_other() -> None:
    books = Books(slots=4, capacity=60)
    books.fill([([5] * 35, [0, 2]), ([6] * 32, [1, 3])])
    first, second = books.held(0), books.held(2)
    assert first[:2] == second[:2]
    assert first[2] != second[2]
    assert books.held(1) == books.held(3)
    assert books.pages.in_use == (2 + 2) + 2
    books.write(1)
    books.write(3)
    assert books.held(1)[2] != books.held(3)[2]
    books.check()


def test_prompts_that_begin_alike_share_the_full_pages_of_their_beginning_and_compute_them_once() -> None:
    books = Books(slots=3, capacity=80)
    assert books.fill([([5] * 40 + [1] * 20, [0]), ([5] * 40 + [2] * 30, [1])]) == 60 + (70 - 32)
    assert books.fill([([5] * 20, [2])]) == 4
    assert books.held(0)[:2] == books.held(1)[:2]
    assert books.held(2)[0] == books.held(0)[0]
    assert set(books.held(0)[2:]).isdisjoint(books.held(1)[2:])
    books.check()


def test_a_beginning_that_nobody_holds_any_more_is_computed_again() -> None:
    books = Books(slots=2, capacity=80)
    books.fill([([5] * 40, [0])])
    books.release(0)
    assert books.fill([([5] * 40, [1])]) == 40
    books.check()


def test_the_same_page_of_tokens_after_another_beginning_is_another_page() -> None:
    books = Books(slots=2, capacity=80)
    assert books.fill([([1] * 16 + [3] * 16, [0]), ([2] * 16 + [3] * 16, [1])]) == 64
    books.check()


def test_a_shared_page_stays_until_its_last_sample_ends() -> None:
    books = Books(slots=2, capacity=32)
    books.fill([([5] * 32, [0, 1])])
    shared = books.held(0)
    books.release(0)
    assert books.pages.in_use == 2
    books.fill([([6] * 16, [0])])
    assert not set(books.held(0)) & set(shared)
    books.release(1)
    assert books.pages.in_use == 1


def test_the_lowest_free_page_is_taken_first() -> None:
    books = Books(slots=4, capacity=32)
    books.fill([([5] * 32, [0]), ([6] * 32, [1]), ([7] * 10, [2])])
    assert [books.held(slot) for slot in range(3)] == [[1, 2], [3, 4], [5]]
    books.release(1)
    books.release(0)
    for _ in range(7):
        books.write(2)
    assert books.held(2) == [5, 1]
    books.fill([([8] * 32, [3])])
    assert books.held(3) == [2, 3]


def test_a_moved_sample_keeps_its_pages_and_leaves_its_slot_empty() -> None:
    books = Books(slots=3, capacity=48)
    books.fill([([5] * 20, [0, 2])])
    pages, in_use = books.held(2), books.pages.in_use
    books.release(0)
    books.move(2, 0)
    assert books.held(0) == pages
    assert not books.pages.tables[2].any()
    assert books.pages.in_use == in_use - 1  # the rest that slot 0 had of its own
    books.check()


def test_a_position_that_a_page_already_holds_takes_no_other() -> None:
    pages = Pages(1, 40, 1, SHAPE, torch.float32)
    for position in range(40):
        pages.extend(0, position)
        assert pages.in_use == position // PAGE + 1


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_each_layer_has_keys_and_values_of_its_own_for_every_page_and_the_scratch_page(dtype: torch.dtype) -> None:
    pages = Pages(2, 33, 3, Shape(groups=2, size=32), dtype)
    assert len(pages.layers) == 3
    for keys, values in pages.layers:
        assert (keys.shape, values.shape) == ((1 + 2 * 3, 2, 32, PAGE), (1 + 2 * 3, 2, PAGE, 32))
        assert keys.dtype == values.dtype == dtype
        assert not keys.any()
        assert not values.any()
    pages.layers[0][0].fill_(1)
    assert not any(part.any() for part in (pages.layers[0][1], *pages.layers[1], *pages.layers[2]))


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs /proc to see resident memory")
def test_memory_that_nobody_wrote_is_not_taken_from_the_system() -> None:
    def resident_bytes() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

    before = resident_bytes()
    tensor = untouched((256, 1 << 20), torch.float32)  # 1 GiB
    assert resident_bytes() - before < 64 << 20
    tensor[:8].fill_(1)  # 32 MiB
    assert 24 << 20 < resident_bytes() - before < 96 << 20
