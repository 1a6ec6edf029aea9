"""What every experiment does around its science: the common flags, the run folder, the sweep, what is left behind."""

from __future__ import annotations

import dataclasses
import functools
import shlex
import sys
import textwrap
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from typing import Any, NamedTuple

from experiments.lab.run import processes, store
from experiments.lab.run.devices import environment
from experiments.lab.run.errors import LabError
from experiments.lab.run.progress import progress
from experiments.lab.run.settings import Flags
from experiments.lab.run.store import Record, RunFolder
from experiments.lab.run.sweep import Programs, fingerprint, sweep
from experiments.lab.show import plots
from experiments.lab.show.page import Page
from experiments.lab.show.table import Table

_NOT_SETTINGS = ("out", "data", "smoke", "full", "fresh", "so_far")  # they do not determine the rows


class Outcome(NamedTuple):
    """What a run has measured.

    Attributes:
        records: records of all finished runs, in the order of the sweep.
        seconds: time that the finished runs took, compiling included, over all processes that computed them one after
            the other.
        missing: number of runs of the sweep that are not finished; not 0 only with --so-far.
    """

    records: list[Record]
    seconds: float
    missing: int


def carry_out(
    name: str,
    config: Flags,
    groups: Sequence[Programs],
    data: Any,
    what: str,
    engine: Callable[..., None] = sweep,
    **identity: Any,
) -> Outcome:
    """Runs the sweep in the folder of the run, or goes on with one that was stopped.

    Args:
        name: name of the experiment.
        config: settings of the experiment.
        groups: groups of the sweep.
        data: argument of every `train`.
        what: plural of what the progress line counts, for example "networks".
        engine: engine that computes the runs: `sweep`, or `loop` of `experiments.lab.run.loop` for convolutions.
        **identity: what determines the rows beside the flags and the programs, such as the data's checksum.

    Raises:
        LabError: if the folder cannot be used, or --so-far finds nothing.
    """
    total = sum(len(group.runs) for group in groups)
    many = len(groups) > 8  # what is quickly traced needs no bar
    with progress("programs traced", len(groups)) if many else nullcontext(lambda _: None) as advance:
        identity |= fingerprint(groups, data, advance)
    return compute(name, config, identity, total, what, functools.partial(engine, groups, data))


def compute(
    name: str,
    config: Flags,
    identity: Mapping[str, Any],
    total: int,
    what: str,
    engine: Callable[[RunFolder, Callable[[int], None]], None],
) -> Outcome:
    """`carry_out` for runs of any kind: `engine` computes those that the folder lacks, and tells of each."""
    settings = {key: value for key, value in dataclasses.asdict(config).items() if key not in _NOT_SETTINGS}
    with store.open_run(
        config.out, {"experiment": name, **settings, **identity}, fresh=config.fresh
    ) as folder:
        before = len(folder.finished)
        if config.so_far:
            if not before:
                raise LabError(f"{config.out} holds no finished {what}: leave out --so-far.")
            print(f"{before} of {total} {what} are finished; this is the report of those.")
        elif before < total:
            if folder.damaged:
                print(
                    f"{folder.damaged} torn or damaged line(s) in {config.out}: those {what} are computed again."
                )
            print("Ctrl-C stops it. The same command goes on; --so-far reports what is finished.")
            mine = sum(map(processes.is_mine, range(total)))
            with progress(what, mine, mine - sum(map(folder.lacks, range(total)))) as advance:
                engine(folder, advance)
            while len(folder.finished) < total:  # the other processes compute
                time.sleep(1)
                folder.load()
        records = folder.assemble() if processes.leads() else folder.records()
        return Outcome(records, folder.seconds, total - len(folder.finished))


def write_up(
    name: str,
    config: Flags,
    outcome: Outcome,
    *,
    title: str,
    answer: str = "",
    lead: Sequence[str],
    tables: Sequence[Table],
    figures: Sequence[tuple[str, str, Any]],
) -> None:
    """Prints the tables and writes all but the rows: plots, environment.json, summary.md and report.html.

    Args:
        name: name of the experiment.
        config: configuration of the run.
        outcome: result of `carry_out`.
        title: the question.
        answer: the answer in a sentence, with which page and summary open; empty where too few runs have finished.
        lead: paragraphs: what is measured and how; the first is the most important.
        tables: the verdicts first.
        figures: file name, caption and a function without arguments that draws, the most important first; none is drawn
            without matplotlib.
    """
    if not processes.leads():
        return
    folder = config.out
    # Whoever repeats the command has nothing to remove.
    flags = [flag for flag in sys.argv[1:] if flag != "--fresh"]
    command = f"python -m experiments.{name} {shlex.join(flags)}".rstrip()
    about = environment() | {"command": command, "seconds": max(1, round(outcome.seconds))}
    store.write(folder / "environment.json", store.dump(about, indent=2) + "\n")
    lead = [
        *lead,
        *([f"Cut short: {outcome.missing} runs of the sweep are missing."] if outcome.missing else []),
    ]
    for picture, _, draw in figures if plots.available() else ():
        plots.save(draw(), folder / picture)

    versions = ", ".join(f"{package} {version}" for package, version in about["packages"].items())
    machine = f"{about['cores']} cores of {about['processor']}, {about['platform']}; {versions}"
    took = f"Took {about['seconds']} s on {machine}."
    opening, *rest = [answer, *lead] if answer else lead
    page = Page(title, opening)
    if not plots.available():
        page.paragraph(plots.MISSING, "note")
    drawn = figures if plots.available() else ()
    for picture, caption, _ in drawn[:1]:
        page.figure(folder / picture, caption)
    page.heading("How it was measured")
    for paragraph in rest:
        page.paragraph(paragraph)
    for picture, caption, _ in drawn[1:]:
        page.figure(folder / picture, caption)
    page.heading("What was measured")
    for table in tables:
        page.table(table)
    page.heading("How to repeat it")
    page.listing(command)
    store.write(folder / "report.html", page.to_html([f"{about['date']}. {took}"]))

    shown = [f"![{caption}]({picture})" for picture, caption, _ in drawn] or [plots.MISSING]
    parts = [f"# {title}", opening, shown[0], *rest, *(table.to_markdown() for table in tables)]
    parts += [*shown[1:], f"`{command}`", took]
    store.write(folder / "summary.md", "\n\n".join(part.strip() for part in parts) + "\n")

    print(textwrap.fill(opening, 80), end="\n\n")
    for table in tables:
        table.show()
        print()
    if not plots.available():
        print(plots.MISSING)
    print(f"rows, plots and page: {folder / 'report.html'}")
