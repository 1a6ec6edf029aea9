"""Every report is written of whatever part of its runs has finished, in any order."""

import random
import re

import pytest

from tests.experiments.recorded import NAMES, rows_of, write_summary

pytest.importorskip("matplotlib")
SWEPT = [name for name in NAMES if name != "pretrained"]  # that one has no sweep
TIMES = {"step", "task"}
KNOWN = (
    "optimizer",
    "mixture",
    "network",
    "normalisation",
    "function",
    "initialisation",
    "gain",
    "width",
    "depth",
)
KNOWN += ("input_dim", "learning_rate", "arm", "activation", "negative_slope", "seed")


def runs_of(name, seeds):
    """The records of each run, of the first seeds, in the order of the sweep."""
    runs = {}
    for row in rows_of(name):
        if row.get("seed", 0) < seeds:
            key = tuple(row.get(name) for name in KNOWN)
            runs.setdefault(key, []).append(row)
    return list(runs.values())


def report(name, runs, which, out, *, draw):
    rows = [record for place, run in enumerate(runs) if place in which for record in run]
    missing = len(runs) - len(which)
    summary = write_summary(name, rows, out, missing=missing, draw=draw)
    assert bool(re.search(rf"Cut short: {missing} \w+ of the sweep are missing\.", summary)) == bool(missing)


@pytest.mark.parametrize("name", SWEPT)
def test_a_report_of_the_first_run_alone(name, tmp_path):
    report(name, runs_of(name, 1), {0}, tmp_path, draw=True)


@pytest.mark.slow
@pytest.mark.parametrize("name", SWEPT)
def test_a_report_of_the_last_run_and_of_all_but_the_first(name, tmp_path):
    """Without ReLU or the baseline in most experiments, in all settings or in one."""
    runs = runs_of(name, 2)
    every = set(range(len(runs)))
    report(name, runs, {len(runs) - 1}, tmp_path, draw=False)
    report(name, runs, every - {0}, tmp_path, draw=False)


@pytest.mark.parametrize("name", SWEPT)
def test_a_report_of_runs_that_finished_at_random(name, tmp_path):
    runs, rng = runs_of(name, 3), random.Random(name)
    for share in (0.1, 0.5):
        which = rng.sample(range(len(runs)), max(1, int(share * len(runs))))
        report(name, runs, set(which), tmp_path, draw=False)


@pytest.mark.slow
@pytest.mark.parametrize("name", SWEPT)
def test_a_report_of_many_prefixes_and_the_figures_of_random_parts(name, tmp_path):
    runs = runs_of(name, 1)
    for count in sorted({*range(1, 5), *range(len(runs), 0, -max(1, len(runs) // 8))}):
        report(name, runs, set(range(count)), tmp_path, draw=False)
    runs, rng = runs_of(name, 2), random.Random(name)
    for share in (0.1, 0.6, 1):
        which = rng.sample(range(len(runs)), max(1, round(share * len(runs))))
        report(name, runs, set(which), tmp_path, draw=True)
