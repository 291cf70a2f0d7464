"""Clipping rules against their definitions, and guards against gradients that are not numbers."""

import math
from dataclasses import dataclass

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rnnlab.descent.clipping import (
    Clip,
    Elementwise,
    ElementwiseSignal,
    Event,
    NoClip,
    Norm,
    Shrink,
    Skip,
    clip_norm,
    norms,
)
from rnnlab.descent.clipping import apply as applied
from rnnlab.network.parameters import Parameters, Sizes

W_REC = torch.tensor([[[2.0, 4.0], [6.0, 8.0]]], dtype=torch.float64)


def apply(clip, g, W_rec):
    """Clip gradients of networks with these recurrent weights; of parameters beyond g's, it is 0."""
    network = Parameters.zeros(Sizes(1, W_rec.shape[-1], 1), len(g), dtype=g.dtype)
    network.W_rec.copy_(W_rec)
    whole = torch.zeros_like(network.theta)
    whole[:, : g.shape[1]] = g
    clipped, norm, events, state = applied(clip, whole, network, {})
    assert state == {}
    assert not clipped[:, max(g.shape[1], W_rec[0].numel()) :].any()
    return clipped[:, : g.shape[1]], norm, events


def flat(*values: float) -> torch.Tensor:
    return torch.tensor([values], dtype=torch.float64)


@given(scale=st.floats(1e-6, 1e6), threshold=st.floats(1e-3, 1e3))
def test_clip_norm_shortens_long_gradients_and_leaves_the_rest(scale, threshold):
    g = scale * flat(3.0, -4.0)  # norm 5 scale
    want = g * min(1.0, threshold / (5 * scale))
    torch.testing.assert_close(clip_norm(g, threshold), want, rtol=1e-12, atol=0)


RANGES = {torch.float32: 37, torch.float64: 305}  # powers of ten that the dtype holds
DTYPES = sorted(RANGES, key=str)


@pytest.mark.parametrize("dtype", DTYPES)
@given(data=st.data())
def test_no_square_of_a_gradient_is_too_large_or_too_small_to_clip_it_right(dtype, data):
    """Of (3, -4), of norm 5, times any number that the dtype holds."""
    scale, threshold, limit = (10 ** data.draw(st.floats(-RANGES[dtype], RANGES[dtype])) for _ in range(3))
    g = torch.tensor([[3.0, -4.0, 0.0, 0.0, 0.0]] * 2, dtype=torch.float64)
    g *= torch.tensor([[scale], [1.0]], dtype=torch.float64)  # the neighbour is ordinary
    g = g.to(dtype)
    want = g.double().clone()
    for row, size in zip(want, (scale, 1.0), strict=True):
        if 5 * size > threshold:
            row[:2] = threshold * torch.tensor([0.6, -0.8], dtype=torch.float64)
    near = {"rtol": 8 * torch.finfo(dtype).eps, "atol": 0}
    torch.testing.assert_close(clip_norm(g, threshold).double(), want, **near)
    torch.testing.assert_close(norms(g).double(), torch.tensor([5 * scale, 5.0], dtype=torch.float64), **near)
    assert norms(g)[1] == 5
    for rule, guarded in ((Norm(threshold, None), False), (Norm(threshold, Skip(limit)), 5 * scale > limit)):
        clipped, norm, events = apply(rule, g, torch.zeros(2, 1, 1, dtype=dtype))
        clear = all(abs(x - 5 * scale) > 1e-5 * x for x in (threshold, limit))
        assert torch.equal(norm, norms(g))
        if clear:
            event = Event.GUARDED if guarded else Event.CLIPPED if 5 * scale > threshold else Event.NONE
            assert events[0] == event
            torch.testing.assert_close(clipped[0].double(), 0 * want[0] if guarded else want[0], **near)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_a_norm_beyond_the_dtype_is_clipped_too(dtype):
    most = torch.finfo(dtype).max
    g = torch.tensor([[most, -most]], dtype=dtype)
    want = torch.tensor([[0.5**0.5, -(0.5**0.5)]], dtype=torch.float64)
    for rule in (Norm(1.0, None), Norm(1.0, Skip())):
        clipped, _, events = apply(rule, g, torch.zeros(1, 1, 1, dtype=dtype))
        torch.testing.assert_close(clipped.double(), want, rtol=2 * torch.finfo(dtype).eps, atol=0)
        assert events.tolist() == [Event.CLIPPED]
    torch.testing.assert_close(clip_norm(g, 1.0).double(), want, rtol=2 * torch.finfo(dtype).eps, atol=0)
    assert apply(NoClip(), g, W_REC)[2].tolist() == [Event.NONE]


@pytest.mark.parametrize("threshold", [1e-50, 1e40])
def test_a_threshold_that_the_dtype_does_not_hold_makes_nothing_of_nothing(threshold):
    g = torch.zeros(1, 4, dtype=torch.float32)
    for rule in (Norm(threshold), Elementwise(threshold), Norm(threshold, None)):
        assert apply(rule, g, W_REC.float())[0].tolist() == [[0, 0, 0, 0]]
    one, kept = torch.tensor([[1.0, 0.0]], dtype=torch.float32), float(threshold > 1)
    for rule in (Norm(threshold), Elementwise(threshold)):
        assert apply(rule, one, W_REC.float()[:, :1, :1])[0].tolist() == [[kept, 0.0]]


def test_members_are_clipped_each_by_its_own_norm():
    g = torch.tensor([[3.0, 4.0], [0.3, 0.4]], dtype=torch.float64)
    clipped, norm, events = apply(Norm(1.0), g, torch.zeros(2, 1, 1, dtype=torch.float64))
    torch.testing.assert_close(clipped, torch.tensor([[0.6, 0.8], [0.3, 0.4]], dtype=torch.float64))
    torch.testing.assert_close(norm, torch.tensor([5.0, 0.5], dtype=torch.float64))
    assert events.tolist() == [Event.CLIPPED, Event.NONE]


def test_a_norm_at_the_threshold_counts_as_clipped_and_is_unchanged():
    clipped, _, events = apply(Norm(5.0), flat(3.0, 4.0, 0.0, 0.0), W_REC)
    assert clipped.tolist() == [[3.0, 4.0, 0.0, 0.0]]
    assert events.tolist() == [Event.CLIPPED]


def test_elementwise_limits_every_entry():
    clipped, _, events = apply(Elementwise(1.0), flat(0.5, -3.0, 2.0, 1.0), W_REC)
    assert clipped.tolist() == [[0.5, -1.0, 1.0, 1.0]]
    assert events.tolist() == [Event.CLIPPED]


def test_signal_clipping_and_no_clipping_leave_the_whole_gradient_alone():
    g = flat(5.0, -300.0, 0.0, 0.0)
    for clip in (ElementwiseSignal(0.1), NoClip()):
        clipped, _, events = apply(clip, g, W_REC)
        assert torch.equal(clipped, g)
        assert events.tolist() == [Event.NONE]
    assert ElementwiseSignal(0.1).signal_threshold == 0.1
    assert NoClip().signal_threshold is None


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, 2e10])
def test_the_authors_guard_shrinks_the_recurrent_weights(bad):
    clipped, _, events = apply(Norm(1.0), flat(1.0, bad, 1.0, 1.0, 7.0), W_REC)
    torch.testing.assert_close(clipped, 0.02 * flat(2.0, 4.0, 6.0, 8.0, 0.0))
    assert events.tolist() == [Event.GUARDED]


@pytest.mark.parametrize(
    "clip", [Norm(1.0, guard=Skip()), Elementwise(1.0, guard=Skip()), ElementwiseSignal(1.0, Skip())]
)
def test_skip_leaves_the_update_out(clip):
    clipped, _, events = apply(clip, flat(1.0, math.nan, 1.0, 1.0, 7.0), W_REC)
    assert torch.equal(clipped, torch.zeros_like(clipped))
    assert events.tolist() == [Event.GUARDED]


def test_a_long_but_finite_gradient_is_clipped_and_not_skipped():
    clipped, _, events = apply(Norm(1.0, guard=Skip()), flat(3e12, 4e12, 0.0, 0.0), W_REC)
    torch.testing.assert_close(clipped, flat(0.6, 0.8, 0.0, 0.0))
    assert events.tolist() == [Event.CLIPPED]


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_without_a_guard_a_gradient_that_is_no_number_stays_and_is_an_event(bad):
    clipped, _, events = apply(NoClip(), flat(1.0, bad), W_REC)
    assert not clipped.isfinite().all()
    assert events.tolist() == [Event.DIVERGED]


def test_one_members_accident_leaves_the_others_alone():
    g = torch.tensor([[3.0, 4.0, 0.0, 0.0], [math.nan, 0.0, 0.0, 0.0]], dtype=torch.float64)
    W_rec = W_REC.expand(2, -1, -1)
    clipped, _, events = apply(Norm(1.0), g, W_rec)
    torch.testing.assert_close(clipped[:1], flat(0.6, 0.8, 0.0, 0.0))
    assert events.tolist() == [Event.CLIPPED, Event.GUARDED]


@pytest.mark.parametrize("rule", [Norm, Elementwise, ElementwiseSignal])
@pytest.mark.parametrize("threshold", [0, -1.0, math.nan, math.inf])
def test_thresholds_that_are_not_positive_and_finite_are_refused(rule, threshold):
    with pytest.raises(ValueError, match="threshold must be a positive, finite number"):
        rule(threshold)


def test_shrink_says_what_it_does_in_its_fields():
    assert Shrink() == Shrink(factor=0.02, limit=1e10)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_gradients_whose_norm_has_no_finite_reciprocal_are_rescaled_too(dtype):
    least = torch.finfo(dtype).smallest_normal * torch.finfo(dtype).eps  # the smallest number of all
    g = torch.tensor([[48.0, -64.0], [0.0, 10.0]], dtype=torch.float64) * least  # norms 80 and 10
    want = torch.tensor([[24.0, -32.0], [0.0, 10.0]], dtype=torch.float64) * least
    clipped = clip_norm(g.to(dtype), 40 * least).double()
    torch.testing.assert_close(clipped / least, want / least, rtol=0, atol=1)


@dataclass(frozen=True)
class Counting(Norm):
    """A rule from outside that halves each gradient once more, and says which it changed."""

    def init(self, network):
        return {"seen": torch.zeros(network.members, dtype=torch.int64)}

    def shorten(self, g, norm, network, state):
        seen = state["seen"] + 1
        return g / 2 ** seen[:, None], norm > 1, {"seen": seen}


@dataclass(frozen=True)
class Rule(Clip):
    """One that says nothing of what it remembers."""

    guard = signal_threshold = None

    def shorten(self, g, norm, network, state):
        return g, norm > 1, state


def test_a_rule_is_handed_what_it_remembers_and_hands_it_back_and_the_guard_sees_what_came():
    network = Parameters.zeros(Sizes(1, 1, 1), 2, dtype=torch.float64)
    network.W_rec.fill_(3.0)
    g, rule = torch.full((2, 5), 4.0, dtype=torch.float64), Counting(guard=Shrink(0.5))
    g[1, 2] = math.nan
    state = rule.init(network)
    for times in (1, 2):
        clipped, norm, events, state = applied(rule, g, network, state)
        assert clipped.tolist() == [[4 / 2**times] * 5, [1.5, 0, 0, 0, 0]]
        assert norm[0].item() == pytest.approx(80**0.5, rel=1e-15)
        assert events.tolist() == [Event.CLIPPED, Event.GUARDED]
        assert state["seen"].tolist() == [times, times]


def test_a_rule_that_says_nothing_of_it_remembers_nothing():
    assert isinstance(Rule(), Clip)
    for rule in (Rule(), NoClip(), Norm(), Elementwise(), ElementwiseSignal()):
        assert rule.init(Parameters.zeros(Sizes(1, 1, 1), 2)) == {}
