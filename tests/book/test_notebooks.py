"""Pages as notebooks: their parameters, and which values these may take."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rnnlab.book import myst, notebooks

KNOWN = {
    "seeds": 5,
    "rate": 0.1,
    "exact": True,
    "device": "auto",
    "lengths": [10, 20],
    "rates": [1, 0.5],
    "names": ["a", "b"],
    "shapes": [[1, 2], [3]],
    "more": {},
    "nothing": None,
}


@given(st.sampled_from(sorted(KNOWN)))
def test_a_page_takes_its_own_values(name):
    assert notebooks.refusals({name: KNOWN[name]}, KNOWN) == []


@pytest.mark.parametrize(
    ("name", "value"),
    [("seeds", 1e6), ("rate", 2), ("exact", False), ("lengths", [30.0]), ("rates", [2]), ("names", []), ("nothing", 3)],
)
def test_a_value_of_the_same_kind_will_do(name, value):
    assert notebooks.refusals({name: value}, KNOWN) == []


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("seeds", 2.5, "seeds must be an integer, got 2.5"),
        ("seeds", True, "seeds must be an integer, got True"),
        ("rate", "1e-4", "rate must be a number, got '1e-4'; YAML reads a number only with a dot: 1.0e-4"),
        ("rate", float("nan"), "rate must be a number, got nan"),
        ("exact", 1, "exact must be true or false, got 1"),
        ("device", None, "device must be text, got None"),
        ("lengths", 10, 'lengths must be a list of integers, got 10; papermill takes a list as -y "lengths: [10]"'),
        ("lengths", [10, "20"], "lengths[1] must be an integer, got '20'"),
        ("rates", ["1"], "rates[0] must be a number, got '1'"),
        ("names", "a", "names must be a list, got 'a'"),
        ("names", ["a", 1], "names[1] must be text, got 1"),
        (
            "shapes",
            [[1], 2],
            'shapes[1] must be a list of integers, got 2; papermill takes a list as -y "shapes[1]: [2]"',
        ),
        ("more", [], "more must be a dict, got []"),
        ("sed", 1, f"sed is no parameter of this page, which has {', '.join(KNOWN)}; got 1; did you mean seeds?"),
    ],
)
def test_a_value_of_another_kind_is_refused_by_name(name, value, reason):
    assert notebooks.refusals({name: value}, KNOWN) == [reason]


@pytest.mark.parametrize(
    ("text", "value"),
    [("5", 5), ("1e-4", 1e-4), ("True", True), ("auto", "auto"), ("[10, 20]", [10, 20]), ("[a, b]", ["a", "b"])],
)
def test_a_value_is_typed_as_it_is_meant(text, value):
    assert (notebooks.value(text), type(notebooks.value(text))) == (value, type(value))


def test_a_file_of_parameters_is_read_as_papermill_reads_it(tmp_path):
    file = tmp_path / "page.yaml"
    file.write_text("when: 2013-06-16\nlengths: [10, 20]\nrate: 1e-4\n")
    assert notebooks.values(file) == {"when": "2013-06-16", "lengths": [10, 20], "rate": "1e-4"}
    file.write_text("# nothing\n")
    assert notebooks.values(file) == {}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("- 5\n", "must hold lines such as `seeds: 5`"),
        ("a: [\n", "is not YAML"),
        ("a: !!python/name:os.system\n", "is not YAML"),
    ],
)
def test_a_file_that_holds_something_else_is_refused(tmp_path, text, reason):
    file = tmp_path / "page.yaml"
    file.write_text(text)
    with pytest.raises(ValueError, match=reason):
        notebooks.values(file)


@pytest.mark.parametrize("cell", ["seeds = many()", "seeds = 1 + n", "%matplotlib inline", "flag = true;"])
def test_parameters_that_are_no_literals_of_python_are_refused(cell, tmp_path):
    (tmp_path / "page.md").write_text(f"```{{code-cell}}\n:tags: [parameters]\n{cell}\n```\n")
    page = myst.page(tmp_path / "page.md")
    with pytest.raises(ValueError, match=r"^parameters must be literals of Python, got '") as refusal:
        notebooks.defaults(page)
    assert cell in str(refusal.value)
