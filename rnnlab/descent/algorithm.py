"""Gradient descent as the 2013 paper does it, with or without its two remedies."""

import math
from typing import Annotated, Any

import torch
from torch import Tensor

from rnnlab.descent.clipping import Clip, NoClip, Norm, apply
from rnnlab.descent.omega import Code, Omega
from rnnlab.descent.schedules import Constant, Schedule
from rnnlab.naming import outside
from rnnlab.network.parameters import Parameters
from rnnlab.values import UNFIT, Positive, fit, taken, value


def _schedule(name: str, given: Any) -> Schedule:
    return Constant(given) if fit(given, float) is not UNFIT else taken(name, given, Schedule)


@value
class Algorithm:
    """Mini-batch stochastic gradient descent, with or without the paper's two remedies.

    Args:
        learning_rate: constant step size; positive.
        clip: clipping rule.
        omega: form of the regularizer, or None.
        alpha: weight of omega as a function of the update; a number is `Constant`.

    Raises:
        ValueError: the learning rate is not positive, or a part is none.

    Source:
        Pascanu et al. 2013, section 4.1.1.
    """

    learning_rate: Positive = 0.01
    clip: Clip = NoClip()
    omega: Omega | None = None
    alpha: Annotated[Schedule, _schedule] = Constant(4.0)

    @classmethod
    def named(
        cls, name: str, *, learning_rate: float = 0.01, threshold: float = 1.0, alpha: float = 4.0
    ) -> "Algorithm":
        """The algorithm that the paper calls MSGD, MSGD-C or MSGD-CR; MSGD-R is omega without clipping (footnote 4).

        Args:
            name: "MSGD", "MSGD-C", "MSGD-CR" or "MSGD-R".
            learning_rate: step size.
            threshold: largest gradient norm let through; unused without C.
            alpha: constant weight of omega; unused without R.

        Raises:
            ValueError: the name is none of these.
        """
        if name not in ALGORITHMS:
            raise ValueError(f"algorithm must be one of {list(ALGORITHMS)}, got {name!r}")
        remedies = name.removeprefix("MSGD")
        clip = Norm(threshold) if "C" in remedies else NoClip()
        return cls(learning_rate, clip, Code() if "R" in remedies else None, Constant(alpha))


ALGORITHMS = ("MSGD", "MSGD-C", "MSGD-CR", "MSGD-R")


def check_steady(algorithm: Algorithm, network: Parameters) -> None:
    """Refuse a clipping rule, a schedule or an omega from outside the package that keeps state: no checkpoint holds it.

    Each is asked the same again and again, since what has a history may answer differently only after a while.

    Raises:
        ValueError: an answer changes.
    """
    clip, alpha = algorithm.clip, algorithm.alpha
    if outside(type(alpha)) and [alpha(k) for k in (0, 1, 1000)] != [alpha(k) for k in (0, 1, 1000)]:
        raise ValueError(f"alpha must be the same whenever it is asked, as it can keep no state yet, got {alpha}")
    omega, d2 = algorithm.omega, network.theta.new_ones(1, 1, 1)
    if omega is not None and outside(type(omega)):
        factors = torch.stack([omega.coefficient(d2, 2 * d2) for _ in range(200)])
        if not torch.equal(factors, factors[:1].expand_as(factors)):
            raise ValueError(f"omega must answer equal signals equally, as it can keep no state yet, got {omega}")
    own = any(outside(type(part)) for part in (clip, clip.guard) if part is not None)
    first: list[tuple[Tensor, ...]] = []
    for k in range(200 * own):
        answer = apply(clip, network.theta[:2] * (1e-6, 1.0, 1e6, math.nan)[k % 4], network.W_rec[:2])
        first += [answer] if k < 4 else []
        if not all(torch.equal(a.nan_to_num(), b.nan_to_num()) for a, b in zip(answer, first[k % 4], strict=True)):
            raise ValueError(f"clip must answer equal gradients equally, as it can keep no state yet, got {clip}")
