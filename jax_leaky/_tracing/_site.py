"""What an activation site is, and the list of them that is printed."""

import dataclasses
import fnmatch
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple, overload


class Loop(NamedTuple):
    """A scan around a site.

    Attributes:
        length: number of steps.
        over_layers: whether its steps are layers with weights, and so units, of their own, and records are kept for
            each of them. That is so if a product of the forward pass takes its weights from what a step alone is given
            (a slice of `xs`, or an array read at the step's number) and its samples from what one step hands to the
            next, and nothing is trained in the loop. Steps over time, of an environment or over minibatches have the
            units of one network. `scan_rows` of the census decides otherwise.
        name: named scopes and loops around it, and its own mark.
    """

    length: int
    over_layers: bool
    name: str


@dataclasses.dataclass(frozen=True)
class Site:
    """One place in a function where an activation is applied.

    Attributes:
        name: unique in its function, and the same from call to call and whatever is edited elsewhere: the path of the
            module and the kind (`MLP/relu`, `MLP/relu_1`); where no module is named, the function or class that holds
            the line.
        kind: "relu", "leaky_relu", "gelu", ...; `register_kind` adds one.
        negative_slope: the slope below 0 of a relu (0), leaky_relu or prelu; None for a kind without one, and for a
            slope that is no number in the program but an argument, a parameter or an array.
        shape: shape of the activation's input z, each time the site is reached; inside a shard_map that of one shard,
            but with all units where these are spread over the shards.
        dtype: dtype of z.
        source: line of the activation, as `model.py:12 (MLP.__call__)`; "" if unknown.
        path: named scopes and the loops and branches around it, joined by "/".
        inside: constructs that have been entered to reach it, outermost first: `("scan of 10", "branch 1")`.
        stacked: lengths of the axes that a record gains in front when nothing merges it: the steps of each scan and the
            shards of each shard_map around the site, outermost first.
        loops: scans around it, outermost first.
        conditional: whether it is reached only at times (a branch of a cond, the body of a while loop), so that
            its record is a `Reached`.
        needs_merge: reason why its records cannot be kept one by one, "" if they can.
        fixed: reason why the activation cannot be replaced, "" if it can.
    """

    name: str
    kind: str
    negative_slope: float | None
    shape: tuple[int, ...]
    dtype: Any
    source: str = ""
    path: str = ""
    inside: tuple[str, ...] = ()
    stacked: tuple[int, ...] = ()
    loops: tuple[Loop, ...] = ()
    conditional: bool = False
    needs_merge: str = ""
    fixed: str = ""

    def _row(self) -> tuple[str, ...]:
        slope = "-" if self.negative_slope is None else f"{self.negative_slope:g}"
        if self.negative_slope is None and self.kind in {"leaky_relu", "prelu"}:
            slope = "array"
        shape = f"{self.dtype.name}[{','.join(map(str, self.shape))}]"
        where = ", ".join(filter(None, (self.source, *(f"in {name}" for name in self.inside))))
        return self.name, self.kind, slope, shape, where


@dataclasses.dataclass(frozen=True)
class Opaque:
    """A part of a function that was not entered, or that is nonlinear and not a known activation; it runs unchanged.

    Attributes:
        what: name of the operation.
        why: reason why it is not entered.
        source: line of the operation, "" if unknown.
    """

    what: str
    why: str
    source: str = ""


class SiteList(Sequence[Site]):
    """The sites of a function in the order of the program; printed, a table.

    A site is also found by its name: `sites["MLP/relu"]`.

    Attributes:
        opaque: parts of the function that were not entered, and nonlinear ones that are not known activations.
    """

    def __init__(self, sites: Iterable[Site], opaque: Iterable[Opaque] = ()) -> None:
        self._sites = tuple(sites)
        self.opaque = tuple(opaque)

    @property
    def names(self) -> list[str]:
        """The names of the sites, in order."""
        return [site.name for site in self._sites]

    def select(self, patterns: str | Sequence[str]) -> "SiteList":
        """The sites whose names match.

        Args:
            patterns: a name, a pattern with `*` and `?` (as in a shell), or several of them.

        Raises:
            TypeError: a pattern is not a string.
            ValueError: a pattern matches no site.
        """
        patterns = (
            [patterns] if isinstance(patterns, str) or not isinstance(patterns, Iterable) else list(patterns)
        )
        for pattern in patterns:
            if not isinstance(pattern, str):
                raise TypeError(
                    f"sites must be a name, a pattern or several of these, got {pattern!r}; {self.vocabulary()}."
                )
            if not any(matches(site.name, pattern) for site in self._sites):
                raise ValueError(f"no site is named {pattern!r}; {self.vocabulary()}.")
        chosen = [site for site in self._sites if any(matches(site.name, pattern) for pattern in patterns)]
        return SiteList(chosen, self.opaque)

    def vocabulary(self) -> str:
        """The names that there are, in half a sentence."""
        if not self._sites:
            return "the function has no activation site" + (
                ", " + self._opaque_count() if self.opaque else ""
            )
        names = ", ".join(self.names[:8]) + (", ..." if len(self) > 8 else "")
        return f"the sites are {names}"

    @overload
    def __getitem__(self, key: int | str) -> Site: ...
    @overload
    def __getitem__(self, key: slice) -> "SiteList": ...
    def __getitem__(self, key: int | str | slice) -> "Site | SiteList":
        """A site by its position or its name, or a part of the list."""
        if isinstance(key, slice):
            return SiteList(self._sites[key], self.opaque)
        if isinstance(key, int):
            return self._sites[key]
        for site in self._sites:
            if site.name == key:
                return site
        raise KeyError(f"no site is named {key!r}; {self.vocabulary()}.")

    def __len__(self) -> int:
        return len(self._sites)

    def __iter__(self) -> Iterator[Site]:
        return iter(self._sites)

    def __contains__(self, item: object) -> bool:
        return item in self._sites or item in self.names

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SiteList) and (self._sites, self.opaque) == (other._sites, other.opaque)

    def __hash__(self) -> int:
        return hash((self._sites, self.opaque))

    def _opaque_count(self) -> str:
        return f"{len(self.opaque)} opaque"

    def __str__(self) -> str:
        count = f"{len(self)} site" + ("" if len(self) == 1 else "s")
        lines = (
            _table([("name", "kind", "slope", "input", "where"), *(site._row() for site in self)])
            if self
            else []
        )
        for part in self.opaque:
            lines.append(
                f"opaque: {part.what}" + (f" at {part.source}" if part.source else "") + f": {part.why}"
            )
        return "\n".join([*lines, f"{count}, {self._opaque_count()}"])

    __repr__ = __str__


def _table(rows: Sequence[tuple[str, ...]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    padded = ([cell.ljust(width) for cell, width in zip(row, widths, strict=True)] for row in rows)
    return ["  ".join(cells).rstrip() for cells in padded]


def matches(name: str, pattern: str) -> bool:
    """Whether a name is the pattern, or matches it as in a shell."""
    return name == pattern or fnmatch.fnmatchcase(name, pattern)
