"""What another library has told torch, of dtypes, devices or precision, changes no bit of what is computed."""

import hashlib
import itertools
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from rnnlab import Spec, train
from rnnlab.descent.algorithm import Algorithm
from rnnlab.descent.omega import Code, Eq9
from rnnlab.dynamics import backward
from rnnlab.dynamics.jacobians import log_norms, post_activation, trajectory
from rnnlab.dynamics.settling import largest_exponent, nearest, spread
from rnnlab.engine import batched, reference
from rnnlab.engine.cpu import fused as cpu
from rnnlab.network.cells import Tanh
from rnnlab.network.inits import BasicTanh, SmartTanh
from rnnlab.network.losses import Softmax, SquaredError
from rnnlab.tasks.pathological import Addition, NoiselessMemorization, RandomPermutation, TemporalOrder
from rnnlab.training import ensembles
from rnnlab.training.ensembles import along
from rnnlab.values import exactly
from tests.engine.test_gradients import random_case

TASKS = [TemporalOrder((10, 12)), Addition(10), NoiselessMemorization(2, 2, 2), RandomPermutation(4)]
LOSSES = [Softmax(), Softmax(every_step=True), SquaredError()]
CASES = [random_case(2, 4, 3, 5, loss=loss, mixed=True) for loss in LOSSES]
CASES += [random_case(2, 4, 3, 5, loss=Softmax(), symbols=False)]
ENGINES = [(reference, torch.float64), (batched, torch.float32), (cpu, torch.float32)]


def digest(*tensors):
    whole = hashlib.sha256()
    for x in tensors:
        assert x.device.type == "cpu"
        whole.update(f"{x.dtype} {tuple(x.shape)}".encode() + x.detach().contiguous().numpy().tobytes())
    return whole.hexdigest()


def trained(task, engine):
    algorithm = Algorithm.named("MSGD-CR", learning_rate=0.1)
    spec = Spec(
        task=task, init=SmartTanh(nonzeros=4), algorithm=algorithm, units=6, batch=4, updates=6, check_every=3,
        check_sequences=20, confirm_sequences=20, stop="never",
    )  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ensembles, "choose", lambda **_: engine)
        runs = train(spec, seeds=2, device="cpu")
    return [torch.from_numpy(runs[name].values) for name in ("theta", "loss", "norm", "omega", "rho", "error")]


def everything():
    """Digests of trainings, gradients, outputs and dynamics."""
    found = {}
    for engine, dtype in ENGINES:
        for n, (network, batch) in enumerate(CASES):
            loss = (*LOSSES, Softmax())[n]
            given, network = {"sigma": Tanh(), "loss": loss}, network.to(dtype)
            real = [x.to(dtype) if x.is_floating_point() else x for x in (batch.inputs, batch.targets)]
            batch = type(batch)(*real, batch.lengths)
            g = engine.gradients(network, batch, omega=Eq9(), alpha=0.5, **given)
            found[engine.__name__, "gradients", n] = digest(*vars(g).values())
            if engine is not reference:
                found[engine.__name__, "outputs", n] = digest(*engine.outputs(network, batch, **given))
    for engine, task in itertools.product((batched, cpu), TASKS):
        found[engine.__name__, task.name] = digest(*trained(task, engine))
    network, batch = CASES[-1]
    parts = backward.signal(network, batch, sigma=Tanh(), loss=Softmax(), omega=Code())
    found["signal"] = digest(*vars(parts).values(), parts.cosine, parts.kept)
    ensemble = ensembles.Ensemble(Spec(task=TASKS[0], units=5, batch=3), 2, device="cpu")
    for stop, sweep, norms in along(ensemble, [0, 2]):
        found["along", stop] = digest(sweep.ratio, norms)
    for dtype in (torch.float32, torch.float64):
        W = network.W_rec.to(dtype)
        push = network.b.to(dtype)[:, None, None].expand(2, 6, 1, 5)
        h = trajectory(W, push[:, :3, 0], push, sigma=Tanh())
        logs = log_norms(post_activation(W, h_t, sigma=Tanh()) for h_t in h.unbind(1))
        exponent = largest_exponent(W, h, sigma=Tanh())
        found["dynamics", dtype] = digest(h, logs, exponent, spread(h[:, :, :, None]), nearest(h[:, 0]))
    return found | {"drawn": digest(BasicTanh().parameters(network.sizes, [3]).theta)}


@pytest.fixture(scope="module")
def usual():
    return everything()


@pytest.fixture(params=["float64", "bfloat16", "float16", "meta", "medium", "mixed"])
def default(request, usual):
    """Another default: of dtypes, of devices, with one on which nothing can be computed, of products' precision."""
    dtype = torch.get_default_dtype()
    if request.param == "meta":
        torch.set_default_device("meta")
    elif request.param == "medium":
        torch.set_float32_matmul_precision("medium")
    elif request.param == "mixed":
        torch.set_autocast_enabled("cpu", True)
    else:
        torch.set_default_dtype(getattr(torch, request.param))
    yield request.param
    torch.set_float32_matmul_precision("highest")
    torch.set_autocast_enabled("cpu", False)
    torch.set_default_device(None)
    torch.set_default_dtype(dtype)


def test_no_default_of_torchs_changes_a_bit(default, usual):
    assert everything() == usual


def test_a_call_that_ends_leaves_those_of_other_threads_exact():
    """PyTorch has one switch for a process."""
    begun, end = ([threading.Event() for _ in range(2)] for _ in range(2))

    @exactly
    def wait(i):
        begun[i].set()
        assert end[i].wait(60)
        return torch.get_float32_matmul_precision()

    torch.set_float32_matmul_precision("high")
    try:
        with ThreadPoolExecutor(2) as pool:
            calls = []
            for i in range(2):
                calls.append(pool.submit(wait, i))
                assert begun[i].wait(60)
            for i in range(2):
                assert torch.get_float32_matmul_precision() == "highest"
                end[i].set()
                assert calls[i].result() == "highest"
        assert torch.get_float32_matmul_precision() == "high"
    finally:
        torch.set_float32_matmul_precision("highest")
