"""What every experiment does around its science: the common flags, the run folder, the sweep, what is left behind."""

from __future__ import annotations

import dataclasses
import json
import math
import shlex
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from experiments.lab.run import memory, processes, store
from experiments.lab.run.devices import environment
from experiments.lab.run.errors import LabError
from experiments.lab.run.progress import progress
from experiments.lab.run.store import Record
from experiments.lab.run.sweep import Programs, fingerprint, sweep
from experiments.lab.show import plots
from experiments.lab.show.page import Page
from experiments.lab.show.table import Table

_NOT_SETTINGS = ("out", "data", "smoke", "full", "fresh", "so_far")  # they do not determine the rows


@dataclasses.dataclass(frozen=True)
class Flags:
    """The flags that every experiment has."""

    out: Path
    """The folder of the run: rows, plots and page.
    A folder that holds a run of other settings is refused, not overwritten."""

    smoke: bool = False
    """A few seconds, to see that everything works."""

    full: bool = False
    """The published scale."""

    fresh: bool = False
    """Remove what an earlier run has left in the folder, and start over."""

    so_far: bool = False
    """Compute nothing: report on what a run that was stopped has finished."""


class Outcome(NamedTuple):
    """What a run has measured.

    Attributes:
        records: of all finished rows, in the order of the sweep.
        seconds: what the finished rows took, compiling included, over all processes that computed them one after the
            other; None where that is not known.
        missing: how many rows of the sweep are not finished; not 0 only with --so-far.
    """

    records: list[Record]
    seconds: float | None
    missing: int


def carry_out(
    name: str,
    config: Flags,
    groups: Sequence[Programs],
    data: Any,
    what: str,
    engine: Callable[..., list[Record]] = sweep,
    **identity: Any,
) -> Outcome:
    """Runs the sweep in the folder of the run, or goes on with one that was stopped.

    Args:
        name: of the experiment.
        config: its flags.
        groups: the sweep.
        data: given to every `train`.
        what: is counted in the progress line, for example "networks".
        engine: computes the rows: `sweep`, or `loop` of `experiments.lab.run.loop` for convolutions.
        **identity: what determines the rows beside the flags and the programs, such as the data's checksum.

    Raises:
        LabError: if the folder cannot be used, or --so-far finds nothing.
    """
    began = time.monotonic()
    settings = {key: value for key, value in dataclasses.asdict(config).items() if key not in _NOT_SETTINGS}
    settings = {"experiment": name, **settings, **identity, **fingerprint(groups, data)}
    total = sum(len(group.rows) for group in groups)
    with processes.open_run(config.out, settings, fresh=config.fresh) as folder:
        if folder.since is not None:
            folder.since = began
        before = len(folder.finished)
        if folder.damaged:
            print(
                f"{folder.damaged} damaged file(s) in {config.out / store.CHUNKS}: those {what} are computed again."
            )
        if config.so_far:
            if not before:
                raise LabError(f"{config.out} holds no finished {what}: leave out --so-far.")
            print(f"{before} of {total} {what} are finished; this is the report of those.")
            return Outcome(folder.assemble(), folder.seconds, total - before)
        with progress(what, total, before) as advance:
            records = engine(groups, data, folder, advance)
    return Outcome(records, folder.seconds, 0)


def write_up(
    name: str,
    config: Flags,
    outcome: Outcome,
    *,
    title: str,
    lead: Sequence[str],
    tables: Sequence[Table],
    figures: Sequence[tuple[str, str, Any]],
) -> None:
    """Prints the tables and writes all but the rows: plots, environment.json, summary.md and report.html.

    Args:
        name: of the experiment.
        config: its flags.
        outcome: of `carry_out`.
        title: the question.
        lead: paragraphs: what is measured and how; the first is the most important.
        tables: the verdicts first.
        figures: file name, caption and a function without arguments that draws; none is drawn without matplotlib.
    """
    if not processes.leads():
        return
    folder = config.out
    # Whoever repeats the command has nothing to remove.
    flags = [flag for flag in sys.argv[1:] if flag != "--fresh"]
    command = f"python -m experiments.{name} {shlex.join(flags)}".rstrip()
    about = environment() | {"command": command, "seconds": _seconds(folder, outcome)}
    store.write(folder / "environment.json", store.dump(about, indent=2) + "\n")
    lead = [
        *lead,
        *([f"Cut short: {outcome.missing} rows of the sweep are missing."] if outcome.missing else []),
    ]
    for picture, _, draw in figures if plots.available() else ():
        plots.save(draw(), folder / picture)

    versions = ", ".join(f"{package} {version}" for package, version in about["packages"].items())
    machine = f"{about['cores']} cores of {about['processor']}, {about['platform']}; {versions}"
    took = f"Took {about['seconds']} s on {machine}." if about["seconds"] else f"Made on {machine}."
    page = Page(title, lead[0])
    for paragraph in lead[1:]:
        page.paragraph(paragraph)
    for picture, caption, _ in figures if plots.available() else ():
        page.figure(folder / picture, caption)
    if not plots.available():
        page.paragraph(plots.MISSING, "note")
    page.heading("What was measured")
    for table in tables:
        page.table(table)
    page.heading("How to repeat it")
    page.listing(command)
    store.write(folder / "report.html", page.to_html([f"{about['date']}. {took}"]))

    shown = [f"![{caption}]({picture})" for picture, caption, _ in figures]
    parts = [f"# {title}", *lead, *(table.to_markdown() for table in tables)]
    parts += [*(shown if plots.available() else [plots.MISSING]), f"`{command}`", took]
    store.write(folder / "summary.md", "\n\n".join(part.strip() for part in parts) + "\n")

    for table in tables:
        table.show()
        print()
    if not plots.available():
        print(plots.MISSING)
    print(f"rows, plots and page: {folder / 'report.html'}")


def _seconds(folder: Path, outcome: Outcome) -> int | None:
    """What the run took; what an earlier report has noted where the rows do not tell."""
    if outcome.seconds is not None:
        return max(1, round(outcome.seconds))
    try:
        noted = json.loads((folder / "environment.json").read_text())["seconds"]
    except (OSError, ValueError, KeyError):
        return None
    return int(noted) if noted else None


def settings_of(config: Any, checks: Mapping[str, Any]) -> None:
    """Raises a LabError with a sentence for the first setting that is not what it must be.

    Args:
        config: a dataclass.
        checks: by the field's name, (condition on a value, what to give); a tuple's values are checked one by one,
            and a tuple must hold at least one value and none twice. With the seeds they make the grid.
    """
    for name, (holds, remedy) in checks.items():
        value, flag = getattr(config, name), f"--{name.replace('_', '-')}"
        if isinstance(value, tuple):
            if not value:
                raise LabError(f"{flag} is empty: give one or more values.")
            if len(set(value)) < len(value):
                raise LabError(f"{flag} names a value twice ({value}): give each once.")
        if not all(holds(one) for one in (value if isinstance(value, tuple) else (value,))):
            raise LabError(f"{flag} is {value}: {remedy}.")
    if "seeds" in checks:
        values = [getattr(config, name) for name in checks]
        memory.check_grid(
            config.seeds * math.prod(len(value) for value in values if isinstance(value, tuple))
        )


def check_hidden(hidden: Sequence[int]) -> None:
    """Raises a LabError unless these are widths of hidden layers; the same width may come again."""
    if not hidden or min(hidden) < 1:
        raise LabError(f"--hidden is {tuple(hidden)}: give one or more layers of a width of 1 or more.")
