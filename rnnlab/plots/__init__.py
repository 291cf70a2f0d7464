"""Figures: one style, fixed colours, and what several pages draw. Takes data, returns axes."""

from rnnlab.plots.learning import band, errors_by_length, learning_curves, members_by_length, solved_by, success_rates
from rnnlab.plots.style import (
    BLACK,
    BLUE,
    COLORS,
    GREEN,
    GREY,
    LINES,
    MARKERS,
    ORANGE,
    PURPLE,
    SKY,
    VERMILION,
    YELLOW,
    plain_log,
    style,
)

__all__ = [
    "BLACK",
    "BLUE",
    "COLORS",
    "GREEN",
    "GREY",
    "LINES",
    "MARKERS",
    "ORANGE",
    "PURPLE",
    "SKY",
    "VERMILION",
    "YELLOW",
    "band",
    "errors_by_length",
    "learning_curves",
    "members_by_length",
    "plain_log",
    "solved_by",
    "style",
    "success_rates",
]
