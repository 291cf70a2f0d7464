"""A table of searches grows by cell and goes on where it was; and lengths that grow share one budget."""

import numpy as np

from rnnlab.methods.search import BackPropagation, Guessing, search
from rnnlab.sweeps import read_summary
from rnnlab.sweeps.searches import Cell, by_labels, fill
from rnnlab.tasks.counted import Latch


def test_a_table_is_filled_by_cell_and_what_is_there_is_not_made_again(tmp_path):
    path, how = tmp_path / "some.summary", {"seeds": [3, 4], "command": "make it"}
    cells = [
        ({"method": "BP"}, Cell(Latch(4), BackPropagation(1.0), 40)),
        ({"method": "G"}, Cell(Latch(4), Guessing(), 400)),
    ]
    assert next(fill(path, cells, **how)) == {"method": "BP"}  # and then it is ended
    assert read_summary(path)["method"].values.tolist() == ["BP"]
    assert list(fill(path, cells, **how)) == [{"method": "G"}]
    kept = read_summary(path)
    assert list(fill(path, cells, **how)) == []
    assert kept.identical(read_summary(path))
    assert kept.attrs["command"] == "make it"
    for n, (_, cell) in enumerate(cells):
        alone = search(cell.task, cell.method, seeds=[3, 4], cap=cell.cap)
        for name in ("solved", "presented", "error"):
            np.testing.assert_array_equal(kept[name].isel(cell=n), alone[name])
    assert list(fill(path, [({"method": "more"}, Cell(Latch(6), Guessing(), 400))], seeds=[4], command="")) != []
    by = by_labels(read_summary(path), "method")
    assert {name: one["seed"].values.tolist() for name, one in by.items()} == {
        ("BP",): [3, 4],
        ("G",): [3, 4],
        ("more",): [4],
    }
    assert by["G",].equals(kept.isel(cell=1))
    other = Cell(Latch(4), BackPropagation(0.5), 40)  # of the same name, but not the same
    assert list(fill(path, [({"method": "BP"}, other)], **how)) == [{"method": "BP"}]
    more = how | {"seeds": [3, 4, 5]}
    assert list(fill(path, cells, **more)) == [{"method": "BP"}, {"method": "G"}]
    by = by_labels(read_summary(path), "method")
    assert by["G",]["seed"].values.tolist() == [3, 4, 5]
    assert (
        by["G",].sel(seed=[3, 4]).drop_vars(("date", "wall_s")).equals(kept.isel(cell=1).drop_vars(("date", "wall_s")))
    )
    assert list(fill(path, cells, **how)) == []


def test_lengths_before_the_last_go_on_from_each_other_within_one_budget():
    method, seeds = BackPropagation(0.1), list(range(6))
    made = Cell(Latch(8), method, 120, (2, 4)).tried(seeds)
    one = search(Latch(2), method, seeds=seeds, cap=40)
    two = search(Latch(4), method, seeds=seeds, cap=40, theta=one["theta"].values)
    used = one["presented"].values + two["presented"].values
    three = search(Latch(8), method, seeds=seeds, cap=(120 - used).tolist(), theta=two["theta"].values)
    np.testing.assert_array_equal(made["presented"], used + three["presented"].values)
    np.testing.assert_array_equal(made["solved"], three["solved"])
    assert (made["presented"] <= 120).all()
    assert (used > 0).any()
    assert not made["solved"].all()
