import numpy as np
import pytest

from experiments.plasticity import experiment as plasticity
from experiments.plasticity import report
from experiments.plasticity.layers import waking, waking_table
from experiments.plasticity.plots import over_tasks


def made_up(arm, seed, task, **changes):
    """A row whose layers hold 0, 40 and 60 never-active units, of which 0, 10 and 30 come back."""
    counts = {"never_active_at_start": [0, 40, 60], "revived": [0, 10, 30], "died": [0, 5, 5]}
    counts |= {"from_below": [0, 9, 27], "by_itself": [0, 1, 3], "unmoved": [0, 20, 30]}
    return {
        "arm": arm,
        "seed": seed,
        "task": task,
        "online_accuracy": 0.5 + 0.01 * seed,
        "never_active": 0.02,
        "dead": 0.02,
        "effective_rank": 20.0,
        "restarted": 0,
        "diverged": False,
        **{name: sum(counts[name]) for name in ("never_active_at_start", "revived", "died")},
        **{f"{name}_by_layer": values for name, values in counts.items()},
        **changes,
    }


def test_differences_are_paired_and_corrected():
    rows = [made_up("relu", seed, 10) for seed in range(4)]
    rows += [
        made_up(arm, seed, 10, online_accuracy=0.56 + 0.01 * seed + 0.001 * (seed % 2))
        for seed in range(4)
        for arm in report.ARM_NAMES
        if arm != "relu"
    ]
    table = report.differences_table(report.runs_of(rows))
    # 6 points and half a tenth; s = 0.0577 points; t(1 - 0.025 / 4, 3) = 5.3919; over sqrt(4).
    assert table.rows[1] == ["leaky 0.2", "+6.1 ± 0.2*", "+0.0 ± 0.0", "+0.0 ± 0.0", "+0.0 ± 0.0"]
    assert "for the 4 comparisons" in table.notes[0]
    assert report.differences_table(report.runs_of([made_up("leaky_0.2", 0, 10)])).rows == []


def test_the_layers_in_words_and_figures():
    rows = [
        made_up(arm, seed, task) for arm in ("relu", "leaky_0.2") for seed in range(3) for task in (10, 20)
    ]
    runs = report.runs_of(rows)
    table = waking_table(runs, report.ARM_NAMES)
    assert table.rows[0] == ["ReLU", "1", "0", "0", "0", *["\N{EN DASH}"] * 4]
    assert table.rows[1] == [
        "ReLU",
        "2",
        "240",
        "30",
        "60",
        "25.0 ± 0.0",
        "90.0 ± 0.0",
        "10.0 ± 0.0",
        "50.0 ± 0.0",
    ]
    (words,) = waking(runs, report.ARM_NAMES)
    assert "of 600 such units" in words
    assert "there came back ReLU: 0 of 0; leaky 0.2: 0 of 0." in words
    assert (
        "leaky 0.2: 40.0 ± 0.0 % came back, 90.0 ± 0.0 % of these are active with their old weights" in words
    )
    assert "So it is the layers below" in words
    assert "too few to compare" in words
    assert waking(report.runs_of([row for row in rows if row["arm"] != "relu"]), report.ARM_NAMES) == []


def test_the_plot_is_cut_to_what_can_be_and_leaves_out_few_units():
    rows = [
        made_up("relu", seed, task, never_active=0.02 * 4**seed, never_active_at_start=few, revived=few // 2)
        for seed in range(3)
        for task, few in ((10, 40), (20, 6), (30, 7))
    ]
    config = plasticity.Config(tasks=30, seeds=3)
    axes = over_tasks(config, report.runs_of(rows), report.PANELS, report.ARM_NAMES).axes
    band = axes[1].collections[0].get_paths()[0].vertices[:, 1]
    assert band.min() == 0  # the interval of 2, 8 and 32 % is 14 ± 39.5
    assert band.max() == pytest.approx(53.5, abs=0.1)
    shown = axes[3].lines[0].get_ydata()
    # 6 units of each of three seeds are fewer than 20, 7 are not.
    np.testing.assert_allclose(shown, [50, np.nan, 100 * 3 / 7], rtol=1e-6)
