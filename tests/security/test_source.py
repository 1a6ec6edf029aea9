"""What the source may not do: run what a user brings, reach the network, or act when it is imported."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.security.import_time import acts, makers
from tests.security.source_scan import refusals

ROOT = Path(__file__).parents[2]
FILES = [path for package in ("jax_leaky", "experiments") for path in sorted((ROOT / package).rglob("*.py"))]
SOURCES = {path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8") for path in FILES}
MODULES = {name: name.removesuffix(".py").removesuffix("/__init__").replace("/", ".") for name in SOURCES}
MAKERS = set().union(*(makers(text, MODULES[name]) for name, text in SOURCES.items()))
every_module = pytest.mark.parametrize("name", SOURCES)


def test_there_is_source():
    assert len(SOURCES) > 100


@every_module
def test_nothing_is_unpickled_evaluated_or_fetched(name):
    assert refusals(SOURCES[name], name) == []


@every_module
def test_a_module_holds_definitions(name):
    assert acts(SOURCES[name], MODULES[name], MAKERS) == []


BAD = """
import pickle
from joblib import load as read
import numpy; numpy.load(file)
import numpy as np; np.load(file, allow_pickle=True)
import numpy as np; np.load(file, allow_pickle=flag)
from numpy import load; load(x, allow_pickle=True)
from numpy import load as read; read(x)
import numpy as np; read = np.load
import numpy as np; getattr(np, "load")(x)
import jax.numpy as jnp; jnp.load(x)
import torch; torch.load(x)
import torch as data; data.load(x)
from torch import hub; hub.load_state_dict_from_url(x)
import numpy as np; np.lib.format.read_array(file, allow_pickle=True)
from numpy.lib.format import read_array
import pandas; pandas.read_pickle(x)
from sklearn.datasets import fetch_openml
import sklearn.datasets; sklearn.datasets.fetch_20newsgroups()
from sklearn import datasets; datasets.fetch_lfw_people()
import torchvision; torchvision.datasets.MNIST(root, download=True)
from huggingface_hub import hf_hub_download
from urllib.request import urlopen
import requests
import http.client as client
import socket; socket.create_connection(("example.org", 80))
import socket; s = socket.socket(); s.connect(("example.org", 80))
import socket; s = socket.socket(); s.bind(("", 80))
import subprocess; subprocess.run(["curl", address])
from subprocess import check_output; check_output(["wget", address])
import subprocess as s; s.Popen("curl " + address, shell=True)
import subprocess; command = ["curl"]; subprocess.run([*command, address])
import subprocess; subprocess.run([name, address])
import asyncio; asyncio.create_subprocess_exec("curl")
import os; os.system("curl")
from os import system
import os; os.execvp("curl", [])
import os; os.posix_spawn("curl", [], {})
eval(text)
run = exec
compile(text, "", "exec")
import builtins; builtins.eval(text)
__import__(name)
import importlib; importlib.import_module(name)
import importlib; importlib.import_module("pickle").loads(x)
import importlib; importlib.import_module(f"{package}.module")
""".strip().splitlines()


@pytest.mark.parametrize("line", BAD)
def test_the_scan_refuses(line):
    assert refusals(line)


GOOD = """
import json; json.loads(text)
import re; re.compile(text)
import jax; jax.jit(f).lower(x).compile()
import numpy as np; np.load(file, allow_pickle=False)
import importlib; importlib.import_module(f"experiments.benchmark.{name}")
import subprocess, sys; subprocess.Popen([sys.executable, "-m", "experiments"])
""".strip().splitlines()


@pytest.mark.parametrize("line", GOOD)
def test_the_scan_lets_pass(line):
    in_a_function = "def f():\n" + "".join(f"    {part}\n" for part in line.split("; "))
    assert refusals(in_a_function) == []


ACTING = """
X = call()
X = [call() for _ in range(3)]
X: int = call()
import os; os.remove("x")
print("hello")
import jax.numpy as jnp; X = jnp.zeros(3)
import jax; DEVICES = jax.devices()
from pathlib import Path; TEXT = Path("x").read_text()
import numpy as np; X = np.load("x", allow_pickle=False)
def f(x=call()): pass
def f(*, x=call()): pass
@call()
def f(): pass
class C(call()): pass
class C: x = call()
f = lambda x=call(): x
for x in (): pass
if x: import json
with open("x") as file: X = 1
try: import torch
except ImportError: pass
""".strip().replace("@call()\n", "@call()\\n").replace("torch\n", "torch\\n").splitlines()  # fmt: skip


@pytest.mark.parametrize("line", ACTING)
def test_the_reading_of_a_module_refuses(line):
    assert acts(line.replace("\\n", "\n"))


# What a module of ours brings along is imported first: Matplotlib, for one, writes a list of fonts where it lacks one.
IMPORT = """
import ast, importlib, os, sys
from pathlib import Path
sys.dont_write_bytecode = True
def brings(name):
    path = Path(*name.split("."))
    source = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    for node in ast.parse(source.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module != "__future__":
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
absent = set()
def attempt(name):
    try:
        importlib.import_module(name)
    except ImportError as error:
        absent.add(error.name)
names = sys.argv[1:]
for name in sorted({brought for name in names for brought in brings(name)}):
    if name.partition(".")[0] not in ("jax_leaky", "experiments"):
        attempt(name)
forbidden = {"os.system", "os.exec", "os.fork", "os.posix_spawn", "os.spawn", "subprocess.Popen", "os.remove"}
forbidden |= {"os.rename", "os.mkdir", "os.rmdir", "os.link", "os.symlink", "os.truncate", "os.chmod"}
def hook(event, arguments):
    writes = event == "open" and (
        set(arguments[1] or "") & set("wax+")
        or not arguments[1] and arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
    )
    if writes or event in forbidden or event.startswith("socket."):
        raise RuntimeError(f"an import does {event} {arguments[:2]}")
assert not [name for name in sys.modules if name.partition(".")[0] in {name.partition(".")[0] for name in names}]
sys.addaudithook(hook)
for name in names:
    attempt(name)
import jax
jax.config.update("jax_num_cpu_devices", 3)  # which JAX refuses once a backend has been started
print(*sorted(name for name in names if name not in sys.modules))
"""


def imported(*names, path=ROOT):
    """The process that has imported the modules under a watch."""
    return subprocess.run(
        [sys.executable, "-c", IMPORT, *names],
        capture_output=True,
        text=True,
        cwd=path,
        env=os.environ | {"PYTHONPATH": str(path)},
        check=False,
    )


def test_importing_every_module_writes_nothing_starts_nothing_and_connects_to_nothing():
    done = imported(*(name for name in MODULES.values() if not name.endswith("__main__")))
    assert done.returncode == 0, done.stderr[-1000:]
    # PyTorch is no dependency, not even of the extras but that of the peers.
    assert all("torch" in name for name in done.stdout.split())


@pytest.mark.parametrize(
    "line",
    [
        "open('x', 'w')",
        "import pathlib; pathlib.Path('x').write_text('')",
        "import os; os.open('x', os.O_CREAT)",
        "import os; os.mkdir('x')",
        "import tempfile; tempfile.TemporaryFile()",
        "import subprocess; subprocess.run(['true'])",
        "import os; os.system('true')",
        "import socket; socket.socket()",
        "import jax; jax.devices()",
        "import jax.numpy as jnp; X = jnp.zeros(3)",
    ],
)
def test_the_watch_sees(line, tmp_path):
    (tmp_path / "bad_module.py").write_text(line + "\n")
    done = imported("bad_module", path=tmp_path)
    assert done.returncode == 1
    assert "an import does" in done.stderr or "jax_num_cpu_devices" in done.stderr
