import re
import subprocess
import sys
from pathlib import Path

import pytest

from experiments import __main__ as listing
from experiments.lab.run.errors import LabError

ROOT = Path(__file__).parents[2]
# JAX refuses another number of devices once it has looked for them.
IMPORT_ALL = """
import pkgutil, importlib, threading, jax, experiments, jax_leaky
for package in (experiments, jax_leaky):
    for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        if "torch" not in module.name and not module.name.endswith("__main__"):
            importlib.import_module(module.name)
assert threading.active_count() == 1, threading.enumerate()
jax.config.update("jax_num_cpu_devices", 2)
"""


def test_each_experiment_with_its_question_and_what_it_took(capsys):
    listing.main()
    printed = capsys.readouterr().out
    assert max(map(len, printed.splitlines())) <= 80
    names = listing.experiments()
    assert {"dead_neurons", "born_dead", "plasticity", "pretrained"} <= set(names)
    told = " ".join(printed.split())
    for name, question in names.items():
        assert re.search(
            rf"{name}, (\d+|less than 1) min on 2 cores( with --[^A-Z]+)? {re.escape(' '.join(question.split()))} ",
            told,
        ), name


@pytest.mark.parametrize(("word", "name"), [("plasticity", "plasticity"), ("nowhere", "dead_neurons")])
def test_an_experiment_given_as_an_argument_is_refused_with_the_command_to_give(word, name, capsys):
    with pytest.raises(LabError, match=rf"got {word}: give python -m experiments\.{name}, for example"):
        listing.main([word])
    assert capsys.readouterr().out == ""


def test_nothing_is_said_of_a_run_that_is_not_recorded():
    assert listing.took("no_such_experiment") == ""


def test_importing_a_module_starts_and_writes_nothing(tmp_path):
    command = [sys.executable, "-B", "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r})\n{IMPORT_ALL}"]
    imported = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert imported.returncode == 0, imported.stderr
    assert imported.stdout == ""
    assert not list(tmp_path.iterdir())
