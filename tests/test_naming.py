"""Names of specifications: equal for equal ones, different for a part that was edited, and found again by the part."""

import importlib.util
import subprocess
import sys
import textwrap
from dataclasses import dataclass, is_dataclass
from pathlib import Path
from typing import ClassVar

import pytest
import torch

import rnnlab
from rnnlab import naming, statistics, sweeps
from rnnlab.descent.adaptive import Normalized, Percentile, PerMatrix, UnitWise, ZScore
from rnnlab.descent.algorithm import AdamW, Algorithm
from rnnlab.descent.clipping import Elementwise, ElementwiseSignal, Skip
from rnnlab.descent.omega import Eq9, Eq10AsPrinted
from rnnlab.descent.penalties import L1, L2, LargestSingularValue
from rnnlab.descent.schedules import InverseTime
from rnnlab.naming import UnnamedError
from rnnlab.network.inits import SigmoidInit, SmartTanh
from rnnlab.sweeps import axes
from rnnlab.tasks.pathological import (
    Addition,
    Multiplication,
    NoiselessMemorization,
    RandomPermutation,
    TemporalOrder,
    ThreeBitTemporalOrder,
)
from rnnlab.training.ensembles import Ensemble
from rnnlab.training.loop import train
from rnnlab.training.specs import Spec
from rnnlab.training.store import Store

ROOT = Path(__file__).parents[1]
TINY = Spec(
    task=TemporalOrder(10),
    units=4,
    batch=3,
    updates=2,
    check_every=1,
    check_sequences=5,
    confirm_sequences=5,
    stop="never",
)

# As they were when the first results were stored; a line is never edited.
GOLDEN = {
    "dd49c099ee459d1a": Spec(),
    "58bb16c6dbf2eec5": Spec(
        task=NoiselessMemorization(10, every_pattern=True),
        init=SigmoidInit(),
        algorithm=Algorithm.named("MSGD"),
        stop="never",
    ),
    "5a2089869b5232ae": Spec(
        task=Addition((10, 20)),
        init=SmartTanh(),
        algorithm=Algorithm(clip=Elementwise(2.0, Skip()), omega=Eq9(), alpha=InverseTime(2.0, 10)),
    ),
    "e5f613ab7e3f28b1": Spec(
        task=ThreeBitTemporalOrder(20), algorithm=Algorithm(clip=ElementwiseSignal(0.5, None), omega=Eq10AsPrinted())
    ),
    "766a5c3c32293f20": Spec(
        task=RandomPermutation(12), algorithm=Algorithm.named("MSGD-C", threshold=0.25, learning_rate=0.001)
    ),
    "2a93ddd991d06786": Spec(task=Multiplication(30)),
    "90bfb4776a2e1e7d": Spec(algorithm=Algorithm(clip=PerMatrix(2.0))),
    "480c5c070cc9e027": Spec(algorithm=Algorithm(clip=UnitWise(0.02))),
    "3bec30a4995744a8": Spec(algorithm=Algorithm(clip=Normalized(0.5))),
    "37139da290e623f4": Spec(algorithm=Algorithm(clip=Percentile(0.9, 100))),
    "dc6b54ba25f16d25": Spec(algorithm=Algorithm(clip=ZScore(3.0, 0.9, 10, Skip()))),
}


@pytest.mark.parametrize("name", GOLDEN)
def test_the_packages_own_parts_are_called_as_in_the_results_that_are_stored(name):
    assert GOLDEN[name].id(0) == name


def test_an_ensemble_is_called_as_in_the_results_that_are_stored():
    assert Spec().family([0, 1, 2]) == "ac97cf166bf849563be5"


# Parts of a user's, in a module of their own; each way to change what they compute is a line to replace.
OTHER = """
import other

GAIN = 3.0

def gained(x):
    return x * GAIN
"""
OWN = '''
import functools
from dataclasses import dataclass
from typing import ClassVar

import torch

import other
from rnnlab import BasicTanh, Softmax, Norm, TemporalOrder
from rnnlab.tasks.task import Chunk

FACTOR = 2.0
TABLE = {"a": [1, 2], "b": torch.tensor([0.5, 1.5])}


def halved(x):
    """Half."""
    return x / FACTOR


def doubled(method):
    @functools.wraps(method)
    def call(*args):
        y, changed = method(*args)
        return y * 2, changed
    return call


@functools.cache
def cached(x):
    return x + 1


def made(power):
    @dataclass(frozen=True)
    class Clip(Norm):
        power_of: ClassVar = staticmethod(lambda x: x ** 2), (lambda x: x ** 3)

        @doubled
        def shorten(self, g, norm, network, state, scale=FACTOR + 1):
            g = other.other.gained(halved(g)) * scale
            return g * norm[:, None] ** power * cached(1) + sum(TABLE["a"]), norm > 1, state

    return Clip


@dataclass(frozen=True)
class Sigma:
    gamma = 1.0

    def __call__(self, a):
        return a.tanh()

    def derivative(self, h):
        return 1 - h * h

    @torch.no_grad()
    def apply_(self, a):
        return a.tanh_()

    __neg__ = functools.partial(halved, 6.0)
    __pos__ = staticmethod(torch.cos)
    __invert__ = torch.exp
    __gain__ = 0.25


@dataclass(frozen=True)
class Init(BasicTanh):
    sigma: ClassVar = Sigma()


@dataclass(frozen=True)
class Loss(Softmax):
    temperature: ClassVar[float] = 1.0


class Shared:
    def draw(self, draws, steps):
        chunk = super().draw(draws, steps)
        return Chunk(chunk.inputs, chunk.targets * 1, chunk.lengths)


@dataclass(frozen=True)
class Task(Shared, TemporalOrder):
    weight: float = 1
    loss: ClassVar = Loss()

    @property
    def outputs(self):
        return 4


@dataclass(frozen=True)
class Alpha:
    value: float = 4.0

    def __call__(self, update):
        return self.value


Clip = made(2)
'''
CHANGES = [
    ("other", "return x * GAIN", "return x * GAIN + 1"),
    ("other", "GAIN = 3.0", "GAIN = 3.5"),
    ("own", "FACTOR = 2.0", "FACTOR = 4.0"),
    ("own", "return x / FACTOR", "return x / FACTOR + 0"),
    ("own", '"a": [1, 2]', '"a": [1, 3]'),
    ("own", "torch.tensor([0.5, 1.5])", "torch.tensor([0.5, 1.25])"),
    ("own", "return y * 2, changed", "return y * 3, changed"),
    ("own", "return x + 1", "return x + 2"),
    ("own", "lambda x: x ** 2", "lambda x: x ** 4"),
    ("own", "lambda x: x ** 3", "lambda x: x ** 4"),
    ("own", "scale=FACTOR + 1", "scale=FACTOR + 2"),
    ("own", "norm > 1", "norm > 2"),
    ("own", "Clip = made(2)", "Clip = made(3)"),
    ("own", "return a.tanh()", "return a.sin()"),
    ("own", "return a.tanh_()", "return a.sin_()"),
    ("own", "functools.partial(halved, 6.0)", "functools.partial(halved, 7.0)"),
    ("own", "staticmethod(torch.cos)", "staticmethod(torch.sin)"),
    ("own", "torch.exp", "torch.expm1"),
    ("own", "__gain__ = 0.25", "__gain__ = 0.75"),
    ("own", "    gamma = 1.0", "    gamma = 2.0"),
    ("own", "temperature: ClassVar[float] = 1.0", "temperature: ClassVar[float] = 2.0"),
    ("own", "chunk.targets * 1", "chunk.targets * 0"),
    ("own", "class Task(Shared, TemporalOrder)", "class Task(TemporalOrder)"),
    ("own", "return 4", "return 5"),
    ("own", "return self.value", "return self.value / (1 + update)"),
]


@pytest.fixture
def load(tmp_path, monkeypatch):
    """Writes a user's two modules, imports them anew, and returns the second."""
    monkeypatch.setattr(sys, "dont_write_bytecode", True)

    def load(**texts):
        for module, text in ({"other": OTHER, "own": OWN} | texts).items():
            (tmp_path / f"{module}.py").write_bytes(text.encode())
            spec = importlib.util.spec_from_file_location(module, tmp_path / f"{module}.py")
            monkeypatch.setitem(sys.modules, module, importlib.util.module_from_spec(spec))
            spec.loader.exec_module(sys.modules[module])
        return sys.modules["own"]

    return load


def name(own):
    """What a specification of a user's parts is called."""
    algorithm = Algorithm(clip=own.Clip(1.0), alpha=own.Alpha())
    return TINY.with_(task=own.Task(10), init=own.Init(), algorithm=algorithm).canonical()


@pytest.mark.parametrize(("module", "old", "new"), CHANGES, ids=[new for _, _, new in CHANGES])
def test_whatever_is_edited_in_a_part_of_ones_own_gives_it_another_name(module, old, new, load):
    text = {"other": OTHER, "own": OWN}[module]
    assert text.count(old) == 1
    assert name(load(**{module: text.replace(old, new)})) != name(load())


def test_a_module_of_ones_own_may_be_called_like_one_of_pythons(load, monkeypatch):
    names = []
    for factor in "2", "4":
        own = load(own=OWN.replace("FACTOR = 2.0", f"FACTOR = {factor}.0"))
        monkeypatch.setitem(sys.modules, "profile", own)
        own.__name__ = "profile"
        for kind in own.Alpha, own.Init, own.Sigma, own.Task, own.Shared, own.Clip:
            kind.__module__ = "profile"
        naming._library.cache_clear()
        names.append(name(own))
    naming._library.cache_clear()
    assert names[0] != names[1]


def test_a_value_that_keeps_something_beside_its_fields_is_refused(load):
    text = """
    def __post_init__(self):
        object.__setattr__(self, "seen", 0)

    def __call__(self, update):
        return self.value
"""
    own = load(own=OWN.replace("\n    def __call__(self, update):\n        return self.value\n", text))
    refused = r"^alpha must keep all that it holds in its fields, got seen beside \['value'\]"
    with pytest.raises(ValueError, match=refused):
        Algorithm(alpha=own.Alpha())


def test_whatever_reading_a_class_raises_is_said_with_the_remedy(load):
    own = load(own=OWN.replace("torch.tensor([0.5, 1.5])", "torch.eye(2).to_sparse()"))
    with pytest.raises(UnnamedError, match=r"cannot be named, and so not stored: \w+Error: .*numerics: ClassVar"):
        name(own)


def test_comments_layout_and_line_endings_change_no_name(load):
    other = "# about\n\n\n" + OWN.replace('"""Half."""', '"""Half of it."""  # that is').replace(
        "x / FACTOR", "(x/FACTOR)"
    )
    assert name(load(own=other.replace("\n", "\r\n"))) == name(load())


def test_a_class_is_told_from_another_of_its_name_and_from_one_of_the_packages_own(load):
    text = OWN.replace("class Alpha", "class Constant").replace("return self.value", "return self.value / 2")
    mine = Spec(algorithm=Algorithm(alpha=load(own=text).Constant())).canonical()
    other = load(own=text.replace("self.value / 2", "self.value / 4"))
    assert len({mine, Spec(algorithm=Algorithm(alpha=other.Constant())).canonical(), Spec().canonical()}) == 3
    assert '"name":"own:Constant"' in mine


def test_numbers_that_are_equal_are_written_alike_in_a_part_of_ones_own(load):
    Alpha = load().Alpha
    names = {Spec(algorithm=Algorithm(alpha=Alpha(value))).id(0) for value in (4, 4.0, torch.tensor(4).numpy()[()])}
    assert len(names) == 1


@dataclass(frozen=True)
class Grown:
    """A class that got a field after its values had been named."""

    numerics: ClassVar[int] = 1
    before: int = 3
    later: tuple = naming.added(())


def test_a_field_that_came_later_is_said_only_where_it_is_not_at_its_default():
    said = naming.form(Grown())
    assert set(said) == {"before", "class"}
    assert naming.form(Grown(later=())) == said
    assert naming.form(Grown(later=(4,))) == said | {"later": [4]}


ADDED = [
    {"penalties": (L2(0.1),)},
    {"penalties": (L1(0.1, of=("W_in", "W_rec")), LargestSingularValue(0.9))},
    {"penalties": (LargestSingularValue(0.9), L1(0.1, of=("W_in", "W_rec")))},
    {"noise": 0.25},
    {"frozen": ("b",)},
]


def test_what_an_algorithm_got_later_is_said_where_it_is_asked_for_and_comes_back_from_the_name():
    names = set()
    for kind in (Algorithm, AdamW):
        specs = [TINY.with_(algorithm=kind(**given)) for given in ({}, *ADDED)]
        assert [Spec.from_canonical(spec.canonical()) for spec in specs] == specs
        assert not {"penalties", "noise", "frozen"} & naming.form(kind()).keys()
        names |= {spec.id(0) for spec in specs}
    assert len(names) == 2 * (1 + len(ADDED))


def test_equal_values_of_the_packages_classes_are_named_alike_whatever_numbers_they_are_made_of():
    run = subprocess.run([sys.executable, "-m", "tests.equal_values"], capture_output=True, text=True, cwd=ROOT)
    assert run.returncode == 0, run.stderr[-2000:]
    public = (getattr(rnnlab, name) for name in rnnlab.__all__)
    values = {kind.__name__ for kind in public if isinstance(kind, type) and is_dataclass(kind)}
    held = {
        "Batch",
        "Chunk",
        "Gradients",
        "Trace",
        "Networks",
        "Progress",
        "Start",
        "Store",
    }  # of arrays, of where one stands, a folder
    assert set(run.stdout.split()) == values - held


def test_code_that_was_edited_and_not_loaded_again_is_refused(load, tmp_path):
    own = load(own=OWN.replace("return self.value", "return self.value * 3"))
    (tmp_path / "own.py").write_text(OWN.replace("return self.value", "return self.value / 3"))
    with pytest.raises(UnnamedError, match=r"own:Alpha cannot be named.* if it was edited, reload it; give it a line"):
        Spec(algorithm=Algorithm(alpha=own.Alpha())).canonical()


SOURCELESS = """
from dataclasses import dataclass
from typing import ClassVar
@dataclass(frozen=True)
class Alpha:
    value: float = 4.0
    {numerics}
    def __call__(self, update):
        return self.value
"""


def sourceless(numerics="", **more):
    held = {"__name__": "typed", **more}
    exec(textwrap.dedent(SOURCELESS.format(numerics=numerics)), held)
    return held["Alpha"]


def test_a_part_without_source_trains_and_no_store_takes_it_unless_it_has_numerics(tmp_path):
    spec = TINY.with_(algorithm=Algorithm(alpha=sourceless()()))
    runs = train(spec, seeds=2, device="cpu")
    assert runs["run"].values.tolist() == ["unnamed", "unnamed"]
    assert runs.attrs["spec"] == ""
    assert statistics.ran(runs).all()
    with pytest.raises(UnnamedError, match=r"typed:Alpha cannot be named.* `numerics: ClassVar\[int\] = 1`"):
        train(spec, seeds=2, device="cpu", store=Store(tmp_path))
    assert not list(tmp_path.glob("*.run"))
    names = []
    for numerics in (1, 2):
        spec = TINY.with_(algorithm=Algorithm(alpha=sourceless(f"numerics: ClassVar[int] = {numerics}")()))
        names.append(train(spec, seeds=2, device="cpu", store=Store(tmp_path))["run"].values.tolist())
    assert names[0] != names[1]


def test_numerics_vouch_for_their_own_class_alone(load):
    text = OWN.replace("    gamma = 1.0", "    gamma = 1.0\n    numerics: ClassVar[int] = 1")
    mine = name(load(own=text))
    assert name(load(own=text.replace("a.tanh()", "a.sin()"))) == mine
    assert name(load(own=text.replace("ClassVar[int] = 1", "ClassVar[int] = 2"))) != mine
    assert name(load(own=text.replace("    gamma = 1.0", "    gamma = 2.0"))) != mine
    init = OWN.replace(
        "    sigma: ClassVar = Sigma()", "    sigma: ClassVar = Sigma()\n    numerics: ClassVar[int] = 1"
    )
    assert name(load(own=init.replace("a.tanh()", "a.sin()"))) != name(load(own=init))
    derived = "@dataclass(frozen=True)\nclass Derived(Alpha):\n    def __call__(self, update):\n        return 1.0\n"
    text = OWN.replace("    value: float = 4.0", "    value: float = 4.0\n    numerics: ClassVar[int] = 1") + derived
    text += "\nAlpha = Derived\n"
    assert name(load(own=text.replace("return 1.0", "return 2.0"))) != name(load(own=text))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("SEEN = 0", "__call__ changes a global"),
        ("import random; RANDOM = random.Random(0)", "what .* holds, which it uses, cannot be read"),
        ("import numpy; RANDOM = numpy.frompyfunc(lambda x: x, 1, 1)", "what .* holds, which it uses, cannot be read"),
    ],
)
def test_a_part_that_uses_what_cannot_be_named_is_refused(text, reason, load):
    body = "global SEEN; SEEN = update; return 4.0" if "SEEN" in text else "return RANDOM.random(update)"
    odd = f"{text}\n@dataclass(frozen=True)\nclass Odd:\n    def __call__(self, update):\n        {body}\n"
    own = load(own=OWN + odd)
    with pytest.raises(UnnamedError, match=reason):
        Spec(algorithm=Algorithm(alpha=own.Odd())).canonical()


@pytest.mark.parametrize(
    ("before", "body", "reason"),
    [
        ("", "globals()['FACTOR']", "__call__ uses globals, by which anything can be reached"),
        ("", "getattr(other, 'GA' + 'IN')", "__call__ uses getattr, by which anything can be reached"),
        ("import os", "float(os.environ.get('GAIN', 1))", "__call__ uses environ, by which anything can be reached"),
        ("DEFAULT = __import__('collections').defaultdict(int)", "DEFAULT[0]", "what .* holds, which it uses"),
        ("class Words(list): pass\nHELD = Words()", "HELD[0]", "what .* holds, which it uses"),
        ("def f(x): return f.gain\nf.gain = 2.0", "f(1)", "what .* holds, which it uses"),
        ("@functools.singledispatch\ndef f(x): return 1.0", "f(1)", "what .* holds, which it uses"),
        ("def f():\n    import other\n    return other.GAIN", "f()", "f imports a module of yours"),
        ("def f():\n    from .math import pi\n    return pi", "f()", "f imports a module of yours"),
        (
            "import enum\nclass Kind(enum.Enum):\n    A = 1\n    def gain(self): return 2.0\nHELD = Kind.A",
            "HELD.gain()",
            "what .* holds, which it uses",
        ),
    ],
)
def test_a_part_that_finds_what_it_uses_by_ways_that_cannot_be_read_is_refused(before, body, reason, load):
    odd = f"{before}\n@dataclass(frozen=True)\nclass Odd:\n    def __call__(self, update):\n        return {body}\n"
    own = load(own=OWN + odd)
    with pytest.raises(UnnamedError, match=reason):
        Spec(algorithm=Algorithm(alpha=own.Odd())).canonical()


def test_a_specification_comes_back_from_its_name_as_the_same_value(load):
    own = load()
    mine = TINY.with_(task=own.Task((10, 12), weight=0.5), init=own.Init(0.3), algorithm=Algorithm(alpha=own.Alpha(2)))
    for spec in (mine, *GOLDEN.values()):
        assert Spec.from_canonical(spec.canonical()) == spec
    load(own=OWN.replace("return 4", "return 5"))
    with pytest.raises(ValueError, match="text must be canonical JSON of the package and the parts as they are now"):
        Spec.from_canonical(mine.canonical())


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"numerics":2', '"numerics":1'),
        ('"type":"Addition"', '"type":"Subtraction"'),
        ('"type":"Addition"', '"type":"Store"'),
        ('"type":"Addition"', '"class":{"name":"subprocess:Popen"}'),
        ('"type":"Addition"', '"class":{"name":"nowhere:Addition"}'),
        ('"units":50', '"units":50.0'),
        ('"units":50', '"units":50,"layers":2'),
        ('"spec"', '"told"'),
    ],
)
def test_a_name_of_something_else_is_refused(old, new):
    text = GOLDEN["5a2089869b5232ae"].canonical()
    assert text.count(old) == 1
    with pytest.raises(ValueError, match=r"text must be canonical JSON|units must be"):
        Spec.from_canonical(text.replace(old, new))


def test_nothing_but_a_dataclass_is_called_on_the_way_back(load):
    own = load(own=OWN + "\nCALLS = []\ndef trap(**given):\n    CALLS.append(given)\n")
    text = GOLDEN["5a2089869b5232ae"].canonical().replace('"type":"Addition"', '"class":{"name":"own:trap"}')
    with pytest.raises(ValueError, match="text must be canonical JSON whose parts were imported"):
        Spec.from_canonical(text)
    assert own.CALLS == []


def test_labels_of_a_sweep_tell_classes_of_one_name_apart(load):
    text = OWN.replace("class Init(BasicTanh)", "class SmartTanh(BasicTanh)") + "\nInit = SmartTanh\n"
    for init, label in ((SmartTanh(), "smart tanh"), (load(own=text).Init(), "own:SmartTanh")):
        assert axes.labels([Spec(init=init)])["init"] == [label]


def test_gather_refuses_what_cannot_be_read_back(load, tmp_path):
    store, init = Store(tmp_path), load(own=OWN).Init()
    train(TINY.with_(task=TemporalOrder(12), init=init), seeds=1, device="cpu", store=store)
    assert sweeps.gather(store)["init"].values.tolist() == ["own:Init"]
    load(own=OWN + "\n\nclass Other:\n    pass\n".replace("Other", "Init"))
    with pytest.raises(ValueError, match="text must be canonical JSON"):
        sweeps.gather(store)


KEPT = """
from rnnlab import Code, Skip

SEEN = []


@dataclass(frozen=True)
class History(Norm):
    def shorten(self, g, norm, network, state):
        SEEN.append(float(norm.nan_to_num().mean()))
        mean = sum(SEEN[-100:]) / len(SEEN[-100:])
        return g * (2 * mean / norm).clamp(max=1)[:, None], norm > 2 * mean, state


@dataclass(frozen=True)
class Late(Norm):
    def shorten(self, g, norm, network, state):
        object.__setattr__(self, "calls", getattr(self, "calls", 0) + 1)
        return (g if self.calls < 100 else g / 2), norm > 1, state


@dataclass(frozen=True)
class Guard(Skip):
    def replacement(self, g, W_rec):
        SEEN.append(1)
        return torch.full_like(g, len(SEEN))


@dataclass(frozen=True)
class Counting:
    def __call__(self, update):
        SEEN.append(1)
        return float(len(SEEN))


@dataclass(frozen=True)
class Waning(Code):
    def coefficient(self, d2, n2):
        SEEN.append(1)
        return super().coefficient(d2, n2) / len(SEEN)


@dataclass(frozen=True)
class Half(Norm):
    def shorten(self, g, norm, network, state):
        return g / 2, norm > 0, state


@dataclass(frozen=True)
class Held(Norm):
    seen: list = None


@dataclass(frozen=True)
class Nested:
    inner: object
    guard = signal_threshold = None
    init = Norm.init

    def shorten(self, g, norm, network, state):
        return g, norm > 0, state


class Open(Half):
    pass


@dataclass
class Thawed(Nested.__base__):
    guard = signal_threshold = None
    init = Norm.init
    shorten = Nested.shorten
"""


STATES = ["clip=History()", "clip=Late()", "clip=Norm(1.0, Guard())", "alpha=Counting()", "omega=Waning()"]


@pytest.mark.parametrize("parts", STATES)
def test_a_rule_that_keeps_state_is_refused_when_an_ensemble_is_made(parts, load):
    algorithm = eval(f"Algorithm({parts})", {"Algorithm": Algorithm} | vars(load(own=OWN + KEPT)))
    with pytest.raises(ValueError, match=f"{parts.partition('=')[0]} must .* as it can keep no state.*, got "):
        Ensemble(TINY.with_(algorithm=algorithm), 2, device="cpu")


def test_a_rule_of_ones_own_that_keeps_no_state_trains_like_the_formula(load):
    own = load(own=OWN + KEPT)
    half = train(TINY.with_(algorithm=Algorithm(clip=own.Half(), learning_rate=0.02)), seeds=2, device="cpu")
    plain = train(TINY.with_(algorithm=Algorithm(learning_rate=0.01)), seeds=2, device="cpu")
    torch.testing.assert_close(torch.tensor(half["theta"].values), torch.tensor(plain["theta"].values))


@pytest.mark.parametrize(
    ("parts", "refused"),
    [
        ("clip=Held(seen=[])", r"seen must be plain \(.*\), got \[\]; write a tuple"),
        (
            "clip=Nested((1, TABLE['b']))",
            r"clip.inner\[1\] must be plain \(.*\), got torch.float32 of shape \(2,\); write a tuple",
        ),
        (
            "clip=Thawed()",
            r"clip must be plain \(.*\), got Thawed\(\); write @dataclass\(frozen=True\) above class Thawed",
        ),
        ("clip=Open()", r"clip must be plain \(.*\), got .*; write @dataclass\(frozen=True\) above class Open"),
        (
            "alpha=halved",
            r"alpha must be plain \(.*\), got <function halved .*; write a frozen dataclass with __call__",
        ),
    ],
)
def test_a_part_that_is_not_plain_is_refused_when_it_is_handed_over(parts, refused, load):
    own = {"Algorithm": Algorithm} | vars(load(own=OWN + KEPT))
    with pytest.raises(ValueError, match=f"^{refused}"):
        eval(f"Algorithm({parts})", own)


def test_the_parts_that_a_class_names_must_be_plain_too(load):
    own = load(own=OWN.replace("@dataclass(frozen=True)\nclass Sigma", "class Sigma"))
    with pytest.raises(
        ValueError, match=r"init.sigma must be plain .*; write @dataclass\(frozen=True\) above class Sigma"
    ):
        Spec(init=own.Init())


# By `naming.FORM`: each name was written down when its form was made, and is never edited.
NAMES = {1: "ffa6731e662809ab", 2: "036d1cab3eb39665"}
SCRIPT = """
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass

from rnnlab import Algorithm, Spec

FACTOR = 2


@dataclass(frozen=True)
class Alpha:
    def __call__(self, update):
        return 4.0 * FACTOR


def name(spec):
    return spec.id(0)


if __name__ == "__main__":
    spec = Spec(algorithm=Algorithm(alpha=Alpha()))
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        print(name(spec), pool.submit(name, spec).result())
"""


def test_a_script_its_workers_and_every_machine_give_a_part_one_name(tmp_path):
    path = tmp_path / "script.py"
    path.write_text(SCRIPT)
    run = subprocess.run([sys.executable, path], capture_output=True, text=True, check=True)
    assert run.stdout.split() == [NAMES[naming.FORM]] * 2


NOTEBOOK = """
from IPython.core.interactiveshell import InteractiveShell

shell = InteractiveShell()
top, alpha = {parts}
for cell in (top, alpha, alpha.replace("FACTOR", " FACTOR  # times"), alpha.replace("4.0", "3.0"), "FACTOR = 3"):
    shell.run_cell(cell).raise_error()
    if cell != top:
        shell.run_cell("print(Spec(algorithm=Algorithm(alpha=Alpha())).id(0))").raise_error()
"""


def test_cells_of_a_notebook_name_their_parts_by_what_they_say():
    top, alpha = SCRIPT.split("\n\n\n")[:2]
    code = NOTEBOOK.format(parts=(top, alpha))
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    first, same, edited, factor = run.stdout.split()
    assert first == same == NAMES[naming.FORM]  # as in a script
    assert len({first, edited, factor}) == 3
