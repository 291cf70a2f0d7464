"""Places in a finite set of items, sequences with lengths of their own, and sequences that go on."""

import math
import re
from dataclasses import dataclass, replace
from typing import ClassVar

import pytest
import torch

import rnnlab
from rnnlab import bits
from rnnlab.engine import batched, reference
from rnnlab.network.cells import Tanh
from rnnlab.network.losses import Softmax
from rnnlab.network.parameters import Parameters, Sizes
from rnnlab.tasks.task import Batch, Chunk, Draws, Task
from tests.chance import assert_uncorrelated, assert_uniform

SEEDS = torch.tensor([0, 5, 2**62])


def places(size, *, batch, updates, seeds=SEEDS, stream=bits.TRAIN):
    return Draws(seeds, torch.as_tensor(updates), stream, batch).places(size)


@pytest.mark.parametrize(("size", "batch"), [(12, 4), (10, 4), (7, 7), (3, 8), (1, 2), (5, 1)])
def test_each_item_comes_once_an_epoch_and_epochs_follow_without_a_gap(size, batch):
    epochs = 4
    found = places(size, batch=batch, updates=range(math.ceil(epochs * size / batch)))
    assert found.dtype == torch.int64
    for m in range(len(SEEDS)):
        flat = found[:, m].flatten()[: epochs * size].reshape(epochs, size)
        assert torch.equal(flat.sort(dim=1).values, torch.arange(size).expand(epochs, size))


def test_orders_are_of_their_seed_epoch_and_purpose():
    found = places(50, batch=50, updates=range(4))
    other = places(50, batch=50, updates=range(4), stream=bits.CHECK)
    rows = torch.cat((found, other)).flatten(0, 1)
    assert len(rows.unique(dim=0)) == len(rows) == 24


@pytest.mark.parametrize(("size", "batch"), [(10, 4), (3, 8)])
def test_places_are_a_function_of_seed_and_update_whatever_else_is_drawn(size, batch):
    updates = [0, 1, 2, 7, 10**6]
    together = places(size, batch=batch, updates=updates)
    for k, update in enumerate(updates):
        for m in range(len(SEEDS)):
            alone = places(size, batch=batch, updates=[update], seeds=SEEDS[m : m + 1])
            assert torch.equal(alone[0, 0], together[k, m])
    order = [4, 0, 3]
    assert torch.equal(places(size, batch=batch, updates=[updates[k] for k in order]), together[order])


def test_places_are_the_order_of_the_words_of_their_epoch():
    words = bits.bits(SEEDS, torch.tensor([3]), stream=bits.TEST + 2, start=0, count=6)[0].tolist()
    found = places(6, batch=3, updates=[6, 7], stream=bits.TEST)  # epoch 3
    for m, row in enumerate(words):
        assert found[:, m].flatten().tolist() == sorted(range(6), key=row.__getitem__)


def test_each_item_stands_in_each_place_alike_and_epochs_are_independent():
    found = places(6, batch=6, updates=range(4000))
    assert_uniform((found, range(6)), (torch.arange(6).expand_as(found), range(6)))
    assert_uniform((found[:-1], range(6)), (found[1:], range(6)))
    assert_uncorrelated(found[:, 0], found[:, 1])


@pytest.mark.parametrize("size", [0, -1])
def test_a_size_that_is_no_positive_integer_is_refused(size):
    with pytest.raises(ValueError, match=f"^size must be a positive integer, got {size}"):
        places(size, batch=2, updates=[0])


@dataclass(frozen=True)
class Melodies(Task):
    """A user's finite data: ten sequences of one to six symbols; say each symbol's successor."""

    length: int | tuple[int, int] = (1, 7)
    name: ClassVar[str] = "melodies"
    loss: ClassVar = Softmax(every_step=True)
    symbols: ClassVar[bool] = True
    shortest: ClassVar[int] = 1
    inputs: ClassVar[int] = 7
    outputs: ClassVar[int] = 7

    def draw(self, draws, steps):
        which = draws.places(10)
        lengths = 1 + which % 6
        T = int(lengths.max())
        window = steps or range(T)
        seen = torch.arange(window.start, max(window.start, min(window.stop, T)))[:, None]
        whole = torch.arange(T)[:, None]
        u, target = ((which[:, :, None] * (t + 2) + t * t) % 7 for t in (seen, whole + 1))
        return Chunk(u, target, lengths.cpu())


@dataclass(frozen=True)
class Stream(Melodies):
    """Another: symbols without end, cut into pieces, of which each third begins anew."""

    length: int | tuple[int, int] = 6

    def draw(self, draws, steps):
        window = steps or range(6)
        K, M = len(draws.updates), len(draws.seeds)
        begins = (draws.updates % 3 == 0)[:, None, None].expand(K, M, draws.batch).clone()
        targets = draws.symbols(7, range(6))
        return Chunk(draws.symbols(7, window), targets, torch.full((K, M), 6), begins.cpu())


def other(base, change):
    """The same task but for a change of what it draws."""

    @dataclass(frozen=True)
    class Other(base):
        def draw(self, draws, steps):
            return change(base.draw(self, draws, steps), draws)

    return Other()


@pytest.mark.parametrize("task", [Melodies(), Stream()])
def test_a_task_of_finite_data_and_one_that_goes_on_keep_their_contract(task):
    assert rnnlab.check_task(task) == []
    assert rnnlab.check_task(task, batch=1) == []
    assert rnnlab.check_task(task, batch=13) == []


WRONG = [
    (Melodies, lambda c, d: replace(c, lengths=c.lengths[..., :1]), r"lengths must have shape \(9, 3\) or \(9, 3, 4\)"),
    (Melodies, lambda c, d: replace(c, lengths=c.lengths - 1), "lengths must be 1 to 6 steps, got 0 to 5"),
    (
        Melodies,
        lambda c, d: replace(c, lengths=(c.lengths + len(d.seeds) % 3).clamp(max=int(c.lengths.max()))),
        "lengths of a seed and an update are others when these are drawn alone",
    ),
    (
        Stream,
        lambda c, d: replace(c, begins=c.begins.repeat(1, 1, 2)),
        r"begins must have shape \(9, 3, 4\), on the CPU, got",
    ),
    (
        Stream,
        lambda c, d: replace(c, begins=c.begins | (len(d.updates) == 1)),
        "begins of a seed and an update are others when these are drawn alone",
    ),
    (
        Stream,
        lambda c, d: replace(c, begins=None if len(d.updates) == 1 else c.begins),
        "begins of a seed and an update are others when these are drawn alone",
    ),
]


@pytest.mark.parametrize(("base", "change", "sentence"), WRONG)
def test_lengths_and_begins_that_break_the_contract_are_said_in_a_sentence(base, change, sentence):
    said = rnnlab.check_task(other(base, change))
    assert any(re.match(sentence, one) for one in said)


@pytest.mark.parametrize("name", ["lengths", "begins"])
def test_what_is_of_another_dtype_is_refused_when_it_is_put_together(name):
    plain = {"inputs": torch.zeros(1, 2, 3), "targets": torch.zeros(1, 1, 3), "lengths": torch.ones(1).long()}
    plain |= {"begins": torch.zeros(1, 3, dtype=torch.bool)}
    whole = {key: x[None] for key, x in plain.items()}
    assert Batch(**plain).parts.keys() == Chunk(**whole).parts.keys() == plain.keys()
    for kind, given in ((Batch, plain), (Chunk, whole)):
        with pytest.raises(Exception, match=name):
            kind(**given | {name: given[name].to(torch.int16)})


def test_a_batch_of_a_chunk_keeps_lengths_and_begins_and_is_padded_to_its_longest_sequence():
    chunk = Stream().chunk(SEEDS, torch.arange(3), batch=4)
    lengths = torch.tensor([[[1, 2, 3, 1]] * 3, [[6, 1, 1, 1]] * 3, [[2, 2, 2, 2]] * 3])
    for k, batch in enumerate(replace(chunk, lengths=lengths)):
        T = (3, 6, 2)[k]
        assert torch.equal(batch.inputs, chunk.inputs[k, :, :T])
        assert torch.equal(batch.targets, chunk.targets[k, :, :T])
        assert torch.equal(batch.lengths, lengths[k])
        assert torch.equal(batch.begins, chunk.begins[k])


@pytest.mark.parametrize("task", [Melodies(), Stream()])
def test_finite_data_and_sequences_that_go_on_train_alike_in_both_engines(task):
    sizes, chunk = Sizes(7, 5, 7), task.chunk(SEEDS, torch.arange(6), batch=4)
    theta = torch.randn(3, sizes.P, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) / 3
    ends = []
    for engine in (reference, batched):
        network = Parameters(theta.clone(), sizes)
        given = {"sigma": Tanh(), "loss": task.loss, "algorithm": rnnlab.Algorithm(0.5)}
        trace = engine.sgd(network, chunk, **given)
        ends.append(torch.cat((network.theta.flatten(), trace.loss.flatten())))
    torch.testing.assert_close(*ends, rtol=1e-10, atol=1e-10)
