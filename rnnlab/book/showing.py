"""What a page shows, where there is no notebook to show it: the scripts that `rnnlab script` prints import this.

Markdown, Math and their like stand in for those of IPython.display; text is printed, figures are kept if asked for, and
the numbers that the page puts into its prose are written down at the end.
"""

import argparse
import itertools
import json
from pathlib import Path
from typing import Any

from rnnlab.book import execution


class Text(str):
    """Text with markup, shown as it is written."""

    __slots__ = ()


Markdown = Math = Latex = HTML = Text


def display(*values: Any) -> None:
    """Print what a notebook would show."""
    for value in values:
        print(value)


def last(value: Any) -> None:
    """Print the value of a cell's last line, if it has one."""
    if value is not None:
        print(value)


def begin(description: str | None, script: str) -> argparse.Namespace:
    """Read a script's command line, put it into a known environment, and have its figures drawn into files, or nowhere.

    Args:
        description: of the script.
        script: its file.
    """
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--glued", type=Path, metavar="FILE", help="write the numbers in the prose here, as JSON")
    parser.add_argument("--figures", type=Path, metavar="FOLDER", help="keep the figures here, as SVG")
    parser.add_argument("--threads", type=int, default=1, help="to compute with; 1, as the book's pages, unless told")
    given = parser.parse_args()
    if given.threads < 1:
        parser.error(f"--threads must be at least 1, got {given.threads}")
    execution.start_again(script, threads=given.threads)

    import matplotlib.pyplot as plt

    numbers = itertools.count(1)

    def show(*args: Any, **kwargs: Any) -> None:
        """Keep the open figures and close them, as a notebook does at the end of a cell."""
        for figure in map(plt.figure, plt.get_fignums()):
            _save(figure, given.figures, f"{next(numbers)}")
        plt.close("all")

    plt.switch_backend("agg")
    plt.show = show
    return given


def end(given: argparse.Namespace) -> None:
    """Say what the page claims, and write down what it glued: figures as files, numbers and text as JSON."""
    import matplotlib.pyplot as plt
    from matplotlib.figure import Figure

    from rnnlab.book import claims, pages

    plt.show()
    for finding in pages.claimed.values():
        print(claims.outputs(finding)["text/plain"])
    for name, value in pages.glued.items():
        if isinstance(value, Figure):
            _save(value, given.figures, name)
    if given.glued is not None:
        kept = {name: value for name, value in pages.glued.items() if _plain(value)}
        given.glued.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf8")


def _save(figure: Any, folder: Path | None, name: str) -> None:
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        figure.savefig(folder / f"{name}.svg", bbox_inches="tight", metadata={"Date": None})


def _plain(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return all(map(_plain, value))
    return value is None or isinstance(value, int | float | str)
