"""What is said of LeakyReLU, and what the recorded runs say to it.

Reads the rows under experiments/results, computes for each sentence the differences between leaky networks and
ReLU networks of the same seed, and writes claims.md and claims.html: the test, the effect with its interval, and the
verdict. Intervals are corrected for the number of comparisons of a sentence. There is no verdict without the rows.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

from experiments.lab import cli, interrupt, store
from experiments.lab.errors import LabError
from experiments.lab.evidence import Finding, examine
from experiments.lab.sentences import CLAIMS
from experiments.lab.store import Record
from experiments.reports.claims import report

NAME = "claims"
_RESIDUALS = "residuals"  # the benchmark's figures: a row per block and way


@dataclasses.dataclass(frozen=True)
class Config:
    """Where the rows are, and where the verdicts go."""

    results: Path = Path("experiments/results")
    """A folder with a folder of each experiment's recorded run; claims.md and claims.html are written there."""


def rows_of(results: Path) -> dict[str, list[Record]]:
    """The recorded rows by the experiment's name, for each experiment that a claim needs and that is there.

    Raises:
        LabError: if a file of rows cannot be read.
    """
    found = {}
    for name in {each.experiment for claim in CLAIMS for each in claim.comparisons}:
        path = results / f"{_RESIDUALS}.json" if name == _RESIDUALS else results / name / store.ROWS
        try:
            text = path.read_text(encoding="utf-8")
        except FileNotFoundError:
            continue
        try:
            found[name] = (
                _residual_rows(text)
                if name == _RESIDUALS
                else [json.loads(line) for line in text.splitlines()]
            )
        except (ValueError, KeyError) as error:
            raise LabError(f"{path} cannot be read ({error}): record the run again.") from None
    return found


def findings(results: Path) -> list[Finding]:
    """Each claim with its effects and its verdict, from the rows in a folder of results."""
    rows = rows_of(results)
    try:
        return [examine(claim, rows) for claim in CLAIMS]
    except KeyError as error:
        raise LabError(f"The rows under {results} lack the key {error}: record the runs again.") from None


def _residual_rows(text: str) -> list[Record]:
    """The blocks on the CPU stand for the seeds: each has all the ways."""
    figures = json.loads(text)["cpu"]["figures"]
    blocks = list(dict.fromkeys(figure["block"] for figure in figures))
    return [figure | {"seed": blocks.index(figure["block"])} for figure in figures]


def run(config: Config) -> None:
    """From the rows to the verdicts."""
    if not config.results.is_dir():
        raise LabError(f"--results {config.results} is no folder: give the folder with the recorded runs.")
    report(findings(config.results), config.results)


def main() -> None:
    """The command line."""
    config = cli.parse(Config, {}, prog=f"python -m experiments.{NAME}", description=__doc__)
    interrupt.enter(lambda: run(config))


if __name__ == "__main__":
    main()
