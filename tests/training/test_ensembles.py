"""What one call of an engine is given: so many members, updates and steps as there is room for, worked out by hand."""

from types import ModuleType

import pytest
import torch

from rnnlab import bits
from rnnlab.descent.algorithm import Algorithm
from rnnlab.engine.contract import Trace
from rnnlab.network.inits import BasicTanh
from rnnlab.tasks.pathological import NoiselessMemorization, RandomPermutation, TemporalOrder
from rnnlab.tasks.task import Chunk
from rnnlab.training.ensembles import Ensemble, join, pick_device
from rnnlab.training.specs import Spec

# 16 MiB are for states in float32, 40 bytes a step of a sequence for batches, 2**32 products for a call.
CALLS = [
    # 4 * 20 * 50 * 50 bytes of states: 83 members a call, each of whose updates draws 40,000 bytes
    ({"units": 50, "batch": 20, "length": 50}, 2**30, 83, 300, [(83, 128), (83, 128), (83, 44)]),
    ({"units": 50, "batch": 20, "length": 50}, 2**30, 84, 128, [(42, 128), (42, 128)]),
    ({"units": 50, "batch": 20, "length": 50}, 2**30, 249, 1, [(83, 1), (83, 1), (83, 1)]),
    ({"units": 50, "batch": 20, "length": 50}, 2**30, 250, 1, [(62, 1), (63, 1), (63, 1), (62, 1)]),
    # 16 updates of each member are to fit into memory
    ({"units": 5, "batch": 20, "length": 50}, 10 * 640_000, 10, 20, [(10, 16), (10, 4)]),
    ({"units": 5, "batch": 20, "length": 50}, 10 * 640_000 - 1, 10, 40, [(5, 31), (5, 9), (5, 31), (5, 9)]),
    ({"units": 5, "batch": 20, "length": 50}, 5 * 40_000, 1, 7, [(1, 5), (1, 2)]),
    ({"units": 5, "batch": 20, "length": 50}, 1, 2, 2, [(1, 1), (1, 1), (1, 1), (1, 1)]),
    # 2**32 products are 23 updates of 20 * 100 * 300**2; states of 6 members fit
    ({"units": 300, "batch": 20, "length": 100}, 2**30, 7, 30, [(4, 23), (4, 7), (3, 23), (3, 7)]),
]


def blank(task, seeds, updates, *, batch, stream=0, steps=None):
    """Sequences of zeros, which take no room."""
    K, M, T = len(updates), len(seeds), task.longest
    window = len(range(T)[steps.start : steps.stop] if steps else range(T))
    zero = torch.zeros((), dtype=torch.uint8)
    S = T if task.loss.every_step else 1
    return Chunk(zero.expand(K, M, window, batch), zero.expand(K, M, S, batch), torch.full((K, M), T))


def ensemble(task, seeds, *, memory=2**30, **fields):
    spec = Spec(task=task, init=BasicTanh(), algorithm=Algorithm.named("MSGD"), **fields)
    return Ensemble(spec, seeds, device="cpu", memory=memory)


@pytest.fixture
def _blank(monkeypatch):
    for task in (TemporalOrder, RandomPermutation, NoiselessMemorization):
        monkeypatch.setattr(task, "chunk", blank)


@pytest.mark.usefixtures("_blank")
@pytest.mark.parametrize(("sizes", "memory", "members", "updates", "calls"), CALLS)
def test_a_call_trains_as_many_members_and_updates_as_there_is_room_for(sizes, memory, members, updates, calls):
    sizes = dict(sizes)
    made = ensemble(TemporalOrder(sizes.pop("length")), members, memory=memory, **sizes)
    seen, firsts = [], []

    def sgd(network, chunk, *, first_update, **_):
        K, M = chunk.lengths.shape
        assert network.members == M
        seen.append((M, K))
        firsts.append(first_update)
        zeros = torch.zeros(K, M)
        return Trace(zeros, zeros, zeros, zeros.to(torch.uint8))

    made.engine, made.update = ModuleType("noted"), 1000
    made.engine.sgd = sgd
    trace = made.advance(updates)
    assert seen == calls
    assert trace.loss.shape == (updates, members)
    assert made.update == 1000 + updates
    at = 1000
    for first, (_, K) in zip(firsts, calls, strict=True):
        assert first == at
        at = 1000 if at + K == 1000 + updates else at + K


class Streamed:
    """An engine that notes what it is asked, and answers class 1 in the first window and class 0 after it."""

    def __init__(self):
        self.seen = []

    def outputs(self, network, batch, *, h_0, **_):
        M, T, B = batch.inputs.shape
        assert batch.lengths.tolist() == [T] * M
        assert h_0 is None or h_0.eq(len(self.seen)).all()
        y = torch.zeros(M, batch.targets.shape[1], B, network.sizes.outputs)
        y[..., 1] = 1.0 if h_0 is None else -1.0
        self.seen.append((M, T) if h_0 is None else (M, T, "on"))
        return y, torch.full((M, B, network.sizes.units), float(len(self.seen)))


# A test of 1,000 sequences and 100 units takes 400,000 bytes of states a step: 41 steps of one member.
@pytest.mark.usefixtures("_blank")
@pytest.mark.parametrize(
    ("members", "length", "windows"),
    [
        (1, 41, [(1, 41)]),
        (1, 100, [(1, 41), (1, 41, "on"), (1, 18, "on")]),
        (2, 42, [(2, 20), (2, 20, "on"), (2, 2, "on")]),
        (41, 3, [(41, 1), (41, 1, "on"), (41, 1, "on")]),
        (42, 3, [(21, 1), (21, 1, "on"), (21, 1, "on")] * 2),
    ],
)
@pytest.mark.parametrize("every_step", [False, True])
def test_a_test_streams_through_windows_of_as_many_steps_as_there_is_room_for(members, length, windows, every_step):
    """Targets are class 0: an answer that is wrong in the first window counts with a loss at every step alone."""
    task = NoiselessMemorization(length - 2, 4, 1) if every_step else RandomPermutation(length)
    made = ensemble(task, members, units=100)
    made.engine = Streamed()
    error = made.errors(1_000)
    assert made.engine.seen == windows
    assert error.tolist() == [1.0 if every_step or length == 41 else 0.0] * members
    made.engine = Streamed()
    assert torch.equal(made.errors(3_000), error)
    assert len(made.engine.seen) == 3 * len(windows)


def test_the_number_of_a_test_is_that_of_the_check_and_the_last_of_an_odd_budget_has_its_own(monkeypatch):
    asked = []

    def noted(task, seeds, updates, *, stream=0, **given):
        asked.append((stream, *updates.tolist()))
        return blank(task, seeds, updates, stream=stream, **given)

    monkeypatch.setattr(TemporalOrder, "chunk", noted)
    made = ensemble(TemporalOrder(10), 1, units=2, check_every=10)
    for update, numbers in ((0, [0, 1]), (10, [2, 3]), (19, [4, 5]), (20, [4, 5]), (21, [6, 7])):
        made.update, made.engine = update, Streamed()
        asked.clear()
        made.errors(2_000, stream=bits.FRESH)
        assert list(dict.fromkeys(asked)) == [(bits.FRESH, number) for number in numbers]


def test_members_that_are_selected_are_copies_with_their_own_seeds():
    made = ensemble(TemporalOrder(10), [4, 9, 2], units=3)
    made.update = 7
    some = made.select([2, 0])
    assert (some.seeds, some.update) == ([2, 4], 7)
    assert torch.equal(some.parameters.theta, made.parameters.theta[[2, 0]])
    some.parameters.theta.zero_()
    assert made.parameters.theta.any(dim=1).all()
    assert torch.equal(made.select([0]).advance(3).loss, made.advance(3).loss[:, :1])
    for wrong in ([3], [-1]):
        with pytest.raises(ValueError, match="members must be from 0 to 2"):
            made.select(wrong)
    with pytest.raises(ValueError, match="members must be at least one"):
        made.select([]).advance(1)


def test_devices_are_called_by_name(monkeypatch):
    assert pick_device("cpu") == torch.device("cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert pick_device() == pick_device("cuda") == torch.device("cuda")
    assert pick_device("cuda:1") == torch.device("cuda:1")
    with pytest.raises(ValueError, match="PyTorch reaches 2 GPUs"):
        pick_device("cuda:2")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert pick_device() == torch.device("cpu")
    for name in ("meta", "tpu"):
        with pytest.raises(ValueError, match="device must be 'auto', 'cpu' or 'cuda'"):
            pick_device(name)
    with pytest.raises(ValueError, match="PyTorch reaches no GPU"):
        pick_device("cuda")


def test_traces_join_in_time_and_side_by_side():
    def trace(value, K, M):
        x = torch.full((K, M), float(value))
        return Trace(x, 10 * x, 100 * x, x.to(torch.uint8))

    later = join([trace(1, 2, 3), trace(2, 1, 3)], dim=0)
    assert later.norm.tolist() == [[10.0] * 3, [10.0] * 3, [20.0] * 3]
    assert join([trace(1, 2, 1), trace(2, 2, 2)], dim=1).events.tolist() == [[1, 2, 2]] * 2
