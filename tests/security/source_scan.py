"""Reads Python source for what it may not do: `refusals` names each thing with its line.

Calls are told by what their name was imported as, so that another name for the same function does not hide it, and the
dangerous ones by the last part of the name too, wherever it comes from.
"""

import ast
import re
from collections.abc import Iterator
from typing import NamedTuple

UNPICKLE = {"pickle", "_pickle", "marshal", "shelve", "dill", "cloudpickle", "joblib", "runpy", "ctypes"}
NETWORK = {
    *(
        "urllib",
        "urllib3",
        "http",
        "ftplib",
        "requests",
        "httpx",
        "aiohttp",
        "smtplib",
        "xmlrpc",
        "telnetlib",
    ),
    *("websockets", "pooch", "wget", "gdown", "fsspec", "boto3", "huggingface_hub", "tensorflow_datasets"),
}
# Last names of what unpickles or fetches, whoever offers it.
READERS = re.compile(
    r"loads?|read_array|read_pickle|Unpickler|fetch_\w+|urlopen|urlretrieve|\w*download|\w+_from_url|"
    r"connect|connect_ex|create_connection|create_server|create_subprocess_\w+"
)
ALLOWED_READERS = {
    "json.loads": "JSON holds no code",
    "numpy.load": "only with allow_pickle=False, see below",
    "experiments.lab.data.datasets.load": "our own: IDX files, arrays without pickles, what scikit-learn ships",
    "jax_leaky._census._json.loads": "our own: JSON",
    "checkpoint.load": "Checkpoint's: numbers by numpy.frombuffer, in the program's shapes, under a checksum",
    "folder.load": "RunFolder's: lines of JSON under a checksum",
    "self.load": "RunFolder's, called by itself",
}
ALLOWED_IN: dict[str, dict[str, str]] = {}
EVALUATE = re.compile(
    r"(builtins\.)?(eval|exec|compile|__import__)|os\.(system|popen|fork\w*|exec\w+|spawn\w+|posix_spawn\w*|startfile)|"
    r"pty\.\w+"
)
# A parameter of one of these functions is a command.
STARTERS = {"start": "experiments.lab.run.processes hands it sys.executable and the name of an experiment"}


class Refusal(NamedTuple):
    line: int
    what: str
    name: str


class Source:
    """One module's tree, and what each of its names was imported as."""

    def __init__(self, text: str) -> None:
        self.tree = ast.parse(text)
        self.origins: dict[str, str] = {}
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    name = alias.asname or alias.name.partition(".")[0]
                    self.origins[name] = alias.name if alias.asname else name
            elif isinstance(node, ast.ImportFrom):
                for alias in node.names:
                    self.origins[alias.asname or alias.name] = f"{node.module}.{alias.name}"

    def name(self, node: ast.expr) -> str:
        """What an expression is called, by the name that it was imported under."""
        root, dot, rest = ast.unparse(node).partition(".")
        return self.origins.get(root, root) + dot + rest

    def calls(self) -> Iterator[tuple[str, ast.Call]]:
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Call):
                yield self.name(node.func), node


def refusals(text: str, file: str = "") -> list[Refusal]:
    """What a module does that it may not: unpickles, evaluates, fetches, starts a program that is not this Python."""
    source = Source(text)
    found = [*_imports(source), *_references(source), *_calls(source)]
    return [refusal for refusal in found if refusal.name not in ALLOWED_IN.get(file, ())]


def _imports(source: Source) -> Iterator[Refusal]:
    for node in ast.walk(source.tree):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        for name in names:
            if name.partition(".")[0] in UNPICKLE | NETWORK:
                yield Refusal(node.lineno, "imports", name)


def _references(source: Source) -> Iterator[Refusal]:
    """A function need not be called where it is named, nor named in the open."""
    called = {call.func for _, call in source.calls()}
    for node in ast.walk(source.tree):
        name = ""
        if isinstance(node, ast.Attribute) or (isinstance(node, ast.Name) and node.id in source.origins):
            name = source.name(node)
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                yield from _judge(f"{node.module}.{alias.name}", node.lineno)
        elif isinstance(node, ast.Call) and ast.unparse(node.func) == "getattr":
            if len(node.args) > 1 and isinstance(node.args[1], ast.Constant):
                name = f"getattr.{node.args[1].value}"
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
            name = node.id if EVALUATE.fullmatch(node.id) else ""
        if name == "numpy.load" and node not in called:
            yield Refusal(node.lineno, "hands on", name)
        if name:
            yield from _judge(name, node.lineno)


def _judge(name: str, line: int) -> Iterator[Refusal]:
    if EVALUATE.fullmatch(name):
        yield Refusal(line, "evaluates or starts", name)
    elif READERS.fullmatch(name.rpartition(".")[2]) and name not in ALLOWED_READERS:
        yield Refusal(line, "unpickles, fetches or connects", name)


def _calls(source: Source) -> Iterator[Refusal]:
    for name, call in source.calls():
        given = {word.arg: ast.unparse(word.value) for word in call.keywords}
        if name == "numpy.load" and given.get("allow_pickle") != "False":
            yield Refusal(call.lineno, "without allow_pickle=False", name)
        if given.get("allow_pickle", "False") != "False" or given.get("download", "False") != "False":
            yield Refusal(call.lineno, "with allow_pickle or download", name)
        if given.get("shell", "False") != "False":
            yield Refusal(call.lineno, "with a shell", name)
        if name.startswith("subprocess.") and not (
            call.args and _is_this_python(source.tree, call.args[0], call)
        ):
            yield Refusal(call.lineno, "starts something else than sys.executable", name)
        if (
            name.endswith(".bind")
            and "socket" in source.origins
            and ast.unparse(call.args[0]) != "('127.0.0.1', 0)"
        ):
            yield Refusal(call.lineno, "a port that others can reach", name)
        if name == "importlib.import_module" and not _is_fixed(call.args[0]):
            yield Refusal(call.lineno, "imports a module of any name", name)


def _is_fixed(argument: ast.expr) -> bool:
    """The name of a module, or of one of a package that is named, and none that is refused."""
    if isinstance(argument, ast.JoinedStr):
        argument = argument.values[0]
    if not isinstance(argument, ast.Constant):
        return False
    return argument.value.partition(".")[0] not in UNPICKLE | NETWORK


def _is_this_python(tree: ast.Module, command: ast.expr, call: ast.Call) -> bool:
    """Whether a command begins with sys.executable, by way of the names that it is put together from."""
    if isinstance(command, ast.List) and command.elts:
        first = command.elts[0]
        if isinstance(first, ast.Starred):
            return _is_this_python(tree, first.value, call)
        return ast.unparse(first) == "sys.executable"
    if not isinstance(command, ast.Name):
        return False
    for function in ast.walk(tree):
        if isinstance(function, ast.FunctionDef) and call in ast.walk(function):
            values = [
                node.value
                for node in ast.walk(function)
                if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == command.id
            ]
            parameter = command.id in (argument.arg for argument in function.args.args)
            if parameter and function.name in STARTERS:
                return True
            return bool(values) and all(_is_this_python(tree, value, call) for value in values)
    return False
