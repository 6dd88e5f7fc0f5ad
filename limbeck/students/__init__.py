"""Students: the models that a run asks for replies, each by the built-in engine or on the user's own server.

Reading order: `protocol` (what a student is), `builtin`, `server` (any OpenAI-compatible one), `choice` (which of the
two a model of the recipe is), `served` (servers named wrongly or not there, found before other work; knows no torch).
Knows nothing of scores, judges and teachers.
"""
