"""The public API, name by name, is the one in public_api.txt: `python -m tests.test_public_api` writes that file."""

import dataclasses
import importlib
import inspect
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
SNAPSHOT = Path(__file__).with_suffix("").with_name("public_api.txt")
OF_LINEN = {"parent", "name"}  # which Linen adds to every module
MODULES = ("jax_leaky", "jax_leaky.linen", "jax_leaky.nnx", "jax_leaky.remedies", "jax_leaky.units")


def public_api() -> str:
    """Every public name with its parameters and their defaults; of a class its fields, methods and properties too."""
    return "".join(line + "\n" for module in MODULES for line in _module(module))


def _module(name: str) -> Iterator[str]:
    module = importlib.import_module(name)
    yield f"# {name}"
    for public in sorted(vars(module)):
        value = getattr(module, public)
        home = getattr(
            value, "__module__", ""
        )  # a package hands on what its files define; a file has its own names
        ours = home.startswith("jax_leaky.") if hasattr(module, "__path__") else home == name
        if ours and not public.startswith("_"):
            yield from _class(public, value) if isinstance(value, type) else [public + _parameters(value)]


def _class(name: str, cls: type) -> Iterator[str]:
    yield f"class {name}{_parameters(cls)}"
    fields = {field.name for field in dataclasses.fields(cls)} if dataclasses.is_dataclass(cls) else set()
    added = OF_LINEN if fields >= OF_LINEN else set()
    for member in sorted({*fields, *vars(cls)} - added):
        value = inspect.getattr_static(cls, member, None)
        if member.startswith("_") and member not in ("__call__", "__getitem__", "__iter__", "__len__"):
            continue
        if member in fields or inspect.isdatadescriptor(value):
            yield f"    {member}"
        elif callable(getattr(cls, member)) and getattr(value, "__module__", "jax_leaky").startswith(
            "jax_leaky"
        ):
            yield f"    {member}{_parameters(getattr(cls, member))}"


def _parameters(function: object) -> str:
    """`(x, a=0.01, *, flag=False)`, without the annotations, which each Python and each JAX prints in its own way."""
    if not callable(function):
        return ""
    made = vars(function).get("__init__", function) if isinstance(function, type) else function
    parameters = inspect.signature(made).parameters
    left_out = {"self"} if made is not function else set()
    left_out |= OF_LINEN if parameters.keys() >= OF_LINEN else set()
    own = [p.replace(annotation=p.empty) for p in parameters.values() if p.name not in left_out]
    return str(inspect.Signature(own))


def test_the_public_api_is_the_recorded_one() -> None:
    assert public_api() == SNAPSHOT.read_text(encoding="utf-8"), (
        "The public API has changed. If that is meant, write it anew: python -m tests.test_public_api"
    )


def test_every_public_name_has_its_place_in_the_reference() -> None:
    module, missing = "", []
    pages = [path.read_text(encoding="utf-8") for path in ROOT.glob("docs/reference/*.md")]
    there = {line.removeprefix("::: ") for page in pages for line in page.splitlines()}
    for line in SNAPSHOT.read_text(encoding="utf-8").splitlines():
        if line.startswith("# "):
            module = line.removeprefix("# ")
        elif not line.startswith(" "):
            name = f"{module}.{line.removeprefix('class ').partition('(')[0]}"
            missing += [name] if name not in there else []
    assert not missing


if __name__ == "__main__":
    SNAPSHOT.write_text(public_api(), encoding="utf-8")
