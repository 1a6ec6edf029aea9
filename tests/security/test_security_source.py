"""What the source may not do: run what a user brings, reach the network, or act when it is imported."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FILES = [path for package in ("jax_leaky", "experiments") for path in sorted((ROOT / package).rglob("*.py"))]
TREES = {path.relative_to(ROOT).as_posix(): ast.parse(path.read_text(encoding="utf-8")) for path in FILES}

UNPICKLE = {"pickle", "marshal", "shelve", "dill", "cloudpickle", "joblib"}
NETWORK = {"urllib", "http", "ftplib", "requests", "httpx", "aiohttp", "smtplib"}
EVALUATE = {"eval", "exec", "compile", "__import__", "os.system", "os.popen"}
# A rule is tied to its function, and the main of a module is called, where the module ends.
TIES = {"defvjp", "defjvp", "main"}


def imported(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""


def calls(tree):
    return [(ast.unparse(node.func), node) for node in ast.walk(tree) if isinstance(node, ast.Call)]


def test_there_is_source():
    assert len(TREES) > 100


@pytest.mark.parametrize("tree", TREES.values(), ids=TREES)
def test_nothing_is_unpickled_evaluated_or_fetched(tree):
    roots = {module.partition(".")[0] for module in imported(tree)}
    assert not roots & (UNPICKLE | NETWORK)
    for function, call in calls(tree):
        assert function not in EVALUATE
        given = {word.arg: ast.unparse(word.value) for word in call.keywords}
        assert given.get("shell", "False") == "False"
        if function in ("np.load", "numpy.load"):
            assert given.get("allow_pickle") == "False"


@pytest.mark.parametrize("tree", TREES.values(), ids=TREES)
def test_a_module_holds_definitions(tree):
    definition = (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.ClassDef, ast.Assign, ast.AnnAssign)
    for node in tree.body:
        if isinstance(node, definition):
            continue
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            continue  # the docstring
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
            assert ast.unparse(node.value.func).rpartition(".")[2] in TIES
        elif isinstance(node, ast.If):
            assert ast.unparse(node.test) in ("TYPE_CHECKING", "__name__ == '__main__'")
        else:
            # A table of constants that NumPy computes without its warnings.
            assert isinstance(node, ast.With)
            assert ast.unparse(node.items[0].context_expr) == "np.errstate(all='ignore')"
            assert all(isinstance(line, ast.Assign) for line in node.body)


def test_importing_writes_no_file_starts_no_process_and_opens_no_connection():
    code = """
import sys, jax, flax.linen, flax.nnx, optax, numpy
seen = []
def hook(event, arguments):
    if event in ("socket.connect", "socket.bind", "subprocess.Popen", "os.system", "os.remove", "os.rename"):
        seen.append((event, repr(arguments)))
    if event == "open" and isinstance(arguments[1], str) and set(arguments[1]) & set("wax+"):
        seen.append((event, repr(arguments)))
sys.dont_write_bytecode = True
sys.addaudithook(hook)
import jax_leaky, jax_leaky.linen, jax_leaky.nnx, jax_leaky.units
print(seen)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
