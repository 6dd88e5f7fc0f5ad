"""The prompts that every client sends to the teacher's server. Imports nothing: the peer runs where limbeck is not."""

_BODY = (
    "Read the question below and write two answers to it: one that a careful reader prefers, and one that looks alike "
    "and goes wrong at a single step. Keep both to the point. "
) * 6


def prompt(number: int) -> str:
    """A prompt of some 1,200 characters, with the mark by which the server knows it again (`faulty_ledger.marked`)."""
    return f"[[key:load.{number}]] {_BODY}Question {number}: what is {number} plus {7 * number}?"
