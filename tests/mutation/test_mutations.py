"""Each fault of the lists beside this file, put into a copy of the package, makes the test that is named there fail."""

import importlib
import multiprocessing
import shutil
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


# A fork of a process that has imported what no fault touches, and has started no thread: half of a fault's time.
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["flax.linen", "flax.nnx", "jax", "optax", "pytest"])
INSIDE = """
import os, pytest, sys, traceback
sys.dont_write_bytecode = True
sys.path.insert(0, folder)
os.chdir(folder)
os.environ |= {"PYTHONPATH": folder, "HYPOTHESIS_STORAGE_DIRECTORY": f"{folder}/examples"}
for stream in (1, 2):
    os.dup2(os.open("said.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND), stream)
# Plain asserts: under CI pytest would explain a failure line by line, which takes hours for two arrays as bytes.
quiet = ["-q", "-x", "--tb=line", "--assert=plain", "-p", "no:cacheprovider", "-p", "no:xdist"]
quiet += ["-o", "faulthandler_timeout=200"]
code = 70  # where pytest itself ends in an exception
try:
    code = pytest.main([*quiet, *tests])
except Exception:
    traceback.print_exc()
sys.stdout.flush()
os._exit(code)
"""


def run(folder, *tests):
    """How pytest ends for some tests, with the package of that folder, and what it says."""
    said = folder / "said.txt"
    named = [test if test.startswith("-") else f"tests/{test}" for test in tests]
    said.unlink(missing_ok=True)
    process = FORKS.Process(target=exec, args=(INSIDE, {"folder": str(folder), "tests": named}))
    process.start()
    process.join(300)
    process.kill()  # where it has not ended: its exit code is then no number of pytest's
    process.join()
    return process.exitcode, said.read_text()


def test_the_copy_is_what_is_tested_and_is_sound(copy):
    code, said = run(copy, *dict.fromkeys(fault.test for fault in FAULTS))
    assert code == 0, said[-2000:]
    imported = copy / "tests" / "test_imported.py"
    imported.write_text(WHERE)
    where = run(copy, imported.name, "-s")[1].splitlines()
    assert len(found := [line for line in where if line.startswith("from ")]) == 2, where
    assert all(Path(line.removeprefix("from ")).is_relative_to(copy) for line in found), found


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.what.replace(" ", "-"))
def test_the_fault_is_caught(copy, fault):
    path = copy / "jax_leaky" / fault.file
    sound = path.read_text()
    assert sound.count(fault.old) == 1, f"{fault.file} holds the text {sound.count(fault.old)} times"
    path.write_text(sound.replace(fault.old, fault.new))
    try:
        code, said = run(copy, fault.test)
    finally:
        path.write_text(sound)
    # 1: tests were run and some failed; an error of collection or of usage would be another number.
    assert code == 1, said[-2000:]
