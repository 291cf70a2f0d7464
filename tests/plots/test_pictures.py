"""A figure is kept wide, narrow and as a table, in few digits, with inks for light and for dark pages."""

import matplotlib

matplotlib.use("Agg")

import csv
import itertools
import re
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from matplotlib import pyplot as plt

from rnnlab import plots
from rnnlab.plots import pictures
from tests.figures import contrast

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture
def figure():
    """Two by two panels that share labels and a legend, with direct labels in inks too pale for text."""
    with matplotlib.rc_context():
        plots.style()
        drawn, axes = plt.subplots(2, 2, sharex=True, sharey=True, figsize=(7, 4))
        for k, ax in enumerate(axes.flat):
            ax.plot([1, 2, 3], [1, 10 + k, 100], label="norm", color=plots.GREEN)
            ax.fill_between([1, 2, 3], [1, 2, 3], [4, 50, 600], color=plots.GREEN)
            ax.vlines([1, 2], [0, 1], [7, 8], color=plots.PURPLE)
            ax.axhline(5)
        axes[0, 0].set(title="left", ylabel="above", yscale="log")
        axes[0, 1].set(title="right")
        axes[1, 0].set(xlabel="steps", ylabel="below")
        axes[1, 1].set_xlabel("seconds")
        for y, color in ((1, plots.ORANGE), (3, plots.GREY), (9, plots.BLUE), (20, plots.SKY), (50, plots.YELLOW)):
            axes[0, 0].text(1, y, color, color=color)
        axes[0, 0].text(1, 30, r"$\frac{q}{2}$", color=plots.GREEN)
        drawn.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=3)
        yield drawn
        plt.close("all")


def numbers(path):
    """Corners of a drawing's path, one list for each of its lines, from the differences that it is written in."""
    lines, pen = [], np.zeros(2)
    for line in path.split("m")[1:]:
        steps = np.array(re.findall(r"-?(?:\d+\.?\d*|\.\d+)", line), float).reshape(-1, 2)
        lines.append(pen + np.cumsum(steps, axis=0))
        pen = lines[-1][0 if line.endswith("z") else -1]
    return lines


def rules(svg):
    """Declarations of each class, those for dark pages, and the ink of all that has none there."""
    light, dark = {}, {}
    for mode, name, said in re.findall(r"(svg:target)? ?(?:\.(\w+))?\{([^}]*)\}", svg):
        if mode or name:
            (dark if mode else light)[name] = dict(part.split(":", 1) for part in said.split(";"))
    return light, dark


def inks(svg):
    """Each text with its ink on a light and on a dark page, by the drawing's own rules."""
    light, dark = rules(svg)

    def walk(node, inks):
        name = node.get("class", "")
        one = light.get(name, {}).get("fill", inks[0])
        inks = one, dark.get(name, {}).get("fill", inks[1])
        if node.text and node.tag != f"{SVG}style":
            yield node.text, inks
        for child in node:
            yield from walk(child, inks)

    return dict(walk(ElementTree.fromstring(svg), ("#000000", dark[""]["fill"])))


def rgb(color):
    return [int(color[i : i + 2], 16) for i in (1, 3, 5)]


def test_every_text_has_its_contrast_on_light_and_on_dark_pages_and_lines_keep_their_colours(figure):
    (data, _) = pictures.bundle(figure)
    svg = data["image/svg+xml"]
    found = inks(svg)
    assert {plots.ORANGE, plots.GREY, plots.BLUE, plots.SKY, plots.YELLOW, "left", "norm", "q"} <= found.keys()
    for text, (light, dark) in found.items():
        assert contrast(rgb(light), [255, 255, 255]) >= 4.5, text
        assert contrast(rgb(dark), rgb(pictures.GROUNDS["dark"])) >= 4.5, text
    assert found[plots.ORANGE][1] == plots.ORANGE.lower(), "orange stays orange in the dark"
    assert found["left"] == ("#000000", "#e6e6e6")
    light, dark = rules(svg)
    lines = [name for name, said in light.items() if said.get("stroke") == plots.GREEN.lower()]
    assert lines
    assert all(dark[name]["stroke"] == plots.GREEN.lower() for name in lines)


def test_hollow_black_marks_are_light_on_dark_pages():
    """What a mark's definition says beats, in browsers, what is said where it is used; so it says no colour."""
    with matplotlib.rc_context():
        plots.style()
        drawn, ax = plt.subplots()
        ax.plot([1, 2], [1, 2], "o", color="black", mfc="none")
        svg = pictures.bundle(drawn)[0]["image/svg+xml"]
        plt.close(drawn)
    root, (light, dark) = ElementTree.fromstring(svg), rules(svg)
    marks = [node.get("class") for node in root.iter(f"{SVG}path") if "id" in node.attrib]
    used = [node.get("class") for node in root.iter(f"{SVG}use")]
    assert marks
    assert not any("stroke" in light.get(name, {}) for name in marks)
    assert {(light[name]["stroke"], dark[name]["stroke"]) for name in used} == {("#000000", "#e6e6e6")}


def test_places_are_in_tenths_and_lines_that_bend_lose_nothing():
    ends = np.array([[0.04, 10.06], [20.11, 13.3], [40.0, -7.7777], [41.0, 8.0]])
    data = " \n".join(f"{'ML'[k > 0]} {x} {y}" for k, (x, y) in enumerate(ends)) + " \nz\nM 1.26 2 \nL 3 4 \n"
    first, second = numbers(pictures._path(data))
    np.testing.assert_allclose(first, np.round(ends, 1), rtol=0, atol=1e-9)
    np.testing.assert_allclose(second, [[1.3, 2], [3, 4]], rtol=0, atol=1e-9)


def test_a_line_is_drawn_within_a_tenth_of_a_point_by_fewer_points():
    x = np.linspace(0, 400, 2001)
    y = 100 + 50 * np.sin(x / 40) + np.where(x > 300, x - 300, 0)
    ((line),) = numbers(pictures._path("M " + "\nL ".join(f"{a} {b}" for a, b in zip(x, y, strict=True))))
    assert len(line) < 250
    assert abs(np.interp(x, *line.T) - y).max() < 0.25  # a tenth aside on a slope, and the rounding


def test_curves_of_marks_keep_hundredths_and_texts_their_words(figure):
    assert pictures._path("M 0 2.00001 \nC 0.530406 2 1 1.5 1 1 \nz\n") == "M 0 2.00 C 0.53 2 1 1.50 1 1 z"
    figure.axes[0].text(1, 1, "x 12.3456 y")
    assert "x 12.3456 y" in pictures.svg(figure)


def test_a_narrow_figure_has_its_panels_below_each_other_with_labels_of_their_own(figure):
    narrow = pictures.stacked(figure)
    panels = narrow.axes
    assert narrow.get_size_inches()[0] == pictures.WIDTH
    boxes = [ax.get_position() for ax in panels]
    assert all(low.y1 < high.y0 for high, low in itertools.pairwise(boxes))
    said = [(ax.get_title(), ax.get_xlabel(), ax.get_ylabel()) for ax in panels]
    assert said == [
        ("left", "steps", "above"),
        ("right", "seconds", "above"),
        ("left", "steps", "below"),
        ("right", "seconds", "below"),
    ]
    assert all(ax.get_xticklabels()[0].get_visible() and ax.get_yticklabels()[0].get_visible() for ax in panels)
    assert [ax.get_title() for ax in figure.axes] == ["left", "right", "", ""], "the wide one stays as it is"
    assert figure.get_size_inches().tolist() == [7, 4]


def test_a_page_asks_for_two_columns_of_small_panels(figure):
    figure.narrow = 2
    panels = pictures.stacked(figure).axes
    assert panels[0].get_position().y0 == pytest.approx(panels[1].get_position().y0)
    assert (panels[0].get_ylabel(), panels[1].get_ylabel()) == ("above", "")


@pytest.mark.parametrize(
    ("rows", "columns", "narrow", "below"),
    [(1, 2, 1, True), (1, 3, 1, True), (1, 2, 2, False), (2, 2, 1, False), (1, 1, 1, False)],
)
def test_panels_of_one_row_alone_are_said_to_come_below_each_other(rows, columns, narrow, below):
    figure = plt.figure()
    figure.subplots(rows, columns)
    figure.narrow = narrow
    assert pictures.comes_below(figure) is below
    plt.close(figure)


def test_what_is_written_on_a_phone_is_at_least_11_px_high(figure):
    svg = pictures.bundle(figure)[1]["figure"]["narrow"]
    width = float(re.search(r'viewBox="0 0 ([\d.]+)', svg)[1])
    sizes = [float(size) for size in re.findall(r"font-size:([\d.]+)px", svg)]
    assert min(sizes) == pytest.approx(7), "an exponent of the logarithmic axis"
    assert min(sizes) * 374 / width >= 11


def test_labels_that_would_stand_over_each_other_are_turned():
    drawn, ax = plt.subplots(figsize=(7, 3))
    ax.set_xticks(range(6), [f"a long name {k}" for k in range(6)])
    ax.set_xlim(-0.5, 5.5)
    rotations = {label.get_rotation() for label in pictures.stacked(drawn).axes[0].get_xticklabels()}
    assert rotations == {90}
    plt.close("all")


@pytest.mark.parametrize("ends", [(-2, -0.8), (3.97795, 3.97809), (0, 1e6)])
def test_numbers_below_an_axis_stand_apart_and_within_a_narrow_figure(ends):
    with matplotlib.rc_context():
        plots.style()
        drawn, ax = plt.subplots(figsize=(6, 2.8))
        ax.plot(ends, [0, 1])
        ax.set(xlabel="place", ylabel="share")
        narrow = pictures.stacked(drawn)
        narrow.draw_without_rendering()
    ax = narrow.axes[0]
    seen = [label for label in ax.get_xticklabels() if ax.get_xlim()[0] <= label.get_position()[0] <= ax.get_xlim()[1]]
    boxes = [label.get_window_extent() for label in seen]
    assert len(boxes) > 1
    assert all(left.x1 < right.x0 for left, right in itertools.pairwise(boxes))
    assert boxes[0].x0 >= 0
    assert boxes[-1].x1 <= narrow.bbox.width
    plt.close("all")


def test_rows_that_are_named_keep_a_line_each_when_a_figure_is_narrow():
    drawn, ax = plt.subplots(figsize=(7, 5), layout="constrained")
    ax.set_yticks(range(18), [f"row {k}" for k in range(18)])
    narrow = pictures.stacked(drawn)
    narrow.draw_without_rendering()
    boxes = [label.get_window_extent() for label in narrow.axes[0].get_yticklabels()]
    assert all(low.y1 <= high.y0 for low, high in itertools.pairwise(boxes))
    plt.close("all")


def test_the_data_are_a_row_for_each_point_by_panel_and_series(figure):
    table = pictures.bundle(figure)[1]["figure"]["data"].splitlines()
    assert table[:5] == [
        "# panel 1: left, x: steps, y: above",
        "# panel 2: right, x: seconds, y: above",
        "# panel 3: left, x: steps, y: below",
        "# panel 4: right, x: seconds, y: below",
        "panel,series,x,y,low,high",
    ]
    second = [row for row in csv.reader(table[5:]) if row[0] == "2"]
    assert second == [
        ["2", "norm", "1", "1", "", ""],
        ["2", "norm", "2", "11", "", ""],
        ["2", "norm", "3", "100", "", ""],
        ["2", "norm", "1", "", "1", "4"],
        ["2", "norm", "2", "", "2", "50"],
        ["2", "norm", "3", "", "3", "600"],
        ["2", "3", "1", "", "0", "7"],
        ["2", "3", "2", "", "1", "8"],
    ]


def test_cells_are_rows_of_values_and_points_that_are_not_numbers_are_left_out():
    drawn, (left, right) = plt.subplots(1, 2)
    left.pcolormesh(np.array([[1.5, -2.0], [0.25, 4.0]]))
    right.plot([1, 2], [np.nan, 3.0], "o", label="dots")
    rows = [line for line in pictures.table(drawn).splitlines() if line[0] in "12"]
    assert rows == ["1,1,0,1.5,,", "1,1,1,-2,,", "1,2,0,0.25,,", "1,2,1,4,,", "2,dots,2,3,,"]
    plt.close("all")


def test_a_surface_is_drawn_and_has_no_data_of_its_own():
    drawn, ax = plt.subplots(subplot_kw={"projection": "3d"})
    x, y = np.meshgrid(np.arange(3.0), np.arange(4.0))
    ax.plot_surface(x, y, x * y)
    kinds, told = pictures.bundle(drawn)
    plt.close(drawn)
    assert kinds["image/svg+xml"].startswith("<svg")
    rows = [line for line in told["figure"]["data"].splitlines() if not line.startswith("#")]
    assert rows == ["panel,series,x,y,low,high"]


def test_other_things_than_algorithms_have_none_of_their_colours():
    assert not set(plots.OTHERS) & set(plots.COLORS.values())
    with matplotlib.rc_context():
        plots.style()
        assert matplotlib.rcParams["axes.prop_cycle"].by_key()["color"] == list(plots.OTHERS)


PAGES = Path(__file__).parents[2] / "book"


@pytest.mark.parametrize("page", sorted(PAGES.rglob("*.md")), ids=lambda page: page.stem)
def test_pages_take_the_colours_of_algorithms_from_the_algorithms(page):
    cells = "".join(re.findall(r"```\{code-cell\}.*?```", page.read_text(encoding="utf8"), re.DOTALL))
    named = re.findall(r"plots\.(?:GREY|BLUE|VERMILION|ORANGE)\b", cells)
    assert named == []
    assert not re.search(r"""["'](?:tab:\w+|grey|gray|blue|red|orange)["']""", cells)
