"""Arrays of specifications in, labelled results out."""

from rnnlab.sweeps.axes import grid
from rnnlab.sweeps.summaries import read_summary, write_summary
from rnnlab.sweeps.sweep import gather, run

__all__ = ["gather", "grid", "read_summary", "run", "write_summary"]
