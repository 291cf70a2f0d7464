"""A method from outside trains through the one loop; and what one may not give back is refused in words."""

import re
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import pytest
import torch

from rnnlab import Addition, Algorithm, Ensemble, Halving, Lowest, Sizes, Spec, Store, TemporalOrder, Trace, bits, train
from rnnlab.descent.clipping import Norm, Skip
from rnnlab.engine import batched, reference
from rnnlab.methods.method import Method
from tests.own import LogRatio, Orthogonal, Quantile, RobustAddition, SignDescent

SPEC = Spec(
    task=TemporalOrder(10),
    algorithm=SignDescent(),
    units=6,
    batch=4,
    updates=150,
    check_every=50,
    check_sequences=50,
    confirm_sequences=50,
    stop="never",
)
HOW = {"seeds": 3, "device": "cpu"}


def test_an_algorithm_is_a_method_and_so_is_a_class_from_outside():
    assert isinstance(Algorithm(), Method)
    assert isinstance(SignDescent(), Method)
    assert not isinstance(SignDescent, Spec)


def test_a_method_of_ones_own_makes_the_steps_that_it_says():
    ensemble = Ensemble(SPEC, 3, device="cpu")
    theta, mean = ensemble.parameters.theta.clone(), torch.zeros_like(ensemble.parameters.theta)
    chunk = SPEC.task.chunk(torch.arange(3), torch.arange(4), batch=4)
    trace = ensemble.advance(4)
    for k, batch in enumerate(chunk):
        network = type(ensemble.parameters)(theta, SPEC.sizes)
        g = ensemble.engine.gradients(network, batch, sigma=SPEC.init.sigma, loss=SPEC.task.loss)
        mean = 0.9 * mean + 0.1 * g.theta
        theta = theta - 0.003 * mean.sign()
        assert torch.equal(trace.loss[k], g.loss)
        assert torch.equal(trace.own["agreement"][k], (mean * g.theta > 0).float().mean(dim=1))
    torch.testing.assert_close(ensemble.parameters.theta, theta, rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(ensemble.state["mean"], mean, rtol=1e-6, atol=1e-12)


def test_what_a_method_takes_down_is_a_series_by_its_name_and_what_it_does_not_have_is_not_made_up(tmp_path):
    runs = train(SPEC, **HOW, store=Store(tmp_path))
    assert runs["agreement"].dims == ("seed", "check")
    assert runs["agreement"].attrs["long_name"] == SignDescent.series["agreement"][0]
    assert ((runs["agreement"] > 0.5) & (runs["agreement"] < 1)).all()
    assert runs["loss"].notnull().all()
    assert runs["norm"].isnull().all()
    assert (runs["clipped"] == 0).all()
    ensemble = Ensemble(SPEC, 3, device="cpu")
    trace = ensemble.advance(50)
    np.testing.assert_allclose(runs["agreement"][:, 0], trace.own["agreement"].double().mean(dim=0), rtol=1e-6)


def test_a_sweep_has_a_method_as_any_other_value_of_its_axis(tmp_path):
    from rnnlab import sweeps

    algorithms = {"sign": SignDescent(), "fast sign": SignDescent(learning_rate=0.01), "MSGD": Algorithm()}
    axes = {"init": {"basic tanh": SPEC.init}, "algorithm": algorithms, "length": [10]}
    runs = sweeps.run(SPEC, **axes, seeds=2, device="cpu", store=Store(tmp_path))
    assert runs["loss"].sizes["algorithm"] == 3
    assert runs["agreement"].sel(algorithm="MSGD").isnull().all()
    assert runs["agreement"].sel(algorithm="fast sign").notnull().all()


def test_members_of_several_rates_keep_what_a_rule_remembers_each_its_own():
    spec = SPEC.with_(algorithm=Algorithm(learning_rate=0.1, clip=Quantile()))
    together, alone = Ensemble(spec, 3, device="cpu"), Ensemble(spec, [1], device="cpu")
    together.rates = [0.05, 0.1, 0.05]
    together.advance(30)
    alone.advance(30)
    torch.testing.assert_close(together.state["clip.norms"][1:2], alone.state["clip.norms"], rtol=1e-5, atol=1e-7)
    assert together.select([1]).state["clip.norms"].tolist() == together.state["clip.norms"][1:2].tolist()


def test_ctrl_c_within_an_advance_leaves_state_and_parameters_as_they_were(monkeypatch):
    ensemble = Ensemble(SPEC, 3, device="cpu")
    ensemble.advance(5)
    theta, mean = ensemble.parameters.theta.clone(), ensemble.state["mean"].clone()

    def chunk(self, seeds, updates, **how):
        if int(updates[0]) > 100:
            raise KeyboardInterrupt
        return TemporalOrder.__mro__[1].chunk(self, seeds, updates, **how)

    monkeypatch.setattr(TemporalOrder, "chunk", chunk)
    with pytest.raises(KeyboardInterrupt):
        ensemble.advance(200)
    assert ensemble.update == 5
    assert torch.equal(ensemble.parameters.theta, theta)
    assert torch.equal(ensemble.state["mean"], mean)


@dataclass(frozen=True)
class Replacing:
    """A method that puts new tensors in the place of the parameters."""

    name: str

    def init(self, network):
        return {}

    def advance(self, network, state, batches):
        parameters, loss = network.parameters, torch.zeros(len(batches), network.parameters.members)
        if self.name == "b":
            parameters.views["b"] = parameters.b + 1
        else:
            setattr(parameters, self.name, getattr(parameters, self.name) + 1)
        return state, Trace.of({"loss": loss})


@pytest.mark.parametrize("name", ["theta", "W_rec", "b"])
def test_a_method_that_does_not_change_the_networks_that_it_was_given_is_told(name):
    said = f"algorithm must change {name} in place, as by {name}.copy_(...), got Replacing(name='{name}')"
    with pytest.raises(ValueError, match=re.escape(said)):
        train(SPEC.with_(algorithm=Replacing(name)), **HOW)


@dataclass(frozen=True)
class PulledBack:
    """Steps along the gradient from where the networks were an update before; the state is theta itself."""

    def init(self, network):
        return {"before": network.parameters.theta}

    def advance(self, network, state, batches):
        theta, losses, before = network.parameters.theta, [], state["before"]
        for batch in batches:
            g, now = network.gradients(batch), theta.clone()
            theta.mul_(0.5).add_(before, alpha=0.5).sub_(g.theta, alpha=0.1)
            before = now
            losses.append(g.loss)
        return {"before": before if len(batches) > 1 else theta}, Trace.of({"loss": torch.stack(losses)})


def test_a_state_that_is_theta_itself_stays_what_it_was():
    ensemble = Ensemble(SPEC.with_(algorithm=PulledBack()), 3, device="cpu")
    theta = ensemble.parameters.theta.clone()
    ensemble.parameters.theta.zero_()
    assert torch.equal(ensemble.state["before"], theta)
    ensemble.advance(1)
    after = ensemble.parameters.theta.clone()
    ensemble.parameters.theta.zero_()
    assert torch.equal(ensemble.state["before"], after)
    small = Ensemble(SPEC.with_(algorithm=PulledBack()), 1, device="cpu", memory=1)
    small.advance(2)  # one at a time
    alone = Ensemble(SPEC.with_(algorithm=PulledBack()), 1, device="cpu")
    alone.advance(1)
    alone.advance(1)
    assert torch.equal(small.parameters.theta, alone.parameters.theta)


@dataclass(frozen=True)
class Broken:
    """Gives back what it was told to."""

    how: str = ""
    series: ClassVar = {}

    def init(self, network):
        return [1] if self.how == "a list at the start" else {}

    def advance(self, network, state, batches):
        loss = torch.zeros(len(batches), network.parameters.members)
        answers = {
            "a trace alone": Trace.of({"loss": loss}),
            "no trace": (state, {"loss": loss}),
            "a loss of another shape": (state, Trace.of({"loss": loss[:, :1]})),
            "a state without members": ({"steps": torch.tensor(3)}, Trace.of({"loss": loss})),
            "a state by numbers": ({0: loss[0]}, Trace.of({"loss": loss})),
            "a state with a graph": ({"steps": loss[0].clone().requires_grad_()}, Trace.of({"loss": loss})),
            "a state that NumPy lacks": ({"steps": loss[0].bfloat16()}, Trace.of({"loss": loss})),
            "a series without a name": (state, Trace.of({"loss": loss, "mine": loss})),
        }
        return answers[self.how]


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("a list at the start", "algorithm's state must be a dictionary of tensors with 3 members in front"),
        ("a trace alone", "algorithm must return its state and a Trace, got Trace"),
        ("no trace", "algorithm must return its state and a Trace, got tuple"),
        ("a loss of another shape", "algorithm must return its state and a Trace whose loss has shape (50, 3)"),
        ("a state without members", "algorithm's state must be a dictionary of tensors with 3 members in front"),
        ("a state by numbers", "by words, detached, of a dtype that NumPy has, got 0: tensor"),
        ("a state with a graph", "by words, detached, of a dtype that NumPy has, got 'steps': tensor"),
        ("a state that NumPy lacks", "by words, detached, of a dtype that NumPy has, got 'steps': tensor"),
        ("a series without a name", "a Trace of what it names in `series` alone, got 'mine' from Broken"),
    ],
)
def test_a_method_that_breaks_its_contract_is_told_how(how, said):
    with pytest.raises(ValueError, match=re.escape(said)):
        train(SPEC.with_(algorithm=Broken(how)), **HOW)


def test_a_rate_for_a_method_without_one_is_refused():
    with pytest.raises(ValueError, match="rate must be None for an algorithm without a learning rate"):
        SPEC.with_(algorithm=Broken(), rate=Halving())
    with pytest.raises(ValueError, match="a learning rate, a number in a field of that name"):
        SPEC.with_(algorithm=OfItsOwnRate(), rate=Halving())


@dataclass(frozen=True)
class OfItsOwnRate(SignDescent):
    """A method whose learning rate is no field."""

    learning_rate: ClassVar = 0.003


def test_a_method_may_have_a_learning_rate_that_is_no_field():
    runs = train(SPEC.with_(algorithm=OfItsOwnRate()), **HOW)
    assert runs["theta"].values.tolist() == train(SPEC, **HOW)["theta"].values.tolist()


def test_a_trace_of_a_loss_alone_has_no_norm_no_omega_and_no_events():
    trace = Trace.of({"loss": torch.ones(2, 3), "mine": torch.zeros(2, 3)})
    assert trace.norm.isnan().all()
    assert trace.omega.tolist() == [[0.0] * 3] * 2
    assert trace.events.tolist() == [[0] * 3] * 2
    assert list(trace.parts) == ["loss", "norm", "omega", "events", "mine"]


def test_the_networks_of_the_best_check_are_the_outcome_and_are_tested_after_the_end(tmp_path):
    """The spectral radius grows while networks learn, so that those of an early check are chosen."""
    spec = SPEC.with_(updates=300, choose=Lowest("rho"), confirm_sequences=1_000)
    runs = train(spec, **HOW, store=Store(tmp_path))
    last = train(spec.with_(choose=None), **HOW)
    best = runs["rho"].values.argmin(axis=1)
    assert runs["chosen_at"].values.tolist() == runs["update"].values[best].tolist()
    assert (best < 5).any()
    assert (runs["fresh_error"] != last["fresh_error"]).any()
    for m, at in enumerate(runs["chosen_at"].values.astype(int).tolist()):
        ensemble = Ensemble(spec, 3, device="cpu")
        ensemble.advance(at)
        assert runs["theta"].values[m].tolist() == ensemble.parameters.theta[m].tolist()
        assert (runs["theta"][m].values == last["theta"][m].values).all() == (at == 300)
        ensemble.update = 300
        fresh = ensemble.errors(spec.confirm_sequences, stream=bits.FRESH)
        assert runs["fresh_error"].values[m] == fresh[m].item()
    longer = train(spec.with_(updates=400), **HOW, store=Store(tmp_path))
    assert longer["theta"].identical(train(spec.with_(updates=400), **HOW)["theta"])


def test_networks_that_diverged_are_not_chosen_over_sound_ones_whatever_their_loss_was_before():
    task, algorithm = Addition(10), Algorithm(0.01, AfterSome())
    runs = train(SPEC.with_(task=task, algorithm=algorithm, check_every=30, choose=Lowest("loss")), **HOW)
    assert runs["diverged_at"].notnull().all()
    assert (runs["loss"][:, 1] < runs["loss"][:, 0]).any()
    assert (runs["chosen_at"] == 30).all()
    assert np.isfinite(runs["theta"]).all()


@dataclass(frozen=True)
class AfterSome(Norm):
    """Steps far too large, after so many updates; what was counted may be given back as a fraction."""

    guard: Skip | None = None
    last: int = 40
    part: float = 0.0

    def init(self, network):
        return {"made": torch.zeros(network.members, dtype=torch.int64)}

    def shorten(self, g, norm, network, state):
        made = state["made"] + 1
        factor = torch.where(made > self.last, 1e30, 1.0)[:, None]
        return g * factor, norm < 0, {"made": made + self.part if self.part else made}


def test_a_rule_whose_state_would_lose_its_fractions_is_refused():
    said = "clip must give back 'made' in torch.int64, got torch.float32 from AfterSome"
    with pytest.raises(ValueError, match=re.escape(said)):
        train(SPEC.with_(algorithm=Algorithm(clip=AfterSome(part=0.5))), **HOW)


@pytest.mark.parametrize("answer", [np.zeros(2, dtype=bool), np.zeros(3), [True] * 3])
def test_a_choice_gives_a_truth_value_for_each_member(answer, monkeypatch):
    monkeypatch.setattr(Lowest, "__call__", lambda self, series: answer)
    spec = SPEC.with_(choose=Lowest())
    if isinstance(answer, list):
        assert (train(spec, **HOW)["chosen_at"] == 150).all()
    else:
        with pytest.raises(ValueError, match="choose must give 3 truth values"):
            train(spec, **HOW)


def test_lowest_takes_the_first_of_equal_checks_and_passes_over_what_is_no_number():
    rows = np.array([[3.0, 2.0], [2.0, 2.0], [np.nan, 5.0], [1.0, np.nan]])
    assert Lowest("loss")({"loss": rows}.__getitem__).tolist() == [True, False, True, False]
    assert replace(Lowest("loss"), series="x")({"x": rows[:, :1]}.__getitem__).tolist() == [True, True, False, True]


@dataclass(frozen=True)
class Forgetting(Quantile):
    """A rule that gives back less than it was given."""

    def shorten(self, g, norm, network, state):
        *answer, state = super().shorten(g, norm, network, state)
        return *answer, {} if self.last == 20 else {"norms": state["norms"][:, 1:]}


@pytest.mark.parametrize(("last", "back"), [(20, "{}"), (5, "{'norms': (3, 4)}")])
def test_a_rule_that_gives_back_another_state_is_refused(last, back):
    said = f"clip must give back a state of {{'norms': (3, {last})}}, got {back} from Forgetting"
    with pytest.raises(ValueError, match=re.escape(said)):
        train(SPEC.with_(algorithm=Algorithm(clip=Forgetting(last=last))), **HOW)


def test_parts_of_ones_own_have_the_derivatives_that_autograd_finds():
    task, sizes = RobustAddition(10), Sizes(2, 6, 1)
    network = Orthogonal(0.7).parameters(sizes, [0, 1], dtype=torch.float64)
    batch = task.chunk(torch.arange(2), torch.arange(1), batch=5)[0]
    given = {"loss": task.loss, "sigma": Orthogonal.sigma, "omega": LogRatio(), "alpha": 0.7}
    want, got = reference.gradients(network, batch, **given), batched.gradients(network, batch, **given)
    for name in ("theta", "delta", "loss", "omega"):
        torch.testing.assert_close(getattr(got, name), getattr(want, name), rtol=1e-10, atol=1e-12)
    assert want.omega.min() > 0.01
