"""``python -m tests.conformance``: compare a Flyte with what is expected, and print a table."""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from .runner import KINDS, Runner, Target, cases

ROOT = Path(__file__).parents[2]
PEOPLE = ("alice", "bob", "victor", "carol", "expired")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run every case that can be run.

    Returns:
        The exit code: 0 if every answer is as expected, 1 if not.
    """
    parser = argparse.ArgumentParser(prog="python -m tests.conformance", description=__doc__)
    parser.add_argument("--kind", choices=KINDS, default="union", help="which Flyte it is")
    parser.add_argument("--url", help="its address, https://...; without it, a local Flyte")
    parser.add_argument("--ca", type=Path, help="PEM file of the authority that it is trusted by")
    parser.add_argument("--project", default="flytesnacks")
    parser.add_argument("--domain", default="development")
    parser.add_argument("--image", default="busybox:1.37", help="an image with a shell")
    options = parser.parse_args(arguments)
    if options.url is None:
        sys.path.append(str(ROOT / "{{cookiecutter.project_slug}}"))
        from .local import local_target  # noqa: PLC0415 - a real Flyte is tried without it

        with local_target(options.kind) as target:
            return _compare(target)
    names = {name: f"FLYTE_TEST_TOKEN_{name.upper()}" for name in PEOPLE}
    return _compare(
        Target(
            url=options.url.rstrip("/"),
            kind=options.kind,
            tokens={name: os.environ[var] for name, var in names.items() if var in os.environ},
            ca_cert=options.ca.read_bytes() if options.ca else None,
            project=options.project,
            domain=options.domain,
            image=options.image,
        )
    )


def _compare(target: Target) -> int:
    console, runner = Console(), Runner(target)
    table = Table("Service", "Case", "Where", "Expected", "Got")
    skipped = Table("Service", "Case", "Not tried, because")
    agreed = 0
    for case in cases():
        service = case.service.rpartition(".")[2]
        if (reason := runner.missing(case)) is not None:
            if "token" in reason:
                skipped.add_row(service, case.name, reason)
        elif differences := runner.run(case):
            for each in differences:
                row = (service, case.name, each.where, str(each.expected), str(each.got))
                table.add_row(*row)
        else:
            agreed += 1
    if skipped.row_count:
        console.print(skipped)
    if table.row_count:
        console.print(table)
    console.print(f"{agreed} cases are answered as expected; {table.row_count} differences.")
    return 1 if table.row_count else 0


if __name__ == "__main__":
    sys.exit(main())
