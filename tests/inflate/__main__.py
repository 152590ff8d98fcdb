"""Send the app everything that inflates, from a client's side and from Flyte's, and measure it.

    python -m tests.inflate [--only PATTERN] [--list]

Prints what is over the limits of ``passthrough/limits.py``, and exits with 1 if there is anything.
"""

import argparse
import re
import sys
import tempfile
from pathlib import Path

from template import copy_template

from ..baking import Baker
from . import inputs
from .measuring import credentials, measured


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="a pattern of names of cases")
    parser.add_argument("--every", type=int, default=1, help="only every so many cases")
    parser.add_argument("--list", action="store_true", help="print each case")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        project = Baker(copy_template(folder / "template"), folder)(folder)
        with measured(project, folder) as (app, operations):
            seen = set[tuple[str, str]]()
            for number, case in enumerate(inputs.cases(operations, credentials())):
                seen.add((case.operation.name, case.what))
                if not re.search(options.only, case.name) or number % options.every:
                    continue
                outcome = app.try_case(case)
                if outcome and (options.list or outcome.problems):
                    print(outcome, *outcome.problems, sep=" | ", flush=True)
            return app.report(f"{len(operations)} operations and tools, {len(seen)} inputs")


if __name__ == "__main__":
    sys.exit(main())
