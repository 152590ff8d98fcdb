"""``python -m tests.conformance``: compare a Flyte with the expected answers, and print tables."""

import argparse
import contextlib
import json
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from .runner import KINDS, Case, Runner, Target, cases

ROOT = Path(__file__).parents[2]
PEOPLE = ("alice", "bob", "victor", "carol", "expired")
OUTCOMES = ("as expected", "differs", "not tried")
INTERRUPTED = 130

Result = dict[str, Any]
"""The outcome of a case, as in a line of ``--output``."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the cases that can be run.

    Returns:
        The exit code: 0 if every answer is as expected, 1 if not, 2 if Flyte could not be reached,
        130 if it was interrupted.
    """
    parser = argparse.ArgumentParser(prog="python -m tests.conformance", description=__doc__)
    parser.add_argument("--kind", choices=KINDS, help="the kind of Flyte")
    parser.add_argument("--url", help="its address, https://...; without it, a local Flyte")
    parser.add_argument("--ca", type=Path, help="PEM file of the authority to trust")
    parser.add_argument("--org", default="any", help="your organization on Union")
    parser.add_argument("--project", default="flytesnacks")
    parser.add_argument("--domain", default="development")
    parser.add_argument(
        "--image", default="auto", help="an image with the SDK; by default the SDK's own"
    )
    parser.add_argument(
        "--wait", type=float, default=300, metavar="SECONDS", help="the time limit for a run"
    )
    parser.add_argument(
        "--direct", action="store_true", help="the address is Flyte's own, without a proxy"
    )
    parser.add_argument("--only", default="", metavar="TEXT", help="run only cases with this text")
    parser.add_argument("--output", type=Path, metavar="FILE", help="a line of JSON for each case")
    options = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C
    try:
        if options.url is not None:
            return _compare(_target(options, os.environ), options.only, options.output)
        sys.path.append(str(ROOT / "{{cookiecutter.project_slug}}"))
        from .local import local_target  # noqa: PLC0415 - not needed for a real Flyte

        with local_target(options.kind or "union") as target:
            return _compare(target, options.only, options.output)
    except (OSError, ValueError) as error:
        print(error, file=sys.stderr)
        return 2


def _target(options: argparse.Namespace, environment: Mapping[str, str]) -> Target:
    """Return the Flyte to test.

    Raises:
        ValueError: The message says what to change.
    """
    if options.kind is None:
        raise ValueError(f"Give the kind of Flyte: --kind {', '.join(KINDS)}.")
    if not options.url.startswith(("https://", "http://")):
        raise ValueError(f"--url must begin with https:// or http://, unlike {options.url}.")
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


def _compare(target: Target, only: str, output: Path | None) -> int:
    runner, results, interrupted = Runner(target), list[Result](), False
    if (trouble := runner.trouble()) is not None:
        raise ValueError(trouble)
    of_kind = (case for case in cases() if target.kind in case.kinds)
    if not (chosen := [case for case in of_kind if only.lower() in str(case).lower()]):
        raise ValueError(f"--only {only}: no case of {target.kind} has this text.")
    with output.open("w") if output else contextlib.nullcontext() as file:
        try:
            if any(case.needs_tasks and runner.missing(case) is None for case in chosen):
                print("Deploying tasks of the SDK ...", file=sys.stderr)
                _ = runner.tasks
            for case in chosen:
                results.append(result := _result(runner, case))
                if file:
                    print(json.dumps(result, default=str), file=file, flush=True)
                number = f"{len(results):3}/{len(chosen)}"
                print(
                    number,
                    "{seconds:6.1f} s  {outcome:11} {service}: {case}".format(**result),
                    flush=True,
                )
        except KeyboardInterrupt:
            interrupted = True
            runner.abort()
    _print_tables(results)
    if interrupted:
        print(f"Interrupted after {len(results)} of {len(chosen)} cases.")
        return INTERRUPTED
    return 1 if any(result["differences"] for result in results) else 0


def _result(runner: Runner, case: Case) -> Result:
    reason, started = runner.missing(case), time.monotonic()
    differences = [] if reason else runner.run(case)
    return {
        "service": case.service.rpartition(".")[2],
        "case": case.name,
        "outcome": OUTCOMES[2 if reason else bool(differences)],
        "seconds": round(time.monotonic() - started, 1),
        "reason": reason,
        "differences": [asdict(each) for each in differences],
    }


def _print_tables(results: Sequence[Result]) -> None:
    different = Table("Service", "Case", "Where", "Expected", "Got")
    others = Table("Service", "Case", "Reason not to try")
    summary = Table("Service", "Cases", *OUTCOMES)
    for each in results:
        if each["reason"]:
            others.add_row(each["service"], each["case"], each["reason"])
        for difference in each["differences"]:
            cells = (escape(str(cell)) for cell in difference.values())
            different.add_row(each["service"], each["case"], *cells)
    for service in (*sorted({each["service"] for each in results}), "all"):
        count = Counter(each["outcome"] for each in results if service in (each["service"], "all"))
        summary.add_row(service, str(count.total()), *(str(count[name]) for name in OUTCOMES))
    for table in (others, different, summary):
        if table.row_count:
            Console().print(table)


if __name__ == "__main__":
    sys.exit(main())
