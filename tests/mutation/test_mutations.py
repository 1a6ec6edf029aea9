"""Each fault of the lists beside this file, put into a copy of the package, makes the test that is named there fail."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.mutation.faults_of_the_counters import CENSUS, UNITS
from tests.mutation.faults_of_the_op import OP

ROOT = Path(__file__).parents[2]
FAULTS = OP + UNITS + CENSUS
pytestmark = pytest.mark.mutation
# That a random example fails is enough: making it smaller takes minutes.
NO_SHRINKING = """

import hypothesis
hypothesis.settings.register_profile(
    "first failure", phases=[hypothesis.Phase.explicit, hypothesis.Phase.generate]
)
hypothesis.settings.load_profile("first failure")
"""


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    """The package and its tests in a folder of their own."""
    folder = tmp_path_factory.mktemp("copy")
    ignored = shutil.ignore_patterns("__pycache__", "mutation", "experiments", "conformance")
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
        [*command, *(f"tests/{test}" for test in tests)],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_copy_is_what_is_tested_and_is_sound(copy):
    named = run(copy, *dict.fromkeys(fault.test for fault in FAULTS))
    assert named.returncode == 0, named.stdout[-2000:]
    where = subprocess.run(
        [sys.executable, "-c", "import jax_leaky; print(jax_leaky.__file__)"],
        cwd=copy,
        env=os.environ | {"PYTHONPATH": str(copy)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert Path(where.stdout.strip()).is_relative_to(copy)


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
