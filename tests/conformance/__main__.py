"""``python -m tests.conformance``: compare a Flyte with the expected answers."""

import argparse
import contextlib
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from .runner import KINDS, Runner, Target, cases

ROOT = Path(__file__).parents[2]
PEOPLE = ("alice", "bob", "victor", "carol", "expired")
INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the cases that can be run.

    Returns:
        The exit code: 0 if every answer is as expected, 1 if not, 2 if Flyte could not be reached,
        130 if it was interrupted.
    """
    parser = argparse.ArgumentParser(prog="python -m tests.conformance", description=__doc__)
    parser.add_argument("--kind", choices=KINDS, default="union", help="the kind of Flyte")
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
    parser.add_argument("--only", default="", metavar="TEXT", help="run only cases with this text")
    options = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C
    try:
        if options.url is not None:
            return _compare(_target(options), options.only)
        sys.path.append(str(ROOT / "{{cookiecutter.project_slug}}"))
        with local_target(options.kind) as target:
            return _compare(target, options.only)
    except (OSError, ValueError) as error:
        print(error, file=sys.stderr)
        return 2


@contextlib.contextmanager
def local_target(kind: str) -> Iterator[Target]:
    """Start a local Flyte of this kind."""
    from local_flyte import PEOPLE, LocalFlyte, Mode  # noqa: PLC0415 - not for a real Flyte

    with LocalFlyte(mode=Mode(kind)) as flyte:
        tokens = {name: flyte.token(name) for name in PEOPLE}
        yield Target(flyte.url, kind, tokens, ca_cert=flyte.ca_file.read_bytes())


def _target(options: argparse.Namespace) -> Target:
    tokens = {name: os.environ.get(f"FLYTE_TEST_TOKEN_{name.upper()}", "") for name in PEOPLE}
    return Target(
        url=options.url.rstrip("/"),
        kind=options.kind,
        tokens={name: token for name, token in tokens.items() if token},
        ca_cert=options.ca.read_bytes() if options.ca else None,
        org=options.org,
        project=options.project,
        domain=options.domain,
        image=options.image,
        wait_seconds=options.wait,
    )


def _compare(target: Target, only: str) -> int:
    """Run the cases, and print the outcome of each as it ends; return the exit code."""
    runner, outcomes = Runner(target), Counter[str]()
    runner.check()
    chosen = [case for case in cases() if target.kind in case.kinds and only in str(case)]
    try:
        if any(case.needs_tasks and runner.missing(case) is None for case in chosen):
            print("Deploying tasks of the SDK ...", file=sys.stderr)
            _ = runner.tasks
        for number, case in enumerate(chosen, 1):
            started = time.monotonic()
            if (reason := runner.missing(case)) is not None:
                outcome, details = "not tried", [reason]
            else:
                details = runner.run(case)
                outcome = "differs" if details else "as expected"
            outcomes[outcome] += 1
            seconds = f"{time.monotonic() - started:6.1f} s"
            print(f"{number:3}/{len(chosen)}{seconds}  {outcome:11} {case}", *details, sep="\n    ")
            sys.stdout.flush()
    except KeyboardInterrupt:
        runner.abort()
        print(f"Interrupted after {outcomes.total()} of {len(chosen)} cases.")
        return INTERRUPTED
    finally:
        print(", ".join(f"{count} {outcome}" for outcome, count in outcomes.items()))
    return 1 if outcomes["differs"] else 0


if __name__ == "__main__":
    sys.exit(main())
