"""What two builds of the book have in common if they computed the same: the articles of their pages, their pictures.

    python -m tests.sites _build/html _build/rebuild/quick/_build/html

says where they differ, if they do. What stands outside the articles may: when and with what a page was executed.
"""

import re
import sys
from pathlib import Path

# How a page has to begin to be recognised as a notebook.
HEADER = """\
---
jupytext:
  text_representation:
    format_name: myst
kernelspec:
  name: python3
  display_name: Python 3
---

"""


def articles(site: Path) -> dict[str, str]:
    """The article of each page of a site that has one."""
    found = {}
    for page in sorted(site.rglob("*.html")):
        if match := re.search(r"<article.*?</article>", page.read_text(encoding="utf8"), re.DOTALL):
            found[page.relative_to(site).as_posix()] = match[0]
    return found


def pictures(site: Path) -> dict[str, bytes]:
    """The pictures of a site."""
    return {f"_images/{path.name}": path.read_bytes() for path in sorted((site / "_images").glob("*"))}


def differences(one: Path, other: Path) -> list[str]:
    """The articles and pictures that are not the same in both sites, each with the first line that differs."""
    said = []
    for kind in (articles, pictures):
        ours, theirs = kind(one), kind(other)
        for name in sorted(ours.keys() | theirs.keys()):
            if name not in ours or name not in theirs:
                said.append(f"{name}: only in {one if name in ours else other}")
            elif ours[name] != theirs[name]:
                said.append(f"{name}: {_first_difference(ours[name], theirs[name])}")
    return said


def _first_difference(ours: str | bytes, theirs: str | bytes) -> str:
    pairs = zip([*ours.splitlines(), ""], [*theirs.splitlines(), ""], strict=False)
    here, there = next((pair for pair in pairs if pair[0] != pair[1]), ("", ""))
    return f"{here[:200]!r} or {there[:200]!r}"


def main(one: str, other: str) -> int:
    """Print the differences; return 1 if there are any, or if there is nothing to compare."""
    found = differences(Path(one), Path(other)) if articles(Path(one)) else [f"{one} has no pages"]
    print(*found or [f"the same: {len(articles(Path(one)))} articles, {len(pictures(Path(one)))} pictures"], sep="\n")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
