"""Recorded rows read back, and whether they are what a run has written: whole, and of one kind.

What is found: a line that is no JSON object, a key that holds numbers in one row and words in another, a network with
more or fewer rows than another, a seed or a value of a setting that config.json names and no row has. What cannot be:
one figure in place of another; all rows of a learning rate, where config.json leaves the rates to the experiment; and
with no config.json beside the rows, whatever is missing from every setting alike.
"""

from __future__ import annotations

import collections
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.lab.run import store
from experiments.lab.run.errors import LabError

_AGAIN = "record the run again"
_KINDS = {
    bool: "true or false",
    int: "a number",
    float: "a number",
    str: "words",
    list: "a list",
    dict: "an object",
}


def read(path: Path) -> str | None:
    """The text of a file; None where there is none.

    Raises:
        LabError: if it cannot be read.
    """
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except UnicodeDecodeError as error:
        raise LabError(f"{path} is damaged (byte {error.start} is not UTF-8): {_AGAIN}.") from None
    except OSError as error:
        raise LabError(f"{path} cannot be read ({error.strerror}): {_AGAIN}.") from None


def parse(text: str, path: Path, line: int | None = None) -> Any:
    """The value of strict JSON, which has no NaN; of a file or one of its lines."""
    where = f"{path}, line {line}," if line else f"{path}"
    try:
        return json.loads(text, parse_constant=_no_constant)
    except ValueError as error:
        raise LabError(f"{where} cannot be read ({error}): {_AGAIN}.") from None


def rows_of(path: Path) -> list[store.Record] | None:
    """The rows of a run; None where there is no file.

    Raises:
        LabError: if it cannot be read, holds no row, or a line is no object.
    """
    text = read(path)
    if text is None:
        return None
    records = [parse(line, path, number) for number, line in enumerate(text.splitlines(), 1)]
    check_kinds(records, path)
    return records


def check_kinds(records: Sequence[Any], path: Path) -> None:
    """Raises a LabError unless all are objects, and each key holds one kind of value or null."""
    if not records:
        raise LabError(f"{path} holds no rows: {_AGAIN}.")
    kinds: dict[str, str] = {}
    for number, record in enumerate(records, 1):
        if not isinstance(record, dict):
            raise LabError(f"{path}, row {number}, is no object ({str(record)[:40]}): {_AGAIN}.")
        for key, value in record.items():
            if value is None:
                continue
            kind = _KINDS[type(value)]
            if kinds.setdefault(key, kind) != kind:
                raise LabError(
                    f"{path}, row {number}, holds {kind} as {key}, where the rows above hold {kinds[key]}: {_AGAIN}."
                )


def check_whole(records: Sequence[store.Record], keys: Iterable[str], path: Path) -> None:
    """Raises a LabError unless every network that the configuration beside the rows names is there, with all rows.

    Args:
        records: of a run.
        keys: that a network is known by, beside the seed.
        path: of the rows.
    """
    names = [*dict.fromkeys(keys)]
    lives: collections.Counter[tuple[Any, ...]] = collections.Counter()
    for number, record in enumerate(records, 1):
        seed = record.get("seed")
        if not isinstance(seed, int) or isinstance(seed, bool) or seed < 0:
            raise LabError(f"{path}, row {number}, has the seed {seed!r}: {_AGAIN}.")
        for name in names:
            if not isinstance(record.get(name), str | int | float):
                raise LabError(f"{path}, row {number}, has no value of {name}: {_AGAIN}.")
        lives[tuple(record[name] for name in names), seed] += 1
    if len(set(lives.values())) > 1:
        many, most = lives.most_common()[-1], max(lives.values())
        raise LabError(
            f"{path} holds {many[1]} of the {most} rows of the network {_named(names, many[0])}: {_AGAIN}."
        )
    settings = _settings(path.with_name(store.CONFIG))
    cells = collections.defaultdict(set)
    for cell, seed in lives:
        cells[cell].add(seed)
    seeds = settings.get("seeds")
    wanted = set(range(seeds)) if isinstance(seeds, int) else set.union(*cells.values())
    for cell, found in cells.items():
        if found != wanted:
            seed = min(found ^ wanted)
            word = "not among those asked for" if seed in found else "missing"
            raise LabError(f"{path}: the network {_named(names, (cell, seed))} is {word}: {_AGAIN}.")
    for place, name in enumerate(names):
        asked = settings.get(f"{name}s")
        # Left out, as learning rates can be, a setting has values of its own for each of the others.
        if isinstance(asked, list) and asked:
            counts = collections.Counter(cell[place] for cell in cells)
            if missing := [value for value in asked if value not in counts]:
                raise LabError(
                    f"{path} holds no rows with {name} {missing[0]}, which was asked for: {_AGAIN}."
                )


def _settings(path: Path) -> Mapping[str, Any]:
    text = read(path)
    found = {} if text is None else parse(text, path)
    if not isinstance(found, dict):
        raise LabError(f"{path} is damaged: {_AGAIN}.")
    return found


def _named(names: Sequence[str], life: tuple[Any, ...]) -> str:
    cell, seed = life
    return ", ".join([*(f"{name} {value}" for name, value in zip(names, cell, strict=True)), f"seed {seed}"])


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")
