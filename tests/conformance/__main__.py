"""``python -m tests.conformance``: compare a Flyte with what is expected, and print a table."""

import argparse
import os
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from .runner import KINDS, Runner, Target, cases

ROOT = Path(__file__).parents[2]
PEOPLE = ("alice", "bob", "victor", "carol", "expired")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run every case that can be run.

    Returns:
        The exit code: 0 if every answer is as expected, 1 if not, 2 if Flyte could not be asked.
    """
    parser = argparse.ArgumentParser(prog="python -m tests.conformance", description=__doc__)
    parser.add_argument("--kind", choices=KINDS, help="which Flyte it is")
    parser.add_argument("--url", help="its address, https://...; without it, a local Flyte")
    parser.add_argument("--ca", type=Path, help="PEM file of the authority that it is trusted by")
    parser.add_argument("--org", default="any", help="your organization on Union")
    parser.add_argument("--project", default="flytesnacks")
    parser.add_argument("--domain", default="development")
    parser.add_argument("--image", default="busybox:1.37", help="an image with a shell")
    parser.add_argument(
        "--wait", type=float, default=300, metavar="SECONDS", help="how long a run may take"
    )
    parser.add_argument(
        "--direct", action="store_true", help="the address is Flyte's own, no proxy is in front"
    )
    options = parser.parse_args(arguments)
    if options.url is None:
        sys.path.append(str(ROOT / "{{cookiecutter.project_slug}}"))
        from .local import local_target  # noqa: PLC0415 - a real Flyte is tried without it

        with local_target(options.kind or "union") as target:
            return _compare(target)
    try:
        return _compare(_target(options, os.environ))
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2


def _target(options: argparse.Namespace, environment: Mapping[str, str]) -> Target:
    """Return the Flyte that is asked for.

    Raises:
        ValueError: With what to change.
    """
    if options.kind is None:
        raise ValueError(f"Say which Flyte it is: --kind {', '.join(KINDS)}.")
    if not options.url.startswith(("https://", "http://")):
        raise ValueError(f"--url begins with https:// or http://, and {options.url} with neither.")
    if options.ca and not options.ca.is_file():
        raise ValueError(f"There is no file {options.ca}, which --ca names.")
    if options.ca and b"BEGIN CERTIFICATE" not in options.ca.read_bytes():
        raise ValueError(f"{options.ca}, which --ca names, is no PEM file of an authority.")
    names = {name: f"FLYTE_TEST_TOKEN_{name.upper()}" for name in PEOPLE}
    tokens = {name: environment[var].strip() for name, var in names.items() if var in environment}
    if empty := [names[name] for name, token in tokens.items() if not token]:
        raise ValueError(f"There is no token in {', '.join(empty)}.")
    return Target(
        url=options.url.rstrip("/"),
        kind=options.kind,
        tokens=tokens,
        ca_cert=options.ca.read_bytes() if options.ca else None,
        org=options.org,
        project=options.project,
        domain=options.domain,
        image=options.image,
        wait_seconds=options.wait,
        direct=options.direct,
    )


def _compare(target: Target) -> int:
    console, runner = Console(), Runner(target)
    if (trouble := runner.trouble()) is not None:
        raise ValueError(trouble)
    columns = ("as expected", "differ", "not tried", "known to differ")
    counts: dict[str, Counter[str]] = {}
    different = Table("Service", "Case", "Where", "Expected", "Got")
    others = Table("Service", "Case", "Not tried, or known to differ, because")
    with console.status("") as status:
        for case in (each for each in cases() if target.kind in each.kinds):
            service = case.service.rpartition(".")[2]
            status.update(f"{service}: {case.name}")
            count = counts.setdefault(service, Counter())
            if (reason := runner.missing(case)) is not None:
                count["not tried"] += 1
                others.add_row(service, case.name, reason)
            elif not (differences := runner.run(case)):
                count["as expected"] += 1
            elif target.local and case.known_difference:
                count["known to differ"] += 1
                others.add_row(service, case.name, case.known_difference)
            else:
                count["differ"] += 1
                for each in differences:
                    cells = (each.where, str(each.expected), str(each.got))
                    different.add_row(service, case.name, *map(escape, cells))
    summary = Table("Service", "Cases", *columns)
    for service, count in sorted(counts.items()):
        summary.add_row(service, *map(str, [count.total(), *(count[name] for name in columns)]))
    total = sum(counts.values(), Counter())
    summary.add_section()
    summary.add_row("all", *map(str, [total.total(), *(total[name] for name in columns)]))
    for table in (others, different, summary):
        if table.row_count:
            console.print(table)
    return 1 if total["differ"] else 0


if __name__ == "__main__":
    sys.exit(main())
