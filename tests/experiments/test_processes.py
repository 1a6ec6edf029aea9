"""A sweep over several processes that a user starts by hand, as docs/many_machines.md says."""

import functools
import operator
import signal
import socket
import sys

import numpy as np
import pytest

from experiments.lab.run import processes, store
from experiments.lab.run.errors import LabError
from jax_leaky import Census
from tests.experiments import toy_experiment, toy_loop
from tests.experiments.test_resume import LOOP, PIPES, SWEEP, lines, start, unbroken

# Each process counts its share of eight batches.
COUNT_A_SHARE = """
import sys, jax, numpy as np
from experiments.lab.run import processes
from jax_leaky import census
processes.join()
index, count = jax.process_index(), jax.process_count()
mine = np.random.default_rng(0).normal(size=(8, 16, 5)).astype(np.float32)[index::count]
counts = census(lambda x: jax.nn.leaky_relu(jax.nn.relu(x) - 0.5, 0.1), list(mine))
counts.save(f"{sys.argv[1]}/{index}.json")
processes.meet("all have counted")
"""


def start_all(count, command, path, *flags):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    return [
        start(
            command,
            path,
            *flags,
            env=PIPES["env"] | dict(zip(processes.VARIABLES, (address, str(count), str(index)), strict=True)),
        )
        for index in range(count)
    ]


def finish(started):
    """What each said; all must end well."""
    said = [process.communicate(timeout=200) for process in started]
    assert [process.returncode for process in started] == [0] * len(started), said
    return said


@pytest.mark.slow
@pytest.mark.parametrize(
    ("count", "command", "toy"),
    [
        (2, SWEEP, toy_experiment),
        (2, LOOP, toy_loop),
        (3, SWEEP, toy_experiment),
    ],
)
def test_several_processes_give_the_bytes_of_one(tmp_path, count, command, toy):
    several, alone = (toy_experiment.Config(out=tmp_path / name) for name in ("several", "alone"))
    finish(start_all(count, command, several.out))
    shares = [part.read_text().count("\n") for part in sorted(several.out.glob("finished_*.jsonl"))]
    assert shares == [14 // count + (index < 14 % count) for index in range(count)]
    toy.run(alone)
    assert (several.out / store.ROWS).read_bytes() == (alone.out / store.ROWS).read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("victim", [0, 1])
def test_when_one_dies_jax_ends_the_others_and_the_same_command_goes_on(tmp_path, victim):
    flags = ("--rows", "16", "--steps", "4000")
    started = start_all(2, SWEEP, tmp_path / "several", *flags)
    while not lines(tmp_path / "several"):
        assert started[0].poll() is None, started[0].communicate()
    started[victim].kill()
    said = [process.communicate(timeout=200)[1] for process in started]
    assert "another task died" in said[1 - victim]
    assert [process.returncode for process in started][victim] == -signal.SIGKILL
    assert not (tmp_path / "several" / store.ROWS).exists()
    finish(start_all(3, SWEEP, tmp_path / "several", *flags))
    assert (tmp_path / "several" / store.ROWS).read_bytes() == unbroken(SWEEP, tmp_path / "alone", *flags)[0]


@pytest.mark.slow
def test_censuses_of_several_processes_add_up(tmp_path):
    finish(start_all(2, [sys.executable, "-c", COUNT_A_SHARE], tmp_path))
    whole = functools.reduce(operator.add, map(Census.load, sorted(tmp_path.glob("*.json"))))
    x = np.random.default_rng(0).normal(size=(8 * 16, 5)).astype(np.float32)
    for site, z in zip(whole, (x, np.maximum(x, 0) - 0.5), strict=True):
        assert site.n == len(z)
        np.testing.assert_array_equal(site.per_unit("act_freq"), (z > 0).mean(0))


@pytest.mark.slow
def test_a_folder_in_use_is_refused_and_no_process_stays(tmp_path):
    with store.open_run(tmp_path, {}):
        started = start_all(2, SWEEP, tmp_path)
        said = [process.communicate(timeout=200)[1] for process in started]
    assert started[0].returncode == 2
    assert "is in use by another run" in said[0]
    assert started[1].returncode != 0


@pytest.mark.parametrize(
    ("variables", "sentence"),
    [
        ({"JAX_PROCESS_ID": "0"}, r"are not found \(.*give all of JAX_COORDINATOR_ADDRESS"),
        (dict(zip(processes.VARIABLES, ("127.0.0.1:1", "two", "0"), strict=True)), "'two'.*give all of"),
        ({"SLURM_NTASKS": "4"}, r"are not found \(nobody is there\).*start them with srun"),
    ],
)
def test_what_does_not_name_the_others_is_a_sentence(monkeypatch, variables, sentence):
    def initialize(*_given, **_named):
        raise ValueError("nobody is there\nand a long trace")

    monkeypatch.setattr("jax.distributed.initialize", initialize)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(LabError, match=sentence):
        processes.join()


def test_one_process_alone_waits_for_nobody(monkeypatch):
    monkeypatch.setenv("SLURM_NTASKS", "1")
    processes.join()
    assert processes.leads()
    assert all(map(processes.is_mine, range(3)))
