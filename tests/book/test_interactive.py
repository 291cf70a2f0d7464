"""The interactive figures of the book: their data as pages compute them, what they say by keys and when dragged."""

import json
import re
import shutil
from pathlib import Path

import nbformat
import numpy as np
import pytest
from nbclient import execute

from rnnlab.book import pages
from rnnlab.book.myst import open_page
from rnnlab.book.notebooks import put_in
from tests import browser, interactive

ROOT = Path(__file__).parents[2]
SCRIPTS = ROOT / "book" / "_ext" / "rnnbook" / "interactive"
SMALL = {"steps": 10, "units": 6, "networks": 2, "seeds": 1, "slider": [0.5, 1.0, 1.5, 4.0], "each": 3}
PAGES = {  # with parameters of small runs
    "intro": SMALL,
    "2_dynamics/walls": {"points": 50, "starts": 20, "updates": 40},
    "2_dynamics/one_unit": {"biases": 10, "falls": [30], "steps": 100},
    "4_remedies/clipping": {"length": 10, "seeds": 1, "pilot": 20, "batches": 1, "updates": 200, "shown": [0]},
    "4_remedies/thresholds": {"thresholds": [1.0], "seeds": 1, "updates": 30},
    "5_experiments/longer_sequences": {"lengths": [50], "sequences": 20},
}
PAGE = """<!DOCTYPE html>
<html lang="en" data-theme="light"><head><meta charset="utf-8"><title>A page</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="stylesheet" href="interactive.css"><script defer src="interactive.js"></script>
<script defer src="error_back.js"></script><script defer src="walls.js"></script>
<script defer src="one_unit.js"></script><script defer src="atlas.js"></script>
<script defer src="remembered.js"></script></head>
<body><main class="bd-content"><figure id="FIGURE">
<picture class="in-light"><img src="fan.svg" alt="A fan."></picture>
<figcaption>A fan.</figcaption></figure>%s</main></body></html>
"""
PICTURE = "<svg xmlns='http://www.w3.org/2000/svg' width='40' height='20'><rect width='40' height='20'/></svg>"
NOT_THERE = "fig-intro-fan: the interactive figure is not in the place of the static one"
# A file, what stands in it, what stands there instead, and what is then said.
FAULTS = {
    "an exception": (
        "interactive.js",
        "this.choose();\n    }",
        "lost();\n    }",
        ["an error on the console: lost is not"],
    ),
    "no script": ("error_back.js", 'each("error_back"', 'each("other"', [NOT_THERE]),
    "two figures": ("interactive.css", ".bd-content figure.has-interactive", "nowhere", [NOT_THERE]),
    "paper with a slider": ("interactive.css", "@media print", "@media tv", ["fig-intro-fan: on paper it is not the"]),
    "small print": (
        "interactive.css",
        "font-size: 12px",
        "font-size: 9px",
        ["fig-intro-fan: its writing is 9.0 px high"],
    ),
    "the least for the most": (
        "error_back.js",
        "Math.max(...ends)",
        "Math.min(...ends)",
        [f"fig-intro-fan: at radius {radius} it says [" for radius in SMALL["slider"]],
    ),
    "another radius's words": (
        "error_back.js",
        "${left(middle[0])}",
        "${left(this.middle[1][0])}",
        [f"fig-intro-fan: at radius {radius} it does not say" for radius in (0.5, 1.5, 4.0)],
    ),
    "keys that skip a radius": (
        "error_back.js",
        "step: 1,",
        "step: 2,",
        [f"fig-intro-fan: at radius {radius} it " for radius in (1.0, 1.0, 1.0, 4.0, 4.0, 4.0)],
    ),
}


@pytest.fixture(scope="module")
def handed() -> dict[str, str]:
    """What pages hand to their scripts, as a kernel displays it; each ends there, and they share one, which is slow."""
    cells = []
    for page, parameters in PAGES.items():
        notebook = put_in(open_page(ROOT / "book" / f"{page}.md"), parameters)
        (last,) = [i for i, cell in enumerate(notebook.cells) if "interactive(" in cell.source]
        cells += [nbformat.v4.new_code_cell("%reset -f"), *notebook.cells[: last + 1]]
    notebook.cells = cells
    execute(notebook, timeout=120, kernel_name="python3")
    outputs = [out.get("data", {}).get("text/html", "") for cell in cells for out in cell.get("outputs", [])]
    return dict(zip(PAGES, [html for html in outputs if "data-interactive" in html], strict=True))


@pytest.fixture(scope="module")
def opened():
    path = browser.find_browser()
    if path is None:
        pytest.skip(f"needs a browser: none of {', '.join(browser.BROWSERS)} is installed")
    with browser.chromium(path) as opened:
        yield opened


def write_page(folder: Path, written: str) -> Path:
    for file in SCRIPTS.iterdir():
        shutil.copy(file, folder)
    (folder / "fan.svg").write_text(PICTURE, encoding="utf8")
    name = re.search(r'data-over="([\w-]+)"', written)[1]
    (folder / "page.html").write_text(PAGE.replace("FIGURE", name) % written, encoding="utf8")
    return folder / "page.html"


def assert_sound(opened, folder, written, script):
    """Nothing is said of a page, of which a reader loads little."""
    assert list(interactive.check(write_page(folder, written), opened)) == []
    size = sum((folder / name).stat().st_size for name in ("interactive.js", script, "interactive.css"))
    assert size + len(written) < 40_000, "what a reader loads"


def assert_found(opened, folder, written, script, fault):
    """A fault is planted into a script: what stands, what stands there instead; all that is said begins as told."""
    page, (stands, instead, begin) = write_page(folder, written), fault
    text = (folder / script).read_text(encoding="utf8")
    assert text.count(stands) == 1
    (folder / script).write_text(text.replace(stands, instead), encoding="utf8")
    found = list(interactive.asked(page, opened))
    assert found
    assert [said for said in found if not said.startswith(begin)] == []


def test_the_page_hands_over_what_autograd_gives_of_the_same_networks(handed):
    ((kind, name, found),) = interactive.GIVEN.findall(handed["intro"])
    data = json.loads(found)
    assert kind == "error_back"
    assert (name, data["radii"], data["steps"]) == ("fig-intro-fan", SMALL["slider"], SMALL["steps"])
    for radius, networks in zip(data["radii"], data["back"], strict=True):
        norms = interactive.sent_back(SMALL["steps"], SMALL["units"], SMALL["each"], radius)
        want = 100 * (norms / norms[:, -1:]).log10().numpy()[:, -2::-1]
        np.testing.assert_allclose(np.cumsum(networks, axis=1), want, rtol=0, atol=interactive.ROUNDED)


def test_the_figure_says_what_the_networks_give_and_leaves_the_static_one_where_no_script_runs(
    opened, handed, tmp_path
):
    assert list(interactive.check(write_page(tmp_path, handed["intro"]), opened)) == []


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_found(opened, handed, tmp_path, fault):
    page = write_page(tmp_path, handed["intro"])
    file, stands, instead, said = FAULTS[fault]
    text = (tmp_path / file).read_text(encoding="utf8")
    assert text.count(stands) == 1
    (tmp_path / file).write_text(text.replace(stands, instead), encoding="utf8")
    found = list(interactive.check(page, opened))
    assert len(found) == len(said)
    assert [f for f, begin in zip(found, said, strict=True) if not f.startswith(begin)] == []


def test_the_wall_answers_as_the_package_does_to_keys_and_to_a_pointer(opened, handed, tmp_path):
    assert_sound(opened, tmp_path, handed["2_dynamics/walls"], "walls.js")


# What stands in the script, what stands there instead, and how what is then said begins.
WALLS_FAULTS = {
    "another surface": ("2 * (y - this.target)", "1.9 * (y - this.target)", "fig-walls-map: from "),
    "no clipping": ("Math.min(1, threshold / Math.hypot(...g))", "1", "fig-walls-map: from "),
    "another slider's value": (
        "threshold.show(String(limit))",
        "threshold.show(String(chosen))",
        "fig-walls-map: at [",
    ),
    "other words": ("longest step ${said(longest)}", "longest step ${said(2 * longest)}", "fig-walls-map: from "),
    "a start beside the pointer": (
        "event.clientY - box.top",
        "event.clientY",
        "fig-walls-map: its start was dragged to [",
    ),
    "a start that is not let go": (
        "this.handle.onpointermove = null",
        "void 0",
        "fig-walls-map: its start was dragged to [",
    ),
}


@pytest.mark.parametrize("fault", WALLS_FAULTS)
def test_a_fault_planted_into_the_wall_is_found(opened, handed, tmp_path, fault):
    assert_found(opened, tmp_path, handed["2_dynamics/walls"], "walls.js", WALLS_FAULTS[fault])


def test_the_turned_gradient_is_the_packages_by_either_rule(opened, handed, tmp_path):
    assert_sound(opened, tmp_path, handed["4_remedies/clipping"], "walls.js")


# What stands in the script, what stands there instead, and how what is then said begins.
TURNED_FAULTS = {
    "an entry that is left": ("Math.max(-threshold, ", "Math.max(-2 * threshold, ", "fig-clip-turned: "),
    "the gradient after the update": ("path[n - 1]", "path[n]", "fig-clip-turned: of update "),
    "another angle": ("angle(g, left[2])", "angle(g, left[1])", "fig-clip-turned: of update "),
    "other words": ("turned by ${minus(turned, 1)}", "turned by ${minus(90, 1)}", "fig-clip-turned: of update "),
}


@pytest.mark.parametrize("fault", TURNED_FAULTS)
def test_a_fault_planted_into_the_turned_gradient_is_found(opened, handed, tmp_path, fault):
    assert_found(opened, tmp_path, handed["4_remedies/clipping"], "walls.js", TURNED_FAULTS[fault])


def test_the_unit_answers_as_the_package_does_on_both_sides_of_its_folds(opened, handed, tmp_path):
    assert_sound(opened, tmp_path, handed["2_dynamics/one_unit"], "one_unit.js")


# What stands in the script, what stands there instead, and how what is then said begins.
UNIT_FAULTS = {
    "another weight": ("sigmoid(this.weight * y + b)", "sigmoid(1.01 * this.weight * y + b)", "fig-ou-map: at bias "),
    "a point that is not there": ("if (!above(low) || above(high)) return [];", "", "fig-ou-map: at bias "),
    "filled for hollow": ('attracts ? "attracts" : "repels"', '"attracts"', "fig-ou-map: at bias "),
    "a way that is too short": ("end: way[STEPS]", "end: way[30]", "fig-ou-map: at bias "),
    "other words": ("Two attractors, at ${first}", "Two attractors, at ${middle}", "fig-ou-map: at bias "),
    "a slider that says too little": ("bias.show(signed(b, 3))", "bias.show(signed(b, 1))", "fig-ou-map: at bias "),
}


@pytest.mark.parametrize("fault", UNIT_FAULTS)
def test_a_fault_planted_into_the_unit_is_found(opened, handed, tmp_path, fault):
    assert_found(opened, tmp_path, handed["2_dynamics/one_unit"], "one_unit.js", UNIT_FAULTS[fault])


def test_the_atlas_answers_as_the_stored_networks_do_cell_by_cell(opened, handed, tmp_path):
    assert_sound(opened, tmp_path, handed["4_remedies/thresholds"], "atlas.js")


# What stands in the script, what stands there instead, and how what is then said begins.
ATLAS_FAULTS = {
    "another row": (
        "this.rules[rule].times[rate][threshold]",
        "this.rules[rule].times[2][threshold]",
        "fig-thresholds-atlas: at ",
    ),
    "a stair that is too high": ("(k + 1) / times.length", "(k + 2) / times.length", "fig-thresholds-atlas: at "),
    "one threshold for all": (
        "const times = this.times(rule, i, j);",
        "const times = this.times(rule, i, 0);",
        "fig-thresholds-atlas: at ",
    ),
    "one colour": ("times ? this.color(this.mean(times)) : ", "", "fig-thresholds-atlas: all of its cells"),
    "a cell that is another": ("= [i, j];", "= [i, j + 1];", "fig-thresholds-atlas: the second cell"),
    "other words": ("${listed(when)} updates", "${when.length} updates", "fig-thresholds-atlas: at "),
}


@pytest.mark.parametrize("fault", ATLAS_FAULTS)
def test_a_fault_planted_into_the_atlas_is_found(opened, handed, tmp_path, fault):
    assert_found(opened, tmp_path, handed["4_remedies/thresholds"], "atlas.js", ATLAS_FAULTS[fault])


def test_a_sequence_is_read_as_the_packages_networks_read_it_and_is_played_by_keys(opened, handed, tmp_path):
    assert_sound(opened, tmp_path, handed["5_experiments/longer_sequences"], "remembered.js")


# What stands in the script, what stands there instead, and how what is then said begins.
REMEMBERED_FAULTS = {
    "another bias": ("+ theta[bias + i]", "+ theta[bias]", "after "),
    "a state that stays": ("before = state;", "", "after "),
    "other distractors": ("2 + below(4)", "3 + below(3)", "after "),
    "right before it is asked": ("let step = second;", "let step = 0;", "after "),
    "a slider that stays": ("this.sliders.step.max = this.steps;", "", ""),
    "other words": ("reads ${LETTERS[symbols[t - 1]]}", "reads ${LETTERS[symbols[t]]}", "after "),
    "a button that does nothing": ("Number(step.value) + stride", "70", "played "),
}


@pytest.mark.parametrize("fault", REMEMBERED_FAULTS)
def test_a_fault_planted_into_what_is_remembered_is_found(opened, handed, tmp_path, fault):
    stands, instead, begin = REMEMBERED_FAULTS[fault]
    told = stands, instead, f"fig-ls-remembered: {begin}"
    assert_found(opened, tmp_path, handed["5_experiments/longer_sequences"], "remembered.js", told)


def test_a_line_that_is_off_by_a_hundredth_is_found(opened, handed, tmp_path):
    wrong = re.sub(r'"back":\[\[\[(-?\d+)', lambda match: f'"back":[[[{int(match[1]) + 2}', handed["intro"])
    first, *_ = interactive.check(write_page(tmp_path, wrong), opened)
    assert re.fullmatch(r"fig-intro-fan: at radius 0\.5 its lines are off by up to 10\^0\.0[23]", first)


def test_a_page_without_its_static_figure_is_found(opened, handed, tmp_path):
    page = write_page(tmp_path, handed["intro"])
    page.write_text(page.read_text(encoding="utf8").replace('data-over="fig-intro-fan"', 'data-over="fig-other"'))
    assert list(interactive.check(page, opened)) == [
        NOT_THERE.replace("intro-fan", "other"),
        "fig-other: without scripts it is not the static figure",
    ]


def test_data_cannot_end_their_script_and_are_finite(capsys):
    with pytest.raises(ValueError, match="JSON compliant"):
        pages.interactive("error_back", over="fig", data=[float("nan")])
    pages.interactive("error_back", over="fig", data={"said": "</script>"})
    assert capsys.readouterr().out == "", "a script of the page shows nothing"
