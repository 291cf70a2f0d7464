"""The symbolic non-linearity: known functions in its place give their own derivatives."""

import pytest
from sympy import Derivative, Symbol, cos, exp, sin, symbols, tanh

from rnnlab.symbolic import sigma, slope

x, w, u = symbols("x w u")


@pytest.mark.parametrize(
    ("function", "derivative"),
    [(sin, cos), (tanh, lambda a: 1 - tanh(a) ** 2), (lambda a: exp(2 * a), lambda a: 2 * exp(2 * a))],
)
def test_what_is_derived_with_sigma_holds_for_a_known_function_in_its_place(function, derivative):
    def two_steps(f):
        return w * f(w * f(x) + u)

    for variable in (x, w, u):
        derived = two_steps(sigma).diff(variable).replace(slope, derivative).replace(sigma, function)
        assert (derived - two_steps(function).diff(variable)).expand() == 0


def test_nothing_is_known_of_sigma_but_its_slope():
    a = Symbol("a", real=True)
    assert sigma(a).diff(a) == slope(a)
    assert sigma(a).diff(a, 2) == Derivative(slope(a), a)
    assert sigma(0).func is sigma
    assert sigma(-a) != -sigma(a)
