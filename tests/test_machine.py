"""What the system says of this machine."""

from pathlib import Path

from rnnlab import machine


def test_the_processor_is_what_is_said_of_the_first_core(monkeypatch):
    said = "processor\t: 0\nmodel name\t: Twelve: cores\nflags\t\t: fma\npower management:\n\nmodel name\t: other\n"
    monkeypatch.setattr(Path, "read_text", lambda path, encoding: said)
    first = {"processor": "0", "model name": "Twelve: cores", "flags": "fma", "power management": ""}
    assert machine.processor.__wrapped__() == first


def test_a_system_that_says_nothing_has_a_processor_without_names(monkeypatch):
    monkeypatch.setattr(machine, "Path", lambda name: Path("/nowhere"))
    assert machine.processor.__wrapped__() == {}
