"""What became of trainings: curves, success, errors by length. Takes data, returns axes."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import xarray
from matplotlib.axes import Axes
from matplotlib.ticker import NullFormatter

from rnnlab.plots.style import BLACK, COLORS, MARKERS, OTHERS
from rnnlab.statistics import wilson

__all__ = ["band", "carried", "dots", "errors_by_length", "learning_curves", "members_by_length", "panels"]
__all__ += ["solved_by", "success_rates"]


def learning_curves(
    runs: xarray.Dataset,
    *,
    series: str = "error",
    label: str | None = None,
    color: str | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw a series of each member against updates, thin, and their median, thick.

    A member that stopped keeps its last value, so that the median stays one over all members.

    Args:
        runs: what `rnnlab.train` returned.
        series: name of a series of it, such as "error", "loss", "norm" or "rho".
        label: name for the legend.
        color: of the lines; a new one unless told.
        ax: axes to draw into; new ones unless told.

    Raises:
        ValueError: `runs` has no such series, or is no single training.
    """
    if series not in runs or "check" not in runs[series].dims:
        known = [name for name in runs if "check" in runs[name].dims]
        raise ValueError(f"series must be one of {known}, got {series!r}")
    _over("runs", runs[series], "seed", "check")
    ax = ax or plt.subplots()[1]
    held = pd.DataFrame(runs[series].transpose("seed", "check").values).ffill(axis=1).to_numpy()
    updates = runs["update"].values
    (median,) = ax.plot(updates, np.median(held, axis=0), color=color, label=label, linewidth=2.2)
    ax.plot(updates, held.T, color=median.get_color(), linewidth=0.7, alpha=0.5)
    units = runs[series].attrs["units"]
    ax.set_xlabel("updates")
    ax.set_ylabel(runs[series].attrs["long_name"].split(" since")[0] + ("" if units == "1" else f" ({units})"))
    return ax


def band(ax: Axes, x: Sequence[float] | np.ndarray, samples: np.ndarray, **line: Any) -> Axes:
    """Draw medians as a line, and quartiles as a band around it; NaN counts nowhere.

    Args:
        ax: axes to draw into.
        x: where the samples stand.
        samples: all axes but the first are samples of one x.
        line: color, label and the like, of the line.
    """
    each = np.asarray(samples).reshape(len(samples), -1)
    low, middle, high = np.nanquantile(each, [0.25, 0.5, 0.75], axis=1)
    (drawn,) = ax.plot(x, middle, **line)
    ax.fill_between(x, low, high, color=drawn.get_color(), alpha=0.2, linewidth=0)
    return ax


def carried(ax: Axes, kept: np.ndarray, **line: Any) -> Axes:
    """Draw how much of the error's norm arrives at earlier steps, against the number of steps back, as `band` does.

    Args:
        ax: axes to draw into; its y axis becomes logarithmic.
        kept: |dE/dh_t| relative to that of the last step, of shape (members, steps + 1, sequences).
        line: color, label and the like, of the line.
    """
    steps = kept.shape[1] - 1
    band(ax, range(steps, -1, -1), np.moveaxis(np.asarray(kept), 1, 0), **line)
    ax.set(xlim=(0, steps), yscale="log", xlabel="$T-t$, steps", ylabel=r"$\|\delta_t\| / \|\delta_T\|$")
    return ax


def dots(
    ax: Axes, values: np.ndarray, *, filled: np.ndarray, colors: Sequence | np.ndarray, bars: np.ndarray | None = None
) -> Axes:
    """Draw a dot for each member, those of a group side by side around its place on the x axis: 0, 1, ...

    Args:
        ax: axes to draw into.
        values: of shape (groups, members).
        filled: which dots are; the others are hollow.
        colors: of the dots, likewise, or one for each group: (groups, 1).
        bars: half lengths of the bars through them, likewise; none unless given.
    """
    members = values.shape[1]
    aside = np.linspace(-0.3, 0.3, members) * (members > 1)
    for (i, j), color in np.ndenumerate(np.broadcast_to(colors, values.shape)):
        half = None if bars is None else bars[i, j]
        (dot, *_) = ax.errorbar(i + aside[j], values[i, j], half, fmt="o", color=color, markersize=4, elinewidth=0.8)
        dot.set_markerfacecolor(color if filled[i, j] else "none")
    return ax


def _over(name: str, values: xarray.DataArray, *dims: str) -> None:
    """Refuse what has other dimensions than a plot shows."""
    if set(values.dims) != set(dims):
        raise ValueError(
            f"{name} must be over {' and '.join(dims)}, got {', '.join(map(str, values.dims)) or 'a single number'}; "
            f"choose from others as in sel(length=100), and from these with a list, as in isel({dims[0]}=[0])"
        )


def success_rates(ax: Axes, rates: xarray.Dataset) -> Axes:
    """Draw success rates against length, a line for each algorithm, with their intervals: a panel of Fig. 7.

    Args:
        ax: axes to draw into.
        rates: `rate`, `low` and `high` over `algorithm` and `length`, as from `rnnlab.statistics.success`.

    Raises:
        ValueError: `rates` is no such, or over more or less.
    """
    if lacking := {"rate", "low", "high"}.difference(rates):
        raise ValueError(f"rates must be what `rnnlab.statistics.success` returned, got it without {sorted(lacking)}")
    _over("rates", rates["rate"], "algorithm", "length")
    for name, width in _nested(rates["algorithm"]):
        cell, x = rates.sel(algorithm=name), rates["length"]
        ax.vlines(x, cell["low"], cell["high"], color=COLORS[name], alpha=0.4, linewidth=3 * width)
        ax.plot(x, cell["rate"], color=COLORS[name], label=name, clip_on=False, linewidth=1.2 * width)
        ax.lines[-1].set(marker=MARKERS[name], markersize=2.5 + 2.5 * width)
    ax.set(xlabel="length (steps)", ylim=(-0.03, 1.03), xticks=rates["length"])
    return ax


def solved_by(ax: Axes, when: xarray.DataArray, *, updates: int) -> Axes:
    """Draw the share of members solved by each update, a staircase for each algorithm; at its end Wilson's interval.

    Args:
        ax: axes to draw into.
        when: update at which a member was solved, NaN if it was not, over `algorithm` and `seed`.
        updates: budget, where the staircases end.

    Raises:
        ValueError: `when` is over more or less.
    """
    _over("when", when, "algorithm", "seed")
    members = when.sizes["seed"]
    for i, (name, width) in enumerate(_nested(when["algorithm"])):
        times = np.sort(when.sel(algorithm=name).dropna("seed").values)
        x, solved = np.array([0, *times, updates]), np.array([*range(len(times) + 1), len(times)])
        ax.step(x, solved / members, where="post", color=COLORS[name], label=name, linewidth=1.4 * width)
        aside = updates * (1.02 + 0.025 * i)
        ax.vlines(aside, *wilson(len(times), members), color=COLORS[name], alpha=0.4, linewidth=3)
    ax.set(xlabel="updates", ylim=(-0.03, 1.03))
    return ax


def members_by_length(ax: Axes, values: xarray.DataArray, solved: xarray.DataArray) -> Axes:
    """Draw a dot for each member against its length, side by side: filled if it was solved, hollow if not.

    Args:
        ax: axes to draw into.
        values: over `algorithm`, `length` and `seed`.
        solved: which of them were, likewise.

    Raises:
        ValueError: one of the two is over more or less.
    """
    for name, given in (("values", values), ("solved", solved)):
        _over(name, given, "algorithm", "length", "seed")
    seeds = values.sizes["seed"]
    aside = np.linspace(-0.4, 0.4, seeds) * (seeds > 1)
    for length in values["length"].values:
        half = 0.09 * _range(values["length"])
        ax.axvspan(length - half, length + half, color=BLACK, alpha=0.05, linewidth=0)  # whose dots they are
    for name, x in _side_by_side(values["algorithm"], values["length"], width=0.06):
        y = values.sel(algorithm=name).transpose("length", "seed").values
        mask = solved.sel(algorithm=name).transpose("length", "seed").values
        x = x[:, None] + 0.06 * _range(values["length"]) * aside
        for chosen, fill, label in ((~mask, "none", None), (mask, COLORS[name], name)):
            (dots,) = ax.plot(x[chosen], y[chosen], MARKERS[name], color=COLORS[name], label=label, markersize=3.5)
            dots.set(markerfacecolor=fill, markeredgewidth=0.8)
    ax.set(xlabel="length (steps)", xticks=values["length"])
    return ax


def panels(axes: np.ndarray, outcomes: Mapping[str, xarray.DataArray], solved: xarray.DataArray) -> None:
    """Draw outcomes of all members: a row for each outcome, named by its label, and a column for each initialization.

    Args:
        axes: to draw into, of shape (outcomes, initializations).
        outcomes: over `init`, `algorithm`, `length` and `seed`, by the label of their axis.
        solved: which members were, likewise.
    """
    for row, (label, values) in zip(axes, outcomes.items(), strict=True):
        for ax, init in zip(row, values["init"].values, strict=True):
            members_by_length(ax, values.sel(init=init), solved.sel(init=init)).set(xlabel="")
        row[0].set_ylabel(label)
    for ax in axes[-1]:
        ax.set_xlabel("length (steps)")


def errors_by_length(
    ax: Axes,
    lengths: np.ndarray,
    sequences: np.ndarray,
    errors: np.ndarray,
    *,
    seeds: Sequence[int],
    zero: float = 2e-5,
) -> Axes:
    """Draw each network's share of wrong sequences against length; where none is wrong, in a row below the axis.

    Each network has a line of its own there, and a faint one goes up to what the test could not exclude: Wilson's upper
    end.

    Args:
        ax: axes to draw into; both of them become logarithmic.
        lengths: of the tests, in steps.
        sequences: how many each test had.
        errors: share of wrong ones, of shape (tests, networks).
        seeds: one for each network, which decide its colour and its mark.
        zero: where the row begins, below the least share that a test can find.
    """
    rows = zero * 1.5 ** -np.arange(errors.shape[1])
    tested = (errors == 0).any(axis=1)
    bounds = [wilson(0, int(n))[1] for n in sequences[tested]]
    ax.vlines(lengths[tested], 2 * zero, bounds, color=BLACK, alpha=0.15, linewidth=1.5)
    for seed, row, error in zip(seeds, rows, errors.T, strict=True):
        none = error == 0
        how: dict[str, Any] = {"color": OTHERS[seed % len(OTHERS)], "marker": "osD^vPX"[seed % 7], "markersize": 4}
        line = "-" if seed < len(OTHERS) else "--"
        ax.plot(lengths, np.where(none, np.nan, error), label=f"seed {seed}", linestyle=line, **how)
        ax.plot(lengths[none], np.full(none.sum(), row), linestyle="", markerfacecolor="none", **how)
    ax.axhline(2 * zero, color=BLACK, linewidth=0.8, linestyle=":")
    ax.set(xscale="log", yscale="log", ylim=(rows[-1] / 2, 1.5))
    middle = np.sqrt(rows[0] * rows[-1])
    ax.set_yticks([middle, 1e-4, 1e-3, 1e-2, 1e-1, 1], ["none wrong", "0.0001", "0.001", "0.01", "0.1", "1"])
    ax.yaxis.set_minor_formatter(NullFormatter())
    return ax


def _nested(names: xarray.DataArray) -> list[tuple[str, int]]:
    """Names with widths that fall, so that none is hidden where another is drawn over it."""
    return [(str(name), width) for name, width in zip(names.values, range(len(names), 0, -1), strict=True)]


def _side_by_side(names: xarray.DataArray, lengths: xarray.DataArray, *, width: float) -> list[tuple[str, np.ndarray]]:
    """Where to draw each name's values, so that they do not hide each other; width as a share of the axis."""
    shifts = width * _range(lengths) * (np.arange(len(names)) - (len(names) - 1) / 2)
    return [(str(name), lengths.values + shift) for name, shift in zip(names.values, shifts, strict=True)]


def _range(lengths: xarray.DataArray) -> float:
    return float(lengths.max() - lengths.min()) or float(lengths.max())
