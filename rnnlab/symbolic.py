"""For sympy: a non-linearity `sigma`, of which nothing is known but that it has a derivative, `slope`."""

from sympy import Expr, Function

slope = Function(r"\sigma'")


class sigma(Function):
    """The network's non-linearity; what is derived with it holds for every one that can be differentiated."""

    def fdiff(self, argindex: int = 1) -> Expr:
        """Its derivative, `slope` of the same argument."""
        return slope(*self.args)
