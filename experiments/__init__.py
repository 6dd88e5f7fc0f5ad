"""Sweeps: one recipe, many arms, several seeds; everything before the arms is shared. Choices are made on validation.

Reading order: `recipes/` (what is tried), `sweep` (carrying it out and reading what came of it), `table` (Markdown).
Knows nothing that a user of limbeck could not do by hand with `limbeck run` and `limbeck compare`.
"""
