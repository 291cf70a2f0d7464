"""Tasks: every sequence is decoded by plain Python and must say what its target says."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rnnlab import random
from rnnlab.tasks import (
    TASKS,
    Addition,
    Multiplication,
    NoiselessMemorization,
    RandomPermutation,
    TemporalOrder,
    ThreeBitTemporalOrder,
)

SEEDS, UPDATES = torch.arange(3), torch.arange(2)
ranges = st.integers(10, 60).flatmap(lambda low: st.tuples(st.just(low), st.integers(low + 1, low + 20)))
lengths = st.integers(10, 80) | ranges


def sequences(task, batch=4, **kwargs):
    """Every sequence of a small chunk, unpadded, with its target."""
    chunk = task.chunk(SEEDS, UPDATES, batch=batch, **kwargs)
    for k in range(len(UPDATES)):
        for m in range(len(SEEDS)):
            L = int(chunk.lengths[k, m])
            for b in range(batch):
                yield chunk.inputs[k, m, :L, b].tolist(), chunk.targets[k, m, :, b].tolist(), L


def in_range(L, length):
    low, high = length if isinstance(length, tuple) else (length, length + 1)
    return low <= L < high


@settings(max_examples=25)
@given(length=lengths, window=st.sampled_from(["code", "v2"]))
def test_temporal_order_asks_for_its_two_symbols(length, window):
    second = 5 if window == "code" else 4
    for inputs, target, L in sequences(TemporalOrder(length, second_window=window)):
        assert in_range(L, length)
        (p0, p1) = [t for t, symbol in enumerate(inputs) if symbol < 2]
        assert L // 10 <= p0 < 2 * (L // 10)
        assert second * L // 10 <= p1 < second * L // 10 + L // 10
        assert target == [inputs[p0] + 2 * inputs[p1]]
        assert max(inputs) <= 5


@settings(max_examples=15)
@given(length=lengths)
def test_three_bit_temporal_order_asks_for_its_three_symbols(length):
    for inputs, target, L in sequences(ThreeBitTemporalOrder(length)):
        marked = [t for t, symbol in enumerate(inputs) if symbol < 2]
        assert len(marked) == 3
        for t, tenths in zip(marked, (1, 3, 6), strict=True):
            assert tenths * L // 10 <= t < tenths * L // 10 + L // 10
        assert target == [sum(inputs[t] << i for i, t in enumerate(marked))]


@settings(max_examples=15)
@given(length=lengths, task=st.sampled_from([Addition, Multiplication]))
def test_addition_and_multiplication_ask_for_their_marked_numbers(length, task):
    low, high = length if isinstance(length, tuple) else (length, length + 1)
    for inputs, target, l in sequences(task(length)):
        assert low <= l < high - 1 + (high - 1) // 10
        marked = [t for t, (mark, _) in enumerate(inputs) if mark == 1]
        assert [mark for mark, _ in inputs if mark not in (0, 1)] == []
        assert 0 <= marked[0] < l // 10 <= marked[1] < l // 10 + 4 * l // 10
        a, b = (inputs[t][1] for t in marked)
        assert target[0][0] == pytest.approx((a + b) / 2 if task is Addition else a * b, rel=1e-6)
        assert all(0 <= number < 1 for _, number in inputs)


@settings(max_examples=15)
@given(length=st.integers(1, 60))
def test_random_permutation_asks_for_its_first_symbol(length):
    for inputs, target, L in sequences(RandomPermutation(length)):
        assert length == L
        assert target == inputs[:1]
        assert inputs[0] in (0, 1)
        assert all(2 <= symbol <= 99 for symbol in inputs[1:])


@settings(max_examples=25)
@given(
    length=st.integers(1, 30),
    values=st.integers(2, 6),
    positions=st.integers(1, 6),
    trigger=st.sampled_from(["with", "before"]),
)
def test_noiseless_memorization_asks_for_its_pattern(length, values, positions, trigger):
    task = NoiselessMemorization(length, values, positions, trigger=trigger)
    blank, fire = values, values + 1
    for inputs, target, L in sequences(task):
        assert length + 2 * positions == L
        pattern, told = inputs[:positions], length + positions - (trigger == "before")
        assert all(0 <= symbol < values for symbol in pattern)
        assert inputs[positions:] == [fire if t == told else blank for t in range(positions, L)]
        assert target == [blank] * (length + positions) + pattern


def test_every_pattern_holds_all_patterns_once():
    task = NoiselessMemorization(10, values=2, positions=5, every_pattern=True)
    chunk = task.chunk(SEEDS, UPDATES, batch=32)
    patterns = {tuple(chunk.inputs[1, 2, :5, b].tolist()) for b in range(32)}
    assert len(patterns) == 32


@pytest.mark.parametrize("make", TASKS.values())
@pytest.mark.parametrize("length", [20, (15, 30)])
def test_a_window_of_steps_is_that_part_of_the_whole(make, length):
    task = make(length)
    whole = task.chunk(SEEDS, UPDATES, batch=5)
    for steps in (range(7), range(3, 9), range(9, 14)):
        part = task.chunk(SEEDS, UPDATES, batch=5, steps=steps)
        assert torch.equal(part.inputs, whole.inputs[:, :, steps.start : steps.stop])
        assert torch.equal(part.targets, whole.targets)
        assert torch.equal(part.lengths, whole.lengths)


@pytest.mark.parametrize("make", TASKS.values())
def test_a_members_data_depend_on_nobody_else_and_on_no_chunk(make):
    task = make((15, 30))
    together = task.chunk(SEEDS, torch.arange(4), batch=5)
    alone = task.chunk(SEEDS[1:2], torch.tensor([3]), batch=5)
    batch, single = together[3], alone[0]
    L = int(single.lengths[0])
    assert int(batch.lengths[1]) == L
    assert torch.equal(batch.inputs[1, :L], single.inputs[0, :L])
    assert torch.equal(batch.targets[1, : single.targets.shape[1]], single.targets[0])


@pytest.mark.parametrize("make", TASKS.values())
def test_a_batch_is_padded_to_its_own_longest_sequence(make):
    chunk = make((15, 40)).chunk(SEEDS, torch.arange(6), batch=2)
    for batch, padded in zip(chunk, chunk.lengths.amax(dim=1).tolist(), strict=True):
        assert batch.inputs.shape[1] == padded <= make((15, 40)).longest
        assert batch.targets.shape[1] in (1, padded)


def test_purposes_draw_different_sequences():
    task = TemporalOrder(50)
    drawn = [task.chunk(SEEDS, UPDATES, batch=20, stream=s).inputs for s in (random.TRAIN, random.CHECK, random.TEST)]
    assert not torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[1], drawn[2])


def test_classes_and_positions_are_uniform():
    chunk = TemporalOrder(100).chunk(torch.arange(1), torch.arange(10), batch=1000)
    counts = torch.bincount(chunk.targets.flatten().long(), minlength=4)
    assert bool(((counts - 2500).abs() < 5 * math.sqrt(10_000 * 3 / 16)).all())
    first = (chunk.inputs[:, 0] < 2).int().argmax(dim=1).flatten()
    where = torch.bincount(first, minlength=20)[10:20]
    assert int(where.sum()) == 10_000
    assert bool(((where - 1000).abs() < 5 * math.sqrt(10_000 * 0.09)).all())


@pytest.mark.parametrize("make", [TemporalOrder, ThreeBitTemporalOrder, Addition, Multiplication])
@pytest.mark.parametrize("length", [9, 0, -5, (5, 20), (20, 20), True])
def test_a_length_that_the_windows_do_not_fit_in_is_refused(make, length):
    with pytest.raises(ValueError, match=r"^length.* must (be|not be)"):
        make(length)


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: TemporalOrder(50, second_window="late"), "second_window must be 'code' or 'v2', got 'late'"),
        (lambda: NoiselessMemorization(10, values=1), "values must be an integer, at least 2, got 1"),
        (lambda: NoiselessMemorization(10, positions=0), "positions must be a positive integer, got 0"),
        (lambda: NoiselessMemorization(10, trigger="never"), "trigger must be"),
        (lambda: RandomPermutation(0), "length must be at least 1 steps"),
        (lambda: TemporalOrder(50).chunk(SEEDS, UPDATES, batch=0), "batch must be a positive integer, got 0"),
    ],
)
def test_arguments_out_of_range_are_refused_by_name(make, named):
    with pytest.raises(ValueError, match=named):
        make()
