"""One style for every figure of the book, and colours that always mean the same."""

import sys

import matplotlib as mpl
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.backends import BackendFilter, backend_registry
from matplotlib.ticker import LogLocator, NullFormatter

# Okabe & Ito's colours; the same thing always has the same one.
BLACK, ORANGE, SKY, GREEN, YELLOW, BLUE, VERMILION, PURPLE, GREY = (
    "#000000",
    "#E69F00",
    "#56B4E9",
    "#009E73",
    "#F0E442",
    "#0072B2",
    "#D55E00",
    "#CC79A7",
    "#7F7F7F",
)


COLORS = {"MSGD": GREY, "MSGD-C": BLUE, "MSGD-CR": VERMILION, "MSGD-R": ORANGE}


LINES = {"sigmoid": ":", "basic tanh": "--", "smart tanh": "-"}


MARKERS = {"MSGD": "s", "MSGD-C": "^", "MSGD-CR": "o", "MSGD-R": "D"}


def style() -> None:
    """Set the book's style, whatever the reader's: vector text, transparent ground, quiet axes.

    A notebook that would lose its figures, as under `MPLBACKEND=Agg`, shows them again.
    """
    shell = sys.modules["IPython"].get_ipython() if "ipykernel" in sys.modules else None
    lost = backend_registry.list_builtin(BackendFilter.NON_INTERACTIVE)
    if shell and hasattr(shell, "kernel") and mpl.get_backend().lower() in lost:
        shell.run_line_magic("matplotlib", "inline")
    mpl.rcdefaults()
    mpl.rcParams.update(
        {
            "axes.facecolor": "none",
            "axes.grid": True,
            "axes.labelsize": 10,
            "axes.prop_cycle": cycler(color=[BLUE, VERMILION, GREEN, ORANGE, PURPLE, SKY, BLACK]),
            "axes.spines.right": False,
            "axes.spines.top": False,
            "axes.titlesize": 10,
            "figure.constrained_layout.use": True,
            "figure.facecolor": "none",
            "figure.figsize": (6.4, 3.4),
            "font.family": "sans-serif",
            "font.size": 10,
            "grid.alpha": 0.25,
            "grid.linewidth": 0.6,
            "legend.frameon": False,
            "legend.fontsize": 9,
            "lines.linewidth": 1.6,
            "savefig.facecolor": "none",
            "svg.fonttype": "none",
            "svg.hashsalt": "rnnlab",
        }
    )
    _inline_svg()


def _inline_svg() -> None:
    """Have notebooks show figures as SVG; nothing to do elsewhere."""
    try:
        from matplotlib_inline.backend_inline import set_matplotlib_formats
    except ImportError:
        return
    set_matplotlib_formats("svg", metadata={"Date": None}, bbox_inches="tight")


def plain_log(ax: Axes) -> None:
    """Make the y axis logarithmic, with plain numbers at 1, 2 and 5 times powers of ten: for a range of few decades."""
    ax.set_yscale("log")
    ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    ax.yaxis.set_major_formatter("{x:g}")
    ax.yaxis.set_minor_formatter(NullFormatter())
