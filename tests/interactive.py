"""Asks the interactive figures of a built site what they say, by keys, and holds it to what autograd says.

Pages are opened as files, as a reader does who was sent the site. Broken is: a figure that does not stand in the place
of the static one, or says anything but what the package's networks give; writing below 11 px on a phone; an error on
the console; a static figure that is not to be seen on paper, or where no script runs.
"""

import base64
import functools
import json
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray
from playwright.sync_api import Browser, Locator, Page
from torch import Tensor
from torch.nn import functional

from rnnlab import BasicTanh, Parameters, Sigmoid, Sizes, Tanh, TemporalOrder, bits
from rnnlab.book import pages
from rnnlab.descent.clipping import clip_elementwise, clip_norm
from rnnlab.dynamics.basins import basins
from rnnlab.dynamics.bifurcations import branch
from rnnlab.dynamics.jacobians import trajectory
from rnnlab.dynamics.maps import Network
from rnnlab.dynamics.surface import Unit

GIVEN = re.compile(
    r'<script type="application/json" data-interactive="(\w+)" data-over="([\w-]+)">(.*?)</script>', re.DOTALL
)
ROUNDED = 0.5 + 1e-6  # hundredths of a power of ten
CHAOS = 1e-15  # of the radius; where such a change is seen, two machines' last bits are, and nothing can be compared
SMALLEST = """(figure) => Math.min(...[...figure.querySelectorAll(".interactive :is(text, label, output)")].map(
  (text) => parseFloat(getComputedStyle(text).fontSize) * Math.hypot(text.getScreenCTM?.().a ?? 1,
    text.getScreenCTM?.().b ?? 0)))"""


def check(page: Path, opened: Browser) -> Iterator[str]:
    """Yield a sentence for everything broken in the interactive figures of the page in the file `page`."""
    yield from asked(page, opened)
    for _, name, _ in GIVEN.findall(page.read_text(encoding="utf8")):
        context = opened.new_context(java_script_enabled=False)
        yield from alone(context.new_page(), page, name)
        context.close()


def asked(page: Path, opened: Browser) -> Iterator[str]:
    """Yield what is broken where scripts run."""
    for kind, name, written in GIVEN.findall(page.read_text(encoding="utf8")):
        data, heard = json.loads(written), []
        shown = opened.new_page(viewport={"width": 390, "height": 800}, is_mobile=True, has_touch=True)
        shown.on("console", lambda message, to=heard: message.type == "error" and to.append(message.text))
        shown.on("pageerror", lambda error, to=heard: to.append(str(error)))
        yield from told(shown, page, kind, name, data)
        yield from (f"an error on the console: {error}" for error in heard)
        shown.close()


def told(shown: Page, page: Path, kind: str, name: str, data: dict[str, Any]) -> Iterator[str]:
    """Yield what is wrong with a figure that answers, and with what it says."""
    shown.goto(page.as_uri(), wait_until="load")
    figure = shown.locator(f"figure#{name}")
    box = figure.locator(".interactive")
    if box.count() != 1 or not box.is_visible() or picture(figure).is_visible():
        yield f"{name}: the interactive figure is not in the place of the static one"
        return
    if (smallest := figure.evaluate(SMALLEST)) < 11:
        yield f"{name}: its writing is {smallest:.1f} px high on a phone"
    for wrong in SAYS[kind](figure, box, data):
        yield f"{name}: {wrong}"
    shown.emulate_media(media="print")
    if box.is_visible() or not picture(figure).is_visible():
        yield f"{name}: on paper it is not the static figure"


def error_back(figure: Locator, box: Locator, data: dict[str, Any]) -> Iterator[str]:
    """Yield what is wrong with what it says, from one end of its slider to the other."""
    slider, compared = figure.get_by_role("slider"), 0
    slider.press("Home")
    for radius, networks in zip(data["radii"], data["back"], strict=True):
        given = np.cumsum(networks, axis=1)[:, ::-1]  # hundredths, networks by steps, without the last
        wanted, settled = hundredths(data["steps"], data["units"], len(networks), radius)
        compared += settled.sum()
        if not (off := np.abs(given - wanted)[settled]).max(initial=0) <= ROUNDED:
            yield f"at radius {radius} its lines are off by up to 10^{off.max() / 100:.2f}"
        least, middle, most = (f(given[:, 0]) / 100 for f in (np.min, np.median, np.max))
        says = [float(box.get_attribute(f"data-{key}") or "nan") for key in ("rho", "low", "middle", "high")]
        if float(slider.get_attribute("aria-valuetext") or "nan") != radius or says[0] != radius:
            yield f"at radius {radius} it says {says[0]}"
        if not np.allclose(says[1:], (least, middle, most), rtol=0, atol=0.0051):
            yield f"at radius {radius} it says {says[1:]}, where its lines have {[least, middle, most]}"
        words, begin = box.locator("output").inner_text(), f"{data['steps']} steps back, {left(middle)} (median of"
        if not words.startswith(begin):
            yield f"at radius {radius} it does not say '{begin}', but: {words}"
        slider.press("ArrowRight")
    if not compared:
        yield "all of its networks are chaotic, and nothing could be compared"


def walls(figure: Locator, box: Locator, data: dict[str, Any]) -> Iterator[str]:
    """Yield what is wrong with what it says of descents from some starts, and where its start is dragged to."""
    rate, threshold, w, b = (figure.locator(f"input[id$=-{name}]") for name in ("rate", "threshold", "w", "b"))
    compared, rules = 0, ["plain", "clipped", "entries"][: 3 if "look" in data else 2]
    settings = {(5.2, -2.3): (), (6.0, -2.0): ("ArrowRight",), (4.6, -2.3): ("Home",), (4.2, -2.2): ("End",)}
    for start, keys in settings.items():
        for slider, value in ((w, start[0]), (b, start[1])):
            slider.fill(str(value))
        for key in keys:
            rate.press(key)
            threshold.press(key)
        chosen = [data["rates"][int(rate.input_value())], data["thresholds"][int(threshold.input_value())]]
        if [float(s.get_attribute("aria-valuetext") or "nan") for s in (rate, threshold)] != chosen:
            yield f"at {chosen} its sliders do not say so"
        says = json.loads(box.get_attribute("data-told") or "[]")
        words = re.findall(
            r"longest step (?:about )?([\d.e⁰¹²³⁴⁵⁶⁷⁸⁹]+), error ([\d.e-]+)", box.locator("output").inner_text()
        )
        for said, word, rule in zip(says, words, rules, strict=True):
            near = (tuple(x * (1 + change) for x in start) for change in (0, 1e-13))
            paths = (descent(surface(data), begin, data["updates"], *chosen, rule) for begin in near)
            wanted, again = (told_of(data, path) for path in paths)
            if not np.allclose(wanted, again, rtol=1e-6):
                continue  # where such a change is seen, two machines' last bits are
            compared += 1
            if not np.allclose(said, wanted, rtol=1e-5, atol=1e-9):
                yield f"from {start} at {chosen} it says {said} where the package has {wanted}"
            if wanted[2] < 1e4 and not np.allclose([float(x) for x in word], wanted[2:], rtol=0.06):
                yield f"from {start} at {chosen} its words are {word} where the package has {wanted[2:]}"
        if "look" in data:
            path = descent(surface(data), start, data["updates"], *chosen, "clipped")
            yield from turned(figure, box, data, path, chosen[1])
    if compared < 3 * len(rules):
        yield f"only {compared} of its descents could be compared"
    handle, page = figure.locator(".handle"), figure.page
    handle.scroll_into_view_if_needed()
    middle = [box["x"] + box["width"] / 2, box["y"] + box["height"] / 2] if (box := handle.bounding_box()) else [0, 0]
    page.mouse.move(*middle)
    page.mouse.down()
    page.mouse.move(middle[0] + 60, middle[1] - 30)
    page.mouse.up()
    page.mouse.move(middle[0] + 68, middle[1] - 22)  # let go, and still above it
    dragged = [float(slider.input_value()) for slider in (w, b)]
    pixel = [
        (data[axis][1] - data[axis][0]) / figure.locator("svg image").evaluate(f"(map) => map.{length}.baseVal.value")
        for axis, length in (("weights", "width"), ("biases", "height"))
    ]
    if not np.allclose(dragged, [4.2 + 60 * pixel[0], -2.2 + 30 * pixel[1]], atol=0.011):
        yield f"its start was dragged to {dragged}"


@functools.cache
def descent(unit: Unit, start: tuple[float, ...], updates: int, rate: float, threshold: float, rule: str) -> Tensor:
    """The points (w, b) of a descent of the package, in float64."""
    path = [torch.tensor([start], dtype=torch.float64)]
    for _ in range(updates):
        path.append(path[-1] - rate * LEFT[rule](unit.slope(path[-1])[1], threshold))
    return torch.cat(path)


def surface(data: dict[str, Any]) -> Unit:
    """The package's."""
    return Unit(data["x_0"], data["steps"], data["target"])


LEFT = {"plain": lambda g, _: g, "clipped": clip_norm, "entries": clip_elementwise}  # of a gradient, by rule


def told_of(data: dict[str, Any], path: Tensor) -> list[float]:
    """Where a descent ends, w and b, its longest step, and its error there."""
    return [*path[-1].tolist(), path.diff(dim=0).norm(dim=-1).max().item(), surface(data).slope(path[-1])[0].item()]


def turned(figure: Locator, box: Locator, data: dict[str, Any], path: Tensor, threshold: float) -> Iterator[str]:
    """Yield what is wrong with what it says of gradients on the way of the clipped descent."""
    look, gradients = figure.locator("input[id$=-look]"), surface(data).slope(path[:-1])[1]
    for update in {1, data["look"], int(gradients.norm(dim=1).argmax()) + 1}:
        look.fill(str(update))
        g = gradients[update - 1 : update]
        rescaled, entries = clip_norm(g, threshold), clip_elementwise(g, threshold)
        angle = torch.rad2deg((entries[0, 1].atan2(entries[0, 0]) - g[0, 1].atan2(g[0, 0])).abs()).item()
        wanted = [*g[0].tolist(), *rescaled[0].tolist(), *entries[0].tolist(), angle]
        says = json.loads(box.get_attribute("data-turned") or "[]")
        # the gradient at a wall multiplies the last bits of where it is taken by some ten million
        if len(says) != 7 or not np.allclose(says, wanted, rtol=1e-4, atol=1e-5):
            yield f"of update {update} at threshold {threshold} it says {says} where the package has {wanted}"
        words, clips = box.locator("output").inner_text(), g.norm().item() > threshold
        told = f"it would be turned by {angle:.1f}°" if clips else "nothing is clipped"
        if f"Update {update} of" not in words or told not in words:
            yield f"of update {update} at threshold {threshold} it does not say '{told}', but: {words}"


def one_unit(figure: Locator, box: Locator, data: dict[str, Any]) -> Iterator[str]:
    """Yield what is wrong with what it says of fixed points on both sides of the folds, and of where starts end."""
    bias, start = (figure.locator(f"input[id$=-{name}]") for name in ("bias", "start"))
    b_2, b_1 = data["folds"]
    for b in (data["biases"][0], b_2 - 0.006, b_2 + 0.006, -2.57, -2.5, b_1 - 0.006, b_1 + 0.006, data["biases"][1]):
        bias.fill(f"{round(b / 0.005) * 0.005:.3f}")
        chosen = float(bias.input_value())
        if (bias.get_attribute("aria-valuetext") or "").replace("−", "-") != f"{chosen:.3f}":
            yield f"at bias {chosen} its slider does not say so"
        wanted = fixed_points(data["weight"], chosen)
        for key in ("Home", "End"):
            start.press(key)
            says = json.loads(box.get_attribute("data-told") or '{"points": [], "end": null}')
            points = [point["y"] for point in says["points"]]
            attract = [point["attracts"] for point in says["points"]]
            if len(points) != len(wanted) or not np.allclose(points, wanted, atol=1e-6):
                yield f"at bias {chosen} it says {points} where the package has {wanted}"
            if attract != [True, False, True][: len(wanted)]:
                yield f"at bias {chosen} it says that they attract: {attract}"
            if not math.isclose(says["end"], wanted[0 if key == "Home" else -1], abs_tol=1e-6):
                yield f"at bias {chosen} a start goes to {says['end']}, and not to one of {wanted}"
            numbers = [f"{y:.2f}" for y in (wanted if len(wanted) == 1 else [wanted[0], wanted[2], wanted[1]])]
            numbers += ["0.00" if key == "Home" else "1.00", numbers[0 if key == "Home" or len(wanted) == 1 else 1]]
            if (words := re.findall(r"(?<![−\d])\d\.\d\d(?!\d)", box.locator("output").inner_text())) != numbers:
                yield f"at bias {chosen} its words have {words}, and not {numbers}"
        drawn = figure.locator("svg circle.attracts").count(), figure.locator("svg circle.repels").count()
        if drawn != ((2, 1) if len(wanted) == 3 else (1, 0)):
            yield f"at bias {chosen} it draws {drawn} points that attract and repel"


@functools.cache
def fixed_points(weight: float, bias: float) -> tuple[float, ...]:
    """Of the package, from low to high: where its starts at 0 and at 1 end, and what lies between two."""
    side = torch.tensor([[0.0], [1.0]], dtype=torch.float64)
    found = sorted(cycle.item() for cycle in basins(unit(weight, bias), side).attractors)
    if len(found) == 2:
        repels = branch(lambda b: unit(weight, b), side.mean(dim=0), bias, low=bias, high=bias)
        found.insert(1, repels.x[0].item())
    return tuple(found)


def unit(weight: float, bias: float) -> Network:
    """What the figure draws, of the package."""
    given = (torch.tensor(x, dtype=torch.float64) for x in ([[weight]], [bias]))
    return Network(**dict(zip(("W_rec", "push"), given, strict=True)), sigma=Sigmoid(), form="h")


MAPS = {
    "Clipping the norm": "clipping_atlas",
    "Clipping entries": "clipping_atlas_entries",
    "Leaving out": "clipping_atlas_skip",
}


def atlas(figure: Locator, box: Locator, data: dict[str, Any]) -> Iterator[str]:
    """Yield what is wrong with what it says of cells, by keys and by a pointer, beside the stored networks."""
    rule, rate, threshold = (figure.locator(f"input[id$=-{name}]") for name in ("rule", "rate", "threshold"))
    cells = figure.locator("svg rect.cell")
    if cells.count() != len(data["rates"]) * len(data["thresholds"]):
        yield f"it draws {cells.count()} cells"
    for n, one in enumerate(data["rules"]):
        rule.fill(str(n))
        for i, j in [
            (i, j) for i in range(len(data["rates"])) for j in range(len(data["thresholds"])) if (i + 2 * j) % 5 == 2
        ]:
            rate.fill(str(i))
            threshold.fill(str(j))
            chosen = [one["name"], str(data["rates"][i]), str(data["thresholds"][j])]
            if [s.get_attribute("aria-valuetext") for s in (rule, rate, threshold)] != [
                c.removesuffix(".0") for c in chosen
            ]:
                yield f"at {chosen} its sliders do not say so"
            wanted = solved_at(one["name"], data["rates"][i], data["thresholds"][j], data["budget"])
            times, points = json.loads(box.get_attribute("data-told") or "{}").values()
            if times != wanted:
                yield f"at {chosen} it says {times}, where the stored networks have {wanted}"
            when = [time for time in wanted or [] if time is not None]
            stairs = [[0, 0], *([time, (k + 1) / len(wanted or [])] for k, time in enumerate(when))]
            if points != (stairs if wanted else []):
                yield f"at {chosen} its curve has {points}"
            words = box.locator("output").inner_text()
            told = (
                f"{len(when)} of {len(wanted)} networks were solved"
                if when
                else "none of 3 networks"
                if wanted
                else "yet"
            )
            if told not in words or any(f"{time:,}" not in words for time in when):
                yield f"at {chosen} it does not say '{told}', but: {words}"
    if len({cells.nth(k).get_attribute("fill") for k in range(cells.count())}) < 2:
        yield "all of its cells have one colour"
    cells.nth(len(data["thresholds"]) + 1).click(force=True)
    if [rate.input_value(), threshold.input_value()] != ["1", "1"]:
        yield f"the second cell of the second row chose {rate.input_value()} and {threshold.input_value()}"


@functools.cache
def stored_map(rule: str) -> xarray.Dataset:
    """The stored networks of a rule, over `learning_rate` and `threshold`."""
    runs = pages.stored(MAPS[rule])
    return runs.rename({name: "threshold" for name in runs.dims if str(name).endswith("limit")})


def solved_at(rule: str, rate: float, threshold: float, budget: int) -> list[int | None] | None:
    """When the stored networks of a cell were solved, in order, those that were not last; None without networks."""
    runs = stored_map(rule)
    if rate not in runs["learning_rate"] or threshold not in runs["threshold"]:
        return None
    cell = runs.sel(learning_rate=rate, threshold=threshold)
    pairs = zip(cell["first_below_1_percent"].values, cell["fresh_error"].values, strict=True)
    times = [
        int(t) if e < 0.01 and t <= budget else None
        for (t, e), run in zip(pairs, cell["run"].values, strict=True)
        if run
    ]
    return sorted(times, key=lambda time: budget + 1 if time is None else time) or None


def remembered(figure: Locator, box: Locator, data: dict[str, Any]) -> Iterator[str]:
    """Yield what is wrong with what it says of sequences read by its networks, and with how it plays one."""
    names = ("network", "order", "length", "number", "step")
    sliders = dict(zip(names, (figure.locator(f"input[id$=-{name}]") for name in names), strict=True))
    compared, last = 0, len(data["networks"]) - 1
    for network, order, length, number, back in (
        (0, 1, 0, 0, 7),
        (0, 3, 4, 2, 0),
        (last, 2, 6, 1, 0),
        (last, 0, 2, 19, 130),
    ):
        for name, value in zip(names, (network, order, length, number), strict=False):
            sliders[name].fill(str(value))
        steps = data["lengths"][length]
        if [sliders["step"].get_attribute("max"), sliders["step"].input_value()] != [str(steps)] * 2:
            yield f"at {steps} steps its slider ends at {sliders['step'].get_attribute('max')}"
        sliders["step"].fill(str(steps - back))
        says = json.loads(box.get_attribute("data-told") or "{}")
        at, symbols = sequence_of(steps, number, order)
        coded, read = data["networks"][network], tuple(symbols[: steps - back])
        wanted, again = (
            answered(coded["bytes"], coded["scale"] * (1 + near), data["units"], read) for near in (0.0, 1e-13)
        )
        if not np.allclose(wanted, again, atol=1e-6):
            continue  # where such a change is seen, two machines' last bits are
        compared += 1
        where = f"after {steps - back} of {steps} steps of sequence {number} by network {network}"
        if not np.allclose(says["shares"], wanted[-1], atol=1e-6):
            yield f"{where} it says {says['shares']} where the package has {wanted[-1]}"
        right = np.flatnonzero(wanted.argmax(axis=1)[at[1] :] == order) + at[1] + 1
        if (says["right"], says["last"]) != (len(right), right[-1].item() if len(right) else None):
            yield f"{where} it says that it was right {says['right']} times, the last {says['last']}"
        best, words = wanted[-1].argmax().item(), box.locator("output").inner_text()
        answer = " ".join("AB"[k] for k in (best % 2, best // 2))
        since = f"right at {len(right):,} of {steps - back - at[1]:,} steps"
        reads = f"reads {'ABcdef'[symbols[steps - back - 1]]}. Asked now, the network answers {answer} with"
        for told in (reads, since if steps - back > at[1] else "The second symbol is yet to come"):
            if told not in words:
                yield f"{where} it does not say '{told}', but: {words}"
    if compared < 3:
        yield f"only {compared} of its sequences could be compared"
    play = figure.get_by_role("button")
    play.press("Enter")
    for _ in range(20):
        figure.page.wait_for_timeout(100)
        if int(sliders["step"].input_value()) > 70:
            break
    play.press("Enter")
    begun = int(sliders["step"].input_value())
    figure.page.wait_for_timeout(200)
    if not 70 < begun == int(sliders["step"].input_value()):
        yield f"played from step 70 and paused it stands at {sliders['step'].input_value()}"


def sequence_of(steps: int, number: int, order: int) -> tuple[list[int], list[int]]:
    """Where the two symbols stand, from 0, and all symbols, as the task has them, by a generator of 32 bits."""
    draws, state = [], (number + 1) * 2654435761
    for count in [steps // 10] * 2 + [4] * steps:
        state = (1664525 * state + 1013904223) % 2**32
        draws.append(count * state >> 32)
    at, symbols = [steps // 10 + draws[0], steps // 2 + draws[1]], [2 + draw for draw in draws[2:]]
    symbols[at[0]], symbols[at[1]] = order % 2, order // 2
    return at, symbols


@functools.cache
def answered(coded: str, scale: float, units: int, symbols: tuple[int, ...]) -> np.ndarray:
    """Probabilities of the answers after every step, steps by 4, by the package, of weights written as bytes."""
    whole = np.frombuffer(base64.b64decode(coded), dtype="<i2")
    given = Parameters(torch.tensor(scale * whole[None], dtype=torch.float64), Sizes(6, units, 4))
    push = given.W_in[:, :, symbols].mT[:, :, None] + given.b[:, None, None]
    h = trajectory(given.W_rec, torch.zeros(1, 1, units, dtype=torch.float64), push, sigma=Tanh())[0, 1:, 0]
    return (h @ given.W_out[0].mT + given.b_out[0]).softmax(dim=1).numpy()


SAYS = {"error_back": error_back, "walls": walls, "one_unit": one_unit, "atlas": atlas, "remembered": remembered}


def alone(shown: Page, page: Path, name: str) -> Iterator[str]:
    """Yield what is wrong where no script runs."""
    shown.goto(page.as_uri(), wait_until="load")
    figure = shown.locator(f"figure#{name}")
    if figure.locator(".interactive").count() or not picture(figure).is_visible():
        yield f"{name}: without scripts it is not the static figure"


def picture(figure: Locator) -> Locator:
    return figure.locator("picture.in-light img")


@functools.cache
def hundredths(steps: int, units: int, networks: int, radius: float) -> tuple[np.ndarray, np.ndarray]:
    """What is left of the error, log10 in hundredths, networks by steps but the last; and which are not chaotic."""
    both = (sent_back(steps, units, networks, near) for near in (radius, radius * (1 + CHAOS)))
    first, again = (100 * (norms[:, :-1] / norms[:, -1:]).log10().numpy() for norms in both)
    return first, (np.abs(first - again) < 1e-6).all(axis=1)


def sent_back(steps: int, units: int, networks: int, radius: float) -> Tensor:
    """Norms of dE/dh_t, networks by steps, by autograd through a plain loop and LAPACK's eigenvalues."""
    task, seeds = TemporalOrder(steps), torch.arange(networks)
    network = BasicTanh().parameters(Sizes(task.inputs, units, task.outputs), range(networks), dtype=torch.float64)
    batch = task.chunk(seeds, torch.arange(1), batch=1, stream=bits.TEST)[0]
    norms = []
    for m in seeds.tolist():
        W_rec, W_in, b, W_out, b_out = (
            p[m] for p in (network.W_rec, network.W_in, network.b, network.W_out, network.b_out)
        )
        W_rec = W_rec * (radius / torch.linalg.eigvals(W_rec).abs().max())
        states = [torch.zeros(units, dtype=torch.float64, requires_grad=True)]
        for symbol in batch.inputs[m, :, 0].tolist():
            states.append(torch.tanh(W_rec @ states[-1] + W_in[:, int(symbol)] + b))
        error = functional.cross_entropy(W_out @ states[-1] + b_out, batch.targets[m, 0, 0].long())
        norms.append(torch.stack([delta.norm() for delta in torch.autograd.grad(error, states)]))
    return torch.stack(norms)


def left(power: float) -> str:
    """The words for what is left: one digit near 1, a power of ten far from it."""
    digits = str.maketrans("0123456789-", "⁰¹²³⁴⁵⁶⁷⁸⁹⁻")
    amount = (
        f"{float(f'{10**power:.0e}'):g}" if abs(power) < 3 else "10" + str(math.floor(power + 0.5)).translate(digits)
    )
    return f"{amount} of the error is left" if 10**power < 1.5 else f"the error is {amount} times as large"
