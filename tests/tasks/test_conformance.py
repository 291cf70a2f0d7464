"""Tasks held to their contract: each that breaks one sentence of it is told so, and refused in training."""

import re
from dataclasses import dataclass, make_dataclass, replace
from typing import ClassVar

import pytest
import torch

import rnnlab
from rnnlab import bits
from rnnlab.network.losses import Softmax, SquaredError
from rnnlab.tasks.task import Chunk, Draws, Task
from rnnlab.training.ensembles import PARCEL, Ensemble
from rnnlab.training.specs import Spec

OURS = [
    rnnlab.TemporalOrder(),
    rnnlab.TemporalOrder(10),
    rnnlab.TemporalOrder((10, 30), second_window="v2"),
    rnnlab.ThreeBitTemporalOrder((10, 12)),
    rnnlab.Addition(10),
    rnnlab.Addition((10, 40)),
    rnnlab.Multiplication(30),
    rnnlab.RandomPermutation(1),
    rnnlab.RandomPermutation((1, 30)),
    rnnlab.NoiselessMemorization(1, 2, 1),
    rnnlab.NoiselessMemorization((1, 9), 5, 10, trigger="before"),
    rnnlab.NoiselessMemorization(5, 2, 5, every_pattern=True),
    rnnlab.NoiselessMemorization((5, 9), 128, 70, every_pattern=True),
]


@pytest.mark.parametrize("task", OURS, ids=str)
def test_nothing_is_wrong_with_our_own_tasks(task):
    assert rnnlab.check_task(task) == []
    assert rnnlab.check_task(task, batch=1) == []


@dataclass(frozen=True)
class First(Task):
    """A user's: say which of three symbols came first."""

    length: int | tuple[int, int] = 12
    name: ClassVar[str] = "first symbol"
    loss: ClassVar = Softmax()
    symbols: ClassVar[bool] = True
    shortest: ClassVar[int] = 1
    inputs: ClassVar[int] = 3
    outputs: ClassVar[int] = 3

    def draw(self, draws, steps):
        lengths = draws.lengths(self.length)
        window = steps or range(int(lengths.max()))
        return Chunk(draws.symbols(self.inputs, window), draws.symbols(self.inputs, range(1)), lengths.cpu())


@dataclass(frozen=True)
class Sum(First):
    """Another: the mean of many numbers, and its square."""

    loss: ClassVar = SquaredError()
    symbols: ClassVar[bool] = False
    inputs: ClassVar[int] = 1
    outputs: ClassVar[int] = 2

    def draw(self, draws, steps):
        lengths = draws.lengths(self.length)
        x = draws.uniforms(range(int(lengths.max())))
        live = torch.arange(x.shape[2]) < lengths[..., None]
        mean = (x * live[..., None]).sum(dim=2) / lengths[..., None]
        if steps is not None:  # the whole is drawn, and cut: slower, and right
            x = x[:, :, steps.start : steps.stop]
        return Chunk(x[..., None], torch.stack((mean, mean**2), dim=-1)[:, :, None], lengths.cpu())


@dataclass(frozen=True)
class Repeat(First):
    """A third: say every symbol as it comes."""

    loss: ClassVar = Softmax(every_step=True)

    def draw(self, draws, steps):
        chunk = super().draw(draws, steps)
        return replace(chunk, targets=draws.symbols(self.inputs, range(int(chunk.lengths.max()))))


def other(base, draw=None, *, length=12, **said):
    """A task that draws or says otherwise."""
    said |= {"draw": draw or base.draw}
    return make_dataclass("Other", [], bases=(base,), frozen=True, namespace=said)(length)


def changed(base=First, **said):
    """Have a function of the chunk, the draws and the steps change what a task draws."""

    def wrap(change):
        return other(base, lambda task, draws, steps: change(base.draw(task, draws, steps), draws, steps), **said)

    return wrap


def of(draws, **kept):
    return Draws(**{name: getattr(draws, name) for name in ("seeds", "updates", "stream", "batch")} | kept)


def wide(dtype):
    return changed(inputs=300, outputs=300)(lambda c, d, s: replace(c, inputs=c.inputs.to(dtype)))


GOOD = [First(), First(1), First((1, 9)), Sum(), Sum((3, 9)), Repeat(), Repeat((1, 9))]
GOOD += [wide(dtype) for dtype in (torch.int16, torch.int32, torch.int64)]


@pytest.mark.parametrize("task", GOOD, ids=str)
def test_a_users_task_that_keeps_its_contract_trains_and_is_tested(task):
    assert rnnlab.check_task(task) == []
    ensemble = Ensemble(spec_of(task), 2, device="cpu")
    ensemble.advance(3)
    assert ensemble.errors(1_000).shape == (2,)


def spec_of(task):
    return Spec(task=task, units=4, batch=3, algorithm=rnnlab.Algorithm())


# What is wrong with each, as `check_task` says it, and as training does, which sees less.
DRAWN_WRONG = {
    "ignores the window": (
        other(First, lambda task, draws, steps: First.draw(task, draws, None)),
        r"for steps=range\(0, 6\), inputs must have shape \(9, 3, 6, 4\), got \(9, 3, 12, 4\)",
        r"for steps=range\(6, 10\), inputs must have shape \(1, 1, 4, 3\), got \(1, 1, 12, 3\)",
    ),
    "counts a window's steps from 0": (
        other(First, lambda task, draws, steps: First.draw(task, draws, steps and range(len(steps)))),
        r"for steps=range\(6, 10\), inputs are not those of the whole, whose steps are counted from 0",
        r"for steps=range\(6, 10\), inputs, drawn alone",
    ),
    "cuts the targets to a window": (
        changed(Repeat)(lambda c, d, s: replace(c, targets=c.targets[:, :, s.start : s.stop]) if s else c),
        r"for steps=range\(0, 6\), targets must have shape",
        r"for steps=range\(6, 10\), targets must have shape \(1, 1, 12, 3\)",
    ),
    "asks for something else in a window": (
        changed()(lambda c, d, s: replace(c, targets=(c.targets + (s is not None)) % 3)),
        "for steps=.* targets are not those of the whole",
        "for steps=.* targets, drawn alone",
    ),
    "draws from torch's own generator": (
        changed()(lambda c, d, s: replace(c, inputs=torch.randint(0, 3, c.inputs.shape))),
        "inputs are others when they are drawn again",
        "for steps=.* inputs, drawn alone for one seed and update, are not those that were drawn with others",
    ),
    "looks at who else is drawn": (
        changed()(lambda c, d, s: replace(c, inputs=(c.inputs + len(d.seeds)) % 3)),
        "inputs of a seed and an update are others when these are drawn alone",
        "for steps=.* inputs, drawn alone",
    ),
    "draws other lengths in other company": (
        changed(length=(5, 13))(lambda c, d, s: replace(c, lengths=c.lengths.clamp(max=4 + len(d.updates)))),
        "lengths of a seed and an update are others",
        "for steps=.* lengths, drawn alone",
    ),
    "draws the same for all seeds": (
        other(First, lambda task, draws, steps: First.draw(task, of(draws, seeds=0 * draws.seeds), steps)),
        "other seeds must draw other sequences",
        None,
    ),
    "draws the same at all updates": (
        other(First, lambda task, draws, steps: First.draw(task, of(draws, updates=0 * draws.updates), steps)),
        "other updates must draw other sequences",
        None,
    ),
    "takes 32 bits of a seed": (
        other(First, lambda task, draws, steps: First.draw(task, of(draws, seeds=draws.seeds % 2), steps)),
        "other seeds must draw other sequences",
        None,
    ),
    "tests on what it trains on": (
        other(First, lambda task, draws, steps: First.draw(task, of(draws, stream=0), steps)),
        r"other streams \(bits.TRAIN, CHECK and TEST\) must draw other sequences",
        None,
    ),
    "has a symbol too many": (
        changed()(lambda c, d, s: replace(c, inputs=c.inputs + 1)),
        "inputs must be symbols from 0 to 2, got 1 to 3",
        "inputs must be symbols from 0 to 2, got 1 to 3",
    ),
    "has a class too many": (
        changed(outputs=2)(lambda c, d, s: c),
        "targets must be classes from 0 to 1, got 0 to 2",
        "targets must be classes from 0 to 1, got",
    ),
    "puts 300 symbols into bytes": (
        wide(torch.uint8),
        "inputs must be of a type that holds symbols up to 299, got torch.uint8",
        "inputs must be of a type that holds symbols up to 299, got torch.uint8",
    ),
    "answers at every step where the last is read": (
        changed(Repeat, loss=Softmax())(lambda c, d, s: c),
        r"targets must have shape \(9, 3, 1, 4\), got \(9, 3, 12, 4\)",
        r"targets must have shape \(3, 2, 1, 3\), got \(3, 2, 12, 3\)",
    ),
    "asks a softmax for numbers": (
        changed()(lambda c, d, s: replace(c, targets=c.targets.float())),
        "targets must be classes in uint8, int8, int16, int32 or int64, got torch.float32",
        "targets must be classes in uint8, int8, int16, int32 or int64, got torch.float32",
    ),
    "asks a squared error for classes": (
        changed(Sum)(lambda c, d, s: replace(c, targets=c.targets.long())),
        "targets must be real numbers in float32, float16 or bfloat16, got torch.int64",
        "targets must be real numbers in float32, float16 or bfloat16, got torch.int64",
    ),
    "gives numbers that networks would narrow": (
        changed(Sum)(lambda c, d, s: replace(c, inputs=c.inputs.double())),
        "inputs must be real numbers in float32, float16 or bfloat16, got torch.float64",
        "inputs must be real numbers in float32, float16 or bfloat16, got torch.float64",
    ),
    "gives infinite numbers": (
        changed(Sum)(lambda c, d, s: replace(c, inputs=-c.inputs.log() / 0)),
        r"inputs must be finite, got \d+ numbers that are not",
        "inputs must be finite",
    ),
    "gives numbers where it says symbols": (
        changed(Sum, symbols=True)(lambda c, d, s: c),
        r"inputs must have shape \(9, 3, 12, 4\), got \(9, 3, 12, 4, 1\)",
        "inputs must have shape",
    ),
    "swaps steps and sequences": (
        changed()(lambda c, d, s: replace(c, inputs=c.inputs.mT)),
        r"inputs must have shape \(9, 3, 12, 4\), got \(9, 3, 4, 12\)",
        r"inputs must have shape \(3, 2, 12, 3\), got \(3, 2, 3, 12\)",
    ),
    "is shorter than it says": (
        changed()(lambda c, d, s: replace(c, lengths=c.lengths - 1)),
        "lengths must be 12 steps, got 11 to 11",
        "lengths must be 12 steps",
    ),
    "has sequences of no step": (
        changed(length=(1, 4), longest=4)(lambda c, d, s: replace(c, lengths=c.lengths - 3)),
        "lengths must be 1 to 4 steps, got -2 to 0",
        "lengths must be 1 to 4 steps, got -",
    ),
    "has one length where a range is asked for": (
        changed(length=(8, 13))(lambda c, d, s: replace(c, lengths=0 * c.lengths + 9)),
        r"lengths must vary from minibatch to minibatch, as length=\(8, 13\) says, got 9",
        None,
    ),
    "returns no chunk": (
        changed()(lambda c, d, s: (c.inputs, c.targets, c.lengths)),
        "(draw must return a Chunk, got tuple|it raises .*Chunk)",  # the latter under the checks of these tests
        None,
    ),
    "has lengths in 32 bits": (
        changed()(lambda c, d, s: replace(c, lengths=c.lengths.int())),
        "it raises .*(int64|lengths)",
        None,
    ),
    "fails at a window": (changed()(lambda c, d, s: c if s is None else 1 / 0), "it raises ZeroDivisionError", None),
}


@pytest.mark.parametrize("kind", DRAWN_WRONG)
def test_what_is_wrong_with_what_a_task_draws_is_said_in_a_sentence(kind):
    task, sentence, refusal = DRAWN_WRONG[kind]
    said = rnnlab.check_task(task)
    assert any(re.match(sentence, s, re.DOTALL) for s in said)
    if refusal is not None:
        with pytest.raises(ValueError, match=f"task 'first symbol' breaks its contract: {refusal}"):
            Ensemble(spec_of(task), 2, device="cpu").advance(3)


SAID_WRONG = [
    (other(First, name=""), "name must be a name, got ''"),
    (other(First, symbols=1), "symbols must be True or False, got 1"),
    (other(First, inputs=0), "inputs must be a positive integer, got 0"),
    (other(First, outputs=None), "outputs must be a positive integer, got None"),
    (other(First, longest=2.5), "longest must be a positive integer, got 2.5"),
    (other(First, loss=Softmax), r"loss must be a Loss, such as Softmax\(\), got"),
    (other(First, length=0, __post_init__=lambda task: None), "length must be at least 1 steps"),
    (First, "it must be an instance of a subclass of rnnlab.tasks.task.Task, got <class"),
    ("temporal order", "it must be an instance of a subclass of rnnlab.tasks.task.Task, got 'temporal order'"),
]


@pytest.mark.parametrize(("task", "sentence"), SAID_WRONG)
def test_what_is_wrong_with_what_a_task_says_of_itself_is_said_in_a_sentence(task, sentence):
    assert any(re.match(sentence, said) for said in rnnlab.check_task(task))


def test_a_task_that_says_every_pattern_may_repeat_itself():
    same = changed()(lambda c, d, s: replace(c, inputs=0 * c.inputs, targets=0 * c.targets))
    assert [sentence.split(" must")[0] for sentence in rnnlab.check_task(same)] == [
        "other seeds",
        "other updates",
        "other streams (bits.TRAIN, CHECK and TEST)",
    ]
    repeated = changed(every_pattern=True)(lambda c, d, s: replace(c, inputs=0 * c.inputs, targets=0 * c.targets))
    assert rnnlab.check_task(repeated) == []


@pytest.mark.parametrize("kind", ["ignores the window", "counts a window's steps from 0"])
def test_a_network_that_is_tested_untrained_is_tested_on_what_the_task_says(kind):
    with pytest.raises(ValueError, match=r"breaks its contract: for steps=range\(6, 10\), inputs"):
        Ensemble(spec_of(DRAWN_WRONG[kind][0]), 2, device="cpu").errors(20)


def test_a_symbol_out_of_range_is_refused_in_whichever_update_it_comes():
    late = changed()(lambda c, d, s: replace(c, inputs=c.inputs + 5 * (d.updates == PARCEL + 1)[:, None, None, None]))
    ensemble = Ensemble(spec_of(late), 2, device="cpu")
    ensemble.advance(PARCEL)
    with pytest.raises(ValueError, match="inputs must be symbols from 0 to 2"):
        ensemble.advance(3)


def test_a_symbol_out_of_range_is_refused_in_whichever_window_of_a_test_it_comes(monkeypatch):
    monkeypatch.setattr("rnnlab.training.ensembles._HISTORY", 3 * 4 * 2 * 20 * 4)  # three steps at a time
    late = changed()(lambda c, d, s: replace(c, inputs=c.inputs + 5 * (s is not None and s.start >= 9)))
    with pytest.raises(ValueError, match="inputs must be symbols from 0 to 2"):
        Ensemble(spec_of(late), 2, device="cpu").errors(20)


def test_other_lengths_are_held_to_the_contract_too():
    """A task may draw well at the length that it is trained at, and not at another."""
    wrong = changed()(lambda c, d, s: replace(c, inputs=c.inputs + 5 * (int(c.lengths.max()) > 20)))
    ensemble = Ensemble(spec_of(wrong), 2, device="cpu")
    ensemble.advance(1)
    ensemble.errors(20)
    with pytest.raises(ValueError, match="inputs must be symbols from 0 to 2"):
        ensemble.errors(20, task=replace(wrong, length=30))


def test_a_task_is_drawn_once_more_and_then_no_more():
    asked = []
    task = changed()(lambda c, d, s: asked.append((len(d.updates), len(d.seeds), s)) or c)
    ensemble = Ensemble(spec_of(task), 5, device="cpu")
    for _ in range(3):
        ensemble.advance(2)
    ensemble.errors(20, stream=bits.TEST)
    assert asked[:4] == [(2, 5, None), (1, 1, range(6, 10)), (2, 5, None), (2, 5, None)]
    assert [draw[:2] for draw in asked[4:]] == [(1, 1), (1, 1), (1, 5)]  # whole, in windows, and the test
    ensemble.errors(20, stream=bits.TEST)
    assert len(asked) == 8


def test_a_task_that_draws_late_windows_wrongly_is_refused_when_it_is_tested_in_them(monkeypatch):
    monkeypatch.setattr("rnnlab.training.ensembles._HISTORY", 3 * 4 * 2 * 20 * 4)  # three steps at a time
    late = changed()(lambda c, d, s: replace(c, inputs=c.inputs.roll(1, 2)) if s and s.start >= 9 else c)
    ensemble = Ensemble(spec_of(late), 2, device="cpu")
    ensemble.advance(1)
    with pytest.raises(ValueError, match=r"breaks its contract: for steps=range\(9, 12\), inputs are not those of the"):
        ensemble.errors(20)
