"""What engines take and refuse, at both sides of each limit; and which steps count, by hand."""

import inspect
import math
from dataclasses import dataclass, replace

import pytest
import torch

from rnnlab.descent.algorithm import Algorithm
from rnnlab.descent.clipping import Norm, Shrink
from rnnlab.descent.omega import Code, Eq9, Eq10AsPrinted
from rnnlab.descent.penalties import LargestSingularValue
from rnnlab.engine import batched, contract, reference
from rnnlab.engine.contract import Gradients, Rules, Trace, alive, check, counted
from rnnlab.network.cells import LSTM, Simple, Tanh
from rnnlab.network.losses import Softmax, SquaredError
from rnnlab.network.parameters import Parameters, Sizes
from rnnlab.tasks.task import Batch, Chunk
from tests.engine.test_gradients import ALL_ENGINES, random_case

M, T, B, I, N, O = 2, 4, 3, 5, 6, 2
NETWORK = Parameters.zeros(Sizes(I, N, O), M)
SYMBOLS, REAL = torch.zeros(M, T, B, dtype=torch.uint8), torch.zeros(M, T, B, I)
FULL = torch.full((M,), T)


def batch(inputs=SYMBOLS, targets=None, lengths=FULL):
    return Batch(inputs, torch.zeros(M, 1, B, dtype=torch.int64) if targets is None else targets, lengths)


def chunk_of(one, K=3):
    return Chunk(*(torch.stack([x] * K) for x in one.parts.values()))


LAST = Softmax()


def checked(held, loss=LAST, h_0=None):
    """Check it; without a loss, as what targets do not matter to."""
    check(NETWORK, held, Rules(Simple(Tanh()), loss or LAST, h_0=h_0), targets=loss is not None)


TAKEN = [
    (batch(), Softmax()),
    (batch(REAL), Softmax()),
    (batch(REAL.half()), Softmax()),
    (batch(SYMBOLS + I - 1), Softmax()),
    (batch(targets=torch.full((M, 1, B), O - 1)), Softmax()),
    (batch(targets=torch.zeros(M, T, B, dtype=torch.uint8)), Softmax(every_step=True)),
    (batch(targets=torch.zeros(M, 1, B, O)), SquaredError()),
    (batch(targets=torch.zeros(M, 1, B, O).half()), SquaredError()),
    (batch(lengths=torch.tensor([1, T])), Softmax()),
    (batch(lengths=torch.tensor([1, T - 1])), Softmax()),
    (batch(lengths=torch.tensor([0, T]), targets=torch.zeros(1)), None),
]
REFUSED = [
    (batch(SYMBOLS[:1]), Softmax(), "inputs must have shape"),
    (batch(SYMBOLS[:, :0]), Softmax(), "inputs must have shape"),
    (batch(SYMBOLS[0]), Softmax(), "inputs must have shape"),
    (batch(SYMBOLS[..., None]), Softmax(), "inputs must have shape"),
    (batch(REAL[..., 0]), Softmax(), "inputs must have shape"),
    (batch(REAL[..., :4]), Softmax(), "inputs must have 5 channels, got 4"),
    (batch(REAL.double()), Softmax(), "inputs must be of no wider dtype"),
    (batch(SYMBOLS + I), Softmax(), "inputs must be symbols from 0 to 4, got 5 to 5"),
    (batch(SYMBOLS.long() - 1), Softmax(), "inputs must be symbols from 0 to 4, got -1 to -1"),
    (batch(targets=torch.full((M, 1, B), O)), Softmax(), "targets must be classes from 0 to 1, got 2 to 2"),
    (batch(targets=torch.zeros(M, 1, B)), Softmax(), "targets must be classes"),
    (batch(targets=torch.zeros(M, T, B, dtype=torch.int64)), Softmax(), "targets must have shape"),
    (batch(), Softmax(every_step=True), "targets must have shape"),
    (batch(), SquaredError(), "targets must be real numbers"),
    (batch(targets=torch.zeros(M, 1, B, O + 1)), SquaredError(), "targets must have shape"),
    (batch(targets=torch.zeros(M, 1, B, O).double()), SquaredError(), "targets must be of no wider dtype"),
    (batch(lengths=torch.tensor([0, T])), Softmax(), "lengths must hold 2 numbers of steps from 1 to 4"),
    (batch(lengths=torch.tensor([T, T + 1])), Softmax(), "lengths must hold"),
    (batch(lengths=torch.tensor([-1, T])), None, "lengths must hold 2 numbers of steps from 0 to 4"),
    (batch(lengths=FULL[:1]), Softmax(), "lengths must have shape"),
]


@pytest.mark.parametrize(("one", "loss"), TAKEN)
def test_what_fits_the_networks_is_taken(one, loss):
    checked(one, loss)
    checked(chunk_of(one), loss)


@pytest.mark.parametrize(("one", "loss", "said"), REFUSED)
def test_what_does_not_fit_is_refused(one, loss, said):
    for held in (one, chunk_of(one)):
        with pytest.raises(ValueError, match=said):
            checked(held, loss)


def test_a_chunk_is_no_batch_and_a_batch_no_chunk():
    whole = chunk_of(batch())
    for held in (Batch(whole.inputs, whole.targets, FULL), Chunk(SYMBOLS, batch().targets, FULL[None])):
        with pytest.raises(ValueError, match="inputs must have shape"):
            checked(held)


def test_states_to_start_from_are_one_for_each_sequence_and_unit():
    checked(batch(), h_0=torch.zeros(M, B, N).half())
    for wrong in ((1, B, N), (M, B, N + 1), (M, N)):
        with pytest.raises(ValueError, match="h_0 must have shape"):
            checked(batch(), h_0=torch.zeros(wrong))


def test_as_many_pairs_of_a_step_and_a_sequence_as_can_be_numbered_are_taken(monkeypatch):
    assert contract.LARGEST == 2**30
    monkeypatch.setattr(contract, "LARGEST", T * B)
    checked(batch())
    monkeypatch.setattr(contract, "LARGEST", T * B - 1)
    with pytest.raises(ValueError, match="inputs must have at most 11 pairs"):
        checked(batch())


MOST, LEAST = torch.finfo(torch.float32).max, 2.0**-126 / 2.0**-23  # the smallest normal number over the precision
BEYOND = math.nextafter(MOST, math.inf)


@pytest.mark.parametrize(
    ("at_the_limit", "beyond", "named"),
    [
        (Algorithm(learning_rate=MOST), Algorithm(learning_rate=BEYOND), "learning_rate must be at most"),
        (Algorithm(clip=Norm(1.0, Shrink(MOST))), Algorithm(clip=Norm(1.0, Shrink(BEYOND))), "factor must be at most"),
        (Algorithm(omega=Code(LEAST)), Algorithm(omega=Code(LEAST * (1 - 2**-50))), "omega's bound must be at least"),
    ],
)
def test_numbers_of_an_algorithm_are_those_that_the_dtype_holds(at_the_limit, beyond, named):
    chunk, given = chunk_of(batch()), {"sigma": Tanh(), "loss": Softmax()}
    batched.sgd(NETWORK.clone(), chunk, algorithm=at_the_limit, **given)
    with pytest.raises(ValueError, match=named):
        batched.sgd(NETWORK.clone(), chunk, algorithm=beyond, **given)
    batched.sgd(NETWORK.to(torch.float64), chunk, algorithm=beyond, **given)


@pytest.mark.parametrize("sign", [1, -1])
def test_a_weight_of_omega_is_one_that_the_dtype_holds(sign):
    given = {"sigma": Tanh(), "loss": Softmax(), "omega": Code()}
    batched.gradients(NETWORK, batch(), alpha=sign * MOST, **given)
    with pytest.raises(ValueError, match="alpha must be at most"):
        batched.gradients(NETWORK, batch(), alpha=sign * BEYOND, **given)


def test_steps_within_a_length_are_alive_and_all_of_them_count_with_a_loss_at_every_step():
    lengths = torch.tensor([1, 3, 0])
    rows = [[True, False, False], [True, True, True], [False, False, False]]
    assert alive(lengths, 3)[..., 0].tolist() == rows
    assert alive(torch.tensor([[1, 2]]), 3).tolist() == [[[True, True], [False, True], [False, False]]]
    every = Batch(torch.zeros(3, 3, 2, dtype=torch.uint8), torch.zeros(3, 3, 2, dtype=torch.uint8), lengths)
    assert counted(every, Softmax(every_step=True)).tolist() == [[[x, x] for x in row] for row in rows]
    last = Batch(every.inputs, every.targets[:, :1], lengths)
    assert counted(last, Softmax()).tolist() == [[[True, True]]] * 3


@pytest.mark.parametrize("kind", [Gradients, Trace])
def test_what_an_engine_returns_cannot_be_written_to(kind):
    x = torch.zeros(1, 1)
    fields = {"theta": x, "states": torch.zeros(1, 1, 1, 1), "delta": torch.zeros(1, 1, 1, 1), "loss": x[0]}
    made = (
        Gradients(**fields, omega=x[0], outputs=torch.zeros(1, 1, 1, 1))
        if kind is Gradients
        else Trace(x, x, x, x.to(torch.uint8))
    )
    with pytest.raises(AttributeError):
        made.loss = x


def test_an_update_is_captured_as_a_graph_on_a_gpu_alone_from_eight_updates_on():
    class There:
        is_cuda = True

    captured = inspect.unwrap(batched._captured)  # without the checks of types that are on under the tests
    chunks = [chunk_of(batch(), K) for K in (7, 8)]
    plain = Rules(Simple(), LAST)
    assert [captured(chunk, plain, There()) for chunk in chunks] == [False, True]
    assert not captured(chunks[1], plain, torch.zeros(1))
    begins = torch.zeros(8, M, B, dtype=torch.bool)
    assert not captured(replace(chunks[1], begins=begins), plain, There())
    for other in (Algorithm(noise=1.0), Algorithm(penalties=(LargestSingularValue(1.0),))):
        assert not captured(chunks[1], replace(plain, algorithm=other), There())
    assert not captured(chunks[1], replace(plain, cell=LSTM()), There())


ASKED: list[int] = []


@dataclass(frozen=True)
class Noted:
    """A schedule that notes which updates it is asked about."""

    def __call__(self, update: int) -> float:
        ASKED.append(update)
        return 1.0


@pytest.mark.parametrize(("engine", "dtype"), ALL_ENGINES)
def test_a_schedule_is_asked_for_the_updates_of_the_chunk(engine, dtype):
    ASKED.clear()
    algorithm = Algorithm(omega=Code(), alpha=Noted())
    given = {"sigma": Tanh(), "loss": Softmax(), "algorithm": algorithm}
    engine.sgd(NETWORK.to(dtype), chunk_of(batch()), first_update=5, **given)
    assert ASKED == [5, 6, 7]


@pytest.mark.parametrize("T", [1, 2, 3])
@pytest.mark.parametrize("form", [None, Code(0.01), Eq9(0.01), Eq10AsPrinted(0.01)])
def test_few_steps_and_a_bound_that_many_pairs_are_below_are_as_by_autograd(form, T):
    loss = Softmax(every_step=True)
    network, some = random_case(2, T, 3, 5, loss=loss)
    given = {"sigma": Tanh(), "loss": loss, "omega": form, "alpha": 1.0}
    want, got = (engine.gradients(network, some, **given) for engine in (reference, batched))
    d2 = want.delta[:, 1:].square().sum(dim=-1)
    assert T == 1 or (bool((d2 < 0.01).any()) and bool((d2 > 0.01).any()))
    for name in ("theta", "delta", "omega", "loss"):
        torch.testing.assert_close(getattr(got, name), getattr(want, name), rtol=1e-10, atol=1e-12)
