"""What the commands of `cli.py` do: parse, call, print.

A file for each group of commands (`stages`, `pairs`, `audit`, `evaluate`, `compare`, `reward`, `plan`, `submit`), their
common `options`, and what they call: `runs` (a whole run), `alone` (one stage), `suites`, `harness`, `submission`,
`compared`, `talk`; `summary` and the `*_table*` files print.
"""
