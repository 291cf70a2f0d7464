"""Rules younger than the paper's, against answers by hand and their authors' loops over one gradient at a time."""

import contextlib
import math

import numpy as np
import pytest
import torch

from rnnlab import Algorithm, BasicTanh, Normalized, Percentile, PerMatrix, Skip, Spec, UnitWise, ZScore, sweeps, train
from rnnlab.descent.clipping import Event, apply
from rnnlab.engine import batched, reference
from rnnlab.network.cells import Tanh
from rnnlab.network.parameters import Parameters, Sizes
from rnnlab.tasks.pathological import TemporalOrder

SIZES = Sizes(1, 2, 1)  # W_rec, W_in, b, W_out, b_out: 4, 2, 2, 2, 1
RULES = [PerMatrix(0.05), UnitWise(), Normalized(0.1), Percentile(0.5, 3), ZScore(0.5, warm_up=2)]


def whole(**parts):
    """Gradients or parameters of one network, by name; 0 where nothing is said."""
    made = Parameters.zeros(SIZES, 1, dtype=torch.float64)
    for name, numbers in parts.items():
        made.views[name].copy_(torch.tensor(numbers, dtype=torch.float64).view_as(made.views[name]))
    return made


def said(rule, norms, members=1):
    """The norms that gradients along (3, -4) of these norms have after the rule, one after the other; its events."""
    network = Parameters.zeros(SIZES, members, dtype=torch.float64)
    state, found, events = rule.init(network), [], []
    for norm in np.reshape(norms, (-1, members)):
        g = torch.zeros_like(network.theta)
        g[:, :2] = torch.tensor(norm)[:, None] * torch.tensor([0.6, -0.8], dtype=torch.float64)
        clipped, _, event, state = apply(rule, g, network, state)
        assert torch.allclose(clipped[:, 0] * -4, clipped[:, 1] * 3, equal_nan=True), "the direction is kept"
        found.append(clipped.norm(dim=1).numpy())
        events.append(event.tolist())
    return np.array(found), events


def test_each_matrix_is_clipped_by_its_own_norm():
    g = whole(W_rec=[3, 4, 0, 0], W_in=[0.3, 0.4], W_out=[-6, 8], b_out=[-7])
    clipped, norm, events, _ = apply(PerMatrix(1.0), g.theta, whole(), {})
    want = whole(W_rec=[0.6, 0.8, 0, 0], W_in=[0.3, 0.4], W_out=[-0.6, 0.8], b_out=[-1])
    torch.testing.assert_close(clipped, want.theta)
    assert norm.item() == pytest.approx(math.sqrt(25 + 0.25 + 100 + 49))
    assert events.tolist() == [Event.CLIPPED]
    assert apply(PerMatrix(10.1), g.theta, whole(), {})[2].tolist() == [Event.NONE]


def test_each_units_gradient_is_clipped_beside_the_norm_of_its_weights():
    weights = whole(W_rec=[3, 4, 0, 0], W_in=[2, 0.1], b=[0, 4], W_out=[0, 0], b_out=[-10])
    g = whole(W_rec=[-3, 4, 0, 0.04], W_in=[0.3, 0.1], b=[3, 4], W_out=[0.3, 0.4], b_out=[-0.9])
    clipped, _, events, _ = apply(UnitWise(0.1, least=0.5), g.theta, weights, {})
    # Rows may be 0.5 and 0.05 long, then 0.2 and 0.05, then 0.4, 0.05 and 1.
    want = whole(W_rec=[-0.3, 0.4, 0, 0.04], W_in=[0.2, 0.05], b=[0.24, 0.32], W_out=[0.03, 0.04], b_out=[-0.9])
    torch.testing.assert_close(clipped, want.theta)
    assert events.tolist() == [Event.CLIPPED]
    assert apply(UnitWise(10.0, least=0.5), g.theta, weights, {})[2].tolist() == [Event.NONE]


def test_normalized_gradients_have_one_norm_short_ones_too_and_nothing_stays_nothing():
    found, events = said(Normalized(2.0), [5.0, 1e-200, 2.0, 0.0])
    np.testing.assert_allclose(found.ravel(), [2, 2, 2, 0], rtol=1e-15)
    assert events == [[Event.CLIPPED]] * 3 + [[Event.NONE]]


def test_the_percentile_is_that_of_the_last_norms_of_each_member():
    norms = np.random.default_rng(0).lognormal(size=(30, 2))
    found, _ = said(Percentile(0.3, last=7), norms, members=2)
    for k, m in np.ndindex(norms.shape):
        limit = np.percentile(norms[max(0, k - 6) : k + 1, m], 30)
        assert found[k, m] == pytest.approx(min(norms[k, m], limit), rel=1e-12)


def zclip(norms, most, kept, warm_up):
    """ZClip of a list of norms, as its authors have it: a buffer first, then running averages."""
    buffer, found = [], []
    for norm in norms:
        if len(buffer) < warm_up:
            buffer.append(norm)
            found.append(norm)
            mean, variance = np.mean(buffer), np.var(buffer)
            continue
        z = (norm - mean) / np.sqrt(variance)
        came = mean + most * np.sqrt(variance) / (z / most) if z > most else norm
        mean = kept * mean + (1 - kept) * came
        variance = kept * variance + (1 - kept) * (came - mean) ** 2
        found.append(came)
    return found


def test_unusual_norms_are_brought_near_their_running_mean_the_more_so_the_more_unusual():
    found, events = said(ZScore(2.0, warm_up=2), [1.0, 3.0, 12.0, 2.0])
    np.testing.assert_allclose(found.ravel(), [1, 3, 2.4, 2])  # mean 2, deviation 1: z 10, brought to 4/10
    assert [event for (event,) in events] == [Event.NONE, Event.NONE, Event.CLIPPED, Event.NONE]
    norms = np.random.default_rng(1).lognormal(sigma=1.5, size=(200, 2))
    found, _ = said(ZScore(1.5, 0.9, 10), norms, members=2)
    for m in range(2):
        np.testing.assert_allclose(found[:, m], zclip(norms[:, m], 1.5, 0.9, 10), rtol=1e-9)
    assert (found < norms).sum() > 20


@pytest.mark.parametrize("rule", [Percentile(0.5, 5, Skip()), ZScore(2.0, 0.5, 2, Skip())])
def test_a_norm_that_is_no_number_is_not_remembered(rule):
    norms, gap = [1.0, 2.0, 3.0, 9.0], [1.0, math.nan, 2.0, 3.0, math.inf, 9.0]
    with_gaps, events = said(rule, gap)
    np.testing.assert_array_equal(with_gaps[np.isfinite(gap)], said(rule, norms)[0])
    assert [events[1], events[4]] == [[Event.GUARDED]] * 2


@pytest.mark.parametrize("rule", RULES, ids=repr)
def test_both_engines_make_the_same_updates_by_it(rule):
    task, ends = TemporalOrder((10, 13)), []
    algorithm, sizes = Algorithm(learning_rate=0.1, clip=rule), Sizes(task.inputs, 4, task.outputs)
    start = torch.randn(2, sizes.P, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) * 0.4
    for engine in (reference, batched):
        network = Parameters(start.clone(), sizes)
        chunk = task.chunk(torch.arange(2), torch.arange(6), batch=3)
        trace = engine.sgd(network, chunk, sigma=Tanh(), loss=task.loss, algorithm=algorithm)
        ends.append((network.theta, trace.norm, trace.events.double()))
    for one, other in zip(*ends, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-10)
    assert ends[0][2].any(), "something was clipped"


def interrupt(progress):
    raise KeyboardInterrupt


@pytest.mark.parametrize("rule", RULES, ids=repr)
def test_a_training_by_it_ends_with_the_same_bits_if_it_was_interrupted(rule, tmp_path):
    few = {"updates": 40, "check_every": 20, "check_sequences": 10, "confirm_sequences": 10}
    spec = Spec(task=TemporalOrder(10), init=BasicTanh(), algorithm=Algorithm(0.1, rule), units=4, batch=2, **few)
    want = train(spec, seeds=2, device="cpu")
    with contextlib.suppress(KeyboardInterrupt):
        train(spec, seeds=2, device="cpu", store=tmp_path, progress=interrupt, checkpoint_every=0)
    got = sweeps.run(spec, seeds=2, device="cpu", store=tmp_path)
    assert got["theta"].values.tobytes() == want["theta"].values.tobytes()
    assert (want["clipped"] > 0).any()
