"""Methods that follow each other are each what they are alone, to the bit."""

import numpy as np
import pytest
import torch

from rnnlab import (
    AdamW,
    Algorithm,
    BasicTanh,
    BoxTraining,
    Ensemble,
    Norm,
    Spec,
    Stages,
    Start,
    Store,
    TemporalOrder,
    train,
)
from rnnlab.descent.penalties import L2
from tests.own import SignDescent

FIRST, SECOND = AdamW(0.003, Norm(1.0), noise=0.3), BoxTraining(begin=100, updates=80)
SPEC = Spec(
    task=TemporalOrder((10, 15)),
    init=BasicTanh(0.3),
    algorithm=Stages((FIRST, SECOND), (0, 100)),
    units=6,
    batch=4,
    updates=200,
    check_every=50,
    check_sequences=50,
    confirm_sequences=50,
    stop="never",
)
HOW = {"seeds": 3, "device": "cpu", "progress": False}


def test_each_stage_makes_the_updates_that_it_makes_alone_from_where_the_one_before_ended():
    both, one = (Ensemble(SPEC.with_(algorithm=method), 3, device="cpu") for method in (SPEC.algorithm, FIRST))
    trace, first = both.advance(120), one.advance(100)
    two = Ensemble(SPEC.with_(algorithm=SECOND), 3, start=Start(one.parameters.theta.numpy(), 100), device="cpu")
    then = two.advance(20)
    assert torch.equal(both.parameters.theta, two.parameters.theta)
    for name in ("loss", "norm", "events"):
        assert torch.equal(trace.parts[name], torch.cat((first.parts[name], then.parts[name])))


def test_stages_that_were_interrupted_and_begun_again_from_a_shorter_budget_end_with_the_same_bits(tmp_path):
    whole = train(SPEC, **HOW)
    train(SPEC.with_(updates=150), **HOW, store=Store(tmp_path))
    again = train(SPEC, **HOW, store=Store(tmp_path))
    assert np.array_equal(whole["theta"], again["theta"])
    assert np.array_equal(whole["loss"], again["loss"])


def test_a_stage_that_the_engine_of_the_others_does_not_know_is_made_by_one_that_does():
    penalized = Algorithm(0.05, penalties=(L2(0.1),))
    a = Ensemble(SPEC.with_(algorithm=Stages((SignDescent(), penalized), (0, 3))), 2, device="cpu")
    b = Ensemble(SPEC.with_(algorithm=SignDescent()), 2, device="cpu")
    b.advance(3)
    c = Ensemble(SPEC.with_(algorithm=penalized), 2, start=Start(b.parameters.theta.numpy(), 3), device="cpu")
    c.advance(4)
    a.advance(7)
    assert torch.equal(a.parameters.theta, c.parameters.theta)
    assert a.state.keys() == {"0.mean"}


@pytest.mark.parametrize(
    ("begins", "said"),
    [((0,), "begins must be 2 updates, one for each method"), ((0, 0), "increases"), ((1, 2), "begins with 0")],
)
def test_a_stage_without_a_beginning_is_refused(begins, said):
    with pytest.raises(ValueError, match=said):
        Stages((FIRST, SECOND), begins)


def test_no_methods_and_what_is_none_are_refused():
    with pytest.raises(ValueError, match="methods must be a tuple of methods"):
        Stages((), ())
    with pytest.raises(ValueError, match=r"methods\[1\] must be a Method"):
        Stages((FIRST, 3), (0, 1))
