"""Writes docs/conformance.md: `python tests/conformance/write_table.py`.

Runs the comparisons of the modules beside this one and tells what each gave; a library that is not installed is left
out, and named. test_conformance_table.py fails where the page is not what this writes.
"""

import importlib
import math
from pathlib import Path

import jax
import numpy as np
import pytest

import jax_leaky
from tests.conformance.comparisons import POINTS, SLOPE, ours, points

MODULES = ("torch", "tensorflow", "jax_nn", "onnx")
PAGE = Path(__file__).parents[2] / "docs" / "conformance.md"


def main():
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(page())
    print(PAGE.read_text())


def page():
    """The page's text."""
    sides = {"jax_leaky": ours(points())}
    versions, missing, lines = [f"jax_leaky {jax_leaky.__version__}", f"jax {jax.__version__}"], [], []
    for name in MODULES:
        try:
            module = importlib.import_module(f"tests.conformance.test_{name}")
        except pytest.skip.Exception as absent:
            missing.append(str(absent))
            continue
        sides[module.LIBRARY] = module.value_and_derivative(points())
        if name == "tensorflow":
            sides["Keras"] = module.keras_value_and_derivative(points())
            sides["Keras PReLU"] = module.keras_prelu_value_and_derivative(points())
            versions.append(f"keras {module.keras.__version__}")
        if name != "jax_nn":
            versions.append(f"{name} {module.VERSION}")
        lines += suite_lines(module)
    parts = [
        "# Conformance",
        f"What `leaky_relu` gives beside the same function of other libraries. `{command()}` wrote this page, with "
        f"{', '.join(versions)} on {jax.default_backend()}. "
        + " ".join(f"Left out: {text}." for text in missing),
        "## Point by point",
        f"Value; derivative. float32, slope {SLOPE}, which every dtype holds exactly.",
        table(
            ["input", *sides],
            [[name, *(cell(*side, i) for side in sides.values())] for i, name in enumerate(POINTS)],
        ),
        "XLA's CPU backend takes subnormal numbers for 0, in every operation: there jax_leaky's derivative is the "
        "slope, and jax.nn's is 1. jax.nn's derivative at 0 is 1; Keras's PReLU, written as relu(x) - slope relu(-x), "
        "has 0. "
        "Those of PyTorch, TensorFlow and Keras's LeakyReLU are the slope, as ours.",
        "## Their test suites",
        "The largest difference is relative to the greatest number of the array.",
        table(["library", "suite", "part", "arrays", "numbers", "largest difference"], lines, text_columns=3),
        "Differences: dtypes of 16 bits, for which the slope is rounded to the dtype of the input here and not there; "
        "and the gradient of a shared slope, a sum that each library takes in its own order, and whose terms cancel.",
    ]
    return "\n\n".join(part.strip() for part in parts) + "\n"


def command():
    return f"python {Path(__file__).relative_to(PAGE.parents[1])}"


def suite_lines(module):
    """One line per suite and part, each comparison checked."""
    found = {}
    for comparison in module.suites():
        comparison.check()
        found.setdefault((comparison.suite, comparison.part), []).append(comparison)
    for (suite, part), some in sorted(found.items()):
        largest = max(comparison.largest_difference() for comparison in some)
        numbers = sum(np.size(comparison.theirs) for comparison in some)
        yield [
            module.LIBRARY,
            suite,
            part,
            f"{len(some)}",
            f"{numbers:,}",
            f"{largest:.1e}" if largest else "none",
        ]


def cell(y, x_bar, i):
    """`value; derivative` at a point."""
    return f"{short(y[i])}; {'no gradient' if x_bar is None else short(x_bar[i])}"


def short(number):
    number = float(number)
    if number == 0:
        return "-0" if math.copysign(1, number) < 0 else "0"
    return f"{number:.4g}"


def table(header, lines, text_columns=1):
    align = [":--" if column < text_columns else "--:" for column in range(len(header))]
    rows = [header, align, *lines]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


if __name__ == "__main__":
    main()
