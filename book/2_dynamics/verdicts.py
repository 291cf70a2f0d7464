"""Verdicts on networks that are trained for every length: what two pages keep as tables, read again and draw."""

from dataclasses import replace

import check
import numpy as np
import torch
import xarray

from rnnlab import (
    AdamW,
    BoxTraining,
    ConsistencyTraining,
    Ensemble,
    Norm,
    Parameters,
    Sizes,
    Start,
    Store,
    bits,
    plots,
    train,
)
from rnnlab.dynamics.backward import signal
from rnnlab.dynamics.every_length import order, prove
from rnnlab.engine import batched
from rnnlab.naming import digest

TESTED = {20: 200, 200: 200, 1000: 100}  # sequences, by length in steps
DRAWN = {16: 257}  # where there is a proof of that seed it is shown, as its boxes lie apart in a picture
DISTURBANCE = 5e-5  # what every pre-activation may be off by at every step, if float32 rounds by no more
TAU = 2.0**-22  # by which a computed tanh errs at the most


def told(p):
    """A network as check.py is told of it."""
    views = {"W": p.W_rec, "W_in": p.W_in, "b": p.b, "W_out": p.W_out, "b_out": p.b_out}
    return {name: x[0].tolist() for name, x in views.items()} | {"disturbance": disturbance(p)}


def disturbance(p):
    """What one network is proved with: no less than its runs in float32 are disturbed by."""
    N, unit = p.sizes.units, 2.0**-24
    gamma = (N + 2) * unit / (1 - (N + 2) * unit)
    W, c = p.W_rec[0].double().abs().sum(1), p.W_in[0].double().abs().amax(1) + p.b[0].double().abs()
    return max(DISTURBANCE, float((TAU * W + gamma * (W + c)).max()) + (N + 2) * 2.0**-149)


def checked(p, verdict, task):
    """The margin that check.py proves where `prove` has proved one; NaN where it does not, or there is none."""
    return check.prove(told(p), check.order(task.starts, verdict.length)) if verdict.boxes else np.nan


def rows(spec, seeds, start=None):
    """The verdicts on some networks, as columns; their parameters; and how they came about."""
    runs = train(spec, seeds=seeds, store=Store(), start=start, device="cpu", progress=False)
    theta = runs["theta"].values
    networks = Ensemble(spec, seeds, start=Start(theta, spec.updates), device="cpu")
    task = spec.task
    each = [networks.parameters.select([m]) for m in range(len(seeds))]
    found = [prove(p, task, disturbance=disturbance(p))[0] for p in each]
    batch = replace(task, length=30).chunk(networks._seeds, torch.arange(1), batch=200, stream=bits.TEST)[0]
    kept = signal(networks.parameters, batch, loss=spec.task.loss, sigma=spec.sigma).kept[:, 1].clamp(min=1e-300)
    shifted = replace(batch, inputs=torch.where(batch.inputs < 2, batch.inputs, 2 + (batch.inputs - 1) % 4))
    h, other = (
        batched.gradients(networks.parameters, x, loss=task.loss, sigma=spec.sigma).states[:, 1:]
        for x in (batch, shifted)
    )
    method = getattr(spec.algorithm, "methods", [spec.algorithm])[0]
    boxes, consistent = (isinstance(method, kind) for kind in (BoxTraining, ConsistencyTraining))
    told = {
        "updates": [spec.updates] * len(seeds),
        "boxes": [method.descent.learning_rate if boxes else 0.0] * len(seeds),
        "consistency": [method.weight if consistent else 0.0] * len(seeds),
        "alpha": [method.alpha.value if getattr(method, "omega", None) else np.nan] * len(seeds),
        "seed": seeds,
        "digest": [digest(row.tobytes().hex()) for row in theta],
        "outcome": [verdict.outcome for verdict in found],
        "length": [verdict.length for verdict in found],
        "margin": [float(verdict.margin) for verdict in found],
        "checked": [checked(p, verdict, task) for p, verdict in zip(each, found, strict=True)],
        "word": [len(verdict.word) for verdict in found],
        "error": runs["fresh_error"].values,
        "error_longest": runs["fresh_error_longest"].values,
        "log10_kept": kept.log10().mean(dim=1).numpy(),
        "slope": (1 - h.square()).mean(dim=(1, 2, 3)).numpy(),
        "apart": (h - other).square().mean(dim=(1, 2, 3)).numpy(),  # each distractor has become another
    }
    for length, count in TESTED.items():
        told[f"error_{length}"] = networks.errors(count, stream=bits.TEST, task=replace(task, length=length)).numpy()
    return told, theta, {name: runs.attrs[name] for name in ("engine", "device")}


def table(specs, seeds, then=(), most=100):
    """The verdicts on the networks of each specification, and the parameters of one that is proved of each seed.

    What each in `then` says is done to the networks of the last, apart from the others. Of the parameters the last
    `most` are kept, one or more, as there is room for.
    """
    parts = [rows(spec, list(seeds)) for spec in specs]
    parts += [rows(spec, list(seeds), Start(parts[len(specs) - 1][1], specs[-1].updates)) for spec in then]
    told = {name: ("network", np.concatenate([part[0][name] for part in parts])) for name in parts[0][0]}
    theta, proved = np.concatenate([part[1] for part in parts]), np.flatnonzero(told["outcome"][1] == "proved")
    last = {told["seed"][1][i]: i for i in proved}  # of each seed the last that is proved
    kept = np.array(sorted(last.values()), dtype=int)[-most:]
    told |= {"theta": (("kept", "parameter"), theta[kept]), "kept_network": ("kept", kept)}
    return xarray.Dataset(told, attrs=parts[-1][2])


def shown_proved(table, units):
    """Seed and parameters of one network proved after box training, of the largest margin; in a list, or none."""
    at = table["kept_network"].values
    good = np.flatnonzero(table["updates"].values[at] == table["updates"].values.max())
    good = good[np.lexsort((table["margin"].values[at[good]], table["seed"].values[at[good]] == DRAWN.get(units)))[-1:]]
    chosen = [(int(table["seed"][int(at[i])]), torch.from_numpy(table["theta"].values[i])) for i in good]
    return [(seed, Parameters(theta[None], Sizes(6, units, 4))) for seed, theta in chosen]


def draw(axes, p, verdict, task):
    """Draw the boxes of a proof on two principal components: all, and those of one class with their images.

    Returns:
        How many steps after the last symbol those of the right-hand side are, at least.
    """
    p, (low, high, phase, waited), phases = p.to(torch.float64), verdict.boxes, order(task, verdict.length)
    middle, answers = (low + high) / 2, [-1 if one.answer is None else one.answer for one in phases]
    answer, most = torch.tensor(answers)[phase], torch.tensor([waited[phase == k].max() for k in range(len(phases))])
    ends = (waited == most[phase]) & (answer >= 0)
    plane = torch.linalg.svd(middle[ends] - middle[ends].mean(0), full_matrices=False).Vh[:2].T
    wide = max(range(4), key=lambda k: float((high - low)[ends & (answer == k)].sum()))
    colors = [*plots.OTHERS[:4], "0.5"]  # the last is that of no class
    for j, k in enumerate(answer.tolist()):
        how = {"alpha": 0.5} if k >= 0 else {"alpha": 0.15} if phase[j] == 0 else {"fill": False, "ls": ":"}
        corners = shadow(low[j], high[j], plane)
        if (corners.amax(0) - corners.amin(0)).max() > 0.1:  # else its dot is larger
            axes[0].fill(*corners.T, fc=colors[k], ec=colors[k], lw=0.8, **how)
    for k, name in enumerate(("AA", "BA", "AB", "BB", "")):
        some = answer == (k if name else -1)
        how = {"zorder": 3} if name else {"mfc": "none"}
        axes[0].plot(*(middle[some] @ plane).T, "o", color=colors[k], ms=2.5, **how)
        if name:
            at = middle[ends & some].mean(0) @ plane
            axes[0].annotate(name, at, xytext=(7, 7), textcoords="offset points")
    inner = (ends & (answer == wide)).nonzero()[:, 0].tolist()
    for symbol in range(2, 6):
        push, around = p.W_in[0, :, symbol] + p.b[0], set()
        for j in inner:
            a, r = p.W_rec[0] @ middle[j] + push, p.W_rec[0].abs() @ (high[j] - low[j]) / 2 + DISTURBANCE
            image = (a - r).tanh(), (a + r).tanh()
            around |= {i for i in inner if (image[0] >= low[i]).all() and (image[1] <= high[i]).all()}
            axes[1].fill(*shadow(*image, plane).T, fc=colors[wide], alpha=0.3, lw=0)
        for corners in (shadow(low[i], high[i], plane) for i in around):
            axes[1].fill(*corners.T, fill=False, ec=colors[wide], lw=1.2)
            at = corners[corners[:, 1].argmax()]
            axes[1].annotate("cdef"[symbol - 2], at, xytext=(0, 3), textcoords="offset points", ha="center")
    for ax in axes:
        ax.set(xlabel="component 1", xmargin=0.12, ymargin=0.15)
    axes[1].locator_params(axis="x", nbins=3)
    axes[0].set_ylabel("component 2")
    return int(waited[ends].max())


def shadow(low, high, plane):
    """The corners of a box's shadow on a plane, around."""
    edges = (high - low)[:, None] * plane / 2
    edges = edges * torch.where(edges[:, 1:] < 0, -1.0, 1.0)
    edges = edges[torch.atan2(edges[:, 1], edges[:, 0]).argsort()]
    half = 2 * torch.cat((edges[:1] * 0, edges.cumsum(0))) - edges.sum(0)
    return (low + high) / 2 @ plane + torch.cat((half, -half))


def consistent(spec):
    """Consistency training of what a specification has trained: 3,000 updates, fixed before its seeds ran."""
    how = ConsistencyTraining(AdamW(0.002, Norm(1.0), noise=1.0, decay=0.0), begin=spec.updates)
    return replace(spec, updates=spec.updates + how.updates, algorithm=how)
