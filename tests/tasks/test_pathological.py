"""Tasks: every sequence is decoded by plain Python and must say what its target says."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rnnlab import bits
from rnnlab.tasks.pathological import (
    TASKS,
    Addition,
    Multiplication,
    NoiselessMemorization,
    RandomPermutation,
    TemporalOrder,
    ThreeBitTemporalOrder,
)
from rnnlab.tasks.task import OWN, Draws
from tests.chance import assert_distributed, assert_from, assert_uncorrelated, assert_uniform

SEEDS, UPDATES = torch.arange(3), torch.arange(2)
DRAWS = Draws(SEEDS, UPDATES, bits.TRAIN, 4)
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
    drawn = [task.chunk(SEEDS, UPDATES, batch=20, stream=s).inputs for s in (bits.TRAIN, bits.CHECK, bits.TEST)]
    assert not torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[1], drawn[2])


def drawn(task, minibatches, batch, stream=bits.TRAIN):
    """Inputs `T n`, targets and lengths `n` of many sequences of a task; what lies beyond a length is cut at `T`."""
    chunk = task.chunk(torch.arange(4), torch.arange(minibatches // 4), batch=batch, stream=stream)
    inputs = chunk.inputs.movedim(2, 0).flatten(1, 3)
    return inputs, chunk.targets.movedim(2, 0).flatten(1, 3), chunk.lengths.flatten().repeat_interleave(batch)


def steps_where(marked, count):
    """`count n`: the steps marked in each sequence, `T n`, of which there must be so many."""
    assert bool((marked.sum(dim=0) == count).all())
    return marked.T.nonzero()[:, 1].view(-1, count).T


@pytest.mark.parametrize(("window", "second"), [("code", range(25, 30)), ("v2", range(20, 25))])
def test_temporal_order_draws_all_positions_symbols_and_distractors_alike(window, second):
    inputs, classes, _ = drawn(TemporalOrder(50, second_window=window), 1_000, 20)
    p, q = steps_where(inputs < 2, 2)
    n = torch.arange(inputs.shape[1])
    first, then = inputs[p, n].long(), inputs[q, n].long()
    assert torch.equal(classes[0].long(), first + 2 * then)
    assert_uniform((p, range(5, 10)), (q, second), (first, range(2)), (then, range(2)))
    distractors = range(2, 6)
    assert_uniform((inputs[inputs >= 2], distractors))
    tail = inputs[30:]  # no window reaches here
    assert_uniform((tail[0::2], distractors), (tail[1::2], distractors))
    assert_uniform((tail[:, 0::2], distractors), (tail[:, 1::2], distractors))
    assert_uniform((inputs[-1], distractors), (classes[0], range(4)))


def test_three_bit_temporal_order_draws_all_positions_and_symbols_alike():
    inputs, classes, _ = drawn(ThreeBitTemporalOrder(20), 1_000, 20)
    positions = steps_where(inputs < 2, 3)
    bits = inputs.long().gather(0, positions)
    assert torch.equal(classes[0].long(), bits[0] + 2 * bits[1] + 4 * bits[2])
    windows = (range(2, 4), range(6, 8), range(12, 14))
    assert_uniform(*zip(positions, windows, strict=True), *((bit, range(2)) for bit in bits))
    assert_uniform((inputs[inputs >= 2], range(2, 6)))
    assert_uniform((inputs[-1], range(2, 6)), (classes[0], range(8)))


@pytest.mark.parametrize(
    ("task", "asked"), [(Addition, lambda a, b: (a + b) / 2), (Multiplication, lambda a, b: a * b)]
)
def test_marked_numbers_are_independent_and_uniform_and_their_marks_lie_anywhere_in_their_windows(task, asked):
    inputs, targets, lengths = drawn(task(40), 4_000, 5)
    assert_uniform((lengths[::5], range(40, 44)))  # 40 steps and up to a tenth more, one length a minibatch
    marks, numbers = inputs.unbind(-1)
    p, q = steps_where(marks == 1, 2)
    for l in range(40, 44):
        at = lengths == l
        assert_uniform((p[at], range(l // 10)), (q[at], range(l // 10, l // 10 + 4 * l // 10)))
    n = torch.arange(numbers.shape[1])
    a, b = numbers[p, n], numbers[q, n]
    torch.testing.assert_close(targets[0, :, 0], asked(a, b), rtol=1e-6, atol=0)
    for number in (a, b, numbers[25]):
        assert_from(number, lambda x: x)  # uniform on [0, 1)
    for other in (b, p, q, lengths, numbers[25], numbers[39]):
        assert_uncorrelated(a, other)
    assert_uncorrelated(b, q)
    assert_uncorrelated(numbers[25], numbers[26])


def test_random_permutation_draws_both_first_symbols_and_all_others_alike():
    inputs, classes, _ = drawn(RandomPermutation(12), 1_000, 20)
    assert torch.equal(classes[0], inputs[0])
    others = range(2, 100)
    assert_uniform((inputs[1:], others))
    assert_uniform((inputs[0], range(2)), (inputs[1], others))
    assert_uncorrelated(inputs[4], inputs[5])


@pytest.mark.parametrize(("values", "positions"), [(2, 5), (5, 2), (128, 1)])
def test_noiseless_memorization_draws_all_patterns_alike(values, positions):
    inputs, _, _ = drawn(NoiselessMemorization(3, values, positions), 1_000, 20)
    assert_uniform(*((symbol, range(values)) for symbol in inputs[:positions]))


@pytest.mark.parametrize(
    ("task", "shortest"),
    [
        (TemporalOrder((10, 16)), 10),
        (ThreeBitTemporalOrder((10, 16)), 10),
        (RandomPermutation((1, 7)), 1),
        (NoiselessMemorization((1, 7), 2, 3), 7),
    ],
)
def test_mixed_lengths_are_uniform_and_independent_from_update_to_update_and_seed_to_seed(task, shortest):
    lengths = task.chunk(torch.arange(4), torch.arange(1_000), batch=1).lengths
    allowed = range(shortest, shortest + 6)
    assert_uniform((lengths[0::2], allowed), (lengths[1::2], allowed))
    assert_uniform((lengths[:, 0::2], allowed), (lengths[:, 1::2], allowed))


def test_a_mixed_length_of_addition_is_drawn_and_then_up_to_a_tenth_more():
    lengths = Addition((25, 40)).chunk(torch.arange(4), torch.arange(1_000), batch=1).lengths
    expected = torch.zeros(42)
    for L in range(25, 40):
        expected[L : L + L // 10] += lengths.numel() / 15 / (L // 10)
    counts = torch.bincount(lengths.flatten(), minlength=42)
    assert_distributed(counts[25:42], expected[25:])


def test_sequences_of_one_purpose_say_nothing_of_anothers():
    drawn_for = [drawn(TemporalOrder(10), 400, 20, stream) for stream in (bits.TRAIN, bits.CHECK, bits.TEST)]
    for (inputs, classes, _), (others, other_classes, _) in itertools.combinations(drawn_for, 2):
        assert_uniform((inputs[6:], range(2, 6)), (others[6:], range(2, 6)))
        assert_uniform((classes, range(4)), (other_classes, range(4)))


@pytest.mark.parametrize("make", TASKS.values())
def test_a_tasks_variables_lie_within_their_purpose(make, monkeypatch):
    read, drawn = set(), bits.bits
    monkeypatch.setattr(bits, "bits", lambda *a, stream, **given: read.add(stream) or drawn(*a, stream=stream, **given))
    for purpose in (bits.TRAIN, bits.CHECK, bits.TEST):
        read.clear()
        make((20, 30)).chunk(SEEDS, UPDATES, batch=4, stream=purpose)
        assert read
        assert read <= set(range(purpose, purpose + 16))


@pytest.mark.parametrize(("values", "positions"), [(2, 64), (2, 5), (3, 41), (5, 28), (7, 3), (128, 10), (2, 200)])
def test_every_pattern_numbers_patterns_however_many_there_are(values, positions):
    task = NoiselessMemorization(2, values, positions, every_pattern=True)
    shown = task.chunk(SEEDS, UPDATES, batch=400).inputs[1, 2, :positions].T
    for b in range(400):
        assert shown[b].tolist() == [b // values**p % values for p in range(positions)]


@pytest.mark.parametrize("make", [TemporalOrder, ThreeBitTemporalOrder, Addition, Multiplication])
@pytest.mark.parametrize("length", [9, 0, -5, (5, 20), (20, 20), True, 2**27 + 1, 10**30, (10, 2**27 + 2)])
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
        (lambda: TemporalOrder(10**9), r"length must be at most 2\*\*27 steps, got 1000000000"),
        (lambda: TemporalOrder(2**27).chunk(SEEDS, UPDATES, batch=3), "batch must be at most 2, got 3"),
        (lambda: TemporalOrder().chunk(SEEDS, UPDATES, batch=1, stream=5), "stream must be a purpose, .* got 5"),
        (lambda: TemporalOrder().chunk(SEEDS, -UPDATES, batch=1), "updates must be from 0"),
        *(
            (
                lambda window=window: NoiselessMemorization(9).chunk(SEEDS, UPDATES, batch=1, steps=window),
                "steps must be a",
            )
            for window in (range(0, 9, 2), range(-3, 4), range(5, 5), range(9, 0, -1))
        ),
        (lambda: DRAWS.integers(3, variable=16), "variable must be at most 15, got 16"),
        (lambda: DRAWS.uniform(variable=1), "variable must be an integer, at least 4, got 1"),
        (lambda: DRAWS.below(torch.zeros(2, 3).long(), variable=OWN), "high must be from 1 to .* got 0 to 0"),
        (lambda: DRAWS.below(torch.full((2, 3), 2**31 + 1), variable=OWN), "high must be from 1 to"),
    ],
)
def test_arguments_out_of_range_are_refused_by_name(make, named):
    with pytest.raises(ValueError, match=named):
        make()


@pytest.mark.parametrize(("length", "longest"), [(10, 10), (19, 19), (20, 21), (55, 59), (100, 109), ((10, 56), 59)])
def test_a_marked_sequence_is_longer_by_less_than_a_tenth_of_its_length(length, longest):
    # l plus one of 0 .. l // 10 - 1: at 10 to 19 steps nothing, at 55 four at most.
    for make in (Addition, Multiplication):
        assert make(length).longest == longest
        drawn = make(length).chunk(torch.arange(9), torch.arange(200), batch=1).lengths
        assert int(drawn.max()) == longest
