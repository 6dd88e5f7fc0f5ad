"""Teachers: who writes the pairs. A request in, a raw text or a typed failure out, always through the reply store.

Reading order: `protocol` (what a teacher is), `worked` (the embedded default), `openai` (any compatible server),
`local` (a model on this machine) and `writing` (its engine), `rendering` (templates to messages), `schemas` (what a
reply must be), `parsing` (raw text to a pair), `drawing` (what a request shows).
Knows nothing of the student and nothing of training.
"""

from limbeck.errors import RecipeError
from limbeck.recipe import Recipe
from limbeck.recipe.pairs import Teach
from limbeck.teachers.local import LocalTeacher
from limbeck.teachers.openai import OpenAITeacher
from limbeck.teachers.protocol import (
    NewPromptRow,
    Replied,
    Request,
    RequestKind,
    TakesBatches,
    Teacher,
    answered_before,
    ask,
)
from limbeck.teachers.worked import WorkedTeacher

__all__ = [
    "LocalTeacher",
    "NewPromptRow",
    "OpenAITeacher",
    "Replied",
    "Request",
    "RequestKind",
    "TakesBatches",
    "Teacher",
    "WorkedTeacher",
    "answered_before",
    "ask",
    "check_kinds",
    "contrast_teacher_for",
    "teacher_for",
]


def teacher_for(recipe: Recipe) -> Teacher:
    """Return the teacher that `teach.teacher` names. Sends nothing; `teacher.check()` says whether it can be asked.

    Raises:
        RecipeError: for a name that is none of `worked`, `openai:MODEL` and `local:MODEL`.
    """
    return _named("teach.teacher", recipe.teach.teacher, recipe.teach, recipe)


def contrast_teacher_for(recipe: Recipe) -> Teacher | None:
    """Return the weaker model that `teach.contrast_with` names; None where the recipe names none.

    Raises:
        RecipeError: for a name that is not known, for `worked`, and for the teacher itself. One model with other
            `extra` fields, such as less reasoning, is another writer.
    """
    teach, name = recipe.teach, recipe.teach.contrast_with
    if name is None:
        return None
    if name == "worked":
        raise RecipeError("teach.contrast_with: 'worked' gives worked solutions, which are nothing to reject; name a "
                          "model weaker than the teacher, as in openai:gpt-4o-mini")  # fmt: skip
    endpoint = teach.contrast_endpoint or teach.endpoint
    here, own = name.startswith("local:"), (teach.endpoint.base_url, teach.endpoint.extra)
    if name == teach.teacher and (here or own == (endpoint.base_url, endpoint.extra)):
        raise RecipeError(f"teach.contrast_with: {name!r} is the teacher itself; name a weaker model")
    return _named("teach.contrast_with", name, teach.model_copy(update={"endpoint": endpoint}), recipe)


def check_kinds(recipe: Recipe) -> None:
    """See that the teacher can write what the arms ask for. Sends nothing.

    Raises:
        RecipeError: revise pairs of a teacher that edits nothing, contrast pairs without a weaker model.
    """
    kinds = recipe.pair_kinds()
    if "revise" in kinds and recipe.teach.teacher == "worked":
        raise RecipeError("an arm asks for revise pairs, and the teacher 'worked' cannot correct another's words: name "
                          "a model as teach.teacher, or ask for on_policy pairs")  # fmt: skip
    if "contrast" in kinds and recipe.teach.contrast_with is None:
        raise RecipeError("an arm asks for contrast pairs, and teach.contrast_with names no weaker model; it is "
                          "`openai:MODEL`, as in openai:gpt-4o-mini")  # fmt: skip


def _named(field: str, name: str, settings: Teach, recipe: Recipe) -> Teacher:
    if name == "worked":
        return WorkedTeacher(recipe.seed)
    provider, _, model = name.partition(":")
    if provider == "openai" and model.strip():
        return OpenAITeacher(model.strip(), settings)
    if provider == "local" and model.strip():
        return LocalTeacher(model.strip(), settings, recipe.model, recipe.seed)
    raise RecipeError(
        f"{field}: {name!r} is not known; it is `worked`, `openai:MODEL`, as in openai:gpt-4o, or `local:MODEL`, as in "
        "local:smollm2-135m or local:path/to/folder"
    )
