"""Exercises: each page with code has two with solutions, and one that has a reader run the page with another value."""

import re
import shlex
from pathlib import Path

import pytest
import yaml

from rnnlab.book import myst, notebooks

ROOT = Path(__file__).parents[2]
PAGES = [path for path in sorted((ROOT / "book").rglob("*.md")) if "{code-cell}" in path.read_text(encoding="utf8")]
EXERCISE = re.compile(r"^(`{3,})\{exercise\} .+\n:label: (?P<label>\S+)\n(?P<text>(?:.*\n)*?)\1$", re.MULTILINE)
SOLUTION = re.compile(r"^`{3,}\{solution(?:-start)?\} (\S+)\n(?::label: \S+\n)?:class: dropdown$", re.MULTILINE)
COMMAND = re.compile(r"`(papermill [^`]+)`")
ALONE = {  # pages that need not have them
    "book/intro.md": "is the way in, and has a reader run another page",
}


def asked(text: str) -> dict[str, str]:
    """The exercises of a page by label."""
    return {found["label"]: found["text"] for found in EXERCISE.finditer(text)}


def commands(exercises: dict[str, str]) -> list[str]:
    """What they have a reader run."""
    return [command for text in exercises.values() for command in COMMAND.findall(" ".join(text.split()))]


def changed(command: str) -> tuple[str, dict]:
    """The page that a command of papermill opens, and what it changes there."""
    _, page, out, *rest = shlex.split(command)
    assert out == "out.ipynb", command
    given = {}
    while rest:
        flag, *rest = rest
        if flag == "-p":
            name, value, *rest = rest
            given[name] = yaml.safe_load(value)
        else:
            assert flag == "-y", command
            given |= yaml.safe_load(rest.pop(0))
    return page, given


OTHERS = [path for path in PAGES if path.relative_to(ROOT).as_posix() not in ALONE]
every_page = pytest.mark.parametrize("path", PAGES, ids=[path.stem for path in PAGES])


@pytest.mark.parametrize("path", OTHERS, ids=[path.stem for path in OTHERS])
def test_a_page_with_code_has_two_exercises_and_one_changes_a_parameter(path):
    exercises = asked(path.read_text(encoding="utf8"))
    assert len(exercises) >= 2
    assert commands(exercises), "none has a reader change a parameter"


@every_page
def test_each_exercise_has_one_solution_that_is_closed_at_first(path):
    text = path.read_text(encoding="utf8")
    assert text.count("{exercise}") == len(asked(text)), "an exercise has no title or label"
    assert sorted(SOLUTION.findall(text)) == sorted(asked(text))


@every_page
def test_what_an_exercise_has_a_reader_run_is_this_page_with_another_value_that_it_takes(path):
    known = notebooks.defaults(myst.page(path))
    for command in commands(asked(path.read_text(encoding="utf8"))):
        page, given = changed(command)
        assert page == path.relative_to(ROOT).as_posix()
        assert notebooks.refusals(given, known) == []
        assert all(known[name] != value for name, value in given.items()), f"{command} changes nothing"


def test_labels_of_exercises_are_of_one_page_each():
    labels = [label for path in PAGES for label in asked(path.read_text(encoding="utf8"))]
    assert len(labels) == len(set(labels))


def test_pages_that_need_no_exercises_are_there():
    assert set(ALONE) <= {path.relative_to(ROOT).as_posix() for path in PAGES}
