"""Axes of a sweep: what each cell's label says is what is trained there."""

import pytest

from rnnlab import Algorithm, NoClip, Norm, Spec
from rnnlab.sweeps.axes import grid, labelled

TWO = {name: Algorithm.named(name) for name in ("MSGD", "MSGD-C")}


@pytest.mark.parametrize(
    ("axes", "last", "undone"),
    [
        ({"learning_rate": [0.1], "algorithm": TWO}, "algorithm", "learning_rate"),
        ({"threshold": [2.0], "algorithm.clip": {"norm": Norm(1.0)}}, "algorithm.clip", "threshold"),
        ({"algorithm.clip": {"none": NoClip()}, "algorithm": TWO}, "algorithm", "algorithm.clip"),
    ],
)
def test_an_axis_that_would_undo_one_before_it_is_refused(axes, last, undone):
    with pytest.raises(ValueError, match=rf"^{last} must come before {undone}, whose values it would undo"):
        grid(Spec(), **axes)
    first, *others = axes
    with pytest.raises(ValueError, match=rf"^{last} must come before {undone}"):
        grid(grid(Spec(), **{first: axes[first]}), **{name: axes[name] for name in others})


@pytest.mark.parametrize("again", ["length", "task.length"])
def test_an_axis_that_is_given_twice_is_refused(again):
    with pytest.raises(ValueError, match=f"^{again} must be given once, as it is with length, whose values"):
        grid(grid(Spec(), length=[20, 30]), **{again: [40]})


def test_a_whole_before_its_parts_gives_each_cell_what_its_labels_say():
    cells = labelled(grid(Spec(), algorithm=TWO, learning_rate=[0.1, 0.2], length=[20, 30]))
    assert len(cells) == 8
    for label, spec in cells:
        assert spec.algorithm.learning_rate == label["learning_rate"]
        assert (spec.algorithm.clip == NoClip()) == (label["algorithm"] == "MSGD")
        assert spec.task.length == label["length"]
