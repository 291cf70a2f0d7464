"""What a part of a specification is called: its class and its fields, and for a class from elsewhere its code as well.

The package's own classes go by their bare names, and `specs.NUMERICS` stands for their code. A class from outside is
called by its module and its class variables, and by its own integer `numerics`; without one by a hash of all that its
methods say and name.
"""

import ast
import contextlib
import dis
import enum
import functools
import hashlib
import importlib
import inspect
import json
import linecache
import sys
import sysconfig
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from operator import attrgetter
from pathlib import Path
from types import BuiltinFunctionType, CodeType, FunctionType, MethodDescriptorType, MethodType, ModuleType
from typing import Any, Protocol

import numpy as np
import torch

from rnnlab.values import plain

FORM = 2  # of names from outside, which hold it: raised when the same code would be called something else

_OWN = __name__.partition(".")[0]
_WORDS = (type(None), bool, int, float, complex, str, bytes, range, slice, torch.dtype, torch.device, torch.Size)
_BOOKKEEPING = {"_abc_impl", "_is_protocol", "_is_runtime_protocol", "__annotate__", "__annotate_func__", "__slots__"}
_BOOKKEEPING |= {"__type_params__", "__new__", "__init_subclass__", "__class_getitem__", "__subclasshook__"}
# These find what is not named.
_HIDDEN = {"__import__", "environ", "eval", "exec", "getattr", "getenv", "globals", "locals", "open", "vars"}
_SPAN = attrgetter("lineno", "end_lineno", "col_offset", "end_col_offset")  # as Python keeps it for its code
_IDLE = {"annotation", "returns", "type_comment", "type_params", "ctx", "kind"}  # what is written and computes nothing


@dataclass(frozen=True, order=True)
class _Bare(Protocol):
    """What any class has, and any dataclass."""


class UnnamedError(ValueError):
    """A class from outside the package has no `numerics`, and what it does cannot be read."""


def added(default: Any) -> Any:
    """A field that a class gets after its values were named: while it has its default, names stay what they were."""
    return field(default=default, metadata={"added": True})


def form(value: Any) -> Any:
    """A value as JSON has it; a dataclass becomes its fields, but `added` ones at their default, and its class's name.

    Raises:
        UnnamedError: a class from outside the package has no `numerics`, and what it does cannot be read.
    """
    if isinstance(value, tuple):
        return [form(item) for item in value]
    if not is_dataclass(value):
        return value.item() if isinstance(value, np.generic) else value
    told = [one for one in fields(value) if "added" not in one.metadata or getattr(value, one.name) != one.default]
    said = {one.name: form(getattr(value, one.name)) for one in told}
    if not outside(type(value)):
        return {"type": type(value).__name__} | said
    # Its numbers were not normalized when it was made; and no field is called "class".
    return {name: _even(item) for name, item in said.items()} | {"class": _class(type(value))}


def outside(kind: type) -> bool:
    """Whether a class is none of the package's own."""
    return kind.__module__.partition(".")[0] != _OWN


def qualified(kind: type) -> str:
    """Module and name of a class; what a script defines is `__main__`'s in its worker processes, too."""
    return f"{'__main__' if kind.__module__ == '__mp_main__' else kind.__module__}:{kind.__qualname__}"


def called(said: Mapping[str, Any]) -> str:
    """The class in what `form` says of a dataclass; no class from outside is called like one of the package's own."""
    return said["class"]["name"] if "class" in said else said["type"]


def digest(text: str, digits: int = 16) -> str:
    """The first hexadecimal digits of a text's SHA-256: the name of whatever the text says all of."""
    return hashlib.sha256(text.encode()).hexdigest()[:digits]


def _even(said: Any) -> Any:
    """The same with whole numbers as integers, so that equal ones are written alike."""
    if isinstance(said, list):
        return [_even(one) for one in said]
    return int(said) if isinstance(said, bool | float) and said == said // 1 else said


def _class(kind: type) -> dict[str, Any]:
    """What a class from outside is called."""
    foreign = [one for one in reversed(kind.__mro__) if not _library(one.__module__, kind.__module__)]
    own = {field.name for field in fields(kind)}
    held = {name: value for one in foreign for name, value in vars(one).items()}
    variables = {name: _even(form(value)) for name, value in held.items() if name not in own and _plain(name, value)}
    said = {"name": qualified(kind), "form": FORM, "variables": variables}
    if _vouched(kind):
        return said
    try:
        told = json.dumps(_Reader(kind).told(kind))
    except Exception as reason:  # whatever reading a user's code may raise
        why = reason if isinstance(reason, UnnamedError) else f"{type(reason).__name__}: {reason}"
        remedy = "give it a line `numerics: ClassVar[int] = 1`, and raise that number whenever what it computes changes"
        raise UnnamedError(f"{qualified(kind)} cannot be named, and so not stored: {why}; {remedy}") from None
    return said | {"source": digest(told)}


def _plain(name: str, value: Any) -> bool:
    """Whether a member of a class is a variable with a plain value; others are told with the code."""
    if name in _BOOKKEEPING | vars(_Bare).keys():
        return False
    with contextlib.suppress(ValueError):
        plain(name, value)
        return True
    return False


def _vouched(kind: type) -> bool:
    return type(vars(kind).get("numerics")) is int


class _Reader:
    """Tells what decides what a class does; what comes again is a number.

    `met` keeps what was met, so that nothing else takes its place in memory meanwhile.
    """

    def __init__(self, kind: type) -> None:
        self.home = kind.__module__
        self.met: dict[int, tuple[int, object]] = {}

    def told(self, thing: Any) -> Any:
        """What decides what a thing does, in lists of words.

        Raises:
            UnnamedError: that cannot be read.
        """
        if type(thing) in _WORDS:
            return [type(thing).__name__, ascii(thing)]
        if id(thing) in self.met:
            return self.met[id(thing)][0]
        self.met[id(thing)] = len(self.met), thing
        return self._said(thing)

    def _said(self, thing: Any) -> Any:
        match thing:
            case tuple() | list() if type(thing) in (tuple, list):
                return [type(thing).__name__, *map(self.told, thing)]
            case set() | frozenset():
                return ["set", *map(self.told, sorted(thing, key=ascii))]
            case dict() if type(thing) is dict:
                return ["dict", *([*map(self.told, item)] for item in thing.items())]
            case enum.Enum() if _library(type(thing).__module__, self.home):
                return [qualified(type(thing)), thing.name, self.told(thing.value)]
            case np.ndarray() | np.generic() | torch.Tensor() if thing.dtype != object:
                return [str(thing.dtype), ascii(tuple(thing.shape)), ascii(thing.tolist())]
            case staticmethod() | classmethod() | MethodType():
                return [self.told(thing.__func__), self.told(getattr(thing, "__self__", None))]
            case property(fget=inner) | functools.cached_property(func=inner):
                return ["property", self.told(inner)]
            case functools.partial():
                return ["partial", *map(self.told, (thing.func, thing.args, thing.keywords))]
            case ModuleType() | BuiltinFunctionType() | MethodDescriptorType():
                return getattr(thing, "__qualname__", thing.__name__)
            case np.ufunc(__name__=name) if getattr(np, name, None) is thing:
                return name
            case type():
                return self._class(thing)
            case FunctionType():
                return self._function(thing)
        if hasattr(thing, "__wrapped__"):
            return self.told(thing.__wrapped__)
        if is_dataclass(thing):
            return [self.told(type(thing)), *(self.told(getattr(thing, field.name)) for field in fields(thing))]
        raise UnnamedError(f"what {thing!r:.60} holds, which it uses, cannot be read")

    def _class(self, kind: type) -> Any:
        if _library(kind.__module__, self.home):
            return qualified(kind)
        if _vouched(kind):
            return [qualified(kind), vars(kind)["numerics"]]
        written = [(name, self.told(value)) for name, value in sorted(vars(kind).items()) if self._written(name, value)]
        return [qualified(kind), [self.told(base) for base in kind.__bases__], written]

    def _written(self, name: str, value: Any) -> bool:
        """Whether a member was written by hand."""
        if name in _BOOKKEEPING or inspect.ismemberdescriptor(value):
            return False
        if not (name.startswith("__") and name.endswith("__")) or isinstance(value, staticmethod | classmethod):
            return True
        inner = inspect.unwrap(value) if callable(value) else type
        if not isinstance(inner, FunctionType):
            return not isinstance(inner, type)
        generated = name in vars(_Bare) and inner.__code__.co_filename == "<string>"
        return not (generated or _library(inner.__globals__["__name__"], self.home))

    def _function(self, function: FunctionType) -> Any:
        if vars(function).keys() - functools.WRAPPER_ASSIGNMENTS - {"__wrapped__"}:
            raise UnnamedError(f"what {function!r:.60} holds, which it uses, cannot be read")
        code, cells = function.__code__, function.__closure__ or ()
        closure = [(name, cell.cell_contents) for name, cell in zip(code.co_freevars, cells, strict=True)]
        if _library(function.__globals__["__name__"], self.home):
            inner = [("", function.__wrapped__)] if hasattr(function, "__wrapped__") else closure
            return [function.__globals__["__name__"], function.__qualname__, [self.told(value) for _, value in inner]]
        text, used, attributes = _read(code, code.co_filename, self.home)
        found = [(name, function.__globals__[name]) for name in used if name in function.__globals__]
        defaults = [self.told(function.__defaults__), self.told(function.__kwdefaults__)]
        return [text, defaults, [[name, self.told(value)] for name, value in closure], self._found(found, attributes)]

    def _found(self, found: list[tuple[str, Any]], attributes: list[str], *within: Any) -> Any:
        """Values by name, and of modules that are no libraries what the code may use of them."""
        told = []
        for name, value in found:
            told.append([name, self.told(value)])
            module = isinstance(value, ModuleType) and not _library(value.__name__, self.home)
            if module and value not in within:  # modules may hold each other
                inside = [(one, vars(value)[one]) for one in attributes if one in vars(value)]
                told.append([name, self._found(inside, attributes, *within, value)])
        return told


@functools.cache
def _library(module: str, home: str) -> bool:
    """Whether a module is Python's, the package's own, or installed and no sister of `home`."""
    top = module.partition(".")[0]
    file = getattr(sys.modules.get(module), "__file__", None) or ""
    pythons = not file or Path(file).is_relative_to(sysconfig.get_path("stdlib"))  # one of its names may be a user's
    if top == _OWN or (top in sys.stdlib_module_names and pythons):
        return True
    here = top in ("__main__", "__mp_main__", home.partition(".")[0])
    return not here and not {"site-packages", "dist-packages"}.isdisjoint(Path(file).parts)


@functools.cache
def _read(code: CodeType, file: str, home: str) -> tuple[Any, list[str], list[str]]:
    """A function as it is written, without comments and layout; the globals that it reads; all attributes, too."""
    linecache.checkcache(file)
    node = _node("".join(linecache.getlines(file)), code)
    steps = [step for one in _codes(code) for step in dis.get_instructions(one)]
    for one in ast.walk(node):
        for alias in one.names if isinstance(one, ast.Import | ast.ImportFrom) else ():
            name = "" if getattr(one, "level", 0) else getattr(one, "module", alias.name)
            with contextlib.suppress(ImportError, ValueError):
                importlib.import_module(name)
            if not _library(name, home):
                raise UnnamedError(f"{code.co_name} imports a module of yours, which belongs above it")
    if any(step.opname == "STORE_GLOBAL" for step in steps):
        raise UnnamedError(f"{code.co_name} changes a global, and no checkpoint keeps that")
    used = {step.argval for step in steps if step.opname in ("LOAD_GLOBAL", "LOAD_NAME")}
    named = {name for one in _codes(code) for name in one.co_names}
    if hidden := _HIDDEN & named:
        raise UnnamedError(f"{code.co_name} uses {min(hidden)}, by which anything can be reached")
    return _spelled(node), sorted(used), sorted(named)


def _codes(code: CodeType) -> list[CodeType]:
    """A code and all within it."""
    return [code, *(inner for one in code.co_consts if isinstance(one, CodeType) for inner in _codes(one))]


@functools.lru_cache(maxsize=64)
def _parsed(text: str) -> tuple[list[ast.AST], list[CodeType]]:
    flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT  # a notebook's cell may await
    return [*ast.walk(ast.parse(text))], _codes(compile(text, "", "exec", flags, dont_inherit=True))


def _node(text: str, code: CodeType) -> ast.AST:
    """Where a function is defined in a text that says just what runs."""
    with contextlib.suppress(SyntaxError, ValueError):
        nodes, codes = _parsed(text)
        found = [node for node in nodes if _defines(node, code)]
        if len(found) > 1:  # functions without a name in one line
            found = [node for node in found if _SPAN(node.body) in code.co_positions()]  # type: ignore[attr-defined]
        if code in codes and len(found) == 1:
            return found[0]
    raise UnnamedError(f"the source of {code.co_name} is not to be found as it runs; if it was edited, reload it")


def _defines(node: ast.AST, code: CodeType) -> bool:
    if not isinstance(node, ast.Lambda | ast.FunctionDef | ast.AsyncFunctionDef):
        return False
    top = min(one.lineno for one in (node, *getattr(node, "decorator_list", [])))
    return (getattr(node, "name", "<lambda>"), top) == (code.co_name, code.co_firstlineno)


def _spelled(node: Any) -> Any:
    """Code as lists of words, the same in every version of Python; statements that compute nothing are left out."""
    if isinstance(node, list):
        idle = [one for one in node if isinstance(one, ast.Expr) and isinstance(one.value, ast.Constant)]
        return [_spelled(one) for one in node if one not in idle]
    if isinstance(node, ast.AST):
        parts = [(name, part) for name, part in ast.iter_fields(node) if name not in _IDLE and part not in (None, [])]
        return [type(node).__name__, *([name, _spelled(part)] for name, part in parts)]
    return ascii(node)
