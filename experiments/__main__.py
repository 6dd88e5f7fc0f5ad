"""`python -m experiments run NAME` carries a sweep out, `table NAME` prints what came of it, `faults NAME` what is
wrong with the replies that are wrong, `list` what sweeps there are.
"""

import argparse
import sys
from collections.abc import Sequence

from experiments import anatomy
from experiments.sweep import RECIPES, Sweep, carry_out, results
from experiments.table import going_on, markdown
from limbeck.console import say, show
from limbeck.errors import LimbeckError

_COMMANDS = {
    "run": "carry a sweep out and print its table",
    "table": "print the table again",
    "faults": "of every model's replies, how many are right, and what is wrong with the others",
}


def main(arguments: Sequence[str]) -> int:
    """Do what is asked; exit code 2 with one sentence where that cannot be."""
    try:
        return _main(arguments)
    except LimbeckError as error:
        say(str(error), "red")
        return error.exit_code


def _main(arguments: Sequence[str]) -> int:
    chosen = _parser().parse_args(arguments)
    if chosen.command == "list":
        for path in sorted(RECIPES.glob("*.toml")):
            show(f"{path.stem}: {path.read_text(encoding='utf-8').splitlines()[0].lstrip('# ')}")
        return 0
    sweep = Sweep(chosen.name, tuple(chosen.seeds), tuple(chosen.overrides), chosen.test)
    if chosen.command == "faults":
        show(anatomy.markdown(sweep))
        return 0
    if chosen.command == "run":
        carry_out(sweep)
    found = results(sweep)
    show(markdown(found))
    if not chosen.test and sweep.recipe(chosen.seeds[0]).evaluate.on == "validation":
        show(f"\nGo on with: {', '.join(going_on(found, chosen.keep))}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="experiments", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("list", help="the experiments there are")
    for command, told in _COMMANDS.items():
        added = commands.add_parser(command, help=told)
        added.add_argument("name", help="a recipe of experiments/recipes")
        added.add_argument("--seeds", type=int, nargs="+", default=[1])
        added.add_argument("--set", dest="overrides", action="append", default=[], metavar="SECTION.FIELD=VALUE")
        added.add_argument("--test", action="store_true", help="open the test: once a seed, when the choice is made")
        added.add_argument("--keep", type=int, default=3, help="arms that go on into a larger sweep")
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
