"""Each fault of the lists beside this file, put into a copy of the package, makes the test that is named there fail."""

import importlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LISTS = [
    value
    for path in sorted(Path(__file__).parent.glob("faults_of_*.py"))
    for value in vars(importlib.import_module(f"tests.mutation.{path.stem}")).values()
    if isinstance(value, list)
]
FAULTS = [fault for faults in LISTS for fault in faults]
pytestmark = pytest.mark.mutation
# That a random example fails is enough: making it smaller takes minutes.
NO_SHRINKING = """

import hypothesis
hypothesis.settings.register_profile(
    "first failure", phases=[hypothesis.Phase.explicit, hypothesis.Phase.generate]
)
hypothesis.settings.load_profile("first failure")
"""
WHERE = """
import jax_leaky
from tests.op import oracle
def test_where():
    print("", *(f"from {module.__file__}" for module in (jax_leaky, oracle)), "", sep="\\n")
"""


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    """The package and its tests in a folder of their own."""
    folder = tmp_path_factory.mktemp("copy")
    ignored = shutil.ignore_patterns("__pycache__", "mutation", "experiments", "benchmarks", "conformance")
    for name in ("jax_leaky", "tests"):
        shutil.copytree(ROOT / name, folder / name, ignore=ignored)
    shutil.copy(ROOT / "pyproject.toml", folder)
    with (folder / "tests" / "conftest.py").open("a") as file:
        file.write(NO_SHRINKING)
    return folder


def run(folder, *tests):
    """What pytest says of some tests, with the package of that folder."""
    command = [
        sys.executable,
        "-B",
        "-m",
        "pytest",
        "-q",
        "-x",
        "--tb=line",
        "-p",
        "no:cacheprovider",
        "-p",
        "no:xdist",
    ]
    environment = os.environ | {
        "PYTHONPATH": str(folder),
        "HYPOTHESIS_STORAGE_DIRECTORY": str(folder / "examples"),
    }
    return subprocess.run(
        [*command, *(test if test.startswith("-") else f"tests/{test}" for test in tests)],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_copy_is_what_is_tested_and_is_sound(copy):
    named = run(copy, *dict.fromkeys(fault.test for fault in FAULTS))
    assert named.returncode == 0, named.stdout[-2000:]
    imported = copy / "tests" / "test_imported.py"
    imported.write_text(WHERE)
    where = run(copy, imported.name, "-s").stdout.splitlines()
    assert len(found := [line for line in where if line.startswith("from ")]) == 2, where
    assert all(Path(line.removeprefix("from ")).is_relative_to(copy) for line in found), found


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.what.replace(" ", "-"))
def test_the_fault_is_caught(copy, fault):
    path = copy / "jax_leaky" / fault.file
    sound = path.read_text()
    assert sound.count(fault.old) == 1, f"{fault.file} holds the text {sound.count(fault.old)} times"
    path.write_text(sound.replace(fault.old, fault.new))
    try:
        result = run(copy, fault.test)
    finally:
        path.write_text(sound)
    # 1: tests were run and some failed; an error of collection or of usage would be another number.
    assert result.returncode == 1, result.stdout[-2000:] + result.stderr[-2000:]
