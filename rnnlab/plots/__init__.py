"""Figures: one style, fixed colours, and what several pages draw. Takes data, returns axes."""

from rnnlab.plots.learning import *  # noqa: F403 - the names in its __all__
from rnnlab.plots.style import *  # noqa: F403
