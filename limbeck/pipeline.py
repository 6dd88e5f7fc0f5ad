"""The pipeline as one list: every unit of work, what it reads, which part of the recipe decides it, who does it.

Read `units` from top to bottom: it is the table of contents. A unit is fresh when its inputs, its part of the recipe
and its outputs have the digests that its manifest names; only stale ones run (conductor.py).
"""

from pathlib import Path
from typing import Any, get_args

from limbeck import tracking
from limbeck.errors import RecipeError
from limbeck.judges import check_judge
from limbeck.lm import embedding, lora
from limbeck.manifest import MANIFEST
from limbeck.recipe import Recipe
from limbeck.recipe.pairs import MadeKind
from limbeck.recipe.part import deciding_part
from limbeck.recipe.training import Dpo
from limbeck.responses import read_responses
from limbeck.rounds import check_rounds
from limbeck.students import served
from limbeck.teachers import check_kinds, contrast_teacher_for, teacher_for
from limbeck.teachers.template_files import Templates
from limbeck.units.models import training_unit
from limbeck.units.pairs import (
    audit_unit,
    embedder_folder,
    evaluation_files,
    export_unit,
    mix_unit,
    own_templates,
    teaching_units,
    written_as,
)
from limbeck.units.reward import check_judging, judging_part, reward_units, set_aside_part
from limbeck.units.rounds import rounds_unit, units_of_round
from limbeck.units.unit import BASE, SFT, Unit, files, part_of, quiz_input, quiz_part
from limbeck.units.verdict import SAID_OF_REPLIES, compare_units, evaluate_units, heldout_pairs_units, verdict_unit


def check(recipe: Recipe) -> None:
    """See that a whole run of the recipe is possible, before anything is spent.

    Raises:
        RecipeError: naming what is missing; TeacherError: where a teacher or a judge lacks its key.
        InputError: where a file of somebody's responses cannot be read.
    """
    check_rounds(recipe)
    lora.check_installed(recipe)
    tracking.check_installed(recipe.track)
    embedding.encoder_folder(recipe.screen.embedder)
    served.check_names(recipe, (BASE, SFT, *recipe.arms))
    corpus, kinds = recipe.corpus, recipe.pair_kinds()
    if not (corpus.tasks or corpus.demonstrations):
        raise RecipeError("corpus: nothing to learn from; give [corpus.tasks] or [[corpus.demonstrations]]")
    if "human" in kinds and not corpus.preferences:
        raise RecipeError("an arm asks for human pairs, but [[corpus.preferences]] is empty")
    if not (corpus.evaluation or (corpus.tasks and corpus.tasks.test)):
        raise RecipeError("no held-out prompt to judge by: ask for corpus.tasks.test or give [[corpus.evaluation]]")
    if recipe.evaluate.on == "validation" and not (corpus.tasks and corpus.tasks.validation):
        raise RecipeError("evaluate.on is 'validation', and there are no such problems: ask for "
                          "corpus.tasks.validation")  # fmt: skip
    check_problems(recipe)
    if recipe.evaluate.against is not None:
        _check_responses(Path(recipe.evaluate.against).expanduser())
    mines = recipe.mines()
    mined_by = recipe.mining().judge if mines else None
    if not corpus.tasks:
        _check_verifier(recipe, mined_by)
    check_judges(recipe)
    if "rolling" in kinds and not (corpus.preferences or "random" in kinds):
        raise RecipeError("an arm asks for rolling pairs, which are written with the human pairs before them: give "
                          "[[corpus.preferences]], or an arm with random pairs, which stand in for them")  # fmt: skip
    if mined_by == "pairwise":
        raise RecipeError("mine.judge: 'pairwise' compares two replies and scores none; name a judge that scores")
    if mines:
        _check_teachers(recipe)
    check_judging(recipe)
    if mines:
        _check_enough(recipe)
    for name in {*recipe.judged_by(), *((mined_by,) if mined_by else ())}:
        check_judge(name, recipe)


def _check_responses(path: Path) -> None:
    """See that somebody's responses can be read: they are judged at the end, after all training."""
    if not path.is_file():
        raise RecipeError(f"evaluate.against: {path} does not exist")
    read_responses(path)


def _check_verifier(recipe: Recipe, mined_by: str | None) -> None:
    """See that there is something the verifier can judge where there are no built-in problems."""
    from limbeck.stages.corpus.peek import may_hold_problems

    corpus = recipe.corpus
    judged = {"evaluation": corpus.evaluation} if "verifier" in recipe.judged_by() else {}
    if mined_by == "verifier":
        judged["prompts"] = corpus.prompts
    for section, datasets in judged.items():
        if not may_hold_problems(datasets):
            raise RecipeError(
                "the verifier judges built-in problems and prompts whose answer is a number (GSM8K's format), and "
                f"corpus.{section} holds none: give [corpus.tasks] or another judge"
            )


def check_judges(recipe: Recipe) -> None:
    """See that a learned judge which finds the weak prompts is not alone in judging the result, unless that is meant.

    Raises:
        RecipeError: naming the two fields that can be changed.
    """
    if recipe.mined_alone() and not recipe.evaluate.same_judge:
        raise RecipeError(
            f"evaluate.judges: {recipe.mining().judge} finds the weak prompts (mine.judge) and would be the only judge "
            "of the result, so that its own taste is trained on and then rewarded; name another judge beside it, or "
            "set evaluate.same_judge = true, and the verdict says so"
        )


def _check_own(recipe: Recipe) -> None:
    """See that replies of the student's can be known to be right, where pairs are to be made of them."""
    kinds = recipe.pair_kinds()
    for kind in ("own", "divergence"):
        if kind in kinds and recipe.mining().judge != "verifier":
            raise RecipeError(
                f"an arm asks for {kind} pairs, whose chosen response is the student's own and right, and only the "
                "verifier says what is right; here another mines, or nobody (mine.judge)"
            )
    if "divergence" in kinds:
        _check_branching(recipe)
    if "own" in kinds and recipe.mine.samples_per_prompt == 1:
        raise RecipeError("an arm asks for own pairs, a right and a failing reply of the student's to one prompt, and "
                          "it is asked once: raise mine.samples_per_prompt")  # fmt: skip


def _check_branching(recipe: Recipe) -> None:
    """See that failing replies can be gone on from, where divergence pairs are to be made of them."""
    if SFT in recipe.servers:
        raise RecipeError(f"servers.{SFT}: divergence pairs need the built-in engine, which can go on from a step of a "
                          "reply; leave the server out")  # fmt: skip
    if recipe.branch.max_new_tokens < recipe.mine.max_new_tokens:
        raise RecipeError(
            f"branch.max_new_tokens is {recipe.branch.max_new_tokens:,}, and a failing reply may have "
            f"{recipe.mine.max_new_tokens:,} tokens (mine.max_new_tokens), so that its later steps could not be gone "
            "on from; raise it to as many"
        )


def _check_enough(recipe: Recipe) -> None:
    """See that there may be as many pairs as arms ask for, each on a prompt of its own, as far as that is known before
    anything runs.
    """
    tasks, held, worked = recipe.corpus.tasks, recipe.mix.heldout_pairs, recipe.teach.teacher == "worked"
    own = bool(recipe.corpus.prompts or recipe.corpus.preferences)
    for kind, number in recipe.pair_kinds().items():
        drawn = "fresh" if kind in {"few_shot", "rolling"} else "pool"
        bounded = worked if drawn == "fresh" else not own
        there = getattr(tasks, drawn) if tasks else 0
        if kind != "human" and bounded and not recipe.mix.take_fewer and number + held > there:
            raise RecipeError(
                f"an arm asks for {number:,} {kind} pairs and {held} are held out (mix.heldout_pairs), each on a "
                f"prompt of its own, and corpus.tasks.{drawn} is {there:,}: raise it, ask for fewer, or set "
                "mix.take_fewer = true"
            )


def _check_worked(recipe: Recipe) -> None:
    """See that the embedded teacher knows an answer to some of the prompts."""
    from limbeck.stages.corpus.peek import may_hold_problems

    corpus = recipe.corpus
    written = {"random", "zero_shot"} & recipe.pair_kinds().keys()
    if recipe.teach.teacher != "worked" or corpus.tasks or not written:
        return
    if not may_hold_problems(corpus.prompts or corpus.preferences):
        raise RecipeError(
            f"teach.teacher is 'worked', which knows the solutions of problems alone, an arm asks for {min(written)} "
            'pairs, and no prompt is a problem: name a teacher, "openai:MODEL" or "local:MODEL"'
        )


def _check_teachers(recipe: Recipe) -> None:
    check_kinds(recipe)
    _check_worked(recipe)
    _check_own(recipe)
    teacher_for(recipe).check()
    weaker = contrast_teacher_for(recipe)
    if weaker is not None and "contrast" in recipe.pair_kinds():
        weaker.check()
    Templates(own_templates(recipe).get("templates")).check()


def check_problems(recipe: Recipe) -> None:
    """See that there are as many problems as models in training are to be asked.

    Raises:
        RecipeError: naming the section that asks for more.
    """
    there = recipe.corpus.tasks.validation if recipe.corpus.tasks else 0
    for section, settings in recipe.trainings():
        if settings.validate_problems and isinstance(settings, Dpo) and not recipe.mix.heldout_pairs:
            raise RecipeError(f"{section}.validate_problems goes with held-out pairs, and mix.heldout_pairs is 0")
        if settings.validate_problems > there:
            raise RecipeError(f"{section}.validate_problems asks for {settings.validate_problems} problems, and "
                              f"corpus.tasks.validation has {there}: raise that, or ask for fewer")  # fmt: skip


def units(recipe: Recipe, base: Path) -> tuple[Unit, ...]:
    """Every unit of the recipe's run, in order; `base` is the folder of the student's base model.

    Of a recipe of one round of a run: the units of that round's folder.
    """
    corpus = Path("corpus")
    kinds: tuple[str, ...] = tuple(recipe.pair_kinds())
    taught = tuple(kind for kind in get_args(MadeKind) if kind in kinds)
    listed = [
        Unit("corpus", _local_sources(recipe), _corpus_part(recipe)),
        Unit(
            "retain",
            {"base": base, **files(corpus, "chat_train", "chat_heldout")},
            part_of(recipe, "model")
            | {"chat": recipe.corpus.chat and recipe.corpus.chat.model_dump()}
            | served.part_of(recipe, BASE),
        ),
        Unit(
            "sft",
            {
                "base": base,
                "demonstrations": corpus / "demonstrations.jsonl",
                "validation": corpus / "demonstrations_validation.jsonl",
                "chat": Path("retain/train.jsonl"),
                **quiz_input(recipe.sft),
            },
            part_of(recipe, "model", "sft", "alarms") | quiz_part(recipe, recipe.sft),
        ),
    ]
    listed += reward_units(recipe, base, "before mining")
    if taught:
        listed += teaching_units(recipe, corpus, taught)
    if kinds:
        pairs = {kind: (corpus if kind == "human" else Path("teach")) / f"{kind}.jsonl" for kind in kinds}
        instructed = own_templates(recipe) if taught else {}
        read = {**pairs, **evaluation_files(corpus), **embedder_folder(recipe), **instructed}
        listed.append(Unit("screen", read, part_of(recipe, "screen") | set_aside_part(recipe)))
        listed += [*reward_units(recipe, base, "after screening"), export_unit(recipe, pairs)]
    listed += [mix_unit(recipe, arm) for arm in recipe.arms]
    if kinds:
        listed.append(audit_unit(recipe, kinds))  # between the last mixture and the first training step of any arm
    for trains in ("dpo", "sft"):
        arms = [arm for arm, settings in recipe.arms.items() if settings.trains == trains]
        runs = ((name, arm) for arm in arms if (name := recipe.first_run_unit(arm)))
        listed += [training_unit(recipe, arm, base, name) for name, arm in runs]
        listed += [training_unit(recipe, arm, base, recipe.arm_unit(arm)) for arm in arms]
    listed += evaluate_units(recipe, base)
    listed += heldout_pairs_units(recipe, base)
    listed += compare_units(recipe)
    listed.append(verdict_unit(recipe))
    if recipe.evaluate.on == "validation":
        return tuple(listed)  # a report is about the test
    if recipe.rounds.number > 1:
        listed = units_of_round(listed, recipe)
    if recipe.rounds.count > 1:
        listed.append(rounds_unit(recipe))  # further rounds are carried out before it (conductor.py)
    manifests = {unit.name: Path(unit.name) / MANIFEST for unit in listed}
    return (*listed, Unit("report", manifests, _all_of(recipe)))


def part_alone(recipe: Recipe, stage: str) -> dict[str, Any]:
    """What decides the result of a stage alone: all of the recipe that can."""
    part = deciding_part(recipe) | served.part_of(recipe, *recipe.servers)
    if stage == "evaluate":
        part["evaluate"] = {name: value for name, value in part["evaluate"].items() if name not in SAID_OF_REPLIES}
    return part | (written_as() if stage == "export" else {})


def _all_of(recipe: Recipe) -> dict[str, Any]:
    return recipe.model_dump(mode="json", exclude={"servers", "track"}) | served.part_of(recipe, *recipe.servers)


def _corpus_part(recipe: Recipe) -> dict[str, Any]:
    rounds = {"rounds": recipe.rounds.count} if recipe.rounds.count > 1 else {}
    return part_of(recipe, "corpus") | judging_part(recipe) | rounds


def _local_sources(recipe: Recipe) -> dict[str, Path]:
    paths = [Path(source.path).expanduser() for source in recipe.corpus.sources()]
    return {f"source_{number}": path.resolve() for number, path in enumerate(paths) if path.exists()}
