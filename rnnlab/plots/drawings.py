"""Drawings: Figs. 1 and 2 of the 2013 paper, a recurrent network and the same unrolled in time; the network as it
computes; a sequence of symbols; a roofline's roofs.
"""

from collections.abc import Mapping

from matplotlib import rcParams
from matplotlib.axes import Axes
from matplotlib.patches import Circle, FancyArrowPatch, Rectangle
from matplotlib.path import Path

from rnnlab.plots.style import BLACK, GREEN, SKY

BACKWARD = GREEN  # what the derivative sends back; what the network computes has the colour of the text
_RADIUS = 0.55
_GAP = 0.08  # between the tip of an arrow and its node

Point = tuple[float, float]


def recurrent(ax: Axes) -> Axes:
    """Draw the network of eq. (1): input, state, error, and the state's connection to itself one step later.

    Source:
        Pascanu et al. 2013, Fig. 1.
    """
    _canvas(ax, across=(-1.0, 2.9), up=(-2.4, 2.4))
    for height, label in ((-1.8, "$u_t$"), (0.0, "$x_t$"), (1.8, "$E_t$")):
        _node(ax, (0, height), label)
    for height, label in ((-1.8, r"$W_{\mathrm{in}}$"), (0.0, "$L$")):
        _arrow(ax, (0, height + _RADIUS), (0, height + 1.8 - _RADIUS - _GAP))
        ax.text(-0.2, height + 0.85, label, ha="right", va="center")
    leave, enter = (0.8 * _RADIUS, -0.6 * _RADIUS), (0.8 * _RADIUS + _GAP, 0.6 * _RADIUS + _GAP)
    loop = Path([leave, (1.7, -1.4), (1.7, 1.4), enter], [Path.MOVETO, *3 * [Path.CURVE4]])
    _add_arrow(ax, FancyArrowPatch(path=loop), color=rcParams["text.color"], width=1.2)
    ax.text(1.5, 0, "$W_{\\mathrm{rec}}$,\none step\nlater", ha="left", va="center")
    return ax


def unrolled(ax: Axes) -> Axes:
    """Draw three steps of the network, with the factors of eq. (4) beside the arrows that carry the derivative back.

    Thick arrows are one temporal contribution: from the error of step t + 1 to the parameters as step t - 1 used them.

    Source:
        Pascanu et al. 2013, Fig. 2, and eqs. (4) and (5).
    """
    _canvas(ax, across=(-2.1, 7.7), up=(-2.6, 2.4))
    for x, t in ((0.0, "t-1"), (2.8, "t"), (5.6, "t+1")):
        for height, name in ((-1.9, "u"), (0.0, "x"), (1.8, "E")):
            _node(ax, (x, height), f"${name}_{{{t}}}$")
        _arrow(ax, (x, -1.9 + _RADIUS), (x, -_RADIUS - _GAP))
        _there_and_back(ax, (x, 0), (x, 1.8), _ratio(f"E_{{{t}}}", f"x_{{{t}}}"), thick=t == "t+1")
    _there_and_back(ax, (0, 0), (2.8, 0), _ratio("x_t", "x_{t-1}"), thick=True)
    _there_and_back(ax, (2.8, 0), (5.6, 0), _ratio("x_{t+1}", "x_t"), thick=True)
    for early, late in (((-2.1, 0), (0, 0)), ((5.6, 0), (7.7, 0))):
        _there_and_back(ax, early, late, "", thick=False)
    _arrow(ax, (-0.31, -0.31), (-1.2, -1.2), color=BACKWARD, width=2.6)
    _name(ax, (-1.4, -1.75), _ratio("x_{t-1}", r"\theta", immediate="^{+}"))
    return ax


def forward(ax: Axes) -> Axes:
    """Draw what the network computes, from left to right: states from inputs and states, outputs from the last one."""
    _canvas(ax, across=(-0.6, 9.4), up=(-2.4, 1.1))
    places = {"h_0": 0.0, "h_1": 1.8, "h_2": 3.6, "h_T": 6.6, "y": 8.8}
    for name, x in places.items():
        _node(ax, (x, 0), f"${name}$")
    for name in ("h_1", "h_2", "h_T"):
        _node(ax, (places[name], -1.8), f"$u{name[1:]}$")
        _arrow(ax, (places[name], -1.8 + _RADIUS), (places[name], -_RADIUS - _GAP))
        ax.text(places[name] + 0.15, -0.9, r"$W_{\mathrm{in}}$", ha="left", va="center")
    for early, late, word in ((0, 1.8, "rec"), (1.8, 3.6, "rec"), (6.6, 8.8, "out")):
        _arrow(ax, (early + _RADIUS, 0), (late - _RADIUS - _GAP, 0))
        ax.text((early + late) / 2, _RADIUS, rf"$W_{{\mathrm{{{word}}}}}$", ha="center", va="bottom")
    for early, late in ((3.6 + _RADIUS, 4.8), (5.4, 6.6 - _RADIUS - _GAP)):
        _arrow(ax, (early, 0), (late, 0))
    ax.text(5.1, 0, "…", ha="center", va="center")
    return ax


def sequence(ax: Axes, symbols: str, windows: Mapping[str, range]) -> Axes:
    """Draw a sequence, a box for each symbol, with windows of steps shaded and capitals in bold.

    Args:
        ax: axes to draw into.
        symbols: a letter for each step; those to be remembered are capitals.
        windows: by name, the steps that each holds, from 0.
    """
    _canvas(ax, across=(-0.1, len(symbols) + 0.1), up=(-0.9, 1.9))
    for name, steps in windows.items():
        ax.add_patch(Rectangle((steps.start, 0), len(steps), 1, color=SKY, alpha=0.3, linewidth=0))
        ax.text(steps.start + len(steps) / 2, 1.25, name, ha="center", va="bottom")
    for t, symbol in enumerate(symbols):
        ax.add_patch(Rectangle((t, 0), 1, 1, facecolor="none", edgecolor=rcParams["text.color"], linewidth=0.6))
        ax.text(t + 0.5, 0.47, symbol, ha="center", va="center", weight="bold" if symbol.isupper() else "normal")
    for t in (1, len(symbols)):
        ax.text(t - 0.5, -0.2, f"$t={t}$", ha="center", va="top", size="small")
    return ax


def _ratio(numerator: str, denominator: str, *, immediate: str = "") -> str:
    return rf"$\frac{{\partial{immediate} {numerator}}}{{\partial {denominator}}}$"


def _there_and_back(ax: Axes, early: Point, late: Point, label: str, *, thick: bool) -> None:
    """The arrow that computes `late` from `early` and, to its right, the one that brings the derivative back."""
    across, up = late[0] - early[0], late[1] - early[1]
    length = (across**2 + up**2) ** 0.5

    def at(forward: float, right: float) -> Point:
        (x, y), forward, right = early, forward / length, right / length
        return x + across * forward + up * right, y + up * forward - across * right

    _arrow(ax, at(_RADIUS, -0.13), at(length - _RADIUS - _GAP, -0.13))
    width = 2.6 if thick else 1.0
    _arrow(ax, at(length - _RADIUS, 0.13), at(_RADIUS + _GAP, 0.13), color=BACKWARD, width=width)
    _name(ax, at(length / 2, 1.0), label)


def _name(ax: Axes, centre: Point, label: str) -> None:
    """The name of a factor."""
    ax.text(*centre, label, ha="center", va="center", color=BACKWARD, size="x-large")


def _node(ax: Axes, centre: Point, label: str) -> None:
    """A variable of the network: its name in a circle."""
    ax.add_patch(Circle(centre, _RADIUS, facecolor="none", edgecolor=rcParams["text.color"], linewidth=1.2))
    ax.text(*centre, label, ha="center", va="center")


def _arrow(ax: Axes, start: Point, end: Point, *, color: str | None = None, width: float = 1.2) -> None:
    """A straight arrow, in the colour of the text unless told otherwise."""
    straight = FancyArrowPatch(start, end, shrinkA=0, shrinkB=0)
    _add_arrow(ax, straight, color=color or rcParams["text.color"], width=width)


def _add_arrow(ax: Axes, arrow: FancyArrowPatch, *, color: str, width: float) -> None:
    arrow.set(arrowstyle="-|>", color=color, linewidth=width, mutation_scale=9 + 2 * width)
    ax.add_patch(arrow)


def _canvas(ax: Axes, *, across: Point, up: Point) -> None:
    """Axes without a frame in which a unit across is as long as a unit up."""
    ax.set(xlim=across, ylim=up, aspect="equal")
    ax.axis("off")


def roofs(ax: Axes, rates: Mapping[str, float], bandwidths: Mapping[str, float]) -> Axes:
    """Draw the ceilings of a roofline plot: rates as level lines, bandwidths as slopes that end at the highest rate.

    Args:
        ax: axes to draw into, their limits set: operations per byte, operations per second.
        rates: by name, operations per second.
        bandwidths: by name, bytes per second.
    """
    (left, right), top = ax.get_xlim(), max(rates.values())
    for name, rate in rates.items():
        ax.plot((left, right), (rate, rate), color=BLACK, linewidth=1.0)
        height, side = (rate, "bottom") if rate == top else (0.6 * rate, "top")
        ax.text(right, height, name.replace(" in ", "\nin "), ha="right", va=side, size="small")
    for i, (name, bandwidth) in enumerate(bandwidths.items()):
        ax.plot((left, top / bandwidth), (left * bandwidth, top), color=BLACK, linewidth=0.6)
        height = top * 1.6 ** (1 - i % 2)  # names of neighbours stand one above the other
        ax.text(top / bandwidth, height, name, ha="center", va="bottom", size="small")
    return ax
