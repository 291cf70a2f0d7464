"""Records of trainings, totals and statistics, against numbers worked out by hand."""

import numpy as np
import pytest
import torch
import xarray

from rnnlab.descent.clipping import Event
from rnnlab.engine.contract import Trace
from rnnlab.training.records import OUTCOMES, SERIES, Record, dataset, merged, totals
from rnnlab.training.specs import Spec

NAN, INF = np.nan, np.inf
NONE, CLIPPED, GUARDED, DIVERGED = Event


def trace(events, loss, norm, omega):
    """Of some updates; each argument has a row for each member."""
    numbers = [torch.tensor(rows, dtype=torch.float32).T for rows in (loss, norm, omega)]
    return Trace(*numbers, torch.tensor(events, dtype=torch.uint8).T)


@pytest.fixture
def record():
    """Member 0 learns, 1 diverges at update 2, 2 is guarded, below 1 % for a while, and diverges at update 5."""
    record = Record(Spec(updates=24, check_every=6), 3)
    first = trace(
        events=[[NONE, CLIPPED, CLIPPED, NONE], [NONE, NONE, DIVERGED, DIVERGED], [NONE, GUARDED, CLIPPED, GUARDED]],
        loss=[[1, 2, 3, 4], [1, 2, 7, 7], [1, 8, 3, 5]],
        norm=[[0.5, 1, 2, 0.25], [1, 3, INF, NAN], [2, INF, 6, NAN]],
        omega=[[0, 0, 4, 0], [2, 4, 9, 9], [1, 9, 2, 9]],
    )
    error = torch.tensor([0.01, 1.0, 0.009], dtype=torch.float64)
    record.add([0, 1, 2], first, {"rho": torch.tensor([1.5, 0.2, 3.0]), "error": error})
    second = trace(
        events=[[GUARDED, GUARDED], [NONE, DIVERGED]],
        loss=[[1, 2], [0.5, 0.25]],
        norm=[[NAN, INF], [0.5, INF]],
        omega=[[1, 2], [0.25, NAN]],
    )
    error = torch.tensor([0.0, 0.5], dtype=torch.float64)
    record.add([0, 2], second, {"rho": torch.tensor([2.5, 4.0]), "error": error})
    record.happened("first_no_error", [0, 2], np.array([6, NAN]))
    record.happened("first_no_error", [0, 2], np.array([9, 9.0]))
    return record


def test_a_record_holds_what_came_between_two_checks_and_what_had_come_until_then(record):
    series = {
        "loss": [[2.5, NAN], [1.5, NAN], [2, 0.5]],
        "omega": [[1, NAN], [3, NAN], [1.5, 0.25]],
        "norm": [[0.9375, NAN], [2, NAN], [4, 0.5]],
        "norm_max": [[2, NAN], [3, NAN], [6, 0.5]],
        "clipped": [[0.5, 1], [0, NAN], [0.75, 0]],
        "rho": [[1.5, 2.5], [0.2, NAN], [3, 4]],
        "error": [[0.01, 0], [1, NAN], [0.009, 0.5]],
    }
    outcomes = {
        "first_below_1_percent": [NAN] * 3,
        "first_no_error": [6, NAN, 9],
        "final_error": [0, 1, 0.5],
        "diverged_at": [NAN, 2, 5],
        "guarded": [2, 0, 2],
        "fresh_error": [NAN] * 3,
        "fresh_error_shortest": [NAN] * 3,
        "fresh_error_longest": [NAN] * 3,
    }
    assert record.updates == [4, 6]
    assert (list(series), list(outcomes)) == (list(SERIES), list(OUTCOMES))
    header = {"spec": "{}", "start": [], "own": {}, "provenance": {"engine": "by hand"}}
    runs = dataset(header, record.arrays() | {"theta": np.zeros((3, 1)), "seeds": np.array([7, 8, 9])})
    for name, values in (series | outcomes).items():
        np.testing.assert_allclose(runs[name].values, values, rtol=1e-6, err_msg=name)
    assert runs["update"].values.tolist() == [4, 6]
    assert runs.attrs == {"spec": "{}", "engine": "by hand"}


def test_totals_are_of_each_networks_own_life():
    series = {
        "rho": [[1, 2, NAN], [3, 4, 5], [NAN] * 3],
        "norm_max": [[7, 6, NAN], [1, NAN, 9], [NAN] * 3],
        "clipped": [[0.5, 0.25, NAN], [1, 0, 1], [NAN] * 3],
    }
    runs = xarray.Dataset({name: (("seed", "check"), np.array(rows)) for name, rows in series.items()})
    found = totals(runs.assign_coords(update=("check", [10, 20, 25])))
    assert found["final_rho"].values.tolist()[:2] == [2, 5]
    assert found["largest_norm"].values.tolist()[:2] == [7, 9]
    # 5 + 2.5 of 20 updates; 10 + 0, and all five since the last check but one, of 25.
    np.testing.assert_allclose(found["clipped_share"].values[:2], [7.5 / 20, 15 / 25], rtol=1e-12)
    assert all(np.isnan(found[name].values[2]) for name in ("final_rho", "largest_norm", "clipped_share"))
    assert found["largest_norm"].attrs["units"] == "loss per weight"


def test_totals_pass_over_the_checks_of_others_and_begin_where_a_training_does():
    series = {"rho": [[1, NAN, 2, NAN]], "norm_max": [[7, NAN, 6, NAN]], "clipped": [[0.5, NAN, 0.25, NAN]]}
    runs = xarray.Dataset({name: (("seed", "check"), np.array(rows)) for name, rows in series.items()})
    runs = runs.assign_coords(update=("check", [110, 115, 140, 150]))
    for start, share in (("100:abc, 100:abd", (0.5 * 10 + 0.25 * 30) / 40), ("0:abc", (0.5 * 110 + 0.25 * 30) / 140)):
        found = totals(runs.assign_attrs(start=start))
        assert found["final_rho"].item() == 2
        np.testing.assert_allclose(found["clipped_share"], share, rtol=1e-12)


def test_provenances_become_one_by_adding_seconds_taking_the_last_date_and_listing_the_rest():
    one = {"engine": "a", "device": "cpu", "wall_s": 1.25, "date": "2026-02-01", "threads": 1}
    others = [{"engine": "b", "device": "cpu", "wall_s": 2.5, "date": "2026-03-01"}, one | {"date": "2026-01-01"}]
    assert merged([one, *others]) == {
        "engine": "a, b",
        "device": "cpu",
        "wall_s": 5.0,
        "date": "2026-03-01",
        "threads": 1,
    }
