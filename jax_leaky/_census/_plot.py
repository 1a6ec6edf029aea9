"""The picture of a census: how often units are active, a strip per site in the order of depth."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from jax_leaky._census._show import share
from jax_leaky._census._site import SiteCensus

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from jax_leaky._census._result import Census

_BINS = 40
_INK, _SOFT, _LINE = "#1b1f24", "#5b6570", "#d9dee3"
# Okabe and Ito's palette, which colour-blind readers tell apart: vermilion for never, blue for always.
_NEVER, _BETWEEN, _ALWAYS = "#D55E00", "#8a96a3", "#0072B2"
# Exactly 0 and exactly 1 stand apart from the bins between, as on the two sides of a gap.
_AT_NEVER, _AT_ALWAYS = -0.045, 1.045
_STRIP, _HEAD, _FOOT = 0.44, 0.86, 0.62  # inches
STYLE: Any = {"font.family": "sans-serif", "font.size": 9, "text.color": _INK, "axes.linewidth": 0.8}


def figure(census: Census) -> Figure:
    """The strips under each other.

    Raises:
        ImportError: matplotlib is missing.
    """
    try:
        import matplotlib
        from matplotlib.figure import Figure
    except ImportError:
        raise ImportError("Census.plot draws with matplotlib: pip install matplotlib.") from None
    sites = list(census)
    width, height = 9.0, _HEAD + _STRIP * len(sites) + _FOOT
    with matplotlib.rc_context(STYLE):
        # Without pyplot: no window system, no global state, and nothing to close.
        picture = Figure(figsize=(width, height), facecolor="white")
        longest = max(max(len(site.name), len(_about(site))) for site in sites)
        left, right = min(0.42, 0.03 + 0.0075 * longest), 0.80
        strips = picture.subplots(
            len(sites),
            1,
            sharex=True,
            squeeze=False,
            gridspec_kw={
                "left": left,
                "right": right,
                "top": 1 - _HEAD / height,
                "bottom": _FOOT / height,
                "hspace": 0.28,
            },
        )[:, 0]
        for axes, site in zip(strips, sites, strict=True):
            _strip(axes, site)
        _x_axis(strips[-1])
        title = "How often units are active"
        picture.text(0.02, 1 - 0.16 / height, title, fontsize=13, fontweight="bold", va="top")
        picture.text(0.02, 1 - 0.44 / height, _subtitle(sites), fontsize=9, color=_SOFT, va="top")
    return picture


def _strip(axes: Axes, site: SiteCensus) -> None:
    axes.set_xlim(_AT_NEVER - 0.04, _AT_ALWAYS + 0.04)
    axes.set_ylim(0, 1.06)
    axes.set_yticks([])
    axes.tick_params(length=0, labelbottom=False)
    axes.spines[["left", "right", "top"]].set_visible(False)
    axes.spines["bottom"].set_color(_LINE)
    axes.text(-0.02, 0.60, site.name, transform=axes.transAxes, ha="right", va="center")
    axes.text(
        -0.02,
        0.14,
        _about(site),
        transform=axes.transAxes,
        ha="right",
        va="center",
        color=_SOFT,
        fontsize=7.5,
    )
    if site.invalid:
        axes.text(0.5, 0.4, site.invalid, transform=axes.transAxes, ha="center", va="center", color=_NEVER)
        return
    activity, never, always = (site.per_unit(m) for m in ("act_freq", "never_active", "always_active"))
    between, edges = np.histogram(activity[(never == 0) & (always == 0)], bins=_BINS, range=(0, 1))
    tallest = max(between.max(), never.sum(), always.sum())
    step = 1 / _BINS
    axes.bar(edges[:-1] + step / 2, between / tallest, 0.86 * step, color=_BETWEEN)
    axes.bar(_AT_NEVER, never.sum() / tallest, 1.3 * step, color=_NEVER)
    axes.bar(_AT_ALWAYS, always.sum() / tallest, 1.3 * step, color=_ALWAYS)
    for line, (count, part, word, color) in enumerate(
        (
            (never.sum(), never.mean(), "never active", _NEVER),
            (always.sum(), always.mean(), "always active", _ALWAYS),
        )
    ):
        words = f"{int(count):,} {word}, {share(float(part))}" if count else f"none {word}"
        axes.text(
            1.02,
            0.64 - 0.48 * line,
            words,
            transform=axes.transAxes,
            va="center",
            color=color if count else _SOFT,
            fontsize=8,
        )


def _x_axis(axes: Axes) -> None:
    axes.tick_params(labelbottom=True, labelcolor=_SOFT)
    ticks = {_AT_NEVER: "never", 0.25: "25 %", 0.5: "50 %", 0.75: "75 %", _AT_ALWAYS: "always"}
    axes.set_xticks(list(ticks), list(ticks.values()))
    axes.set_xlabel("share of samples on which z > 0", color=_SOFT)


def _about(site: SiteCensus) -> str:
    return f"{site.kind} of {site.units:,} units"


def _subtitle(sites: list[SiteCensus]) -> str:
    counts = sorted({site.n for site in sites})
    n = f"{counts[0]:,}" if len(counts) == 1 else f"{counts[0]:,} to {counts[-1]:,}"
    return f"units of each site by activation frequency, input side on top; n = {n} samples"
