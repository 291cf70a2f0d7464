"""What the system says of this machine."""

import sys
from pathlib import Path
from types import SimpleNamespace

from rnnlab import machine


def test_the_processor_is_what_is_said_of_the_first_core(monkeypatch):
    said = "processor\t: 0\nmodel name\t: Twelve: cores\nflags\t\t: fma\npower management:\n\nmodel name\t: other\n"
    monkeypatch.setattr(Path, "read_text", lambda path, encoding: said)
    first = {"processor": "0", "model name": "Twelve: cores", "flags": "fma", "power management": ""}
    assert machine.processor.__wrapped__() == first


def test_a_system_that_says_nothing_has_a_processor_without_names(monkeypatch):
    monkeypatch.setattr(machine, "Path", lambda name: Path("/nowhere"))
    assert machine.processor.__wrapped__() == {}


def test_a_line_is_said_where_somebody_looks_and_nowhere_else(capsys, monkeypatch):
    monkeypatch.delenv("RNNLAB_BAR", raising=False)
    machine.say("unheard")
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    machine.say("heard")
    monkeypatch.setenv("RNNLAB_BAR", "off")
    machine.say("unheard")
    assert capsys.readouterr().err == "rnnlab: heard\n"


def test_a_kernel_of_a_notebook_counts_as_somebody(monkeypatch):
    monkeypatch.delenv("RNNLAB_BAR", raising=False)
    assert not machine.watched()
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: SimpleNamespace(kernel=0)))
    assert machine.watched()
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: None))
    assert not machine.watched()
