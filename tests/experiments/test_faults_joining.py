"""How processes of one run find each other, and the launcher that starts them on one machine."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from experiments.lab.run import launcher, processes, store
from experiments.lab.run.errors import LabError
from tests.experiments import toy_loop

ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(toy_loop.__file__).parents[2]), "JAX_PLATFORMS": "cpu"}
PIPES = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "env": ENVIRONMENT}
JOIN = "from experiments.lab import interrupt, processes; interrupt.enter(processes.join)"


@pytest.mark.parametrize(
    ("variables", "sentence"),
    [
        ({"JAX_PROCESS_ID": "0"}, "JAX_COORDINATOR_ADDRESS is not set"),
        (
            {"JAX_COORDINATOR_ADDRESS": "127.0.0.1:1", "JAX_NUM_PROCESSES": "two", "JAX_PROCESS_ID": "0"},
            "JAX_NUM_PROCESSES is two: it must be a whole number",
        ),
        (
            {"JAX_COORDINATOR_ADDRESS": "127.0.0.1", "JAX_NUM_PROCESSES": "2", "JAX_PROCESS_ID": "0"},
            "give a host and a port",
        ),
        (
            {"JAX_COORDINATOR_ADDRESS": "127.0.0.1:1", "JAX_NUM_PROCESSES": "2", "JAX_PROCESS_ID": "2"},
            "JAX_PROCESS_ID is 2: give 0 to 1",
        ),
        ({"SLURM_NTASKS": "four"}, "SLURM_NTASKS is four: it must be a whole number"),
        ({"SLURM_NTASKS": "4"}, "the other processes of this run are not found"),
    ],
)
def test_what_does_not_name_the_others_is_a_sentence(monkeypatch, variables, sentence):
    def initialize(**_named):
        raise ValueError("coordinator_address should be defined.")

    monkeypatch.setattr("jax.distributed.initialize", initialize)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(LabError, match=sentence):
        processes.join()


@pytest.mark.slow
@pytest.mark.parametrize("there", [0, 1])
def test_a_process_whose_other_never_starts_ends_in_a_minute_with_a_sentence(there):
    address = f"127.0.0.1:{39517 + there}"
    variables = dict(zip(launcher.VARIABLES, (address, "2", str(there)), strict=True))
    began = time.monotonic()
    alone = subprocess.run(
        [sys.executable, "-c", JOIN],
        **PIPES | {"env": ENVIRONMENT | variables},
        timeout=100,
    )
    assert 55 < time.monotonic() - began < 80
    assert alone.returncode == 2
    waiting, sentence = alone.stderr.strip().splitlines()
    assert waiting == f"waiting for the other processes at {address}, up to 60 s"
    assert sentence.startswith(f"Not all processes of this run have come to {address} in 60 s: start all")


def test_who_waits_in_vain_says_first_for_whom(monkeypatch, capsys):
    waited = {}

    def initialize(initialization_timeout, **_named):
        waited["by JAX"] = initialization_timeout
        time.sleep(3)

    monkeypatch.setattr("jax.distributed.initialize", initialize)
    monkeypatch.setattr(processes, "_QUIET", 0.1)
    monkeypatch.setattr(processes, "_PATIENCE", 0.3)
    for name, value in zip(launcher.VARIABLES, ("10.0.0.1:1234", "2", "0"), strict=True):
        monkeypatch.setenv(name, value)
    with pytest.raises(LabError, match=r"Not all processes .* 10\.0\.0\.1:1234 .*many_machines"):
        processes.join()
    assert capsys.readouterr().err == "waiting for the other processes at 10.0.0.1:1234, up to 0.3 s\n"
    assert waited["by JAX"] > 0.3  # at its own end it aborts the process


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="only Linux tells a process's children here")
def test_a_launcher_that_is_told_to_end_leaves_no_process_behind(tmp_path):
    flags = ["signal_gain", "--smoke", "--seeds", "100000", "--out", str(tmp_path / "run")]
    command = [sys.executable, "-m", "experiments.lab.run.processes", "2", *flags]
    with subprocess.Popen(command, **PIPES) as process:
        while not (tmp_path / "run" / store.CONFIG).exists():
            assert process.poll() is None, process.communicate()
            time.sleep(0.1)
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        assert len(children) == 2
        process.send_signal(signal.SIGTERM)
        said = process.communicate(timeout=30)[1]
    assert process.returncode == 128 + signal.SIGTERM
    assert "Traceback" not in said
    assert "goes on from there" in said
    assert not [child for child in children if Path(f"/proc/{child}").exists()]


def test_the_launcher_ends_what_does_not_end_by_itself():
    stubborn = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(1, flush=True)"
    started = [
        subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE)
        for program in (f"{stubborn}; time.sleep(60)", "import time; time.sleep(60)", f"{stubborn}; exit(3)")
    ]
    for process in (started[0], started[2]):
        process.stdout.readline()
    assert launcher.watch(started, [], patience=0.5, last=0.5) == 2
    assert [process.returncode for process in started] == [-signal.SIGKILL, -signal.SIGTERM, 3]
    for process in started:
        process.communicate()


def test_the_documented_command_says_which_process_failed():
    command = [sys.executable, "-m", "experiments.lab.run.processes", "1", "no_such_experiment"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, env=ENVIRONMENT)
    assert ended.returncode == 1
    assert ended.stderr.strip().splitlines()[-1].startswith("Process 0 ended with status 1")
