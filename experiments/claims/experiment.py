"""Common claims about LeakyReLU, and what the recorded runs show.

Reads the recorded rows of the experiments and takes for each claim the differences between leaky networks and ReLU
networks of the same seed, as the experiments' own reports give them. It writes claims.md and claims.html: the test, the
effect with its interval, and the verdict. Without the rows there is no verdict.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from experiments.claims.evidence import Finding, examine
from experiments.claims.report import report
from experiments.claims.sentences import CLAIMS, RUNS
from experiments.lab.analysis import Runs
from experiments.lab.run import cli, store
from experiments.lab.run.errors import LabError

NAME = "claims"


@dataclasses.dataclass(frozen=True)
class Config:
    """Where the rows are, and where the verdicts go."""

    results: Path = Path("experiments")
    """The folder that holds NAME/results, the recorded run of each experiment; the verdicts go to claims/results."""


def findings(results: Path) -> list[Finding]:
    """Each claim with its effects and its verdict, from the rows in a folder of results.

    Raises:
        LabError: if rows that are there cannot be read, or hold what cannot be compared.
    """
    found: dict[str, Runs] = {}
    read: dict[str, Any] = {}
    for name, (experiment, runs_of) in RUNS.items():
        folder = results / experiment / "results"
        path = folder / store.ROWS
        if experiment == "residuals":
            path = results / "benchmark" / "results" / "residuals.json"
        if not path.exists():
            continue
        try:
            if experiment not in read:
                read[experiment] = _read(path)
            found[name] = runs_of(*read[experiment])
        except (OSError, ValueError, TypeError, KeyError, IndexError, AttributeError) as error:
            raise LabError(f"{path} cannot be used ({error!r}): record the run again.") from None
    try:
        return [examine(claim, found) for claim in CLAIMS]
    except (ValueError, TypeError, KeyError, IndexError, AttributeError) as error:
        raise LabError(
            f"The rows in {results} cannot be compared ({error!r}): record the runs again."
        ) from None


def _read(path: Path) -> tuple[list[store.Record], dict[str, Any]]:
    """The rows of a file and the configuration beside it, which may be missing."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".json":
        return json.loads(text)["cpu"]["figures"], {}
    config = path.with_name(store.CONFIG)
    return [json.loads(line) for line in text.splitlines()], json.loads(config.read_text(encoding="utf-8"))


def run(config: Config) -> None:
    """From the rows to the verdicts."""
    if not config.results.is_dir():
        raise LabError(f"--results {config.results} is no folder: give the folder with the recorded runs.")
    report(findings(config.results), config.results / "claims" / "results")


def main() -> None:
    """The command line."""
    cli.start(NAME, run, Config, {}, __doc__, all_cores=False)
