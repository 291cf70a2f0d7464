"""One style for every figure of the book, and colours that always mean the same."""

import sys

import matplotlib as mpl
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.backends import BackendFilter, backend_registry
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from rnnlab.plots.pictures import bundle

__all__ = ["BLACK", "BLUE", "GREEN", "GREY", "ORANGE", "PURPLE", "SKY", "VERMILION", "YELLOW"]
__all__ += ["COLORS", "LINES", "MARKERS", "OTHERS", "plain_log", "style"]

# Okabe & Ito's colours; the same thing always has the same one.
BLACK = "#000000"
ORANGE = "#E69F00"
SKY = "#56B4E9"
GREEN = "#009E73"
YELLOW = "#F0E442"
BLUE = "#0072B2"
VERMILION = "#D55E00"
PURPLE = "#CC79A7"
GREY = "#7F7F7F"

# Of all else that has colours: algorithms keep theirs.
OTHERS = (GREEN, PURPLE, SKY, BLACK)

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
    cycle = cycler(color=OTHERS)
    mpl.rc("axes", facecolor="none", grid=True, labelsize=10, titlesize=10, prop_cycle=cycle)
    mpl.rc("axes.spines", right=False, top=False)
    mpl.rc("figure", facecolor="none", figsize=(6.4, 3.4))
    mpl.rc("figure.constrained_layout", use=True)
    mpl.rc("font", family="sans-serif", size=10)
    mpl.rc("grid", alpha=0.25, linewidth=0.6)
    mpl.rc("legend", fontsize=9, frameon=False)
    mpl.rc("lines", linewidth=1.6)
    mpl.rc("savefig", facecolor="none")
    mpl.rc("svg", fonttype="none", hashsalt="rnnlab")
    if shell:
        from matplotlib_inline.backend_inline import set_matplotlib_formats

        set_matplotlib_formats()  # none of its own
        shell.display_formatter.mimebundle_formatter.for_type(Figure, bundle)


def plain_log(ax: Axes) -> None:
    """Make the y axis logarithmic, with plain numbers at 1, 2 and 5 times powers of ten: for a range of few decades."""
    ax.set_yscale("log")
    ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    ax.yaxis.set_major_formatter("{x:g}")
    ax.yaxis.set_minor_formatter(NullFormatter())
