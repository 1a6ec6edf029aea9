"""The measures of a layer, on the device as arrays and on the host as the row of a table."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from jax import Array

from jax_leaky.units._rows import plain
from jax_leaky.units._wide import Wide

_ORDER = (
    *("act_freq", "dead", "never_active", "always_active", "linear", "rare", "dormant_score", "dormant"),
    *(
        "dormant_pos",
        "mean_slope",
        "grad_dead",
        "grad_score",
        "since_fired",
        "rule_of_three",
        "z_min",
        "z_max",
    ),
)


class Summary(NamedTuple):
    """Every measure of a layer, per unit and for the whole of it, under the same names.

    A property such as `never_active` is 1.0 where it holds, 0.0 where not, and NaN where it is unknown: no
    float sum or mean of it can hide a diverged layer. All of a layer is NaN when any of its values was not
    finite, or when it saw no sample; `dead` is NaN for a slope other than 0, and `grad_dead` and `grad_score`
    without gradients.

    Attributes:
        per_unit: measure -> (units,), float32; also `z_min` and `z_max`.
        layer: measure -> (), float32. A property: the share of the units. `act_freq`, `mean_slope`: their mean.
            The scores, whose mean is 1 by definition: their median. `since_fired`: the longest silence.
        n: samples counted, exact.
        grad_n: samples counted with a gradient, exact.
        nonfinite: (units,), samples with a non-finite value, exact.
        since_fired: (units,), samples since the last z > 0, exact; since the start of the stream for a unit
            that never fired.
        negative_slope: (units,), that of the activation.
    """

    per_unit: dict[str, Array]
    layer: dict[str, Array]
    n: Wide
    grad_n: Wide
    nonfinite: Wide
    since_fired: Wide
    negative_slope: Array

    def to_row(self) -> dict[str, Any]:
        """The layer's measures as plain Python values, for JSON, with the keys of the definitions.

        None stands where a measure has no value; `notes` says why, by measure.

        Raises:
            ValueError: if the summary is a stack of several.

        Example:
            >>> import jax.numpy as jnp
            >>> import jax_leaky.units as units
            >>> counts = units.update(units.init(2), jnp.array([[1.0, -1.0], [-3.0, -2.0]]))
            >>> row = units.summarize(counts, negative_slope=0.5).to_row()
            >>> row["n"], row["act_freq"], row["never_active"], row["mean_slope"], row["dead"]
            (2, 0.25, 0.5, 0.625, None)
            >>> row["notes"]["dead"]
            'n/a by construction: with a slope other than 0 no output is 0'
        """
        if self.n.low.ndim:
            raise ValueError(
                f"the summary is a stack of shape {self.n.low.shape}: take one of it, "
                "jax.tree.map(lambda x: x[i], summary), before to_row or to_columns."
            )
        nonfinite = sum(map(int, self.nonfinite.to_numpy()))
        row: dict[str, Any] = {"n": int(self.n), "nonfinite": nonfinite}
        row |= {name: plain(self.layer[name]) for name in sorted(self.layer, key=_place)}
        notes: dict[str, str] = {}
        if nonfinite or not row["n"]:
            reason = f"{nonfinite} non-finite values" if nonfinite else "no sample was seen"
            notes["layer"] = f"invalid: {reason}"
        else:
            row["since_fired"] = int(self.since_fired.to_numpy().max())
            if np.any(np.asarray(self.negative_slope) != 0):
                notes["dead"] = "n/a by construction: with a slope other than 0 no output is 0"
            if not int(self.grad_n):
                notes["grad_dead"] = notes["grad_score"] = "no gradient was counted"
        return row | {"notes": notes}

    def to_columns(self) -> dict[str, list[Any]]:
        """The measures of every unit, a list of plain Python values for each, to export or to tabulate.

        Raises:
            ValueError: if the summary is a stack of several.

        Example:
            >>> import jax.numpy as jnp
            >>> import jax_leaky.units as units
            >>> counts = units.update(units.init(2), jnp.array([[1.0, -1.0], [-3.0, -2.0]]))
            >>> units.summarize(counts).to_columns()["act_freq"]
            [0.5, 0.0]
        """
        valid = not self.to_row()["notes"].get("layer")
        columns: dict[str, list[Any]] = {
            name: [plain(value) for value in np.asarray(self.per_unit[name])]
            for name in sorted(self.per_unit, key=_place)
        }
        if valid:
            columns["since_fired"] = self.since_fired.to_numpy().tolist()
        nonfinite = self.nonfinite.to_numpy().tolist()
        return {"unit": list(range(len(nonfinite))), "nonfinite": nonfinite} | columns

    def __str__(self) -> str:
        """A plain table of the layer's measures; the repr for a stack, and inside jit."""
        try:
            row = self.to_row()
        except (TypeError, ValueError):  # traced or stacked
            return repr(self)
        notes = row.pop("notes")
        lines = [f"{name:<19}{'n/a' if value is None else f'{value:g}'}" for name, value in row.items()]
        return "\n".join(lines + [f"{name}: {note}" for name, note in notes.items()])


def _place(name: str) -> tuple[int, float]:
    """Where a measure stands in a row: the order of the definitions, thresholds ascending."""
    base, _, tau = name.partition("@")
    return _ORDER.index(base), float(tau or -1)
