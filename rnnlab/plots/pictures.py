"""How notebooks show a figure: as SVG, wide and, for phones, with its panels below each other, and with its data.

Drawings are in few digits. Their inks are for a light page, and those for a dark one where they are shown as `#dark`.
"""

import csv
import io
import itertools
import pickle
import re
import zlib
from collections.abc import Iterator
from typing import Any
from xml.etree import ElementTree

import numpy as np
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.collections import Collection, LineCollection, PolyCollection, QuadMesh
from matplotlib.colors import to_hex, to_rgb, to_rgba_array
from matplotlib.figure import Figure
from matplotlib.gridspec import GridSpec, SubplotSpec
from matplotlib.lines import Line2D
from matplotlib.text import Text
from matplotlib.ticker import FixedLocator, MaxNLocator

GROUNDS = {"light": "#ffffff", "dark": "#121212"}  # of the book's pages
TEXT, LINE = 4.5, 3.0  # least contrasts, of WCAG 2.1
WIDTH = 3.25  # inches of a narrow drawing: shown on 374 px, an exponent of 7 points is 11 px high
SIZE = 10.0  # points, of which exponents have 0.7
ROW = 0.25  # inches for each of the rows that a narrow panel names
UNSEEN = 0.1  # points that a line may move

SVG = "{http://www.w3.org/2000/svg}"
ElementTree.register_namespace("", SVG.strip("{}"))
ElementTree.register_namespace("xlink", "http://www.w3.org/1999/xlink")


def bundle(figure: Figure, *_: Any) -> tuple[dict[str, str], dict[str, Any]]:
    """Return a figure as a notebook keeps it: wide, and in the output's metadata narrow, and its data.

    The metadata also say whether panels that stand in one row are `below` each other when it is narrow.

    Args:
        figure: one that has `narrow`, a number, is given so many columns of panels when it is narrow, else one.
    """
    said = {"image/svg+xml": svg(figure, bbox_inches="tight")}
    narrow = stacked(figure)
    return said, {"figure": {"narrow": svg(narrow), "data": table(narrow), "below": comes_below(figure)}}


def comes_below(figure: Figure) -> bool:
    """Whether panels that stand beside each other, in one row, stand below each other when it is narrow."""
    grid = next(iter(_panels(figure).values())).get_gridspec()
    return grid.nrows == 1 < grid.ncols and getattr(figure, "narrow", 1) == 1


def stacked(figure: Figure) -> Figure:
    """Return a copy as wide as a phone, its panels below each other, each with the labels that it had from others."""
    copy = pickle.loads(pickle.dumps(figure))
    pyplot.close(copy)
    columns, panels = getattr(figure, "narrow", 1), _panels(copy)
    shape = next(iter(panels.values())).get_gridspec().get_geometry()
    grid = GridSpec(-(-len(panels) // columns), columns, figure=copy)
    _label(panels)
    for i, ax in enumerate(panels):
        ax.set_subplotspec(grid[divmod(i, columns)])
        if i % columns and len(ax.get_shared_y_axes().get_siblings(ax)) > 1:
            ax.tick_params(labelleft=False)
            ax.set_ylabel("")
    for legend in copy.legends:
        names = [text.get_text() for text in legend.get_texts()]
        fit = max(1, int(72 * WIDTH // (SIZE * (3 + 0.6 * max(map(len, names))))))
        how = {"ncols": min(fit, len(names)), "title": legend.get_title().get_text()}
        copy.legend(legend.legend_handles, names, loc="outside upper center", **how)
        legend.remove()
    for text in copy.findobj(Text):
        text.set_fontsize(max(SIZE, text.get_fontsize()))
    (height, width), each = copy.get_size_inches()[::-1] / shape, WIDTH / columns
    high = min(height, max(height * each / width, 0.8 * each, ROW * max(map(_rows, panels))))
    copy.set_size_inches(WIDTH, grid.nrows * high + 0.3 * len(copy.legends))
    copy.draw_without_rendering()
    for ax in panels:
        _make_room(ax)
    boxes, wide = [box for ax in panels if (box := ax.get_tightbbox())], copy.bbox.width
    left, right = max(0, *(-box.x0 for box in boxes)) / wide, max(0, *(box.x1 - wide for box in boxes)) / wide
    copy.set_layout_engine("constrained", rect=(left, 0, 1 - left - right, 1))  # it lets labels stand out
    return copy


def _panels(figure: Figure) -> dict[Axes, SubplotSpec]:
    """Axes and their places, but those of a scale of colours."""
    return {ax: place for ax in figure.axes if (place := ax.get_subplotspec())}


def _label(panels: dict[Axes, SubplotSpec]) -> None:
    """Give each panel the labels that it shares with those of its row and column."""
    place = {(at.rowspan.start, at.colspan.start): ax for ax, at in panels.items()}
    for (row, column), ax in place.items():
        lowest = place[max(at for at in place if at[1] == column)]
        for name, shared in (("title", place[0, column]), ("xlabel", lowest), ("ylabel", place[row, 0])):
            if ax.axison and not getattr(ax, f"get_{name}")():
                getattr(ax, f"set_{name}")(getattr(shared, f"get_{name}")())
        if ax.axison:
            ax.tick_params(labelbottom=True, labelleft=True)
        for text in (ax.title, ax.xaxis.label, ax.yaxis.label):
            text.set_wrap(True)


def _rows(ax: Axes) -> int:
    """How many heights a panel names one by one."""
    return len(ax.get_yticks()) if isinstance(ax.yaxis.get_major_locator(), FixedLocator) else 0


def _make_room(ax: Axes) -> None:
    """Have fewer ticks where their labels would touch, or turn labels that are words."""
    for bins in (4, 3, 2, 1):
        boxes = [label.get_window_extent() for label in ax.get_xticklabels() if label.get_text()]
        if all(left.x1 + SIZE / 2 <= right.x0 for left, right in itertools.pairwise(boxes)):
            break
        if not isinstance(ax.xaxis.get_major_locator(), MaxNLocator):
            ax.tick_params(axis="x", labelrotation=90)
            break
        ax.locator_params(axis="x", nbins=bins)


def svg(figure: Figure, **how: Any) -> str:
    """Return a drawing in tenths of a point, without what nobody sees, and in inks for light and dark pages.

    Args:
        figure: to be drawn.
        how: told to `savefig`.
    """
    drawn = io.BytesIO()
    figure.savefig(drawn, format="svg", metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")), **how)
    root = ElementTree.fromstring(drawn.getvalue())
    used = set(re.findall(r"#(\w+)", ElementTree.tostring(root, encoding="unicode")))
    rules: dict[str, str] = {}
    _inked(root, "#000000", rules)
    for node in root.iter():
        if node.get("id") not in used:
            node.attrib.pop("id", None)
        for name, value in node.attrib.items():
            if name == "d":
                node.set("d", _path(value))
            elif name in ("x", "y", "width", "height", "transform", "viewBox"):
                node.set(name, re.sub(r"-?\d+\.\d+", lambda number: _written(10 * float(number[0])), value))
        node.text, node.tail = (said if said and said.strip() else None for said in (node.text, node.tail))
    root.set("id", "dark")
    style = next(root.iter(f"{SVG}style"))
    style.text = "".join([style.text or "", f"svg:target{{fill:{_dark('#000000', TEXT)}}}", *rules.values()])
    return ElementTree.tostring(root, encoding="unicode")


def table(figure: Figure) -> str:
    """Return what the lines, dots, bands, bars and cells of a figure stand for, as CSV: a row for each point.

    A series without a label has that of another one of its colour.
    """
    said, panels = io.StringIO(), _panels(figure)
    for number, ax in enumerate(panels, start=1):
        words = (ax.get_title(), f"x: {ax.get_xlabel()}", f"y: {ax.get_ylabel()}")
        said.write(f"# panel {number}: {', '.join(filter(None, words))}\n".replace("\n", " ").strip() + "\n")
    writer = csv.writer(said, lineterminator="\n")
    writer.writerow(("panel", "series", "x", "y", "low", "high"))
    names = {color: label for ax in panels for color, label, _ in _series(ax) if label}
    for number, ax in enumerate(panels, start=1):
        for k, (color, label, points) in enumerate(_series(ax), start=1):
            for point in points:
                values = ["" if value is None else f"{value:.4g}" for value in point]
                writer.writerow((number, label or names.get(color, k), *values, *[""] * (4 - len(values))))
    return said.getvalue()


def _series(ax: Axes) -> Iterator[tuple[str, str, list[Any]]]:
    """Colour, label if it has one, and points of all that axes show of data: x, y, and both ends of bands and bars.

    Of axes in three dimensions nothing: what is drawn there are projections.
    """
    artists: list[Any] = [] if ax.name == "3d" else [*ax.lines, *ax.collections]
    for artist in artists:
        found: list[Any]
        if isinstance(artist, QuadMesh):
            found = [list(enumerate(row)) for row in np.asarray(artist.get_array())]
        elif isinstance(artist, LineCollection):
            found = artist.get_segments()
            if all(len(line) == 2 and line[0][0] == line[1][0] for line in found):
                found = [[(x, None, low, high) for (x, low), (_, high) in found]]
        elif isinstance(artist, PolyCollection):
            corners = np.concatenate([path.vertices for path in artist.get_paths()])
            ends = ((x, corners[corners[:, 0] == x, 1]) for x in np.unique(corners[:, 0]))
            found = [[(x, None, y.min(), y.max()) for x, y in ends]]
        else:
            data = artist.get_xydata() if isinstance(artist, Line2D) else artist.get_offsets()
            found = [data] if artist.get_transform().contains_branch(ax.transData) else []
        label = "" if str(artist.get_label()).startswith("_") else str(artist.get_label())
        for points in found:
            yield _color(artist), label, [point for point in points if np.isfinite(point[-1])]


def _color(artist: Line2D | Collection) -> str:
    color = artist.get_color() if isinstance(artist, Line2D) else artist.get_edgecolor()
    return "".join(to_hex(tuple(color)) for color in to_rgba_array(color)[:1])


def _path(data: str) -> str:
    """Path data in tenths of a point, lines as differences of rounded places; curves, which are small, in 0.01."""
    if re.search("[^MLz0-9.\\s-]", data):
        return " ".join(re.sub(r"-?\d+\.\d+", lambda number: f"{float(number[0]):.2f}", data).split())
    written, pen = "", (0, 0)
    for line in data.split("M")[1:]:
        points = np.rint(10 * np.array(re.findall(r"-?[\d.]+", line), float)).reshape(-1, 2)
        points = points[_bends(points)]
        steps = np.diff(points, axis=0, prepend=[pen])
        written += "m" + " ".join(f"{_written(x)} {_written(y)}" for x, y in steps) + "z" * ("z" in line)
        pen = points[0] if "z" in line else points[-1]
    return written.replace(" -", "-")


def _bends(points: np.ndarray) -> list[int]:
    """Which points of a line it takes to draw it; the others lie within `UNSEEN` of it."""
    kept = [0]
    for last in range(2, len(points)):
        start, others = points[kept[-1]], points[kept[-1] + 1 : last]
        along = points[last] - start
        share = np.clip((others - start) @ along / max(along @ along, 1), 0, 1)
        off = others - start - share[:, None] * along
        if (off**2).sum(axis=1).max() > (10 * UNSEEN) ** 2 or len(others) > 50:
            kept.append(last - 1)
    return [*kept, len(points) - 1] if len(points) > 1 else kept


def _written(tenths: float) -> str:
    return f"{round(tenths) / 10:g}".replace("0.", ".") if abs(tenths) < 10 else f"{round(tenths) / 10:g}"


def _inked(node: ElementTree.Element, fill: str, rules: dict[str, str]) -> None:
    """Turn styles into classes, with rules that give texts the contrast they need, and inks theirs on dark pages."""
    style = dict(part.split(": ", 1) for part in node.attrib.pop("style", "").split("; ") if part)
    fill, dark = style.get("fill", fill), {}
    if node.tag == f"{SVG}path" and "id" in node.attrib:
        style.pop("stroke", None)  # a mark's: each place where it is used says it again, and what is there counts
    if style.get("font-family", "").startswith("'DejaVu Sans'"):
        style["font-family"] = "'DejaVu Sans', Verdana, sans-serif"
    written = node.tag in (f"{SVG}text", f"{SVG}tspan")
    if written and fill != "#000000":
        style["fill"], dark["fill"] = _mixed(fill, "light", TEXT), _dark(fill, TEXT)
    elif not written:
        colors = {name: style[name] for name in ("fill", "stroke") if style.get(name, "")[:1] == "#"}
        dark = {name: _dark(color, LINE) for name, color in colors.items()}
    if style:
        said, turned = (";".join(f"{name}:{value}" for name, value in each.items()) for each in (style, dark))
        name = f"s{zlib.crc32((said + turned).encode()):x}"  # of its content: pages may hold several drawings
        node.set("class", name)
        rules[name] = f".{name}{{{said}}}" + (f"svg:target .{name}{{{turned}}}" if turned else "")
    for child in node:
        _inked(child, fill, rules)


def _dark(color: str, least: float) -> str:
    """An ink for dark pages: ink becomes chalk, other colours stay if they can be seen."""
    red, green, blue = to_rgb(color)
    turned = (0.9 - 0.9 * red,) * 3
    return _mixed(to_hex(turned) if red == green == blue < 0.75 else color, "dark", least)


def _mixed(color: str, page: str, least: float) -> str:
    """A colour, with as much black or white in it as gives it a contrast to the page's ground."""
    towards = np.full(3, float(page == "dark"))
    shades = (to_hex((1 - share) * np.array(to_rgb(color)) + share * towards) for share in np.linspace(0, 1, 21))
    return next(shade for shade in shades if _contrast(shade, GROUNDS[page]) >= least)


def _contrast(one: str, other: str) -> float:
    """The contrast of two colours, as WCAG 2.1 defines it."""
    channels = np.array([to_rgb(one), to_rgb(other)])
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    low, high = sorted(linear @ (0.2126, 0.7152, 0.0722) + 0.05)
    return high / low
