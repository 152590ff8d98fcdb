"""Send the app everything that inflates, from a client's side and from Flyte's, and measure it.

    python -m tests.inflate [--only PATTERN] [--every N] [--turn N]

Prints what is over the limits of ``passthrough/limits.py``, and exits with 1 if there is anything.
"""

import argparse
import re
import sys
import tempfile
from collections import Counter
from itertools import chain
from pathlib import Path

from template import copy_template

from ..baking import Baker
from . import answers, inputs
from .measuring import measured


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="a pattern of names of cases")
    parser.add_argument("--every", type=int, default=1, help="only every so many cases")
    parser.add_argument("--turn", type=int, default=0, help="which operation reads which answer")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        project = Baker(copy_template(folder / "template"), folder)(folder)
        with measured(project, folder) as (app, operations):
            app.calibrate()
            found, fields, total = set[tuple[str, str]](), set[str](), 0
            outcomes = []
            from_flyte = answers.cases(operations, app.repeating.answers, options.turn)
            for case in chain(inputs.cases(operations), from_flyte):
                if case.change:
                    fields.add(case.what)
                else:
                    found.add((case.operation.name, case.what))
                total += 1
                if not total % 1000:
                    print(f"{total} cases", file=sys.stderr)
                if re.search(options.only, case.name) and not total % options.every:
                    outcomes.append(app.try_case(case))
                    if outcomes[-1].problems:
                        print(outcomes[-1], flush=True)
            longest = sorted(outcomes, key=lambda each: each.loop, reverse=True)[:10]
            print("\nThe ten that blocked the loop longest:", *longest, sep="\n  ")
            kinds = Counter(problem for each in outcomes for problem in each.problems)
            print(
                f"\n{len(operations)} operations and tools, {len(found)} inputs,"
                f" {len(fields)} fields of Flyte's answers: {total} cases, of which"
                f" {len(outcomes)} were tried. Over a limit: {dict(kinds) or 'none'}."
                f"\nThis machine: {app.scale:.2f} times the time of the one the limit is for."
            )
            return bool(kinds)


if __name__ == "__main__":
    sys.exit(main())
