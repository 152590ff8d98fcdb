"""Measure the cost of one ``GET /me``, compared with other checkouts of the template.

    python benchmarks/request.py [--rounds N] [ANOTHER CHECKOUT OF THE TEMPLATE ...]

Print the number of Python and C functions that the app calls for a request, in the thread of the
event loop, which is exact. Print the median ratio of CPU time to the apps of other checkouts, which
are called in turn.
"""

import argparse
import tempfile
from contextlib import ExitStack
from pathlib import Path

from costs import Caller, median_ratio
from servers import ROOT, generate, started

CONCURRENCY = (1, 16, 100)


def main() -> None:
    """Generate the project of each checkout, and compare them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("templates", nargs="*", type=Path, help="other checkouts to compare with")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        projects: dict[str, Path] = {}
        for number, template in enumerate([ROOT, *options.templates]):
            (folder := Path(name) / str(number)).mkdir()
            projects[str(template)] = generate(folder, template.resolve())
        flyte = stack.enter_context(started("flyte", projects[str(ROOT)], {}))
        environment, token = flyte.details["environment"], flyte.details["token"]
        # The name of the setting since 3.1, and the one before.
        for variable in ("MAX_CONCURRENT_REQUESTS_PER_CALLER", "OPEN_REQUESTS_PER_CALLER"):
            environment[variable] = str(2 * max(CONCURRENCY))
        for label, project in {"the minimal app": projects[str(ROOT)], **projects}.items():
            role = "minimal" if label == "the minimal app" else "ours"
            with started(f"{role} count {token}", project, environment) as counting:
                print(f"{counting.details['calls']:,} calls: {label}")
        servers = {
            label: stack.enter_context(started("ours", project, environment))
            for label, project in projects.items()
        }
        caller = Caller(servers, token, options.rounds)
        for concurrency in CONCURRENCY if options.templates else ():
            rounds = caller.costs("/me", concurrency)
            for other in map(str, options.templates):
                ratio = median_ratio(rounds, str(ROOT), other)
                print(f"{ratio:.2f} of the CPU time of {other}, {concurrency} concurrent requests")


if __name__ == "__main__":
    main()
