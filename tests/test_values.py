"""Checks in signatures, without the type checks that the other tests run under."""

import subprocess
import sys

SETTING = """
from collections.abc import Mapping
from rnnlab.values import Count, Seeds, checked

@checked
def function(many: Count | None = None, seeds: Seeds = 1, by_name: Mapping[str, list[float]] | None = None, more=0):
    return many, seeds, by_name, more

@checked
def told(flag: bool, word: str):
    return flag, word
"""
NONE = "by_name must be a dictionary of which each value is a sequence of which each item is a number or None, got "
CASES = {
    "function()": (None, 1, None, 0),  # what is not given is not looked at
    "function(None, 2)": (None, [0, 1], None, 0),
    "function(numpy.int64(3), [numpy.uint8(7)], {'a': numpy.ones(2)}, '')": (3, [7], {"a": [1.0, 1.0]}, ""),
    "function(numpy.array(3), numpy.array([7, 9]), {'a': numpy.array([1, 2])})": (3, [7, 9], {"a": [1.0, 2.0]}, 0),
    "function(numpy.array([3]))": "many must be a positive integer, got [3]",
    "function(numpy.array(3, 'm8[s]'))": "many must be a positive integer, got array(3, dtype='timedelta64[s]')",
    "function(numpy.array([[3]]))": "many must be a positive integer, got array([[3]])",
    "function(numpy.True_)": "many must be a positive integer, got True",
    "function(by_name={'a': numpy.ones((1, 1))})": NONE + "{'a': array([[1.]])}",
    "told(numpy.True_, numpy.array('a'))": (True, "a"),
    "told(numpy.array(1), '')": "flag must be True or False, got array(1)",
    "function(0)": "many must be a positive integer, got 0",
    "function(more=function, many='3')": "many must be a positive integer, got '3'",
    "function(seeds=None)": "seeds must be a count of at least 1 or a sequence of seeds, at most 2**24, got None",
    "function(by_name={'a': ['1']})": NONE + "{'a': ['1']}",
    "function(by_name=[])": NONE + "[]",
}


def test_arguments_are_taken_as_a_signature_says_or_refused_by_name():
    code = f"import numpy\n{SETTING}\nfor code in {list(CASES)!r}:\n    "
    code += "try: print(eval(code))\n    except ValueError as error: print(error)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.splitlines() == [str(said) for said in CASES.values()]
