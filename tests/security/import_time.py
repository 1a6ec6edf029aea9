"""Which calls a module makes when it is imported, read from its source, and which of them are definitions."""

import ast
import re
from collections.abc import Iterable, Iterator, Set

from tests.security.source_scan import Source

NEVER_AT_IMPORT = ("TYPE_CHECKING", "__name__ == '__main__'")
# Why a call may stand outside of every function, and the names of such calls.
REASONS = {
    "defines a type, a rule or a function": r"typing\.(NamedTuple|TypeVar|get_args)|"
    r"dataclasses\.(dataclass|field|replace)|functools\.(partial|lru_cache(\(maxsize=\d+\))?)|jax\.jit|\w+\.(defvjp|defjvp)",
    "makes one of our own records or modules of constants": r"(experiments|jax_leaky)(\.\w+)*\.[A-Z]\w*",
    "makes one of our own records, by way of a function": r"jax_leaky\._tracing\._activations\.(_formula|f)|"
    r"experiments\.lab\.sentences\._speed",
    "reads no more than its argument": r"re\.compile|pathlib\.Path|math\.(log|sqrt)|frozenset|int|len|max|"
    r"range|str|tuple",
    "is a method of a text, a table or a path": r".*\.(split|lower|replace|items|values|with_name)",
    "tabulates a function of NumPy's at fixed points": r"numpy\.(arange|array|concatenate|dtype|errstate|flatnonzero|"
    r"repeat|tile|vectorize)",
    "is a lock, which starts no thread, or an empty table": r"threading\.Lock|collections\.OrderedDict",
    "is a hash of nothing, for its size": r"hashlib\.sha256",
    "makes a pair of functions": r"optax\.adam|flax\.linen\.initializers\.normal",
}
ALLOWED = re.compile("|".join(f"(?:{names})" for names in REASONS.values()))


def makers(text: str, module: str) -> set[str]:
    """The functions of a module that make another function and do nothing else."""
    return {
        f"{module}.{node.name}"
        for node in ast.parse(text).body
        if isinstance(node, ast.FunctionDef) and all(map(_makes, node.body))
    }


def _makes(node: ast.stmt) -> bool:
    if isinstance(node, ast.Expr):
        return isinstance(node.value, ast.Constant)
    if isinstance(node, ast.Return):
        return isinstance(node.value, (ast.Lambda, ast.Name))
    return isinstance(node, ast.FunctionDef) and not node.decorator_list


def acts(text: str, module: str = "", makers: Set[str] = frozenset()) -> list[str]:
    """What a module does when it is imported beyond definitions: statements and calls, with their lines."""
    source = Source(text)
    own = {node.name for node in ast.walk(source.tree) if isinstance(node, (ast.ClassDef, ast.FunctionDef))}
    found = [f"line {node.lineno}: a statement" for node in source.tree.body if not _is_definition(node)]
    for line, name in _calls_at_import(source):
        full = f"{module}.{name}" if name.partition(".")[0] in own | {"f"} and "." not in name else name
        if not ALLOWED.fullmatch(full) and full not in makers:
            found.append(f"line {line}: {full}()")
    return found


def _is_definition(node: ast.stmt) -> bool:
    if isinstance(node, ast.Expr):  # a docstring; or a call, which is judged by its name
        return isinstance(node.value, (ast.Constant, ast.Call))
    if isinstance(node, ast.If):
        return ast.unparse(node.test) in NEVER_AT_IMPORT
    if isinstance(node, ast.With):  # constants that NumPy computes without its warnings
        return all(isinstance(line, ast.Assign) for line in node.body)
    return isinstance(
        node, (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.ClassDef, ast.Assign, ast.AnnAssign)
    )


def _calls_at_import(source: Source) -> Iterator[tuple[int, str]]:
    """(line, name) of each call outside of every function's body."""
    for root in source.tree.body:
        if isinstance(root, ast.If) and ast.unparse(root.test) in NEVER_AT_IMPORT:
            continue
        for node in _executed(root):
            if isinstance(node, ast.Call):
                yield node.lineno, source.name(node.func)


def _executed(node: ast.AST) -> Iterator[ast.AST]:
    """A node and all below that Python comes by when it reads the module."""
    yield node
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
        below: Iterable[ast.AST] = [
            *node.decorator_list,
            *node.args.defaults,
            *filter(None, node.args.kw_defaults),
        ]
    elif isinstance(node, ast.Lambda):
        below = [*node.args.defaults, *filter(None, node.args.kw_defaults)]
    else:
        below = ast.iter_child_nodes(node)
    for child in below:
        yield from _executed(child)
