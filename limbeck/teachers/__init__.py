"""Teachers: who writes the pairs. A request in, a raw text or a typed failure out, always through the reply store.

Reading order: `protocol` (what a teacher is), `worked` (the embedded default), `openai` (any compatible server),
`rendering` (templates to messages), `parsing` (raw text to a pair), `drawing` (what a request shows).
Knows nothing of the student and nothing of training.
"""

from limbeck.errors import RecipeError
from limbeck.recipe import Recipe
from limbeck.teachers.openai import OpenAITeacher
from limbeck.teachers.protocol import NewPromptRow, Replied, Request, RequestKind, Teacher, ask
from limbeck.teachers.worked import WorkedTeacher

__all__ = [
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
        RecipeError: for a name that is neither `worked` nor `openai:MODEL`.
    """
    name = recipe.teach.teacher
    if name == "worked":
        return WorkedTeacher(recipe.seed)
    provider, _, model = name.partition(":")
    if provider == "openai" and model.strip():
        return OpenAITeacher(model.strip(), recipe.teach)
    raise RecipeError(f"teach.teacher: {name!r} is not known; it is `worked` or `openai:MODEL`, as in openai:gpt-4o")
