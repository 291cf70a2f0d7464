"""Parts that a user brings from outside the package: one of each kind."""

from dataclasses import dataclass, replace
from typing import ClassVar

import torch

from rnnlab import Addition, BasicTanh, Bernoulli, Chunk, Code, Norm, Skip, Trace, bits
from rnnlab.tasks.task import Task


@dataclass(frozen=True)
class SignDescent:
    """Steps of one size along the sign of a running mean of the gradients."""

    learning_rate: float = 0.003
    kept: float = 0.9
    series: ClassVar = {"agreement": ("share of the gradient's entries that point along its mean", "1")}

    def init(self, network):
        return {"mean": torch.zeros_like(network.parameters.theta)}

    def advance(self, network, state, batches):
        mean, seen = state["mean"], []
        for batch in batches:
            g = network.gradients(batch)
            mean = self.kept * mean + (1 - self.kept) * g.theta
            network.parameters.theta.sub_(mean.sign(), alpha=self.learning_rate)
            seen.append((g.loss, (mean * g.theta > 0).float().mean(dim=1)))
        loss, agreement = map(torch.stack, zip(*seen, strict=True))
        return {"mean": mean}, Trace.of({"loss": loss, "agreement": agreement})


@dataclass(frozen=True)
class Quantile(Norm):
    """Clip at a quantile of the last norms."""

    share: float = 0.5
    last: int = 20
    guard: Skip | None = Skip()

    def init(self, network):
        return {"norms": torch.full((network.members, self.last), torch.nan, dtype=network.theta.dtype)}

    def shorten(self, g, norm, network, state):
        norms = torch.cat((state["norms"][:, 1:], norm.to(state["norms"])[:, None]), dim=1)
        threshold = norms.nanquantile(self.share, dim=1).to(norm)
        factor = (threshold / norm).clamp(max=1)
        return g * factor[:, None], norm > threshold, {"norms": norms}


WINDOWS = 3  # of which a piece is made


@dataclass(frozen=True)
class Pieces(Task):
    """A few pieces of three windows, played by three keys: what is next? States go on within a piece."""

    length: int = 6
    pieces: int = 7
    name: ClassVar = "pieces"
    loss: ClassVar = Bernoulli(every_step=True)
    symbols: ClassVar = False
    shortest: ClassVar = 2
    inputs: ClassVar = 3
    outputs: ClassVar = 3

    def draw(self, draws, steps):
        which = replace(draws, updates=draws.updates // WINDOWS).places(self.pieces)  # K M B
        window = (draws.updates % WINDOWS)[:, None, None].to(which)
        T = self.length
        word = bits.bits(torch.tensor([5]), torch.arange(self.pieces), stream=0, start=0, count=3 * (WINDOWS * T + 1))
        rolls = (word[:, 0] >> 31).unflatten(1, (-1, 3)).float().to(which.device)  # pieces, steps, keys
        at = window[..., None] * T + torch.arange(T + 1, device=which.device)
        roll = rolls[which[..., None], at].transpose(2, 3)  # K M T+1 B keys
        lengths = (T - (window == WINDOWS - 1) * (which % 2)).cpu()
        begins = (window == 0).expand_as(which).cpu()
        return Chunk(
            roll[:, :, :-1][:, :, steps.start : steps.stop] if steps else roll[:, :, :-1],
            roll[:, :, 1:],
            lengths,
            begins,
        )


@dataclass(frozen=True)
class Softsign:
    """a / (1 + |a|)."""

    gamma: ClassVar = 1.0

    def __call__(self, a):
        return a / (1 + a.abs())

    def derivative(self, h):
        return (1 - h.abs()) ** 2

    def apply_(self, a):
        return a.div_(1 + a.abs())


@dataclass(frozen=True)
class Orthogonal:
    """Orthogonal recurrent weights."""

    gain: float = 0.95
    name: ClassVar = "orthogonal"
    sigma: ClassVar = Softsign()

    def parameters(self, sizes, seeds, *, dtype=torch.float32):
        network = BasicTanh().parameters(sizes, seeds, dtype=torch.float64)
        network.W_rec.copy_(self.gain * torch.linalg.qr(network.W_rec).Q)
        return network.to(dtype)


@dataclass(frozen=True)
class LogRatio(Code):
    """Mean of the squared logarithm of |n|/|d|."""

    def value(self, d2, n2, live):
        q = torch.where(live, n2, 1.0) / torch.where(live, d2, 1.0)
        return q.log().square().sum(dim=(1, 2)) / 4 / live.sum(dim=(1, 2)).clamp(min=1)

    def coefficient(self, d2, n2):
        return (n2 / d2).log() / n2

    def scale(self, live):
        return 1 / live.sum(dim=(1, 2)).clamp(min=1).double()


@dataclass(frozen=True)
class WarmUp:
    """A weight that grows from 0."""

    value: float = 2.0
    period: int = 100

    def __call__(self, update):
        return self.value * min(1.0, update / self.period)


@dataclass(frozen=True)
class AbsoluteError:
    """The absolute error at the last step."""

    every_step: ClassVar = False
    real_targets: ClassVar = True

    def value(self, y, targets, counted):
        return (y - targets).abs().sum(dim=(1, 3)).mean(dim=1)

    def gradient(self, y, targets, counted):
        return (y - targets).sign() / y.shape[2]

    def wrong(self, y, targets, counted):
        return ~((y - targets).abs() <= 0.2).all(dim=(1, 3))


@dataclass(frozen=True)
class RobustAddition(Addition):
    """Addition by the absolute error."""

    loss: ClassVar = AbsoluteError()
