"""What a user sees who passes a wrong shape or dtype, without the type checks that the other tests run under."""

import inspect
import json
import subprocess
import sys
from pathlib import Path

import pytest

import rnnlab

ROOT = Path(__file__).parents[1]

SETTING = """
import json, sys
import numpy as np
import torch
import rnnlab
from rnnlab import sweeps
from rnnlab.dynamics.jacobians import post_activation, pre_activation
from rnnlab.dynamics.maps import Network
from rnnlab.dynamics.settling import largest_exponent
from rnnlab.engine import batched, reference
from rnnlab.engine.cpu import fused as cpu

sizes = rnnlab.Sizes(inputs=6, units=5, outputs=4)
task = rnnlab.TemporalOrder(10)
seeds = torch.arange(2)
network = rnnlab.BasicTanh().parameters(sizes, [0, 1])
good = task.chunk(seeds, torch.arange(1), batch=3)[0]
whole = task.chunk(seeds, torch.arange(3), batch=3)
ones = torch.ones(2, dtype=torch.int64)
grid = {"init": {"a": rnnlab.BasicTanh()}, "algorithm": {"b": rnnlab.Algorithm()}, "length": [10]}

def assert_(held):
    assert held

def gradients(
    inputs=good.inputs, targets=good.targets, lengths=good.lengths, *, begins=None, cell=None, **given
):
    batch, own = rnnlab.Batch(inputs, targets, lengths, begins), rnnlab.Sizes(6, 5, 4, cell)
    theta = network if cell is None else rnnlab.Parameters.zeros(own, 2)
    for engine in (reference, batched):
        engine.gradients(theta, batch, **({"sigma": rnnlab.Tanh(), "loss": task.loss} | given))

def sgd(algorithm=rnnlab.Algorithm(), *, begins=None, cell=None, **given):
    chunk, given = task.chunk(seeds, torch.arange(1), batch=3), {"sigma": rnnlab.Tanh(), "loss": task.loss} | given
    chunk = rnnlab.Chunk(chunk.inputs, chunk.targets, chunk.lengths, begins)
    for engine in (reference, batched):
        own = rnnlab.Parameters.zeros(rnnlab.Sizes(6, 5, 4, cell), 2)
        engine.sgd(own, chunk, algorithm=algorithm, **given)

def map(W_rec=torch.eye(2), push=torch.zeros(2), sigma=rnnlab.Tanh()):
    Network(W_rec=W_rec, push=push, sigma=sigma)

def step(jacobian, *shape):
    jacobian(torch.zeros(2, 4, 4), torch.zeros(shape or (2, 4)), sigma=rnnlab.Tanh())

said = {}
for code in json.loads(sys.argv[1]):
    try:
        eval(code)
        said[code] = "no error"
    except Exception as error:
        said[code] = f"{type(error).__name__}: {error}"
print(json.dumps(said))
"""
CASES = {
    "batched.gradients(network, whole, sigma=rnnlab.Tanh(), loss=task.loss)": "ValueError: batch must be Batch, got",
    "cpu.gradients(network, whole, sigma=rnnlab.Tanh(), loss=task.loss)": "ValueError: batch must be Batch, got",
    "cpu.outputs(network, whole, sigma=rnnlab.Tanh(), loss=task.loss)": "ValueError: batch must be Batch, got",
    "rnnlab.gradients(network, whole, sigma=rnnlab.Tanh(), loss=task.loss)": "ValueError: batch must be Batch, got",
    "rnnlab.gradients(network, good, sigma=rnnlab.Tanh(), loss=rnnlab.Softmax)": "ValueError: loss must be a Loss,",
    "cpu.sgd(network, good, sigma=rnnlab.Tanh(), loss=task.loss, algorithm=rnnlab.Algorithm())": (
        "ValueError: chunk must be Chunk, got Batch"
    ),
    "network.to_torch('first')": "ValueError: m must be an integer, at least 0, got 'first'",
    "sweeps.grid(rnnlab.Spec(), length=[np.int64(20)]).sel(length=20)": "no error",
    "map()": "no error",
    "map(torch.zeros(2, 3))": "ValueError: W_rec must be finite numbers of a floating dtype and of shape (N, N), got",
    "map(torch.zeros(0, 0), torch.zeros(0))": "ValueError: W_rec must be finite numbers of a floating dtype and of sha",
    "map(torch.eye(3))": "ValueError: push must be finite numbers of a floating dtype and of shape (..., N) for the N ",
    "map(torch.eye(2).int())": "ValueError: W_rec must be finite numbers of a floating dtype and of shape (N, N), got",
    "map(push=torch.tensor(0.0))": "ValueError: push must be finite numbers of a floating dtype and of shape (..., N)",
    "map(sigma=rnnlab.Tanh)": "ValueError: sigma must be a Sigma, such as Tanh(), got <class 'rnnlab.network.cells.Tan",
    "map([[1.0]])": "ValueError: W_rec must be Tensor, got [[1.0]]",
    "gradients()": "no error",
    "gradients(inputs=good.inputs[:1])": "ValueError: inputs must have shape (members, T, B) for symbols",
    "gradients(inputs=good.inputs[..., None])": "ValueError: inputs must have shape (members, T, B) for symbols",
    "gradients(inputs=good.inputs[:, :0])": "ValueError: inputs must have shape",
    "gradients(inputs=good.inputs + 3)": "ValueError: inputs must be symbols from 0 to 5, got",
    "gradients(inputs=torch.zeros(2, 10, 3, 7))": "ValueError: inputs must have 6 channels, got 7",
    "gradients(targets=good.targets[:, :, :2])": "ValueError: targets must have shape (2, 1, 3), got (2, 1, 2)",
    "gradients(targets=good.targets + 4)": "ValueError: targets must be classes from 0 to 3, got",
    "gradients(targets=torch.zeros(2, 1, 3, 4))": "ValueError: targets must be classes (integers) for Softmax",
    "gradients(loss=rnnlab.SquaredError())": "ValueError: targets must be real numbers for SquaredError",
    "gradients(loss=rnnlab.Softmax(every_step=True))": "ValueError: targets must have shape (2, 10, 3), got (2, 1, 3)",
    "gradients(lengths=ones * 11)": "ValueError: lengths must hold 2 numbers of steps from 1 to 10, got [11, 11]",
    "gradients(lengths=ones * 0)": "ValueError: lengths must hold 2 numbers of steps from 1 to 10, got [0, 0]",
    "gradients(h_0=torch.zeros(2, 3, 4))": "ValueError: h_0 must have shape (2, 3, 5), got (2, 3, 4)",
    "gradients(cell=rnnlab.LSTM())": "ValueError: sigma must be None, since the sizes say LSTM(forget=True, ",
    "gradients(sigma=None)": "ValueError: sigma must be the simple cell's non-linearity, got None",
    "gradients(sigma=None, cell=rnnlab.LSTM())": "no error",
    "gradients(sigma=None, cell=rnnlab.Leaky(0.5, rnnlab.Sigmoid()))": "no error",
    "gradients(sigma=None, cell=rnnlab.LSTM(), omega=rnnlab.Code())": "ValueError: omega must be None for a cell other "
    "than the simple one, got Code(bound=1e-20)",
    "gradients(sigma=None, cell=rnnlab.Leaky(), omega=rnnlab.Eq9())": "ValueError: omega must be None for a cell other",
    "gradients(sigma=None, cell=rnnlab.Simple(), omega=rnnlab.Code())": "no error",
    "gradients(sigma=None, cell=rnnlab.LSTM(), h_0=torch.zeros(2, 3, 5))": "ValueError: h_0 must have shape (2, 3, 10)",
    "gradients(lengths=torch.full((2, 3), 10))": "no error",
    "gradients(lengths=torch.full((2, 4), 10))": "ValueError: lengths must have shape (2,) or (2, 3), on the CPU, got",
    "gradients(lengths=torch.tensor([[1, 0, 1]] * 2))": "ValueError: lengths must hold 2 numbers of steps from 1 to 10",
    "gradients(begins=torch.ones(2, 2).bool())": "ValueError: begins must have shape (2, 3), on the CPU, got (2, 2), c",
    "gradients(begins=torch.ones(2, 3))": "ValueError: begins must be of dtype bool, got torch.float32",
    "gradients(begins=[True])": "ValueError: begins must be a tensor of real numbers, got [True]",
    "sgd()": "no error",
    "sgd(begins=torch.ones(1, 2, 3).bool())": "no error",
    "sgd(begins=torch.ones(1, 2, 1).bool())": "ValueError: begins must have shape (1, 2, 3), on the CPU, got (1, 2, 1)",
    "sgd(rnnlab.Algorithm(noise=0.1))": "ValueError: seeds must be given where there is noise, got noise=0.1",
    "sgd(rnnlab.Algorithm(noise=0.1), seeds=seeds)": "no error",
    "sgd(rnnlab.Algorithm(noise=0.1), seeds=seeds[:1])": "ValueError: seeds must be a tensor of 2 seeds, one for each "
    "member, in int64, got torch.int64 of shape (1,)",
    "sgd(rnnlab.Algorithm(noise=0.1), seeds=[0, 1])": "ValueError: seeds must be a tensor of 2 seeds, one for each",
    "sgd(rnnlab.Algorithm(noise=0.1), seeds=seeds.int())": "ValueError: seeds must be a tensor of 2 seeds, one for eac",
    "sgd(rnnlab.Algorithm(frozen=('b', 'W_rek')))": "ValueError: frozen must name parameters, of ['W_rec', 'W_in', 'b'",
    "sgd(rnnlab.Algorithm(frozen=('h_0',)))": "ValueError: frozen must name parameters, of ['W_rec', 'W_in', 'b', 'W_o",
    "sgd(rnnlab.Algorithm(frozen=('h_0',)), sigma=None, cell=rnnlab.LSTM(learned_start=True))": "no error",
    "sgd(rnnlab.Algorithm(penalties=(rnnlab.L2(0.1, ('c',)),)))": "ValueError: of must name parameters, of ['W_rec', '",
    "sgd(rnnlab.Algorithm(omega=rnnlab.Code()), sigma=None, cell=rnnlab.LSTM())": "ValueError: omega must be None for",
    "sgd(rnnlab.AdamW(), state={})": "ValueError: state must be as it began, with 'first_moment' of shape (2, 84), got",
    "sgd(begins=torch.ones(1, 2, 3).bool(), state={'h': ones})": "ValueError: state must be as it began, with 'h' of s",
    "sgd(begins=torch.ones(1, 2, 3).bool(), state={})": "no error",
    "rnnlab.Algorithm(penalties=rnnlab.L2(0.1))": "ValueError: penalties must be a tuple of penalties, such as (L2(0.0",
    "rnnlab.Algorithm(penalties=(rnnlab.L2(0.1), 3))": "ValueError: penalties[1] must be a Penalty, such as L2(0.01), ",
    "rnnlab.Algorithm(frozen='b')": "ValueError: frozen must be a tuple of names of parameters, such as ('b', 'b_out')",
    "assert_(rnnlab.AdamW(penalties=[], noise=0, frozen=[]) == rnnlab.AdamW())": "no error",
    "assert_(rnnlab.Algorithm(frozen=['b', 'W_in', 'b']).frozen == ('W_in', 'b'))": "no error",
    "rnnlab.Algorithm(noise=-0.1)": "ValueError: noise must be a finite number, at least 0, got -0.1",
    "rnnlab.HessianFree(damping=0)": "ValueError: damping must be a positive, finite number, got 0",
    "rnnlab.HessianFree(curvature=0)": "ValueError: curvature must be a positive integer, got 0",
    "rnnlab.Readout(0)": "ValueError: ridge must be a positive, finite number, got 0",
    "rnnlab.AdamW(beta1=1)": "ValueError: beta1 must be a number from 0 to below 1, got 1",
    "rnnlab.AdamW(beta2=-0.5)": "ValueError: beta2 must be a number from 0 to below 1, got -0.5",
    "rnnlab.AdamW(eps=0)": "ValueError: eps must be a positive, finite number, got 0",
    "rnnlab.L1(0.1, of='W_rec')": "ValueError: of must be a tuple of names of parameters, such as ('W_rec',), got 'W_r",
    "rnnlab.L1(0.1, of=())": "ValueError: of must be a tuple of names of parameters, such as ('W_rec',), got ()",
    "rnnlab.LargestSingularValue(0)": "ValueError: most must be a positive, finite number, got 0",
    "rnnlab.Leaky(0)": "ValueError: leak must be a positive number, at most 1, got 0",
    "rnnlab.Leaky(1.5)": "ValueError: leak must be a positive number, at most 1, got 1.5",
    "rnnlab.Leaky(0.5, 'tanh')": "ValueError: sigma must be a Sigma, such as Tanh(), got 'tanh'",
    "rnnlab.LSTM(forget=1)": "ValueError: forget must be True or False, got 1",
    "rnnlab.LSTM(forget_bias='1')": "ValueError: forget_bias must be a finite number, got '1'",
    "rnnlab.Sizes(6, 5, 4, rnnlab.LSTM)": "ValueError: cell must be a Cell, such as LSTM() or None, got <class 'rnnlab",
    "rnnlab.Sizes(6, 5, 4, rnnlab.Tanh())": "ValueError: cell must be a Cell, such as LSTM() or None, got Tanh()",
    "rnnlab.Softmax(over_steps='max')": "ValueError: over_steps must be 'mean' or 'sum', got 'max'",
    "rnnlab.Bernoulli(every_step=1)": "ValueError: every_step must be True or False, got 1",
    "rnnlab.SmartTanh().parameters(rnnlab.Sizes(6, 5, 4, rnnlab.LSTM()), [0])": "ValueError: init must be another for",
    "rnnlab.Parameters(torch.zeros(2, 7), sizes)": "ValueError: theta must have shape (members, 84)",
    "rnnlab.Parameters(torch.zeros(2, 84, dtype=torch.int64), sizes)": "ValueError: theta must be of a floating dtype",
    "rnnlab.Sizes(6, 0, 4)": "ValueError: units must be a positive integer, got 0",
    "rnnlab.Sizes(6, 2.5, 4)": "ValueError: units must be a positive integer, got 2.5",
    "rnnlab.TemporalOrder('50')": "ValueError: length must be an integer or a pair",
    "rnnlab.TemporalOrder(10.0)": "ValueError: length must be an integer or a pair",
    "rnnlab.Norm('1')": "ValueError: threshold must be a positive, finite number, got '1'",
    "rnnlab.Constant('4')": "ValueError: alpha must be a finite number, at least 0, got '4'",
    "rnnlab.Algorithm(learning_rate='0.1')": "ValueError: learning_rate must be a positive, finite number, got '0.1'",
    "rnnlab.Spec(updates='many')": "ValueError: updates must be a positive integer, got 'many'",
    "rnnlab.Spec(task='temporal order')": "ValueError: task must be a Task, such as TemporalOrder(50), got 'temporal",
    "rnnlab.Spec(init='smart tanh')": "ValueError: init must be an Init, such as SmartTanh(), got 'smart tanh'",
    "rnnlab.Spec(init=rnnlab.SmartTanh)": "ValueError: init must be an Init, such as SmartTanh(), got <class 'rnnlab",
    "rnnlab.Spec(algorithm=3)": "ValueError: algorithm must be a Method, such as Algorithm.named('MSGD-CR'), got 3",
    "rnnlab.Spec(algorithm='MSGD-X')": "ValueError: algorithm must be one of ['MSGD', 'MSGD-C', 'MSGD-CR', 'MSGD-R']",
    "assert_(rnnlab.Spec(algorithm='MSGD-C').algorithm == rnnlab.Algorithm(clip=rnnlab.Norm(1.0)))": "no error",
    "assert_(rnnlab.Algorithm(alpha=4) == rnnlab.Algorithm(alpha=rnnlab.Constant(4.0)))": "no error",
    "rnnlab.Algorithm(alpha=-1)": "ValueError: alpha must be a finite number, at least 0, got -1",
    "rnnlab.Algorithm(alpha='4')": "ValueError: alpha must be a Schedule, such as Constant(4.0), got '4'",
    "rnnlab.Algorithm(alpha=lambda update: 4 / update)": "ValueError: alpha must be plain (numbers, words, None",
    "rnnlab.Algorithm(alpha=rnnlab.InverseTime)": "ValueError: alpha must be a Schedule, such as Constant(4.0), got <",
    "rnnlab.Algorithm(clip=1.0)": "ValueError: clip must be a Clip, such as Norm(1.0), got 1.0",
    "rnnlab.Algorithm(clip='Norm')": "ValueError: clip must be a Clip, such as Norm(1.0), got 'Norm'",
    "rnnlab.Algorithm(omega='Code')": "ValueError: omega must be an Omega, such as Code() or None, got 'Code'",
    "rnnlab.Norm(1.0, guard='Skip')": "ValueError: guard must be a Guard, such as Shrink() or None, got 'Skip'",
    "rnnlab.Norm(1.0, signal_threshold=2.0)": "ValueError: signal_threshold must be None, got 2.0",
    "rnnlab.NoClip(guard=rnnlab.Skip())": "ValueError: guard must be None, got Skip(limit=inf)",
    "largest_exponent(torch.eye(3)[None], torch.ones(1, 4, 3), sigma='tanh')": "ValueError: sigma must be a Sigma, ",
    "step(pre_activation)": "no error",
    "step(pre_activation, 3, 4)": "ValueError: h must be Float[Tensor, 'M *S N'], got torch.float32 of shape (3, 4)",
    "step(pre_activation, 2, 5)": "ValueError: h must be Float[Tensor, 'M *S N'], got torch.float32 of shape (2, 5)",
    "step(post_activation, 1, 4)": "ValueError: h must be Float[Tensor, 'M *S N'], got torch.float32 of shape (1, 4)",
    "step(post_activation, 4)": "ValueError: h must be Float[Tensor, 'M *S N'], got torch.float32 of shape (4,)",
    "rnnlab.Spec(task=rnnlab.TemporalOrder(2**27))": "ValueError: batch must be at most 2 at this length, got 20",
    "rnnlab.Spec(batch=10**9)": "ValueError: batch must be at most 5368709 at this length, got 1000000000",
    "sweeps.grid(rnnlab.Spec(), **(grid | {'init': rnnlab.INITS}))": "ValueError: init must be an Init, such as Smart",
    "assert_(sweeps.grid(rnnlab.Spec(), algorithm=['MSGD'])[0].item() == rnnlab.Spec(algorithm='MSGD'))": "no error",
    "sweeps.grid(rnnlab.Spec(), inits=rnnlab.INITS)": "ValueError: inits must lead to a field of a specification: Spec",
    "sweeps.grid(rnnlab.Spec(algorithm='MSGD'), threshold=[1.0])": "ValueError: threshold must lead to a field of a",
    "sweeps.run(rnnlab.Spec(), length=50)": "ValueError: length must be a sequence of values, or a dictionary of them",
    "rnnlab.train(rnnlab.Spec(), seeds='3')": "ValueError: seeds must be a count of at least 1 or a sequence",
    "rnnlab.train(rnnlab.Spec(), seeds=2.0)": "ValueError: seeds must be a count of at least 1 or a sequence",
    "rnnlab.train(rnnlab.Spec(), device='gpu')": "ValueError: device must be 'auto', 'cpu' or 'cuda', got 'gpu'",
    "rnnlab.Tahn": "AttributeError: module 'rnnlab' has no attribute 'Tahn'",
}


@pytest.fixture(scope="session")
def said():
    run = subprocess.run(
        [sys.executable, "-c", SETTING, json.dumps(list(CASES))], capture_output=True, text=True, check=True
    )
    return json.loads(run.stdout)


@pytest.mark.parametrize("code", CASES)
def test_a_wrong_argument_is_refused_by_name_with_what_came_and_what_is_allowed(code, said):
    assert said[code].startswith(CASES[code])


@pytest.fixture(scope="session")
def explored():
    run = subprocess.run(
        [sys.executable, "-m", "tests.refusals", "8"], capture_output=True, text=True, check=True, cwd=ROOT
    )
    return json.loads(run.stdout)


def test_whatever_hypothesis_draws_for_an_argument_is_refused_by_name(explored):
    assert explored["drawn"] > 1_500
    assert explored["wrong"] == {}


def test_no_argument_of_a_public_function_or_class_is_left_out(explored):
    held = {
        "Batch",
        "Chunk",
        "Gradients",
        "Trace",
        "Progress",
        "Event",
        "Networks",
    }  # what functions return, or hand on
    held |= {"Method"}  # a protocol
    public = {name: getattr(rnnlab, name) for name in rnnlab.__all__ if name not in held}
    taken = {
        f"{name}({argument})"
        for name, kind in public.items()
        if callable(kind)
        for argument in inspect.signature(kind).parameters
    }
    answered = {"check_task(task)"}  # whatever it is
    assert taken - set(explored["arguments"]) - answered == set()
    assert len(taken) > 60


def test_importing_the_package_alone_pulls_in_no_torch():
    code = "import sys, rnnlab, rnnlab.book.myst; print('torch' in sys.modules, rnnlab.TemporalOrder.name)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.split() == ["False", "temporal", "order"]
