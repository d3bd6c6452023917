"""`dynamicrafter batch`: a list of jobs, told about as they are finished, safe to stop and to start again."""

import argparse
import json
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event
from typing import Any

from ..errors import InputError
from .terminal import notes

DESCRIPTION = """\
Make many clips, from a .jsonl or .csv file of jobs or from a folder of pictures. The same command resumes a batch
that was stopped or killed: finished jobs are not made again. Press Ctrl-C once to stop after the clips being made,
twice to stop at their next step.
"""
EXAMPLE = """\
example:
  dynamicrafter batch jobs.jsonl -o out -m dynamicrafter_512.ckpt --set steps=25
  where a line of jobs.jsonl is {"image": "boat.jpg", "prompt": "waves", "seed": 7}
"""


def add_arguments(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "batch",
        help="make many clips from a list of jobs",
        description=DESCRIPTION,
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("jobs", metavar="JOBS", help="a .jsonl or .csv file, or a folder of pictures")
    parser.add_argument(
        "-o", "--out", required=True, metavar="FOLDER", help="folder for the clips, report.html and results.jsonl"
    )
    parser.add_argument(
        "-m", "--model", metavar="FILE", help="model for jobs that name none (default: the built-in one)"
    )
    parser.add_argument("--prompt", metavar="PROMPT", help="prompt for jobs that have none")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        dest="settings",
        help="any other key, for jobs that do not give it; may be repeated",
    )
    parser.add_argument(
        "--retries",
        type=int,
        default=0,
        metavar="N",
        help="retries for jobs that fail although their input is right (default: 0)",
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, ... (default: auto)")
    parser.add_argument(
        "--at-once",
        type=int,
        metavar="N",
        help="clips to make at the same time, each with its own copy of the model (default: 1; small models on a CPU: "
        "one to a thread, up to 4)",
    )
    parser.add_argument("--ray", metavar="ADDRESS", help="a Ray cluster: host:port, auto, or local")
    parser.add_argument("--check", action="store_true", help="check all jobs and make none")
    parser.add_argument("--quiet", action="store_true", help="no progress: only what failed")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """0: all made; 1: some failed; 3: stopped before the end, to be resumed."""
    from ..batch.jobs import read_jobs
    from ..batch.render import render_jobs
    from ..batch.report import Report, of

    defaults = dict(pair(text) for text in arguments.settings)
    defaults |= {key: value for key in ("model", "prompt") if (value := getattr(arguments, key)) is not None}
    if arguments.check:
        return _check(arguments, defaults)
    read = read_jobs(arguments.jobs, defaults)
    line = Line(len(read), arguments.quiet)
    report = Report(Path(arguments.out), len(read))
    stop = Event()
    with notes(quiet=True), stopping(stop, line):
        results = render_jobs(
            read,
            arguments.out,
            device=arguments.device,
            retries=arguments.retries,
            at_once=arguments.at_once,
            ray=arguments.ray,
            stop=stop,
            on_progress=line.step,
        )
        for result in of(results, report):
            line.finished(result, report)
    line.close()
    failures, done = report.count("failed"), report.count("made", "kept")
    if not arguments.quiet:
        sys.stdout.write(f"{done} of {len(read)} clips in {arguments.out}; {failures} failed; see report.html there\n")
    if len(report.results) < len(read):
        return 3
    return 1 if failures else 0


def _check(arguments: argparse.Namespace, defaults: dict[str, Any]) -> int:
    from ..batch.jobs import Job, Refused, read_jobs
    from ..batch.work import Worker, check_settings

    read = read_jobs(arguments.jobs, defaults)
    problems = {each.number: each.error for each in read if isinstance(each, Refused)}
    jobs = [each for each in read if isinstance(each, Job)]
    good = check_settings(
        jobs, Worker(arguments.device), lambda job, error: problems.update({job.number: f"{job.where}: {error}"})
    )
    sys.stderr.writelines(f"{problems[number]}\n" for number in sorted(problems))
    sys.stdout.write(f"{len(good)} of {len(read)} jobs can be made\n")
    return 1 if problems else 0


def pair(text: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    if not equals:
        raise InputError(f"--set is {text!r}; give a key and a value, such as steps=25.")
    try:
        return key, json.loads(value)
    except (ValueError, RecursionError):
        return key, value


class Line:
    """The state of the batch in one line at the foot of a terminal; elsewhere a line for each job."""

    def __init__(self, total: int, quiet: bool) -> None:
        self.total, self.quiet = total, quiet
        self.live = not quiet and sys.stderr.isatty()
        self.begun = time.monotonic()
        self.made = 0
        self.state = f"0 done, {total} to do"

    def step(self, stage: str, done: int, total: int) -> None:
        if self.live:
            sys.stderr.write(f"\r\x1b[K{self.state}  |  {stage} {done}/{total}")
            sys.stderr.flush()

    def finished(self, result: Any, report: Any) -> None:
        self.made += result.state == "made"
        seconds = time.monotonic() - self.begun
        rate = self.made / seconds if self.made else 0.0
        left = self.total - len(report.results)
        done, failures = report.count("made", "kept"), report.count("failed")
        self.state = f"{done} done, {failures} failed, {left} to do"
        if rate:
            self.state += f"  |  {3600 * rate:.0f} clips an hour, about {_in_words(left / rate)} left"
        if self.live:
            sys.stderr.write("\r\x1b[K")
        if result.error:
            sys.stderr.write(f"{result.error}\n")
        elif not self.quiet:
            what = "already there" if result.state == "kept" else f"{result.seconds:.1f} s"
            sys.stderr.write(f"{result.name}: {what}  ({self.state})\n" if not self.live else f"{self.state}")
        sys.stderr.flush()

    def tell(self, text: str) -> None:
        sys.stderr.write(f"\n{text}\n")

    def close(self) -> None:
        if self.live:
            sys.stderr.write("\n")


def _in_words(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


@contextmanager
def stopping(stop: Event, line: Line) -> Iterator[None]:
    """Ctrl-C, or the end of a session: first finish what is being made, then stop at its next step."""

    def once(*_: object) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()
        line.tell(
            "Stopping after the clips being made; the same command resumes from here. Ctrl-C again stops at their next step."
        )

    previous = {each: signal.signal(each, once) for each in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for each, handler in previous.items():
            signal.signal(each, handler)
