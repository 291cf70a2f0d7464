"""One list of what the fused engines know: the compiled kernel and the GPU's kernels have no other."""

import ast
import re
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

import rnnlab
from rnnlab import (
    L2,
    LSTM,
    Algorithm,
    BasicTanh,
    Norm,
    Parameters,
    Percentile,
    Simple,
    Sizes,
    Softmax,
    Tanh,
    TemporalOrder,
)
from rnnlab.descent.clipping import Event
from rnnlab.engine import batched, cuda, known
from rnnlab.engine.choosing import choose
from rnnlab.engine.contract import Rules
from rnnlab.engine.cpu import fused as cpu
from rnnlab.engine.cpu import kernel
from rnnlab.engine.known import KNOWN

NAMES = {kind: [part.__name__ for part in parts] for kind, parts in KNOWN.items()}


def constants(kind):
    """Names of a kind's parts as C++ writes them."""
    snake = (re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).upper() for name in NAMES[kind])
    return [name.replace("NONE_TYPE", f"NO_{kind.upper()}") for name in snake]


def enumerated(kind):
    (found,) = re.findall(rf"enum {kind.capitalize()} {{ (.*) }};", kernel.SOURCE.read_text(encoding="utf8"))
    return found.split(", ")


@pytest.mark.parametrize("kind", [kind for kind in KNOWN if kind != "cell"])  # of which it has one
def test_the_compiled_kernel_numbers_the_parts_as_the_list_does(kind):
    assert enumerated(kind) == constants(kind)


def test_the_compiled_kernel_numbers_events_as_the_package_does():
    assert enumerated("event") == [event.name for event in Event]
    assert [*Event] == [*range(len(Event))]


def test_the_gpus_kernels_ask_for_no_part_by_a_name_that_is_not_in_the_list():
    asked = {kind: set() for kind in KNOWN}
    for path in Path(cuda.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            match node:
                case ast.Compare(left=ast.Attribute(attr=kind), comparators=[ast.Constant(value=str(name))]):
                    asked[kind].add(name)
                case ast.Attribute(value=ast.Name(id="plan"), attr="signal"):
                    asked["clip"].add("ElementwiseSignal")
    assert all(asked[kind] <= set(NAMES[kind]) for kind in KNOWN)
    for kind, names in asked.items():  # one may be what is left when all others were asked for
        assert len(names) >= len(NAMES[kind]) - 1, kind


def test_what_is_not_known_is_said_as_it_is_written_and_once(capsys, monkeypatch):
    monkeypatch.delenv("RNNLAB_BAR", raising=False)
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    given = {"loss": Softmax(), "device": torch.device("cpu")}

    @dataclass(frozen=True)
    class Mine(Tanh):
        slope: float = 0.25

    unknown = Algorithm(clip=Percentile(0.25), penalties=(L2(0.125),))
    for _ in range(2):
        assert choose(sigma=Tanh(), algorithm=unknown, sizes=Sizes(2, 3, 4), **given) is cpu
        assert choose(sigma=Mine(), algorithm=unknown, sizes=Sizes(2, 3, 4), **given) is batched
        assert (
            choose(sigma=None, algorithm=Algorithm(), sizes=Sizes(2, 3, 4, LSTM(learned_start=True)), **given)
            is batched
        )
        start = Sizes(2, 3, 4, Simple(Tanh(), learned_start=True))
        assert choose(sigma=None, algorithm=Algorithm(), sizes=start, **given) is batched
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 3
    assert said[0].endswith("Mine(slope=0.25)")
    assert said[1].endswith("does not know LSTM(forget=True, forget_bias=1.0, learned_start=True)")
    assert said[2].endswith("does not know Simple(sigma=Tanh(), learned_start=True)")


def test_a_threshold_that_is_positive_stays_so_in_the_kernels_dtype():
    told = known.settings(Rules(Simple(Tanh()), Softmax(), Algorithm(clip=Norm(1e-60))))["threshold"]
    assert torch.tensor(told, dtype=torch.float64).float() > 0


def test_gradients_are_those_of_any_layout():
    task = TemporalOrder(10)
    network = BasicTanh().parameters(Sizes(6, 5, 4), [0, 1])
    batch = task.chunk(torch.arange(2), torch.arange(1), batch=4)[0]
    other = Parameters(network.theta.mT.contiguous().mT, network.sizes)
    theta = [rnnlab.gradients(one, batch, sigma=Tanh(), loss=task.loss).theta for one in (network, other)]
    torch.testing.assert_close(*theta)
