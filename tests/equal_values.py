"""Equal values of every class of the package, made of Python's values and of NumPy's: `python -m tests.equal_values`.

Apart from the other tests, which run under type checks that let nothing of NumPy's through.
"""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

import rnnlab
from rnnlab.naming import form

positive = st.floats(2.0**-60, 2.0**60) | st.integers(1, 2**53)
weight = st.just(0.0) | positive
limit = positive | st.just(float("inf"))
share = st.floats(2.0**-60, 1.0) | st.just(1)
below_one = st.just(0) | st.floats(0.0, 1 - 2.0**-53)
names = st.lists(st.sampled_from(["W_rec", "W_in", "b", "b_out"]), min_size=1, max_size=3).map(tuple)
some_cell = st.builds(rnnlab.Leaky, share) | st.builds(rnnlab.LSTM, st.booleans(), share)
penalties = st.tuples(st.builds(rnnlab.L2, positive, names), st.builds(rnnlab.LargestSingularValue, positive))
guard = st.none() | st.builds(rnnlab.Shrink, positive, limit) | st.builds(rnnlab.Skip, limit)
length = st.integers(10, 200) | st.tuples(st.integers(10, 20), st.integers(21, 30))
count = st.integers(1, 10**4)
clips = [(kind, {"threshold": positive, "guard": guard}) for kind in (rnnlab.Norm, rnnlab.Elementwise)]
ALGORITHM = {"learning_rate": positive, "alpha": weight, "clip": st.builds(rnnlab.Norm, positive, guard)}
ALGORITHM |= {"penalties": penalties, "noise": weight, "frozen": names}
CASES = [
    *clips,
    (rnnlab.ElementwiseSignal, {"threshold": positive, "guard": guard}),
    *((kind, {"threshold": positive, "guard": guard}) for kind in (rnnlab.PerMatrix, rnnlab.Normalized)),
    (rnnlab.UnitWise, {"threshold": positive, "least": positive, "guard": guard}),
    (rnnlab.Percentile, {"share": below_one, "last": count, "guard": guard}),
    (rnnlab.ZScore, {"most": positive, "kept": below_one, "warm_up": count, "guard": guard}),
    (rnnlab.NoClip, {}),
    (rnnlab.Shrink, {"factor": positive, "limit": limit}),
    (rnnlab.Skip, {"limit": limit}),
    *((kind, {"bound": positive}) for kind in (rnnlab.Code, rnnlab.Eq9, rnnlab.Eq10AsPrinted)),
    (rnnlab.Constant, {"value": weight}),
    (rnnlab.InverseTime, {"value": weight, "period": count}),
    (rnnlab.Algorithm, ALGORITHM),
    (rnnlab.AdamW, ALGORITHM | {"beta1": below_one, "beta2": below_one, "eps": positive, "decay": weight}),
    (rnnlab.Readout, {"ridge": positive}),
    (rnnlab.HessianFree, {"curvature": count, "structural": weight, "damping": positive, "most": count}),
    (rnnlab.BoxTraining, dict.fromkeys(("begin", "updates", "telling"), count) | {"slack": weight}),
    (rnnlab.ConsistencyTraining, dict.fromkeys(("begin", "updates"), count) | {"weight": weight}),
    (rnnlab.Stages, {"methods": st.just((rnnlab.Algorithm(), rnnlab.BoxTraining())), "begins": st.just([0, 9])}),
    *((kind, {"strength": positive, "of": names}) for kind in (rnnlab.L1, rnnlab.L2)),
    (rnnlab.LargestSingularValue, {"most": positive}),
    (rnnlab.SigmoidInit, {"std": positive}),
    (rnnlab.BasicTanh, {"std": positive}),
    (rnnlab.SmartTanh, {"std": positive, "rho": positive, "nonzeros": count}),
    (rnnlab.SquaredError, {"wrong_above": positive}),
    *((kind, {}) for kind in (rnnlab.Softmax, rnnlab.Bernoulli, rnnlab.Tanh, rnnlab.Sigmoid, rnnlab.Linear)),
    (rnnlab.Simple, {}),
    (rnnlab.Leaky, {"leak": share}),
    (rnnlab.LSTM, {"forget": st.booleans(), "forget_bias": weight}),
    *((kind, {"length": length}) for kind in rnnlab.TASKS.values()),
    (rnnlab.SplitLoss, {"split": st.sampled_from(["train", "test"])}),
    (rnnlab.Rolls, {"length": count}),
    (rnnlab.Characters, {"length": count, "ahead": count}),
    (rnnlab.NoiselessMemorization, {"length": length, "values": st.integers(2, 128), "positions": count}),
    *(
        (kind, {"lengths": st.tuples(count), "sequences": st.integers(1, 1000)})
        for kind in (rnnlab.HoldsAt, rnnlab.LargestError)
    ),
    *((kind, {"series": st.sampled_from(["error", "rho"])}) for kind in (rnnlab.Halving, rnnlab.Lowest)),
    (rnnlab.Sizes, dict.fromkeys(("inputs", "units", "outputs"), count) | {"cell": st.none() | some_cell}),
    (
        rnnlab.Spec,
        dict.fromkeys(("units", "batch", "updates", "check_every"), count)
        | dict.fromkeys(("check_sequences", "confirm_sequences"), st.integers(1, 1000) | st.just(3000)),
    ),
]
FLOATS, INTEGERS = (np.float64, np.longdouble), (np.int64, np.uint64)


@st.composite
def pairs(draw, strategies):
    """Arguments twice, of what is equal in Python's eyes, each in a form of its own."""
    given = {name: draw(strategy) for name, strategy in strategies.items()}
    return tuple({name: draw(spelled(value)) for name, value in given.items()} for _ in range(2))


def spelled(value):
    """The same in other types."""
    if isinstance(value, tuple):
        return st.tuples(*map(spelled, value)).flatmap(
            lambda pair: st.sampled_from([pair, list(pair), np.array(value)])
        )
    forms = [value, *([np.array(value)] if isinstance(value, int | float | str) else [])]
    if value == 0.0 and value is not False:
        forms += [-0.0]
    if isinstance(value, float):
        forms += [*(kind(value) for kind in FLOATS), *([int(value)] if value.is_integer() else [])]
    elif isinstance(value, bool | str):
        forms += [np.array(value)[()]]
    elif isinstance(value, int):
        forms += [kind(value) for kind in INTEGERS]
    return st.sampled_from(forms)


def check(kind, strategies):
    """Refute that equal values of a class are named alike, or return."""

    @settings(max_examples=25, deadline=None, database=None, derandomize=True)
    @given(pairs(strategies))
    def equal_values_are_named_alike(pair):
        one, other = (kind(**given) for given in pair)
        assert one == other
        assert hash(one) == hash(other)
        assert repr(one) == repr(other)  # where 1 is not 1.0, nor NumPy's
        assert repr(form(one)) == repr(form(other))

    equal_values_are_named_alike()


if __name__ == "__main__":
    for case in CASES:
        check(*case)
    print(*sorted({kind.__name__ for kind, _ in CASES}))
