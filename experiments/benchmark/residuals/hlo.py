"""What an optimised HLO program does when it runs: its kernels, the bytes they move, the cycles they should take.

XLA's own cost analysis is not there for a GPU that is only described, and does not know how often a loop runs.
"""

from __future__ import annotations

import dataclasses
import re
from typing import NamedTuple

# Names for what is there already, and the far ends of asynchronous operations.
_FREE = {"parameter", "constant", "tuple", "get-tuple-element", "bitcast", "after-all", "opt-barrier"}
_BITS = {"pred": 8, "bf16": 16, "token": 0} | {f"{k}{n}": n for k in "suf" for n in (4, 8, 16, 32, 64)}
_ARRAY = re.compile(r"([a-z]+[0-9]*)[a-z0-9]*\[([0-9,]*)\](?:\{[^}]*\})?")
_INSTRUCTION = re.compile(r"^\s+(?:ROOT )?%?([\w.\-]+) = (.+)$")
_HEADER = re.compile(r"^(ENTRY )?%?([\w.\-]+) \(.*\{$")


class Cost(NamedTuple):
    """The cost of a program, or of a part of it.

    Attributes:
        kernels: number of operations that run.
        bytes_moved: bytes read from and written to the device's main memory, each array once per operation.
        cycles: TPU compiler's estimate of the cycles; 0 from other compilers.
    """

    kernels: int = 0
    bytes_moved: int = 0
    cycles: int = 0

    def plus(self, other: Cost, times: int = 1) -> Cost:
        """The sum, the other part running several times."""
        return Cost(*(mine + times * theirs for mine, theirs in zip(self, other, strict=True)))


@dataclasses.dataclass(frozen=True)
class _Instruction:
    shape: str
    opcode: str
    operands: tuple[str, ...]
    rest: str

    def attribute(self, name: str) -> str | None:
        found = re.search(rf"\b{name}=%?([\w.\-]+)", self.rest)
        return found[1] if found else None


_Computation = dict[str, _Instruction]


def cost(text: str, iterations: int) -> Cost:
    """The cost of a program, given as `compiled.as_text()`, all of whose loops run `iterations` times."""
    computations, entry = _parse(text)

    def total(name: str) -> Cost:
        found = Cost()
        for instruction in computations[name].values():
            if instruction.opcode == "while":
                body = instruction.attribute("body")
                assert body is not None
                found = found.plus(total(body), iterations)
            elif not _is_free(instruction):
                cycles = sum(map(int, re.findall(r'"estimated_cycles":"(\d+)"', instruction.rest)))
                moved = _bytes_moved(instruction, computations[name], computations)
                found = found.plus(Cost(1, moved, cycles))
        return found

    return total(entry)


def _is_free(instruction: _Instruction) -> bool:
    opcode = instruction.opcode
    return opcode in _FREE or opcode.endswith("-done") or "AllocateBuffer" in instruction.rest


def _bytes_moved(
    instruction: _Instruction, around: _Computation, computations: dict[str, _Computation]
) -> int:
    inside = computations.get(instruction.attribute("calls") or "", {})
    inputs = [around[name].shape for name in instruction.operands if name in around]
    read = [
        _bytes(shape) if sliced is None else min(_bytes(shape), sliced)
        for shape, sliced in zip(inputs, _sliced(instruction, inside, len(inputs)), strict=True)
    ]
    if instruction.opcode.endswith("-start"):  # its result names the source too
        return sum(read) + _bytes(_first(instruction.shape))
    updates = [
        part for part in [*inside.values(), instruction] if part.opcode == "dynamic-update-slice"
    ]  # in place: only the slice is written
    written = _bytes(instruction.shape)
    for update in updates:
        scope = inside if update is not instruction else around
        written -= min(written, _bytes(update.shape) - _bytes(scope[update.operands[1]].shape))
    return sum(read) + written


def _sliced(instruction: _Instruction, inside: _Computation, count: int) -> list[int | None]:
    """For each operand the bytes that are read of it if it is only sliced, or updated in place; else None."""
    if instruction.opcode == "dynamic-slice":
        return [_bytes(instruction.shape), *[None] * (count - 1)]
    if instruction.opcode == "dynamic-update-slice":
        return [0, *[None] * (count - 1)]
    found: list[int | None] = [None] * count
    for name, part in inside.items():
        if part.opcode == "parameter" and int(part.rest.split(")")[0]) < count:
            found[int(part.rest.split(")")[0])] = _read_of(name, inside)
    return found


def _read_of(name: str, inside: _Computation) -> int | None:
    read = 0
    for user_name, user in inside.items():
        if name not in user.operands:
            continue
        if user.opcode == "dynamic-slice" and user.operands[0] == name:
            read += _bytes(user.shape)
        elif user.opcode == "bitcast":
            through = _read_of(user_name, inside)
            if through is None:
                return None
            read += through
        elif user.opcode != "dynamic-update-slice" or user.operands[0] != name:
            return None
    return read


def _bytes(shape: str) -> int:
    """The bytes of the arrays in a shape that lie in the main memory; S(n) marks another, the TPU's own VMEM."""
    bits = 0
    for match in _ARRAY.finditer(shape):
        if "S(" not in match[0]:
            size = 1
            for extent in filter(None, match[2].split(",")):
                size *= int(extent)
            bits += size * _BITS.get(match[1], 8)
    return bits // 8


def _first(shape: str) -> str:
    found = _ARRAY.search(shape)
    return found[0] if found else ""


def _parse(text: str) -> tuple[dict[str, _Computation], str]:
    computations: dict[str, _Computation] = {}
    entry = ""
    for line in text.splitlines():
        header = _HEADER.match(line)
        if header:
            current = computations.setdefault(header[2], {})
            entry = header[2] if header[1] else entry
        elif found := _INSTRUCTION.match(line):
            current[found[1]] = _instruction(found[2])
    return computations, entry


def _instruction(text: str) -> _Instruction:
    """`shape opcode(operands), rest`, where a shape may be a tuple."""
    end = _closing(text) + 1 if text.startswith("(") else text.index(" ")
    opcode, _, rest = text[end:].strip().partition("(")
    operands, depth = "", 1
    for place, letter in enumerate(rest):
        depth += (letter == "(") - (letter == ")")
        if not depth:
            operands = rest[:place]
            break
    return _Instruction(text[:end], opcode, tuple(re.findall(r"%([\w.\-]+)", operands)), rest)


def _closing(text: str) -> int:
    depth = 0
    for place, letter in enumerate(text):
        depth += (letter == "(") - (letter == ")")
        if not depth:
            return place
    raise ValueError(f"unbalanced parentheses in {text!r:.80}")
