"""The checks that pages put their parameters through, glue, and what every page of the book has to have."""

import ast
import importlib
import io
import re
import subprocess
import sys
import tokenize
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import matplotlib
import numpy as np
import pytest
import torch
import xarray
import yaml
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from matplotlib import pyplot as plt

from rnnlab import Progress
from rnnlab.book import myst, notebooks, pages, writing
from rnnlab.sweeps.summaries import write_summary

BOOK = Path(__file__).parents[2] / "book"


# Checks of parameters


@given(st.integers(), st.integers(min_value=0), st.integers(min_value=0))
def test_an_integer_comes_back_exactly_when_it_lies_within_its_bounds(value, below, above):
    assert pages.integer("updates", value, at_least=value - below, at_most=value + above) == value
    with pytest.raises(ValueError, match=f"^updates must be an integer at least {value + 1}, got {value}$"):
        pages.integer("updates", value, at_least=value + 1)
    with pytest.raises(ValueError, match=f"^updates must be an integer at most {value - 1}, got {value}$"):
        pages.integer("updates", value, at_most=value - 1)


@pytest.mark.parametrize("state", ["", "off"])
def test_a_bar_shows_where_work_stands_until_it_is_over_and_nothing_in_a_published_page(state, capsys, monkeypatch):
    monkeypatch.setenv("RNNLAB_BAR", state)
    move = pages.bar("tests")
    move(Progress(50, 900, "2 still train"))
    move(Progress(900, 900, "3 solved"))
    shown = capsys.readouterr().err
    assert shown == "" if state else all(part in shown for part in ("tests: 100%", "900/900", ", 3 solved"))
    assert state or shown.endswith("\n")


def test_a_whole_number_written_as_a_float_is_an_integer():
    updates = pages.integer("updates", 1e6)
    assert (updates, type(updates)) == (1_000_000, int)


@pytest.mark.parametrize("value", [True, False, 1.5, float("inf"), float("nan"), "3", None, [3]])
def test_what_is_no_integer_is_refused_by_name(value):
    with pytest.raises(ValueError, match=r"^updates must be an integer, got ") as refusal:
        pages.integer("updates", value)
    assert str(refusal.value).endswith(repr(value))


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_number_comes_back_exactly_when_it_lies_within_its_bounds(value):
    assert pages.number("rate", value, at_least=value) == value
    with pytest.raises(ValueError, match=r"^rate must be a number above "):
        pages.number("rate", value, above=value)


@pytest.mark.parametrize("value", [True, float("inf"), float("-inf"), float("nan"), "0.1", None])
def test_what_is_no_finite_number_is_refused(value):
    with pytest.raises(ValueError, match=r"^rate must be a number, got "):
        pages.number("rate", value)


def test_the_number_that_yaml_takes_for_text_is_refused_with_the_form_it_takes_for_a_number():
    with pytest.raises(ValueError, match=r"got '1e-4'; YAML reads a number only with a dot: 1\.0e-4$"):
        pages.number("rate", "1e-4")


@pytest.mark.parametrize("written", ["[50, 100]", "(50, 100)", "50, 100", " [50, 100] "])
def test_a_list_that_came_as_text_is_refused_with_the_way_to_pass_it(written):
    with pytest.raises(ValueError, match=r"^lengths must be a list of integers, got ") as refusal:
        pages.integers("lengths", written, at_least=10)
    assert str(refusal.value).endswith(f"""got {written!r}; papermill takes a list as -y "lengths: [50, 100]\"""")
    assert refusal.value._render_traceback_() == [f"ValueError: {refusal.value}"], "a notebook shows no more than this"


def test_a_bad_member_of_a_list_is_refused_with_its_place():
    with pytest.raises(ValueError, match=r"^lengths\[1\] must be an integer at least 10, got 5$"):
        pages.integers("lengths", [20, 5], at_least=10)
    with pytest.raises(ValueError, match=r"^rates\[0\] must be a number above 0, got -1$"):
        pages.numbers("rates", [-1], above=0)
    with pytest.raises(ValueError, match=r"^inits\[1\] must be one of sigmoid, smart_tanh, got 'tanh'$"):
        pages.choices("inits", ["sigmoid", "tanh"], ["sigmoid", "smart_tanh"])


@pytest.mark.parametrize(("values", "wanted"), [([], "at least one"), ([7, 7.0], "each once")])
def test_a_list_holds_something_and_nothing_twice(values, wanted):
    with pytest.raises(ValueError, match=f"^lengths must be a list of integers, {wanted}, got "):
        pages.integers("lengths", values)


def test_lists_come_back_in_their_order():
    assert pages.integers("lengths", (30, 10, 20.0)) == [30, 10, 20]
    assert pages.numbers("rates", [1, 0.5]) == [1.0, 0.5]
    assert pages.choices("inits", ["b", "a"], iter("abc")) == ["b", "a"]


def test_what_is_numpys_is_taken_as_pythons():
    taken = [
        pages.integer("seeds", np.int64(3)),
        pages.number("alpha", np.float32(0.5)),
        pages.flag("keep", np.True_),
        pages.integers("lengths", np.array([30, 10])),
        pages.numbers("rates", (np.float64(1), np.array(0.5))),
        pages.choices("inits", np.array(["b"]), "ab"),
    ]
    assert repr(taken) == "[3, 0.5, True, [30, 10], [1.0, 0.5], ['b']]"
    with pytest.raises(ValueError, match="lengths must be a list of integers, got 3"):
        pages.integers("lengths", np.array(3))
    with pytest.raises(ValueError, match="seeds must be an integer, got <class"):
        pages.integer("seeds", np.float64)


def test_a_choice_is_one_of_the_names():
    assert pages.choice("init", "sigmoid", ["sigmoid", "smart_tanh"]) == "sigmoid"
    for value in ("Sigmoid", None, ["sigmoid"]):
        with pytest.raises(ValueError, match=r"^init must be one of sigmoid, smart_tanh, got "):
            pages.choice("init", value, ["sigmoid", "smart_tanh"])


@pytest.mark.parametrize("value", [1, 0, "true", None])
def test_a_flag_is_true_or_false_and_nothing_else(value):
    assert [pages.flag("keep", given) for given in (True, False)] == [True, False]
    with pytest.raises(ValueError, match=f"keep must be true or false, got {value!r}"):
        pages.flag("keep", value)


def test_a_flag_that_papermill_passed_on_as_a_word_is_told_how_to_be_written():
    with pytest.raises(
        ValueError, match="keep must be true or false, got 'False'; papermill takes it as -y 'keep: false'"
    ):
        pages.flag("keep", "False")


def test_a_stored_result_is_read_with_how_it_came_about(tmp_path, monkeypatch):
    monkeypatch.setattr(pages, "RESULTS", tmp_path)
    with pytest.raises(FileNotFoundError, match=r"none\.summary"):
        pages.stored("none")
    runs = xarray.Dataset({"rate": ("seed", [0.25, 0.5])})
    write_summary(runs.expand_dims(check=1), tmp_path / "some.summary", command="make it")
    found = pages.stored("some")
    assert found["rate"].values.tolist() == [[0.25, 0.5]]
    assert found.attrs["command"] == "make it"


@pytest.mark.parametrize(
    ("there", "said"),
    [
        ([[1, 1], [1, 1], [1, 1]], "all 6 networks"),
        ([[1, 1], [1, 0], [1, 1]], "5 of 6 networks so far, complete at length 20, 40"),
        ([[1, 0], [0, 0], [0, 0]], "1 of 6 networks so far, complete at length none"),
    ],
)
def test_how_much_there_is_of_a_stored_result_is_said_in_words(there, said):
    runs = np.where(np.array(there)[None] == 1, "a", "")
    kept = xarray.Dataset({"run": (("init", "length", "seed"), runs)}, {"length": [20, 30, 40]})
    assert pages.held(kept) == said


@pytest.mark.parametrize("value", ["auto", "cpu", "cuda", "cuda:0", "cuda:12"])
def test_a_device_that_torch_could_know_passes(value):
    assert pages.device("device", value) == value


@pytest.mark.parametrize("value", ["gpu", "cuda:", "cuda:x", "cuda:-1", "", None, 0])
def test_another_device_is_refused(value):
    with pytest.raises(ValueError, match=r"^device must be one of auto, cpu, cuda, cuda:0, got "):
        pages.device("device", value)


def test_a_page_does_not_run_without_its_assertions():
    program = [sys.executable, "-O", "-c", "from rnnlab.book import pages; pages.given({})"]
    done = subprocess.run(program, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "a page needs its assertions: start Python without -O" in done.stderr.splitlines()[-1]


def test_an_installed_package_says_where_stored_results_are(tmp_path, monkeypatch):
    monkeypatch.setattr(pages, "RESULTS", tmp_path / "none")
    for read, file in ((pages.stored, "long.summary"), (pages.measured, "long.json")):
        with pytest.raises(
            FileNotFoundError, match=f"no {file}: stored results belong to the book, .* of a checkout: pip"
        ):
            read("long")


def test_given_checks_rebinds_and_glues_every_parameter_by_its_name():
    page = {"updates": 1e3, "rates": [1, 0.5], "device": "cpu", "init": "b"}
    kinds = {"updates": pages.integer(at_least=10), "rates": pages.numbers(above=0), "device": pages.device}
    pages.given(page, **kinds, init=pages.choice(among=["a", "b"]))
    wanted = {"updates": 1000, "rates": [1.0, 0.5], "device": "cpu", "init": "b"}
    assert page == wanted
    assert {name: pages.glued[name] for name in wanted} == wanted
    assert [type(page["updates"]), *map(type, page["rates"])] == [int, float, float]
    with pytest.raises(ValueError, match=r"^updates must be an integer at least 1001, got 1000$"):
        pages.given(page, updates=pages.integer(at_least=1001))


# Glue


@pytest.mark.parametrize("value", [np.float64(0.25), np.float32(0.25), torch.tensor(0.25), np.array(0.25), 0.25])
def test_what_is_glued_is_a_number_of_python(value):
    pages.glue("share", value)
    assert (pages.glued["share"], type(pages.glued["share"])) == (0.25, float)


AS_WRITTEN = {
    ("5.0", "s"): "5",
    ("12000.0", ","): "12,000",
    ("-12000.0", ","): "−12,000",
    ("12000", ","): "12,000",
    ("12000.0", ".1e"): "1.2\u00a0×\u00a010⁴",
    ("5e-10", "s"): "5\u00a0×\u00a010⁻¹⁰",
    ("1e-08", "s"): "10⁻⁸",
    ("-1e-08", "s"): "−10⁻⁸",
    ("512.0", ".0e"): "5\u00a0×\u00a010²",
    ("-0.25", ".2f"): "−0.25",
    ("-0.25", ".0%"): "−25\u00a0%",
    ("0.012345", ".2%"): "1.23\u00a0%",
    ("'25% to 75 %'", "s"): "25\u00a0% to 75\u00a0%",
    ("'a1%20b, `%s`, 7 %d'", "s"): "a1%20b, `%s`, 7 %d",
    ("-0.001", ".2f"): "0.00",
    ("3.14", ".0e"): "3",
    ("0.0", ".0e"): "0",
    ("5.0", ".2f"): "5.00",
    ("7.0", "d"): "7",
    ("'2026-11-20'", "s"): "2026-11-20",
    ("'MSGD-CR 5.0'", "s"): "MSGD-CR 5.0",
    ("'-y'", "s"): "-y",
    ("'4e-16 before, 1.2e+03 at best (-1.21)'", "s"): "4\u00a0×\u00a010⁻¹⁶ before, 1.2\u00a0×\u00a010³ at best (−1.21)",
    ("'[-0.5, -0.25], -0.000 to 3-4 of P28-P30, v1.2.3-4'", "s"): "[−0.5, −0.25], 0.000 to 3-4 of P28-P30, v1.2.3-4",
    ("'`-p rate 1e-3` gives $e^{-3}$, not -3'", "s"): "`-p rate 1e-3` gives $e^{-3}$, not −3",
}


@pytest.fixture
def numbers(monkeypatch):
    """The part of the book's extension that shows what is glued."""
    pytest.importorskip("myst_nb")
    monkeypatch.syspath_prepend(BOOK / "_ext")
    return importlib.import_module("rnnbook.numbers")


@pytest.mark.parametrize(("glued", "shown"), AS_WRITTEN.items())
def test_the_prose_shows_a_number_as_a_person_writes_it(glued, shown, numbers):
    assert numbers.text_of(*glued) == shown


def test_the_numbers_of_this_page_and_of_others_are_shown_alike(numbers, monkeypatch):
    for place in (numbers.roles, numbers.crossref):
        monkeypatch.setattr(place, "format_plain_text", None)
    added = []
    numbers.setup(SimpleNamespace(add_post_transform=added.append))
    assert added == [numbers.Percent]
    assert numbers.roles.format_plain_text is numbers.crossref.format_plain_text is numbers.text_of


@given(st.floats(allow_nan=False, allow_infinity=False), st.sampled_from(["", ".0e", ".3e", ".4f", ",.2f", ".1%", "g"]))
def test_a_number_keeps_its_value_when_it_is_written(value, spec):
    python = format(value, spec)
    power = re.compile(r"(?:\u00a0×\u00a0|^|(?<=−))10([⁻⁰¹²³⁴⁵⁶⁷⁸⁹]+)")
    read = power.sub(r"e\1", writing.written(python)).translate(str.maketrans("−⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "--0123456789"))
    back, shown = (text.replace(",", "").rstrip("\u00a0%") for text in (re.sub(r"^(-?)e", r"\g<1>1e", read), python))
    assert float(back) == float(shown)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ([1, 2, 3], "2.00 ± 2.48"),  # Student's t of two degrees, 4.3027, over the root of 3
        ([-1, np.nan, -2, -3], "−2.00 ± 2.48"),
        ([7.514, np.nan], "7.51"),
        ([-0.001], "0.00"),
        ([np.nan], "\u2013"),
    ],
)
def test_a_mean_has_an_interval_from_three_values_on(values, said):
    assert pages.mean(np.array(values, dtype=float)) == said


def test_many_numbers_cannot_be_glued_as_one():
    with pytest.raises((ValueError, RuntimeError)):
        pages.glue("shares", np.array([0.25, 0.5]))


def test_a_table_has_words_on_the_left_and_numbers_on_the_right_unless_told():
    assert pages.table(["a", "b"], [["x", 1], ["y", "2.50"]]) == "| a | b |\n| :-- | --: |\n| x | 1 |\n| y | 2.50 |"
    assert pages.table(["a"], [[-1e-8]]) == "| a |\n| :-- |\n| −10⁻⁸ |"
    assert pages.table(["wrong"], [["4.2%, 0"]]).endswith("| 4.2\u00a0%, 0 |")
    assert pages.table(["a", "b"], [], align="rc") == "| a | b |\n| --: | :-: |"


def test_a_figure_is_glued_and_closed():
    before = plt.get_fignums()
    with pages.figure("figure_some", 1, 2, figsize=(3, 1)) as (drawn, axes):
        assert axes.shape == (2,)
    assert pages.glued["figure_some"] is drawn
    assert drawn.get_size_inches().tolist() == [3, 1]
    assert plt.get_fignums() == before


def test_what_is_shown_outside_of_a_notebook_is_printed(capsys):
    pages.show("**some** words", 3)
    assert capsys.readouterr().out == "**some** words\n3\n"


def test_pages_can_be_imported_without_torch():
    program = "import sys; import rnnlab.book.pages, rnnlab.book.myst; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True)


# What every page has to have


@cache
def code_cells(page: Path):
    return [cell for cell in myst.page(page).cells if cell.cell_type == "code"]


def parameters(page: Path) -> str:
    """The source of a page's one cell of parameters."""
    tagged = [cell.source for cell in code_cells(page) if "parameters" in cell.metadata.get("tags", [])]
    assert len(tagged) == 1, f"{page}: {len(tagged)} cells have the tag `parameters`"
    return tagged[0]


PROSE_AND_PAGES = sorted(path.relative_to(BOOK) for path in BOOK.rglob("*.md"))
PAGES = [path for path in PROSE_AND_PAGES if "{code-cell}" in (BOOK / path).read_text(encoding="utf8")]
every_page = pytest.mark.parametrize("page", [BOOK / path for path in PAGES], ids=[str(path) for path in PAGES])


@every_page
def test_parameters_are_literals_and_say_of_which_type(page):
    """Papermill's --help-notebook tells it."""
    for statement in ast.parse(parameters(page)).body:
        assert isinstance(statement, ast.AnnAssign), ast.unparse(statement)
        value = ast.literal_eval(statement.value)
        kind = f"list[{type(value[0]).__name__}]" if isinstance(value, list) else type(value).__name__
        assert ast.unparse(statement.annotation) == kind, ast.unparse(statement)


@every_page
def test_every_parameter_says_what_it_means(page):
    source = parameters(page)
    commented = {
        token.start[0]
        for token in tokenize.generate_tokens(io.StringIO(source).readline)
        if token.type == tokenize.COMMENT and len(token.string.strip("# ")) > 3
    }
    for statement in ast.parse(source).body:
        assert statement.end_lineno in commented or statement.lineno in commented, ast.unparse(statement)


def test_all_that_papermill_put_in_beside_the_parameters_is_refused_a_line_each(monkeypatch):
    shell = SimpleNamespace(
        kernel=None, user_ns={"In": ["", "seeds = 5", "# Parameters\nseeds = 3\nb = [1]\nc = 'x'\n"]}
    )
    monkeypatch.setattr("IPython.get_ipython", lambda: shell)
    page = {"seeds": 3}
    with pytest.raises(
        ValueError, match=r"^b is no parameter of this page, which has seeds; got \[1\]\nc is no .*'x'$"
    ):
        pages.given(page, seeds=pages.integer)
    shell.user_ns["In"][-1] = "# Parameters\nseeds = 3\nPAPERMILL_INPUT_PATH = 'book/x.md'\n"
    pages.given(page, seeds=pages.integer)


@pytest.fixture
def kept_dtype():
    """What a page sets for its own process."""
    before = torch.get_default_dtype()
    yield
    torch.set_default_dtype(before)


@pytest.mark.usefixtures("kept_dtype")
@every_page
def test_a_page_refuses_a_parameter_that_it_does_not_have_before_it_computes(page, monkeypatch):
    # As papermill runs it: the cell of parameters, then one with what was given, then the checks.
    monkeypatch.setattr(pages, "_put_in", lambda: {"seed": "3"})
    names, cells = ast.parse(parameters(page)).body, [cell.source for cell in code_cells(page)]
    checks = next(i for i, source in enumerate(cells) if re.search(r"^(pages\.)?given\(\s*globals\(\),", source, re.M))
    assert checks == cells.index(parameters(page)) + 1, "nothing runs between the parameters and their checks"
    said = f"seed is no parameter of this page, which has {', '.join(n.target.id for n in names)}; got 3"
    with matplotlib.rc_context(), pytest.raises(ValueError, match=r"^seed is no") as refusal:
        exec("\n".join(cells[: checks + 1]), {})
    assert sorted(re.split(r"\W+", str(refusal.value))) == sorted(re.split(r"\W+", f"{said}{near(names)}"))
    plt.close("all")


def near(names) -> str:
    return "; did you mean seeds?" if "seeds" in {name.target.id for name in names} else ""


def test_the_same_word_means_the_same_on_all_pages():
    kinds: dict[str, set[type]] = {}
    for page in PAGES:
        for name, node in notebooks.literals(parameters(BOOK / page)):
            kinds.setdefault(name, set()).add(type(ast.literal_eval(node)))
    assert {name: kind for name, kind in kinds.items() if len(kind) > 1} == {}
    assert {"units", "seeds", "length", "lengths", "updates", "check_every", "alpha", "device"} <= kinds.keys()
    assert kinds.keys().isdisjoint({"hidden", "members", "every", "nets", "T", "N", "lr"})


@every_page
def test_a_page_checks_what_it_says(page):
    program = ast.parse("\n".join(cell.source for cell in code_cells(page) if not cell.source.startswith("%")))
    checks = [
        node
        for node in ast.walk(program)
        if isinstance(node, ast.Assert)
        or (isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1].startswith(("assert_", "claim")))
    ]
    assert checks


@every_page
def test_a_page_that_trains_lets_its_reader_choose_the_device(page):
    source = "\n".join(cell.source for cell in code_cells(page))
    names = {statement.target.id for statement in ast.parse(parameters(page)).body}
    trains = any(
        isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] in {"train", "Ensemble"}
        for node in ast.walk(ast.parse(source))
    )
    assert not trains or "device" in names


def test_the_book_has_exactly_the_pages_of_its_contents():
    contents = yaml.safe_load((BOOK / "_toc.yml").read_text(encoding="utf8"))
    chapters = [chapter for part in contents["parts"] for chapter in part["chapters"]]
    sections = [section["file"] for chapter in chapters for section in chapter.get("sections", [])]
    listed = [contents["root"], *(chapter["file"] for chapter in chapters), *sections]
    assert sorted(Path(f"{page}.md") for page in listed) == PROSE_AND_PAGES


def test_the_reference_has_every_module_that_has_public_names():
    sections = [BOOK / "6_lab" / "api.md", *sorted((BOOK / "6_lab" / "api").glob("*.md"))]
    text = "".join(section.read_text(encoding="utf8") for section in sections)
    listed = re.findall(r"^\.\. automodule:: (\S+)$", text, re.M)
    package = BOOK.parent / "rnnlab"
    modules = {".".join(("rnnlab", *path.relative_to(package).with_suffix("").parts)) for path in package.rglob("*.py")}
    assert sorted(listed) == sorted(["rnnlab", *(m for m in modules if not m.endswith(("__init__", "__main__")))])


def test_a_part_of_ones_own_takes_no_more_lines_than_the_page_says():
    text = (BOOK / "6_lab" / "your_own.md").read_text(encoding="utf8")
    assert "at most fifteen lines each" in text
    cells = re.findall(r"```{code-cell} python3\n(.*?)```", text, re.DOTALL)
    tree = ast.parse("\n".join(line for cell in cells for line in cell.splitlines() if not line.startswith(":tags:")))
    classes = [node for node in tree.body if isinstance(node, ast.ClassDef)]
    assert len(classes) == 9
    for node in classes:
        lines = ast.unparse(node).splitlines()
        assert len([line for line in lines if line.strip()]) <= 15, node.name


def test_a_bar_in_a_table_is_a_bar_and_begins_no_column():
    text = pages.table(["seed", "median $|M'|$"], [[1, "a|b"], [2, r"a\|b"]])
    tokens = MarkdownIt("commonmark").enable("table").parse(text)
    cells = [token.content for token in tokens if token.type == "inline"]
    assert cells == ["seed", "median $|M'|$", "1", "a|b", "2", "a|b"]


def test_words_are_listed_as_in_a_sentence():
    assert [pages.listed(list(words)) for words in ("", "a", "ab", "abc")] == ["none", "a", "a and b", "a, b and c"]
