"""Every public function with a good value for each argument, and with what it must refuse there.

    python -m tests.refusals 30

draws so many bad values for each argument of each function, without the type checks that the other tests run under,
and prints what was not refused as it should be.
"""

import json
import math
import os
import resource
import signal
import sys
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
import psutil
import torch
import xarray
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

import rnnlab
from rnnlab import bits, statistics, sweeps, values
from rnnlab.book import pages
from rnnlab.descent import clipping
from rnnlab.dynamics import (
    backward,
    basins,
    bifurcations,
    certificates,
    every_length,
    explosions,
    fixed_points,
    jacobians,
    lookup,
    lyapunov,
    maps,
    settling,
    surface,
)
from rnnlab.methods import search
from rnnlab.sweeps import summaries
from rnnlab.tasks import counted, latching, sources
from rnnlab.training import loop, store

PATIENCE, MEMORY = 5, 8 * 2**30  # seconds for a call, bytes for all
NAN = float("nan")
THINGS = st.sampled_from([None, "two", b"", [], {}, (), object, np.zeros(2), torch.zeros(2), 1j])
NUMBERS = st.sampled_from([NAN, math.inf, -math.inf, 2.5, -1.5, -1, -(10**30)])
HUGE = st.sampled_from([10**9, 10**12, 10**18, 2**63, 10**30])
count = THINGS | NUMBERS | HUGE | st.sampled_from([0, True, "3"])
natural = THINGS | NUMBERS | st.sampled_from([True, "3"])  # 0 is allowed, and so is any size
update = THINGS | NUMBERS | st.sampled_from([0, True, "3"])  # a budget: any size is allowed
positive = THINGS | st.sampled_from([NAN, math.inf, -1.5, 0, "1", True])
not_negative = THINGS | st.sampled_from([NAN, math.inf, -1.5, "1", True])
finite = THINGS | st.sampled_from([NAN, math.inf, "1"])
choice = THINGS | NUMBERS | st.text(max_size=3)
thing = THINGS | NUMBERS | st.text(max_size=3)  # where one of our own objects is asked for
length = (
    THINGS
    | NUMBERS
    | HUGE
    | st.sampled_from([0, 9, True, (10,), (10, 10), (12, 11), (9, 12), (10, 12, 14), (10.0, 12)])
)
seeds = THINGS | NUMBERS | st.sampled_from([0, True, "3", [1, 1], [-1], [1.5], [2**63], [None], 10**12, 2**63])
below_one = not_negative | st.sampled_from([1, 1.0, 1.5])
names = THINGS | NUMBERS | st.sampled_from(["b", (3,), ["b", None], ("b", 2.0)])
uncallable = thing.filter(lambda x: not callable(x))
flag = THINGS | st.sampled_from([0, 1, "True"])


def but(strategy, *allowed):
    """The same without these values."""
    return strategy.filter(lambda x: not any(type(x) is type(y) and x == y for y in allowed))


some_thing = but(thing, None)  # where None is allowed
sigma = thing | st.just(rnnlab.Tanh) | st.just(rnnlab.Norm())


class Open(rnnlab.Norm):
    """A rule that is no dataclass of its own."""


def part(kind, *others):
    """Where one of our own objects is asked for: its class, and what looks like it and may hold state, too."""
    return but(thing, *others) | st.just(kind) | st.sampled_from(["Norm", "Code", 1.0, 4, lambda update: 4.0])


def tensors(*wrong, dtypes=(torch.int64, torch.bool, torch.complex64), shape):
    """What is no tensor of this shape: other shapes (those given, or all sorts), and this one in other dtypes."""
    sorts = [(*shape, 1), shape[:-1], (*shape[:-1], shape[-1] + 1), (0, *shape[1:])]
    shapes = [(), (0,), (1,), *(wrong or sorts)]
    others = [torch.zeros(other) for other in shapes if other != shape]
    others += [torch.zeros(shape, dtype=dtype) for dtype in dtypes]
    return thing | st.sampled_from([NAN, 3, "theta", None]) | st.sampled_from(others)


sizes = rnnlab.Sizes(inputs=6, units=5, outputs=4)
task = rnnlab.TemporalOrder(10)
network = rnnlab.BasicTanh().parameters(sizes, [0, 1])
chunk = task.chunk(torch.arange(2), torch.arange(2), batch=3)
batch = chunk[0]
spec = rnnlab.Spec(units=5, batch=3, updates=2, check_every=1, check_sequences=5, confirm_sequences=5, task=task)
ones = torch.ones(2, dtype=torch.int64)
folder = Path(tempfile.mkdtemp())
runs = rnnlab.train(spec, seeds=2, device="cpu", store=rnnlab.Store(folder))
grid = {"init": {"a": rnnlab.BasicTanh()}, "algorithm": {"b": rnnlab.Algorithm()}, "length": [10, 12]}
axis = thing | st.sampled_from([{"a": 3}, {"a": None}, {3: rnnlab.Code()}, [rnnlab.Code()], rnnlab.INITS])
numbers = thing | st.sampled_from([0.1, [], ["a"], [None], [0.0], [-1.0], [NAN], {"a": "b"}, {}])
arrays = st.just(xarray.DataArray([3, 4])) | st.just(xarray.DataArray(np.array(rnnlab.Norm(), dtype=object)))
lengths = thing | st.sampled_from([10, [9], [10, 10], [10.0], [NAN], ["10"], [None], [True], [10**30]])


order_network = rnnlab.Parameters.zeros(rnnlab.Sizes(6, 2, 8), 1)
W_rec, h = torch.eye(3).expand(2, 3, 3).clone(), torch.zeros(2, 4, 3)
matrices, states = tensors(shape=(2, 3, 3)), tensors(shape=(2, 4, 3))
points = torch.ones(3, 2)
axes = (torch.linspace(-1, 1, 4),) * 3
latch = maps.Network(W_rec=torch.tensor([[2.0]]), push=torch.zeros(1), sigma=rnnlab.Tanh())
ends = basins.basins(latch, torch.tensor([[1.0], [-1.0]]), steps=10)
map = maps.Network(W_rec=W_rec[0], push=h[0, 0], sigma=rnnlab.Tanh())
some_start = some_thing | st.just(rnnlab.Start(network.theta.numpy()[:1], 0))
guard = part(rnnlab.Skip, None) | st.sampled_from([rnnlab.Code(), rnnlab.Norm()])
ALGORITHM = {
    "learning_rate": positive,
    "clip": part(rnnlab.Norm) | st.sampled_from([Open(), rnnlab.Code(), rnnlab.Skip()]),
    "omega": part(rnnlab.Code, None) | st.just(rnnlab.Norm()),
    "alpha": st.sampled_from([None, "4", "Constant", b"", [], {}, (), object, NAN, math.inf, -1.5, 1j, True])
    | st.sampled_from([rnnlab.Constant, rnnlab.Code(), lambda update: 4.0]),
    "penalties": but(thing, (), []) | st.sampled_from([rnnlab.L2(0.1), (3,), [rnnlab.L2], (rnnlab.Norm(),), (None,)]),
    "noise": not_negative,
    "frozen": but(names, (), []),
}
SHORT = {1: [9, (9, 12)], 10: []}
CASES = [
    (
        rnnlab.Sizes,
        {"inputs": 6, "units": 5, "outputs": 4},
        dict.fromkeys(("inputs", "units", "outputs"), count)
        | {"cell": some_thing | st.sampled_from([rnnlab.LSTM, rnnlab.Tanh()])},
    ),
    (rnnlab.Simple, {}, {"sigma": sigma, "learned_start": flag}),
    (rnnlab.Leaky, {}, {"leak": positive | st.sampled_from([1.5, 2]), "sigma": sigma, "learned_start": flag}),
    (rnnlab.LSTM, {}, {"forget": flag, "forget_bias": finite | st.just(True), "learned_start": flag}),
    (
        rnnlab.Parameters,
        {"theta": network.theta, "sizes": sizes},
        {"theta": tensors(shape=(2, sizes.P)), "sizes": thing},
    ),
    (rnnlab.Parameters.zeros, {"sizes": sizes, "members": 2}, {"sizes": thing, "members": count}),
    (rnnlab.spectral_radius, {"W_rec": W_rec}, {"W_rec": tensors((3,), shape=(2, 3, 3))}),
    *(
        (clip, {}, {"threshold": positive, "guard": guard, "signal_threshold": some_thing})
        for clip in (rnnlab.Norm, rnnlab.Elementwise)
    ),
    (rnnlab.NoClip, {}, {"guard": some_thing | st.just(rnnlab.Skip()), "signal_threshold": some_thing}),
    (rnnlab.ElementwiseSignal, {}, {"threshold": positive, "guard": guard}),
    *(
        (clip, {}, {"threshold": positive, "guard": guard, "signal_threshold": some_thing})
        for clip in (rnnlab.PerMatrix, rnnlab.Normalized)
    ),
    (rnnlab.UnitWise, {}, {"threshold": positive, "least": positive, "guard": guard, "signal_threshold": some_thing}),
    (rnnlab.Percentile, {}, {"share": below_one, "last": count, "guard": guard, "signal_threshold": some_thing}),
    (
        rnnlab.ZScore,
        {},
        {"most": positive, "kept": below_one, "warm_up": count, "guard": guard, "signal_threshold": some_thing},
    ),
    (rnnlab.Shrink, {}, {"factor": positive, "limit": but(positive, math.inf)}),
    (rnnlab.Skip, {}, {"limit": but(positive, math.inf)}),
    *(
        (
            clip,
            {"g": torch.ones(2, 3), "threshold": 1.0},
            {"g": tensors((2,), (2, 3, 1), shape=(2, 3)), "threshold": positive},
        )
        for clip in (clipping.clip_norm, clipping.clip_elementwise)
    ),
    (rnnlab.Algorithm, {}, ALGORITHM),
    (
        rnnlab.AdamW,
        {},
        ALGORITHM | {"beta1": below_one, "beta2": below_one, "eps": positive, "decay": not_negative},
    ),
    (
        rnnlab.BoxTraining,
        {},
        {"descent": thing, "begin": natural, "updates": count, "slack": not_negative, "telling": natural},
    ),
    (
        rnnlab.ConsistencyTraining,
        {},
        {"descent": thing, "begin": natural, "updates": count, "weight": not_negative},
    ),
    (
        rnnlab.Stages,
        {"methods": (rnnlab.AdamW(), rnnlab.BoxTraining()), "begins": (0, 5)},
        {
            "methods": thing | st.sampled_from([(), (rnnlab.AdamW(), 3)]),
            "begins": THINGS | st.sampled_from([(0,), (0, 0), (1, 2), (0, -1), (0, "5")]),
        },
    ),
    *((kind, {"strength": 0.1}, {"strength": positive, "of": names | st.just(())}) for kind in (rnnlab.L1, rnnlab.L2)),
    (rnnlab.LargestSingularValue, {"most": 1.0}, {"most": positive}),
    (
        rnnlab.Algorithm.named,
        {"name": "MSGD-CR"},
        {
            "name": choice | st.just("MSGD-X"),
            "learning_rate": positive,
            "threshold": positive,
            "alpha": not_negative,
        },
    ),
    *((form, {}, {"bound": positive}) for form in (rnnlab.Code, rnnlab.Eq9, rnnlab.Eq10AsPrinted)),
    (rnnlab.Constant, {}, {"value": not_negative}),
    (rnnlab.InverseTime, {}, {"value": not_negative, "period": update}),
    (rnnlab.SquaredError, {}, {"wrong_above": positive, "every_step": flag, "over_steps": choice}),
    *((loss, {}, {"every_step": flag, "over_steps": choice}) for loss in (rnnlab.Softmax, rnnlab.Bernoulli)),
    (rnnlab.SigmoidInit, {}, {"std": positive}),
    (rnnlab.BasicTanh, {}, {"std": positive}),
    (rnnlab.SmartTanh, {}, {"std": positive, "nonzeros": update, "rho": positive, "sparse": choice}),
    *(
        (
            init().parameters,
            {"sizes": sizes, "seeds": [0, 1]},
            {
                "sizes": thing,
                "seeds": seeds.filter(lambda x: type(x) is not int),
                "dtype": thing | st.just(torch.int64),
            },
        )
        for init in rnnlab.INITS.values()
    ),
    *((kind, {"length": 12}, {"length": but(length, *SHORT[kind.shortest])}) for kind in rnnlab.TASKS.values()),
    (rnnlab.TemporalOrder, {}, {"second_window": choice}),
    (
        rnnlab.NoiselessMemorization,
        {},
        {"values": count, "positions": count, "every_pattern": flag, "trigger": choice},
    ),
    *(
        (
            kind(12).chunk,
            {"seeds": torch.arange(2), "updates": torch.arange(2), "batch": 3},
            {
                "seeds": tensors(shape=(2,), dtypes=(torch.float32, torch.complex64)),
                "updates": tensors(shape=(2,), dtypes=(torch.float32, torch.complex64)),
                "batch": count,
                "stream": natural,
                "steps": some_thing,
            },
        )
        for kind in rnnlab.TASKS.values()
    ),
    (rnnlab.check_task, {"task": task}, {"batch": count}),
    (rnnlab.Rolls, {}, {"corpus": choice, "length": count}),
    (rnnlab.Characters, {}, {"ahead": count, "length": count}),
    (rnnlab.SplitLoss, {}, {"split": choice}),
    *((function, {"corpus": "chords"}, {"corpus": choice}) for function in (sources.fetch, sources.pieces)),
    (
        sources.by_counts,
        {"train": [torch.zeros(3, 88)], "test": [torch.zeros(2, 88)]},
        {name: THINGS.filter(lambda x: not isinstance(x, list | tuple | torch.Tensor)) for name in ("train", "test")},
    ),
    (
        rnnlab.Spec,
        {},
        {
            "task": part(rnnlab.TemporalOrder) | st.just(rnnlab.TemporalOrder(2**27)),
            "init": part(rnnlab.BasicTanh) | st.just(rnnlab.TemporalOrder()),
            "algorithm": part(rnnlab.Algorithm) | st.just("MSGD-X"),
            "units": count,
            "batch": count,
            "updates": update,
            "check_every": update,
            "check_sequences": update | st.just(1500),
            "confirm_sequences": update | st.just(1500),
            "stop": part(rnnlab.HoldsAt) | st.just(rnnlab.HoldsAt((9,))),
            "measures": but(thing, "", b"", (), [])
            | st.sampled_from([(rnnlab.Halving(),), (3,), rnnlab.HoldsAt((10,))]),
            "rate": part(rnnlab.Halving, None) | st.just(rnnlab.Code()),
            "choose": part(rnnlab.Lowest, None) | st.just(rnnlab.Halving),
            "cell": part(rnnlab.LSTM, None) | st.just(rnnlab.Tanh()),
        },
    ),
    (
        rnnlab.gradients,
        {"network": network, "batch": batch, "loss": task.loss, "sigma": rnnlab.Tanh()},
        {
            "network": thing,
            "batch": thing | st.just(chunk),
            "loss": thing,
            "sigma": sigma,
            "omega": part(rnnlab.Code, None),
            "alpha": not_negative,
            "h_0": but(tensors(shape=(2, 3, 5), dtypes=(torch.float64, torch.complex64)), None),
        },
    ),
    (rnnlab.networks, {"runs": runs}, {"runs": thing | st.just(xarray.Dataset())}),
    *(
        (
            kind,
            {"lengths": (10,)},
            {"lengths": but(thing, "", b"", (), []) | st.sampled_from([(0,), (10, 10), (10.5,)]), "sequences": update},
        )
        for kind in (rnnlab.HoldsAt, rnnlab.LargestError)
    ),
    *((kind, {}, {"series": but(THINGS | NUMBERS, "two")}) for kind in (rnnlab.Halving, rnnlab.Lowest)),
    (
        rnnlab.Start,
        {"theta": network.theta.numpy(), "update": 3},
        {"theta": thing | st.sampled_from([np.zeros(3, "f4"), np.zeros((2, 3))]), "update": natural},
    ),
    (values.as_seeds, {"seeds": 3}, {"seeds": seeds}),
    (spec.id, {"seed": 3}, {"seed": natural}),
    (statistics.wilcoxon, {"d": np.ones(3)}, {"d": st.sampled_from([None, 3, "d", np.ones((2, 2, 2)), torch.ones(3)])}),
    (statistics.jonckheere, {"x": np.eye(3)}, {"x": st.sampled_from([None, 3, "d", np.ones((2, 8)), torch.ones(3)])}),
    (statistics.holm, {"p": [0.1, 0.2]}, {"p": st.sampled_from([None, 3, "p", [NAN], ["a"]])}),
    (counted.Latch, {}, {"length": count, "noise": not_negative}),
    (counted.TwoSequence, {}, {"length": count | st.sampled_from([9]), "noise": not_negative}),
    (counted.Parity, {}, {"length": count, "noise": not_negative, "start": finite}),
    (rnnlab.Readout, {}, {"ridge": positive}),
    (
        rnnlab.HessianFree,
        {},
        {"curvature": count, "structural": not_negative, "damping": positive, "most": count},
    ),
    (search.BackPropagation, {}, {"rate": positive}),
    (
        search.PseudoNewton,
        {},
        dict.fromkeys(("rate", "mu", "least", "most"), positive)
        | {"weighted": flag, "adaptive": flag, "momentum": st.sampled_from([None, 1, -0.5, NAN])},
    ),
    (search.DiscreteError, {}, {"rate": positive, "eps": positive, "literal": flag}),
    (search.Guessing, {}, {"reach": positive}),
    (search.MultiGrid, {}, {"half": positive, "shrink": st.sampled_from([None, 1, -0.5, NAN])}),
    (
        search.Annealing,
        {},
        {"sweeps": count, "adjustments": count, "temperature": positive, "cooling": st.sampled_from([None, 1, NAN])},
    ),
    (
        search.search,
        {"task": counted.Latch(4), "method": search.Guessing(), "seeds": 2, "cap": 40},
        {
            "task": thing,
            "method": thing,
            "seeds": THINGS | st.sampled_from([0, -1]),
            "cap": THINGS | NUMBERS | st.sampled_from([0, [1], [1, 2, 3], [0, 1]]),
            "theta": st.sampled_from([3, "t", np.ones((2, 2)), np.ones(3), torch.ones(2, 3)]),
            "sequences": st.sampled_from([None, 0, -1, 2.5, "3"]),
        },
    ),
    (
        statistics.mcnemar,
        {"one": torch.ones(3) > 0, "other": torch.ones(3) > 1},
        dict.fromkeys(("one", "other"), st.sampled_from([None, 3, torch.ones(3), torch.ones(3, 1) > 0])),
    ),
    (
        statistics.wilson,
        {"successes": 1, "trials": 2},
        {"successes": natural | st.just(3), "trials": update, "z": positive},
    ),
    (
        rnnlab.Ensemble,
        {"spec": spec, "seeds": 2},
        {"spec": thing, "seeds": seeds, "start": some_start, "device": choice, "memory": update},
    ),
    (
        rnnlab.Ensemble(spec, 2, device="cpu").select,
        {"members": [1]},
        {"members": but(thing, [], ()) | st.sampled_from([[2], [-3], [0.5], [None], ["0"], 3, [[0]]])},
    ),
    (rnnlab.Ensemble(spec, 2, device="cpu").advance, {"updates": 1}, {"updates": update}),
    (
        rnnlab.Ensemble(spec, 2, device="cpu").errors,
        {"sequences": 5},
        {"sequences": update | st.just(1500), "stream": natural, "task": some_thing | st.just(rnnlab.Addition())},
    ),
    (
        rnnlab.train,
        {"spec": spec, "seeds": 2},
        {
            "spec": thing,
            "seeds": seeds,
            "start": some_start | st.just(rnnlab.Start(network.theta.numpy(), 2)),
            "device": choice,
            "memory": update,
            "progress": some_thing.filter(lambda x: not callable(x)),
            "store": some_thing.filter(lambda x: not isinstance(x, str)) | st.just("a\0b"),
            "checkpoint_every": but(not_negative, math.inf),
            "restart": flag,
        },
    ),
    (
        loop.finished,
        {"spec": spec, "seeds": 2, "store": rnnlab.Store(folder)},
        {"spec": thing, "seeds": seeds, "store": thing, "start": some_thing},
    ),
    (sweeps.grid, {"base": spec, **grid}, {"base": thing | arrays, "init": axis, "algorithm": axis, "length": lengths}),
    (
        sweeps.grid,
        {"base": spec, "threshold": [1.0, 2.0]},
        {"threshold": numbers, "learning_rate": numbers, "inits": axis},
    ),
    (
        sweeps.run,
        {"base": spec, **grid, "seeds": 1},
        {
            "base": thing | arrays,
            "init": axis,
            "algorithm": axis,
            "length": lengths,
            "seeds": seeds,
            "device": choice,
            "progress": some_thing.filter(lambda x: not callable(x)),
            "store": some_thing.filter(lambda x: not isinstance(x, str)) | st.just("a\0b"),
            "executor": some_thing.filter(lambda x: not callable(x)),
            "chunk": but(natural, None) | st.just(0),
            "checkpoint_every": but(not_negative, math.inf),
            "restart": flag,
            "known": some_thing | st.just(runs),
        },
    ),
    (statistics.success, {"runs": runs}, {"runs": thing, "event": choice}),
    (sweeps.gather, {"store": rnnlab.Store(folder)}, {"store": thing, "updates": but(natural, None) | st.just(7)}),
    (rnnlab.Store, {}, {"folder": some_thing.filter(lambda x: not isinstance(x, str)) | st.just("a\0b")}),
    (store.decode, {"data": store.encode(store.File("a", {}, {}))}, {"data": but(thing, b"")}),
    (
        summaries.write_summary,
        {"runs": runs, "path": folder / "summary", "command": ""},
        {
            "runs": thing | st.just(xarray.Dataset()),
            "path": thing.filter(lambda x: not isinstance(x, str)),
            "command": thing.filter(lambda x: not isinstance(x, str)),
            "theta": flag,
        },
    ),
    (
        summaries.write_table,
        {"table": xarray.Dataset({"a": ("row", [1.0])}), "path": folder / "table"},
        {"table": thing, "path": thing.filter(lambda x: not isinstance(x, str))},
    ),
    (
        summaries.read_summary,
        {"path": folder / "summary"},
        {"path": thing.filter(lambda x: not isinstance(x, str | bytes | int | float))},
    ),
    (
        jacobians.post_activation,
        {"W_rec": W_rec, "h": h, "sigma": rnnlab.Tanh()},
        {"W_rec": matrices, "h": states, "sigma": thing},
    ),
    (
        jacobians.pre_activation,
        {"W_rec": W_rec, "h": h, "sigma": rnnlab.Tanh()},
        {"W_rec": matrices, "h": states, "sigma": thing},
    ),
    (jacobians.log_norms, {"factors": [W_rec]}, {"every": update}),
    (
        settling.largest_exponent,
        {"W_rec": W_rec, "h": h, "sigma": rnnlab.Tanh()},
        {"W_rec": matrices, "h": states, "sigma": thing},
    ),
    (
        lookup.lookup,
        {"map": map, "attractors": torch.eye(3), "axes": axes},
        {"attractors": st.sampled_from([None, 3, torch.ones(3)]), "steps": count, "beside": count},
    ),
    (
        latching.MinimalTask,
        {},
        dict.fromkeys(("length", "informative", "sequences", "updates"), count)
        | {"reach": positive, "rate": positive, "weight_learns": flag},
    ),
    (
        latching.latch,
        {"w": torch.full((2,), 1.5)},
        {"w": st.sampled_from([None, 3, "w", torch.ones(2), torch.full((2,), 2), torch.tensor([2.0, NAN])])},
    ),
    (latching.MinimalTask().drawn, {"seeds": torch.arange(2)}, {"seeds": st.sampled_from([None, 3, torch.ones(2)])}),
    (
        latching.MinimalTask().learn,
        {"w": torch.full((2,), 1.5), "noise": torch.ones(1), "seeds": torch.arange(2)},
        {
            "w": st.sampled_from([None, 3, "w", torch.ones(2, 3), torch.ones(2, dtype=torch.int64)]),
            "noise": tensors((), (3,), shape=(1,)),
            "seeds": st.sampled_from([None, 3, torch.ones(2), torch.arange(3)]),
        },
    ),
    (
        latching.MinimalTask().gradient,
        {"w": torch.full((2,), 1.5), "h": torch.zeros(2, 2, 3), "noise": torch.zeros(2, 2, 4, 17)},
        {
            "w": st.sampled_from([None, 3, "w", torch.ones(2, 3), torch.ones(2, dtype=torch.int64)]),
            "h": tensors((2, 3), (3, 2, 3), (2, 3, 3), shape=(2, 2, 3)),
            "noise": tensors((2, 2, 4), (3, 2, 4, 17), shape=(2, 2, 4, 17)),
        },
    ),
    (
        latching.TwoSystems,
        {},
        dict.fromkeys(("length", "informative", "inputs"), update) | {"noise": positive},
    ),
    (
        latching.TwoSystems().drawn,
        {"seeds": torch.arange(2), "update": torch.arange(1), "sequences": 4},
        {
            "seeds": st.sampled_from([None, 3, torch.ones(2)]),
            "update": st.sampled_from([None, 3, torch.ones(1), torch.arange(2)]),
            "sequences": update,
        },
    ),
    (
        latching.TwoSystems(6).gradient,
        {"p": torch.zeros(2, 5, 3), "w": torch.ones(2, 3), "u": torch.zeros(2, 6, 4, 5), "z": torch.ones(2, 4)},
        {
            "p": tensors((2, 5), (3, 5, 3), (2, 4, 3), shape=(2, 5, 3)),
            "w": tensors((3,), (2, 2), shape=(2, 3)),
            "u": tensors((6, 4, 5), (2, 6, 3, 5), shape=(2, 6, 4, 5)),
            "z": tensors((4,), (2, 3), shape=(2, 4)),
        },
    ),
    (
        latching.TwoSystems(6).taught,
        {"p": torch.zeros(2, 5, 3), "u": torch.zeros(2, 6, 4, 5), "z": torch.ones(2, 4)},
        {
            "p": tensors((2, 5), (3, 5, 3), (2, 4, 3), shape=(2, 5, 3)),
            "u": tensors((6, 4, 5), (2, 6, 3, 5), shape=(2, 6, 4, 5)),
            "z": tensors((4,), (2, 3), shape=(2, 4)),
        },
    ),
    (
        fixed_points.fixed_points,
        {"map": map, "starts": torch.zeros(2, 3)},
        {
            "map": thing,
            "starts": st.sampled_from([None, 3, torch.ones(3, dtype=torch.int64)]),
            "period": update,
            "iterations": update,
            "tolerance": positive,
        },
    ),
    (
        explosions.spikes,
        {"norm": torch.ones(5)},
        {
            "norm": st.sampled_from([None, 3, torch.ones(2, 3), torch.ones(3, dtype=torch.int64)]),
            "window": update,
            "factor": positive,
        },
    ),
    (
        explosions.with_controls,
        {"norm": torch.ones(5), "loss": torch.ones(5), "seed": 0},
        {
            "norm": st.sampled_from([None, 3, torch.ones(2, 3), torch.ones(5, dtype=torch.int64)]),
            "loss": st.sampled_from([None, 3, torch.ones(4), torch.ones(5, dtype=torch.int64)]),
            "seed": st.sampled_from([None, -1, 0.5, "0"]),
            "most": st.sampled_from([-1, 0.5, "0"]),
            "each": update,
        },
    ),
    (
        explosions.continued,
        {"before": map, "after": map, "starts": torch.zeros(2, 3)},
        {"before": thing, "after": thing, "starts": st.sampled_from([None, 3, torch.ones(3), torch.ones(2, 4)])},
    ),
    (
        explosions.ends_apart,
        {"before": map, "after": map, "x": torch.zeros(2, 3), "y": torch.ones(2, 3), "steps": 3},
        {
            "before": thing,
            "after": thing,
            "x": st.sampled_from([None, 3, torch.ones(2, 3, dtype=torch.int64)]),
            "y": st.sampled_from([None, 3, torch.ones(2, 4), torch.ones(2, 3, dtype=torch.int64)]),
            "steps": count,
            "watched": update,
        },
    ),
    (
        certificates.certify,
        {"map": map, "cycles": [torch.zeros(1, 3)]},
        {
            "map": thing,
            "cycles": but(thing, "", b"", [], ()) | st.sampled_from([[torch.zeros(3)], [torch.zeros(0, 3)], [None]]),
            "balls": but(thing, None).filter(lambda x: not callable(x)),
            "within": positive,
            "precision": count,
        },
    ),
    (
        every_length.Phase,
        {"waits": (2, 3)},
        {
            "waits": thing | st.sampled_from([(2.5,), (-1,), ("2",), (None,), [True]]),
            "fewest": natural | HUGE,
            "leads": but(thing, (), []) | st.sampled_from([(1,), ((1, 2, 3),), ((-1, 0),), ((0, 1.5),), ("ab",)]),
            "answer": but(natural, None),
        },
    ),
    (
        every_length.order,
        {"task": rnnlab.TemporalOrder(), "length": 10},
        {"task": thing | st.just(rnnlab.Addition()), "length": count | st.just(9)},
    ),
    (
        every_length.prove,
        {"networks": order_network, "task": rnnlab.TemporalOrder()},
        {
            "networks": thing,
            "task": thing | st.sampled_from([rnnlab.Addition(), (3,), (every_length.Phase((9,), answer=0),)]),
            "lengths": but(thing, ()) | st.sampled_from([(), (20, 10), (9,), (10, 10), (10.5,), ("10",)]),
            "disturbance": not_negative,
            "boxes": update,
        },
    ),
    (surface.Unit, {}, {"x_0": finite, "steps": count, "target": finite}),
    (
        surface.Unit().wall,
        {"w": torch.ones(2)},
        {"w": st.sampled_from([None, 3, "w", torch.ones(2, dtype=torch.int64)])},
    ),
    *(
        (of, {"theta": points}, {"theta": tensors((3,), (2, 3), shape=(3, 2))})
        for of in (surface.Unit().slope, surface.Unit().surface)
    ),
    (
        surface.Unit().descend,
        {"theta": points, "rate": torch.ones(1), "updates": 2, "threshold": None},
        {
            "theta": tensors(shape=(3, 2)),
            "rate": tensors((), (2,), shape=(1,)),
            "updates": count,
            "threshold": but(positive, None),
        },
    ),
    (
        surface.Unit().newton,
        {"theta": points, "beta": 0.9, "damping": 0.1, "updates": 2},
        {"theta": tensors(shape=(3, 2)), "beta": below_one, "damping": positive, "updates": count},
    ),
    (
        maps.Network,
        {"W_rec": W_rec[0], "push": W_rec[0, 0], "sigma": rnnlab.Tanh()},
        {
            "W_rec": tensors((2, 3, 3), (3,), shape=(3, 3)),
            "push": tensors((2,), shape=(3,)),
            "sigma": sigma,
            "form": choice,
        },
    ),
    (
        maps.Function,
        {"f": abs, "df": abs},
        {"f": uncallable, "df": uncallable, "N": update},
    ),
    (maps.orbit, {"maps": [latch], "x_0": torch.zeros(1)}, {"x_0": tensors((2,), shape=(1,))}),
    (
        maps.check_jacobian,
        {"map": latch, "x": torch.zeros(1)},
        {"map": thing, "x": tensors((2,), shape=(1,)), "tolerance": positive},
    ),
    (
        bifurcations.branch,
        {"family": lambda w: latch, "x": torch.zeros(1), "parameter": 1.0, "low": 0.0, "high": 2.0, "steps": 2},
        {
            "family": uncallable,
            "x": tensors((2,), (1, 1), shape=(1,)),
            "parameter": finite | st.just(3.0),
            "low": finite,
            "high": finite,
            "step": positive,
            "steps": update,
        },
    ),
    (
        basins.basins,
        {"map": latch, "starts": torch.zeros(1), "steps": 3},
        {
            "map": thing,
            "starts": tensors((2,), shape=(1,)),
            "steps": update,
            "longest": update,
            "tolerance": positive,
            "far": but(positive, math.inf),
        },
    ),
    (
        basins.boundary,
        {"found": ends, "a": torch.ones(1), "b": -torch.ones(1)},
        {"found": thing, "a": tensors((2,), shape=(1,)), "b": tensors((2,), shape=(1,)), "halvings": update},
    ),
    (
        lyapunov.spectrum,
        {"maps": [latch] * 20, "x_0": torch.ones(1)},
        {"x_0": tensors((2,), shape=(1,)), "discard": natural},
    ),
    (
        backward.signal,
        {"parameters": network, "batch": batch, "sigma": rnnlab.Tanh(), "loss": task.loss},
        {"parameters": thing, "batch": thing, "sigma": thing, "loss": thing, "omega": some_thing},
    ),
    *(
        (
            getattr(bits, name),
            {"seeds": torch.arange(2), "updates": torch.arange(2), "stream": 0, "count": 3} | more,
            bad,
        )
        for name, more, bad in (
            ("bits", {"start": 0}, {"start": natural}),
            ("uniforms", {}, {"start": natural}),
            ("integers", {"high": 4}, {"high": update, "start": natural}),
        )
        for bad in [
            bad
            | {
                "stream": natural,
                "count": natural,
            }
        ]
    ),
    (pages.integer, {"name": "n", "value": 3}, {"value": THINGS | st.sampled_from([NAN, math.inf, 2.5, True, "3"])}),
    (pages.number, {"name": "n", "value": 3}, {"value": THINGS | st.sampled_from([NAN, math.inf, True, "3"])}),
    (
        pages.integers,
        {"name": "n", "values": [3]},
        {"values": THINGS | NUMBERS | st.sampled_from([[2.5], [1, 1], ["1"], [None]])},
    ),
    (pages.choice, {"name": "n", "value": "a", "among": ["a"]}, {"value": but(choice, "a")}),
    (pages.device, {"name": "device", "value": "cpu"}, {"value": choice}),
]


def name_of(function):
    owner = getattr(function, "__self__", None)
    if owner is None:
        return function.__name__
    return f"{owner.__name__ if isinstance(owner, type) else type(owner).__name__}.{function.__name__}"


# A word for the argument that says more: the papers' own, or what a list is made of.
ALIASES = {(name, "value"): "alpha" for name in ("Constant", "InverseTime")} | {
    ("Algorithm.named", "name"): "algorithm",
    ("device", "value"): "device",
    **{(name, "store"): "folder" for name in ("train", "run")},
}


def complaint(function, good, argument, value):
    """What is wrong with how a value is received, or None if it is refused and the argument is named."""
    if value is ...:
        try:
            function(**good)
        except Exception as error:
            return f"is refused though it is good: {error!r:.150}"
        return None
    try:
        function(**good | {argument: value})
    except (ValueError, TypeError) as refusal:
        named = ALIASES.get((name_of(function), argument), argument) in str(refusal)
        named = named or (good.get("name") == "n" and str(refusal).startswith("n"))  # checks of a page's parameters
        return None if named else f"is refused, but not by name: {type(refusal).__name__}: {refusal!s:.120}"
    except BaseException as error:
        return f"ends in {error!r:.150}"
    return "is taken"


def drawn_from(strategy, draws):
    """What hypothesis draws from it: the same at every run, each value once."""
    values = []

    @settings(
        max_examples=draws,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(strategy)
    def collect(value):
        values.append(value)

    collect()
    return values


def explore(draws):
    """What was not refused as it should be, by function and argument; and how many values were tried in all.

    They are tried in a process of its own, and in another one from the next value on if it does not survive.
    """
    attempts = [
        (function, good, argument, value)
        for function, good, bad in CASES
        for argument, strategy in bad.items()
        for value in [..., *drawn_from(strategy, draws)]  # ...: what is good, before anything else is tried
    ]
    wrong, at = {}, 0
    while at < len(attempts):
        with tempfile.TemporaryFile("w+") as told:
            pid = os.fork()
            if not pid:
                try:
                    for attempt in attempts[at:]:
                        print(json.dumps(complaint(*attempt)), file=told, flush=True)
                finally:
                    os._exit(0)
            status = _watch(pid, told)
            told.seek(0)
            complaints = [json.loads(line) for line in told]
        if at + len(complaints) < len(attempts):
            complaints.append(f"ends the process: {status}")
        for said, (function, _, argument, value) in zip(complaints, attempts[at:], strict=False):
            if said:
                wrong.setdefault(f"{name_of(function)}({argument})", f"{value!r:.60} {said}")
        at += len(complaints)
    return wrong, len(attempts)


def _watch(pid, told):
    """How a process ends; one that says nothing for too long, of its own time, is killed."""
    size, since, process = 0, (0.0, time.monotonic()), psutil.Process(pid)
    while not (ended := os.waitpid(pid, os.WNOHANG))[0]:
        now, at = os.fstat(told.fileno()).st_size, (sum(process.cpu_times()[:2]), time.monotonic())
        size, since = (now, at) if now > size else (size, since)
        if at[0] - since[0] > PATIENCE or at[1] - since[1] > 20 * PATIENCE:
            os.kill(pid, signal.SIGKILL)
        time.sleep(0.002)
    return os.waitstatus_to_exitcode(ended[1])


if __name__ == "__main__":
    torch.set_num_threads(1)  # a fork of many threads is none
    warnings.simplefilter("ignore")
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    found, total = explore(int(sys.argv[1]))
    tried = sorted({f"{name_of(function)}({argument})" for function, _, bad in CASES for argument in bad})
    print(json.dumps({"wrong": found, "drawn": total, "arguments": tried}, indent=1))
