"""Send the app everything that inflates, from a client's side and from Flyte's, and measure it.

    python -m tests.inflate [--side client|flyte] [--only PATTERN] [--every N] [--turn N] [--list]

Prints what is over the limits of ``passthrough/limits.py``, and exits with 1 if there is anything.
"""

import argparse
import re
import sys
import tempfile
from pathlib import Path

from template import copy_template

from ..baking import Baker
from . import answers, inputs
from .measuring import measured


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--side", choices=["client", "flyte"], help="whose cases; default: both")
    parser.add_argument("--only", default="", help="a pattern of names of cases")
    parser.add_argument("--every", type=int, default=1, help="only every so many cases")
    parser.add_argument("--turn", type=int, default=0, help="which operation reads which answer")
    parser.add_argument("--list", action="store_true", help="print each case")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        project = Baker(copy_template(folder / "template"), folder)(folder)
        with measured(project, folder) as (app, operations):
            sides = {
                "client": inputs.cases(operations),
                "flyte": answers.cases(operations, app.repeating.answers, options.turn),
            }
            inputs_or_fields, total = {side: set[tuple[str, str]]() for side in sides}, 0
            for side, cases in sides.items():
                for number, case in enumerate(cases if options.side in {None, side} else ()):
                    where = case.operation.name if side == "client" else ""
                    inputs_or_fields[side].add((where, case.what))
                    total += 1
                    if re.search(options.only, case.name) and not number % options.every:
                        outcome = app.try_case(case)
                        if outcome and (options.list or outcome.problems):
                            print(outcome, *outcome.problems, sep=" | ", flush=True)
            found, fields = map(len, inputs_or_fields.values())
            return app.report(
                f"{len(operations)} operations and tools, {found} inputs,"
                f" {fields} fields of Flyte's answers: {total} cases"
            )


if __name__ == "__main__":
    sys.exit(main())
