"""The whole plan of a run: its units with where they stand, their work, memory and time, what is asked elsewhere."""

from collections import Counter as Tally
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path

from limbeck import conductor, pipeline
from limbeck.console import say
from limbeck.disk import Room, room_for
from limbeck.errors import LimbeckError, RunFolderError
from limbeck.lm.names import folder_here
from limbeck.planning.asking import Asked, judge_requests, over_budget, teacher_requests
from limbeck.planning.lengths import ByCharacters, Counter, Lengths, lengths_of
from limbeck.planning.machine import Machine, Memory, machine_for
from limbeck.planning.ranges import Range, total
from limbeck.planning.tables import RECORDS, Tables, tables_in, tables_of
from limbeck.planning.work import Work, Works, samples_here
from limbeck.recipe import Recipe
from limbeck.records import Demonstration
from limbeck.round_folders import ROUNDS
from limbeck.rounds import WITHOUT_VERDICT, reached, round_recipe
from limbeck.run_folder import RECIPE_FILE, recipe_of, settled
from limbeck.units.unit import Unit


@dataclass(frozen=True)
class Planned:
    """One unit. `state` None: there is no run folder yet. `seconds` None: unknown; of a fresh unit nothing is left."""

    unit: Unit
    state: str | None
    work: Work
    memory: Memory | None
    cache_bytes: int
    seconds: Range | None

    @property
    def is_fresh(self) -> bool:
        """Whether a run would pass over it."""
        return self.state == "fresh"


def known_seconds(units: Iterable[Planned]) -> Range:
    """How long they take together, as far as that is known."""
    return total(one.seconds for one in units if one.seconds is not None)


@dataclass(frozen=True)
class Further:
    """One round after the first: its units, and what is asked elsewhere for it. `most`: how many there may be."""

    most: int
    units: tuple[Planned, ...]
    asked: tuple[Asked, ...]

    @property
    def seconds(self) -> Range:
        """How long one round takes, as far as that is known."""
        return known_seconds(self.units)


@dataclass(frozen=True)
class Plan:
    """`notes`: what is assumed, missing or not reckoned, in sentences. `further`: None where there is one round.
    `room`: on the disk; None where nothing is trained, or the student is not here.
    """

    units: tuple[Planned, ...]
    asked: tuple[Asked, ...]
    machine: Machine
    notes: tuple[str, ...]
    further: Further | None = None
    room: Room | None = None


def plan_of(recipe: Recipe, folder: Path, until: str | None = None) -> Plan:
    """Plan a run of `recipe` in `folder`, which is only read.

    Raises:
        RecipeError: where `until` names no stage. RunFolderError: where the folder holds another recipe's run.
    """
    notes: list[str] = []
    student = folder_here(recipe.model.student)
    recipe = settled(recipe, folder, decides=False)
    known, base = _listable(recipe), student or Path(recipe.model.student)
    listed = pipeline.units(known, base)
    within = conductor.steps_until(listed, until)
    listed = tuple(takewhile(lambda unit: unit.step in within, listed))
    notes += _missing(recipe, student)
    states = _states(known, base, folder)
    tables = _tables(recipe, folder, states)
    notes += tables.unread
    counter = _counter(student, notes)
    measured = {name: lengths_of(tables[name], counter, recipe.model) for name in RECORDS}
    notes += _assumed(tables, measured)
    works = Works(recipe, {name: tables[name].rows for name in RECORDS}, measured, tables.chat_is_known)
    machine = machine_for(recipe, student, notes.append)
    planned = tuple(_planned(unit, works, machine, states.get(unit.name)) for unit in listed)
    asked = _asked(recipe, tables, works, [one for one in planned if not one.is_fresh], notes)
    further = None
    if ROUNDS in within and (most := _rounds_left(known, folder, planned, states)):
        try:
            further = _further(known, base, most, works, machine, tables, notes)
        except LimbeckError as error:
            notes.append(f"further rounds are not reckoned: {error}")
    room = None if student is None else room_for(listed, recipe, student, folder)
    return Plan(planned, asked, machine, tuple(dict.fromkeys(notes)), further, room)


def _rounds_left(recipe: Recipe, folder: Path, planned: Sequence[Planned], states: Mapping[str, str]) -> int:
    """How many rounds after the first may be to come: those after the last of which nothing is due.

    One that ended without a verdict, as where the budget did, is tried again by every run.
    """
    if not all(one.is_fresh for one in planned if one.unit.step not in {ROUNDS, "report"}):
        return recipe.rounds.count - 1
    done, stopped = reached(recipe, folder)
    due = (name for name, state in states.items() if name.startswith(f"{ROUNDS}/") and state != "fresh")
    first_due = min((int(name.split("/")[1]) for name in due), default=done + 1)
    if first_due <= done:
        return recipe.rounds.count - first_due + 1
    return 0 if stopped is not None and stopped not in WITHOUT_VERDICT else recipe.rounds.count - done


def _further(
    recipe: Recipe, base: Path, most: int, first: Works, machine: Machine, tables: Tables, notes: list[str]
) -> Further:
    """A round after the first, all of which is taken to be due."""
    own = round_recipe(recipe, 2)
    works = Works(own, first.rows, first.measured, first.chat_is_known)
    planned = tuple(_planned(unit, works, machine, None) for unit in pipeline.units(own, base))
    return Further(most, planned, _asked(own, tables, works, planned, notes))


def _planned(unit: Unit, works: Works, machine: Machine, state: str | None) -> Planned:
    work = works.of(unit)
    if state == "fresh":
        return Planned(unit, state, work, None, 0, None)
    memory, here = machine.memory(work, reward=unit.stage == "reward"), samples_here(unit, works.recipe)
    seconds = machine.seconds(work, recomputed=bool(memory and memory.recomputed), samples_here=here)
    unknown = work.unknown is not None
    return Planned(unit, state, work, memory, machine.cache_bytes(work) if here else 0, None if unknown else seconds)


def _listable(recipe: Recipe) -> Recipe:
    """The recipe with the student in the place of a reward model's base that would have to be fetched."""
    base = recipe.reward.base
    if base is None or folder_here(base) is not None:
        return recipe
    return recipe.model_copy(update={"reward": recipe.reward.model_copy(update={"base": None})})


def _models(recipe: Recipe) -> dict[str, str]:
    """Models that the recipe names and that are to lie on this machine, by field."""
    named = {"model.student": recipe.model.student}
    if recipe.reward.base is not None:
        named["reward.base"] = recipe.reward.base
    if recipe.judges.local.is_named:
        named["judges.local.model"] = recipe.judges.local.model
    for field, name in {
        "teach.teacher": recipe.teach.teacher,
        "teach.contrast_with": recipe.teach.contrast_with,
        "judges.pairwise.model": recipe.judges.pairwise.model,
    }.items():
        if name is not None and name.startswith("local:"):
            named[field] = name.removeprefix("local:").strip()
    return named


def _missing(recipe: Recipe, student: Path | None) -> list[str]:
    """What a run would want that is not here."""
    away = {field: name for field, name in _models(recipe).items() if folder_here(name) is None}
    found = [f"{field}: {name} is not on this machine; a run fetches it first" for field, name in away.items()]
    if student is None:
        found.append("without the student's configuration neither memory nor hours can be given")
    others = {field: name for field, name in _models(recipe).items() if field != "model.student"}
    found += [f"{field}: the hours that {name} computes are not reckoned" for field, name in others.items()]
    if not away or set(away) == {"model.student"}:
        try:
            pipeline.check(recipe)
        except LimbeckError as error:
            found.append(f"a run would not begin yet: {error}")
    return found


def _states(recipe: Recipe, base: Path, folder: Path) -> dict[str, str]:
    if not (folder / RECIPE_FILE).is_file():
        return {}
    owner = recipe_of(folder).name
    if owner != recipe.name:
        raise RunFolderError(f"{folder} holds the run of the recipe {owner!r}, not {recipe.name!r}; give --out another "
                             "folder")  # fmt: skip
    return {standing.unit.name: standing.state for standing in conductor.standings(recipe, base, folder)}


def _tables(recipe: Recipe, folder: Path, states: Mapping[str, str]) -> Tables:
    """The corpus as it lies in the run folder, where it is fresh; else what the sources will give."""
    if states.get("corpus") != "fresh":
        say("plan: reading what the corpus will be made of")
        return tables_of(recipe)
    tables = tables_in(folder / "corpus")
    if states.get("retain") != "fresh":
        return tables
    replies = tables_in(folder / "retain", dict.fromkeys(("train", "heldout"), Demonstration)).tables
    kept = {f"chat_{name}": table for name, table in replies.items()}
    return Tables({**tables.tables, **kept}, chat_is_known=True)


def _counter(student: Path | None, notes: list[str]) -> Counter:
    if student is not None:
        from limbeck.lm.counting import counter_of

        try:
            return counter_of(student)
        except LimbeckError as error:
            notes.append(str(error))
    notes.append("tokens are estimated, a quarter of the characters: the student's tokenizer is not at hand")
    return ByCharacters()


def _assumed(tables: Tables, measured: Mapping[str, Lengths]) -> list[str]:
    """Say what no row was seen of."""
    unseen = [
        name
        for name in ("demonstrations", "pool", "human", "test", "judging")
        if not measured[name].seen and ((rows := tables[name].rows) is None or rows.high)
    ]
    if not unseen:
        return []
    found = measured[unseen[0]]
    prompt, response = (f"{part.low:.0f} to {part.high:.0f}" for part in (found.prompt, found.response))
    return [
        f"of {', '.join(unseen)} no row was read: {prompt} tokens a prompt and {response} a response are assumed, not "
        "measured"
    ]


def _asked(recipe: Recipe, tables: Tables, works: Works, due: Sequence[Planned], notes: list[str]) -> tuple[Asked, ...]:
    """What is asked elsewhere by units that are not fresh."""
    stages = Tally(one.unit.stage for one in due)
    found: list[Asked] = []
    try:
        if "teach" in stages:
            found += teacher_requests(recipe, tables, works.texts)
        found += judge_requests(recipe, works, stages)
    except LimbeckError as error:
        notes.append(f"what is asked elsewhere is not reckoned: {error}")
    by_field = {one.field: [each for each in found if each.field == one.field] for one in found}
    notes += [said for sharing in by_field.values() if (said := over_budget(sharing))]
    return tuple(found)
