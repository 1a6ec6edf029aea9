"""What is said of LeakyReLU, and what the recorded runs say to it.

Reads the recorded rows of the experiments, computes for each sentence the differences between leaky networks and
ReLU networks of the same seed, and writes claims.md and claims.html: the test, the effect with its interval, and the
verdict. Intervals are corrected for the number of comparisons of a sentence. There is no verdict without the rows.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

from experiments.claims import recorded
from experiments.claims.evidence import Comparison, Finding, examine
from experiments.claims.report import report
from experiments.claims.sentences import CLAIMS
from experiments.lab.run import cli, store
from experiments.lab.run.errors import LabError
from experiments.lab.run.store import Record

NAME = "claims"
_RESIDUALS = "residuals"  # the benchmark's figures: a row per block and way


@dataclasses.dataclass(frozen=True)
class Config:
    """Where the rows are, and where the verdicts go."""

    results: Path = Path("experiments")
    """The folder that holds NAME/results, the recorded run of each experiment; the verdicts go to claims/results."""


def rows_of(results: Path) -> dict[str, list[Record]]:
    """The recorded rows by the experiment's name, for each experiment that a claim needs and that is there.

    Raises:
        LabError: if a file of rows cannot be read, is damaged, or lacks networks of its run; see
            `experiments.claims.recorded` for what can be found, and what cannot.
    """
    found = {}
    comparisons = [each for claim in CLAIMS for each in claim.comparisons]
    for name in dict.fromkeys(each.experiment for each in comparisons):
        if name == _RESIDUALS:
            rows = _residual_rows(results / "benchmark" / "results" / f"{_RESIDUALS}.json")
        else:
            path = results / name / "results" / store.ROWS
            rows = recorded.rows_of(path)
            if rows:
                keys = [
                    key for each in comparisons if each.experiment == name for key in _keys(each, rows[0])
                ]
                recorded.check_whole(rows, keys, path)
        if rows:
            found[name] = rows
    return found


def findings(results: Path) -> list[Finding]:
    """Each claim with its effects and its verdict, from the rows in a folder of results."""
    rows = rows_of(results)
    try:
        return [examine(claim, rows) for claim in CLAIMS]
    except KeyError as error:
        raise LabError(f"The rows under {results} lack the key {error}: record the runs again.") from None
    except (TypeError, ValueError, IndexError, ZeroDivisionError) as error:
        raise LabError(
            f"The rows under {results} hold what cannot be compared ({error}): record the runs again."
        ) from None


def _keys(comparison: Comparison, row: Record) -> list[str]:
    """What tells a network from the others of its seed, with the rates that a comparison takes together."""
    arms = (comparison.baseline, *comparison.arms.values())
    pooled = [key for key in ("learning_rate",) if key in row]
    return [*comparison.settings, *pooled, *(key for holds in arms for key in holds)]


def _residual_rows(path: Path) -> list[Record] | None:
    """The blocks on the CPU stand for the seeds: each has all the ways."""
    text = recorded.read(path)
    if text is None:
        return None
    table = recorded.parse(text, path)
    try:
        figures = table["cpu"]["figures"]
        blocks = list(dict.fromkeys(figure["block"] for figure in figures))
    except (KeyError, TypeError) as error:
        raise LabError(f"{path} cannot be read ({error}): record the run again.") from None
    recorded.check_kinds(figures, path)
    return [figure | {"seed": blocks.index(figure["block"])} for figure in figures]


def run(config: Config) -> None:
    """From the rows to the verdicts."""
    if not config.results.is_dir():
        raise LabError(f"--results {config.results} is no folder: give the folder with the recorded runs.")
    report(findings(config.results), config.results / "claims" / "results")


def main() -> None:
    """The command line."""
    cli.start(NAME, run, Config, {}, __doc__, all_cores=False)
