"""The error tree. One clear sentence each: what is wrong, where (file, line, field), and what would be right.

LimbeckError                 exit code 2, shown as one sentence, never as a traceback
├── RecipeError              the recipe: unknown key, wrong type, value out of range, impossible combination
├── InputError               a user's file or data set: missing, malformed, empty, wrong schema
│   ├── TooFewPairsError     an arm asks for more pairs of a kind than there are
│   └── NothingFailsError    mining: the student fails none of the prompts, so that there is nothing to learn from
├── ModelError               a model folder or hub id: missing, no chat template, unsupported attention, bad hash
├── RunFolderError           a run folder that belongs to another recipe, is in use, or is damaged
├── AuditError               pairs raised an alarm, and the recipe says to stop there
├── TrainingError            training cannot go on: a loss that is not finite, nothing left to train on
├── BudgetError              the money or the tokens that the recipe allows are used up; what was paid for is kept
│   └── UsedUpError          so they are because they were spent, and not because a server keeps no limit
├── TeacherError             a teacher, judge or student's server cannot be reached, refused the key, or has gone
└── DiskFullError            nothing more can be written; what was finished before is kept
"""

from collections.abc import Mapping

from limbeck.untrusted import one_line

_SHOWN, _WIDTH = 3, 60  # reasons in a line that says other things too, and characters of each


class LimbeckError(Exception):
    """Base of every error that a user can put right. `str(error)` is the sentence shown to the user."""

    exit_code = 2


class RecipeError(LimbeckError):
    """The recipe asks for something that does not exist or cannot be."""


class InputError(LimbeckError):
    """A file or data set of the user's cannot be used as it is."""


class TooFewPairsError(InputError):
    """There are fewer pairs of a kind than an arm asks for, or none at all."""


class NothingFailsError(InputError):
    """The student fails none of the prompts it was asked; further rounds end there."""


class ModelError(LimbeckError):
    """A model cannot be found, trusted, or used."""


class RunFolderError(LimbeckError):
    """A run folder is not what the command needs it to be."""


class AuditError(LimbeckError):
    """Pairs are not fit to be trained on, by the thresholds of the recipe."""


class TrainingError(LimbeckError):
    """Training cannot go on; the message names the step and where the details were written."""


class TeacherError(LimbeckError):
    """A teacher, a judge or the server of a student gives no usable service."""


class BudgetError(LimbeckError):
    """Nothing more may be spent, or a server makes a budget impossible to keep."""


class UsedUpError(BudgetError):
    """There is no room in the budget for another request."""


class DiskFullError(LimbeckError):
    """The disk is full."""


def first_line(error: Exception) -> str:
    """What a library says of an error, as far as it goes into a sentence."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def in_words(drops: Mapping[str, int]) -> str:
    """What was dropped, and how often each."""
    return ", ".join(f"{count} x {reason}" for reason, count in sorted(drops.items()))


def most_in_words(drops: Mapping[str, int]) -> str:
    """The most frequent of what was dropped, each cut to a bounded width, and how many other reasons there are."""
    counted = sorted(((reason, count) for reason, count in drops.items() if count), key=lambda one: (-one[1], one[0]))
    shown = [f"{count} x {one_line(reason, _WIDTH)}" for reason, count in counted[:_SHOWN]]
    more = len(counted) - len(shown)
    return ", ".join([*shown, *([f"{more} more reason{'s' if more > 1 else ''}"] if more else [])])
