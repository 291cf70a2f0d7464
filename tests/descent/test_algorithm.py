"""Algorithms: their defaults and names, and parts from outside that answer differently when they are asked again."""

import itertools
from dataclasses import dataclass, replace

import pytest
import torch

from rnnlab.descent.algorithm import AdamW, Algorithm, check_steady
from rnnlab.descent.clipping import Event, Norm, Shrink, Skip
from rnnlab.descent.omega import Code
from rnnlab.descent.penalties import L1
from rnnlab.descent.schedules import Constant, InverseTime
from rnnlab.network.parameters import Parameters, Sizes


@dataclass(frozen=True)
class Falling:
    """Other at every update, and the same whenever it is asked."""

    def __call__(self, update: int) -> float:
        return 4.0 / (1 + update)


@dataclass(frozen=True)
class Worn:
    """Other from the second asking of one update on."""

    at: int

    def __call__(self, update: int) -> float:
        return 1.0 + (next(ASKED) if update == self.at else 0)


@dataclass(frozen=True)
class Own(Code):
    """A form from outside, whose answer depends on the signals alone, or after so many on their number."""

    after: int = 10**9

    def coefficient(self, d2, n2):
        return d2 * n2 + (next(ASKED) >= self.after)


@dataclass(frozen=True)
class OwnNorm(Norm):
    """A rule from outside, whose threshold falls once it has been asked so many times."""

    after: int = 10**9

    def shorten(self, g, norm, network, state):
        worn = next(ASKED) >= self.after
        return super().shorten(g / 2 if worn else g, norm, network, state)


@dataclass(frozen=True)
class OwnSkip(Skip):
    """A guard from outside."""

    after: int = 10**9

    def replacement(self, g, W_rec):
        return torch.full_like(g, float(next(ASKED) >= self.after))


@dataclass(frozen=True)
class Remembering(Norm):
    """A rule from outside whose threshold follows the norms that it was shown; one that hides some of it is none."""

    hidden: bool = False

    def init(self, network):
        return {"mean": torch.ones(network.members)}

    def shorten(self, g, norm, network, state):
        mean = (state["mean"] + norm.nan_to_num(1)) / 2
        factor = (mean / norm).clamp(max=1) / (1 + next(ASKED) * self.hidden)
        return g * factor[:, None], factor < 1, {"mean": mean}


@dataclass(frozen=True)
class Shared(Norm):
    """One that remembers a number for all members."""

    def init(self, network):
        return {"mean": torch.ones(())}


ASKED = itertools.count()


@pytest.fixture(autouse=True)
def _asked_anew():
    global ASKED
    ASKED = itertools.count()


def network():
    sizes = Sizes(2, 2, 1)
    return Parameters(torch.arange(1, 3 * sizes.P + 1, dtype=torch.float32).reshape(3, sizes.P), sizes)


@pytest.mark.parametrize(
    "parts",
    [
        {},
        {"alpha": Falling()},
        {"alpha": InverseTime(2.0, period=7)},
        {"omega": Own()},
        {"clip": OwnNorm(1.0)},
        {"clip": Norm(1.0, OwnSkip())},
        {"clip": Remembering()},
        {"clip": Norm(1.0, None), "omega": Own(), "alpha": Falling()},
    ],
)
def test_what_answers_the_same_when_asked_again_is_taken(parts):
    check_steady(replace(Algorithm(), **parts), network())


@pytest.mark.parametrize(
    ("parts", "named"),
    [
        ({"alpha": Worn(0)}, "alpha"),
        ({"alpha": Worn(1)}, "alpha"),
        ({"alpha": Worn(1000)}, "alpha"),
        ({"omega": Own(after=1)}, "omega"),
        ({"omega": Own(after=199)}, "omega"),
        ({"clip": OwnNorm(1.0, after=198)}, "clip"),
        ({"clip": OwnNorm(1.0, None, after=197)}, "clip"),
        ({"clip": Norm(1.0, OwnSkip(after=199))}, "clip"),
        ({"clip": Remembering(hidden=True)}, "clip"),
    ],
)
def test_what_answers_otherwise_within_two_hundred_times_is_refused(parts, named):
    with pytest.raises(ValueError, match=f"^{named} must .* it can keep no state"):
        check_steady(replace(Algorithm(), **parts), network())


def test_defaults_are_the_papers():
    assert Algorithm() == Algorithm(learning_rate=0.01, alpha=Constant(4.0))
    assert Algorithm().learning_rate == 0.01
    assert Algorithm.named("MSGD-CR") == Algorithm(0.01, Norm(1.0), Code(), Constant(4.0))
    assert Algorithm.named("MSGD-C", learning_rate=0.5).learning_rate == 0.5
    assert (InverseTime().value, InverseTime().period, Constant().value) == (4.0, 1000, 4.0)
    assert InverseTime()(999) == 4.0
    assert InverseTime()(1000) == 2.0


def test_what_goes_on_is_of_each_member_and_a_rules_own_stands_under_its_name():
    some = network()
    assert Algorithm().state(some) == {}
    state = AdamW(clip=Remembering()).state(some)
    assert {name: tuple(x.shape) for name, x in state.items()} == {
        "clip.mean": (3,),
        "first_moment": (3, some.sizes.P),
        "second_moment": (3, some.sizes.P),
        "steps": (3,),
    }
    assert state["steps"].dtype == torch.int64
    assert all(not x.any() for name, x in state.items() if name != "clip.mean")
    for ask in (Algorithm.state, check_steady):
        with pytest.raises(ValueError, match=r"^clip.mean must be a tensor with an axis of 3 members in front, got"):
            ask(Algorithm(clip=Shared()), some)


def test_names_of_parameters_are_a_set():
    assert Algorithm(frozen=("b", "W_in", "b")) == Algorithm(frozen=("W_in", "b"))
    assert L1(0.1, ("b", "W_in", "b")) == L1(0.1, ("W_in", "b"))


def test_adamws_defaults_are_those_of_torchs_own():
    torchs = torch.optim.AdamW([torch.zeros(1, requires_grad=True)]).defaults
    mine = AdamW()
    assert (mine.learning_rate, mine.beta1, mine.beta2) == (torchs["lr"], *torchs["betas"])
    assert (mine.eps, mine.decay) == (torchs["eps"], torchs["weight_decay"])
    assert mine.clip == Algorithm().clip


@pytest.mark.parametrize("kind", [Algorithm, AdamW])
def test_frozen_parameters_stay_as_they_are_where_the_guard_fires_too(kind):
    network = Parameters(torch.ones(2, Sizes(2, 3, 1).P), Sizes(2, 3, 1))
    g = torch.full_like(network.theta, 0.5)
    g[1, -1] = torch.nan
    algorithm = kind(learning_rate=0.1, clip=Norm(100.0, Shrink(0.5)), frozen=("W_rec", "b"))
    state = algorithm.state(network)
    _, events = algorithm.descend(network, g.clone(), state)
    assert events.tolist() == [Event.NONE, Event.GUARDED]
    assert bool((network.W_rec == 1).all() and (network.b == 1).all())
    assert bool((network.W_in[0] < 1).all() and (network.W_out[0] < 1).all())
    if kind is AdamW:
        assert not Parameters(state["first_moment"], network.sizes).W_rec.any()
