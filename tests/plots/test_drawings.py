"""The drawings name what they show, in the colours that belong to it."""

import matplotlib

matplotlib.use("Agg")

from matplotlib import pyplot as plt
from matplotlib.colors import to_hex
from matplotlib.patches import FancyArrowPatch

from rnnlab.plots import drawings


def labels(axes):
    return sorted(text.get_text() for text in axes.texts if text.get_text())


def arrows(axes, **properties):
    found = [patch for patch in axes.patches if isinstance(patch, FancyArrowPatch)]
    return [patch for patch in found if all(getattr(patch, f"get_{k}")() == v for k, v in properties.items())]


def test_the_recurrent_network_names_its_variables_and_its_three_connections():
    _, axes = plt.subplots()
    assert drawings.recurrent(axes) is axes
    loop = "$W_{\\mathrm{rec}}$,\none step\nlater"
    assert labels(axes) == sorted(["$u_t$", "$x_t$", "$E_t$", r"$W_{\mathrm{in}}$", "$L$", loop])
    assert len(arrows(axes)) == 3


def test_the_unrolled_network_has_one_thick_path_with_the_factors_of_one_temporal_contribution():
    _, axes = plt.subplots()
    assert drawings.unrolled(axes) is axes
    steps = ("t-1", "t", "t+1")
    variables = [f"${name}_{{{t}}}$" for name in "uxE" for t in steps]
    errors = [rf"$\frac{{\partial E_{{{t}}}}}{{\partial x_{{{t}}}}}$" for t in steps]
    jacobians = [r"$\frac{\partial x_t}{\partial x_{t-1}}$", r"$\frac{\partial x_{t+1}}{\partial x_t}$"]
    immediate = [r"$\frac{\partial^{+} x_{t-1}}{\partial \theta}$"]
    assert labels(axes) == sorted(variables + errors + jacobians + immediate)
    # Error to state, two steps back, state to parameters.
    assert len(arrows(axes, linewidth=2.6)) == 4


def test_the_network_forward_has_an_arrow_into_every_state_and_one_out_of_the_last():
    _, axes = plt.subplots()
    assert drawings.forward(axes) is axes
    variables = ["$h_0$", "$h_1$", "$h_2$", "…", "$h_T$", "$y$", "$u_1$", "$u_2$", "$u_T$"]
    assert labels(axes) == sorted(
        [*variables, *3 * [r"$W_{\mathrm{in}}$"], *2 * [r"$W_{\mathrm{rec}}$"], r"$W_{\mathrm{out}}$"]
    )
    assert len(arrows(axes)) == 8  # from inputs, between states with the gap before h_T, and to the outputs


def test_a_sequence_has_a_box_for_every_symbol_and_shades_its_windows():
    _, axes = plt.subplots()
    assert drawings.sequence(axes, "cAdBe", {"first": range(1, 3), "second": range(3, 4)}) is axes
    assert labels(axes) == sorted([*"cAdBe", "first", "second", "$t=1$", "$t=5$"])
    assert [text.get_text() for text in axes.texts if text.get_weight() == "bold"] == ["A", "B"]
    boxes = [patch for patch in axes.patches if to_hex(patch.get_facecolor(), keep_alpha=True).endswith("00")]
    assert [box.get_x() for box in boxes] == [0, 1, 2, 3, 4]
    shaded = [patch for patch in axes.patches if patch not in boxes]
    assert [(patch.get_x(), patch.get_width()) for patch in shaded] == [(1, 2), (3, 1)]


def test_what_the_network_computes_has_the_colour_of_the_text():
    with plt.rc_context({"text.color": "#123456"}):
        _, axes = plt.subplots()
        drawings.unrolled(axes)
    coloured = {to_hex(patch.get_edgecolor()) for patch in axes.patches}
    assert coloured == {"#123456", drawings.BACKWARD.lower()}
