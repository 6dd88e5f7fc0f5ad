"""Teachers: who writes the pairs. A request in, a raw text or a typed failure out, always through the reply store.

Reading order: `protocol` (what a teacher is), `worked` (the embedded default), `openai` (any compatible server),
`local` (a model on this machine) and `writing` (its engine), `rendering` (templates to messages), `schemas` (what a
reply must be), `parsing` (raw text to a pair), `drawing` (what a request shows).
Knows nothing of the student and nothing of training.
"""

from limbeck.errors import RecipeError
from limbeck.recipe import Recipe
from limbeck.teachers.local import LocalTeacher
from limbeck.teachers.openai import OpenAITeacher
from limbeck.teachers.protocol import NewPromptRow, Replied, Request, RequestKind, Teacher, ask
from limbeck.teachers.worked import WorkedTeacher

__all__ = [
    "LocalTeacher",
    "NewPromptRow",
    "OpenAITeacher",
    "Replied",
    "Request",
    "RequestKind",
    "Teacher",
    "WorkedTeacher",
    "ask",
    "teacher_for",
]


def teacher_for(recipe: Recipe) -> Teacher:
    """Return the teacher that `teach.teacher` names. Sends nothing; `teacher.check()` says whether it can be asked.

    Raises:
        RecipeError: for a name that is none of `worked`, `openai:MODEL` and `local:MODEL`.
    """
    name = recipe.teach.teacher
    if name == "worked":
        return WorkedTeacher(recipe.seed)
    provider, _, model = name.partition(":")
    if provider == "openai" and model.strip():
        return OpenAITeacher(model.strip(), recipe.teach)
    if provider == "local" and model.strip():
        return LocalTeacher(model.strip(), recipe.teach, recipe.model, recipe.seed)
    raise RecipeError(
        f"teach.teacher: {name!r} is not known; it is `worked`, `openai:MODEL`, as in openai:gpt-4o, or `local:MODEL`, "
        "as in local:smollm2-135m or local:path/to/folder"
    )
