"""Maps against autograd, each other's forms, and the recursions that they stand for."""

import pytest
import torch
from torch.autograd.functional import jacobian

from rnnlab.dynamics import jacobians
from rnnlab.dynamics.maps import Function, Map, Network, check_jacobian, orbit
from rnnlab.network.cells import Linear, Sigmoid, Tanh
from tests.dynamics import known
from tests.own import Softsign

SIGMAS = [Tanh(), Sigmoid(), Linear(), Softsign()]


def draw(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("sigma", SIGMAS, ids=repr)
@pytest.mark.parametrize("form", ["x", "h"])
def test_a_step_and_its_jacobian_are_those_of_the_form_and_autograds(form, sigma):
    W, push, x = draw(4, 4), draw(4, seed=1), draw(3, 2, 4, seed=2)
    map = Network(W_rec=W, push=push, sigma=sigma, form=form)
    J, after = map.jacobian(x), map.step(x)
    assert J.shape == (3, 2, 4, 4)
    for s in range(3):
        for k in range(2):
            by_hand = (lambda z: W @ sigma(z) + push) if form == "x" else (lambda z: sigma(W @ z + push))
            torch.testing.assert_close(after[s, k], by_hand(x[s, k]), rtol=1e-13, atol=1e-14)
            torch.testing.assert_close(J[s, k], jacobian(by_hand, x[s, k]), rtol=1e-13, atol=1e-14)


def test_the_two_forms_are_one_system_seen_before_and_after_sigma():
    W, push, x = draw(4, 4), draw(4, seed=1), draw(5, 4, seed=2)
    before, after = (Network(W_rec=W, push=push, sigma=Tanh(), form=form) for form in "xh")
    torch.testing.assert_close(before.step(x).tanh(), after.step(x.tanh()), rtol=1e-13, atol=1e-14)


def test_a_driven_network_is_one_map_for_each_push_and_its_orbit_that_of_equation_2():
    W, x_0, pushes = draw(3, 3), draw(4, 3, seed=1), draw(6, 4, 3, seed=2)
    network = Network(W_rec=W, push=torch.zeros(3), sigma=Tanh())
    got = orbit(network.driven(pushes), x_0)
    want = jacobians.trajectory(W[None], x_0[None], pushes[None], sigma=Tanh())[0]
    torch.testing.assert_close(got.tanh(), want, rtol=1e-13, atol=1e-14)
    torch.testing.assert_close(network.driven(pushes)[2].step(x_0)[1], W @ x_0[1].tanh() + pushes[2, 1])


def test_all_is_in_float64_whatever_came():
    network = Network(W_rec=torch.eye(2), push=torch.zeros(2), sigma=Tanh())
    assert orbit([network], torch.ones(3, 2)).dtype == network.W_rec.dtype == torch.float64


def test_an_orbit_that_diverges_says_so_in_its_numbers():
    end = orbit([known.logistic(4.0)] * 20, known.real([0.3], [2.0]))[-1, :, 0]
    assert end.isfinite().tolist() == [True, False]


@pytest.mark.parametrize("map", [known.henon(1.4), known.delayed(2.0), known.logistic(3.7), known.doya(-2.5)])
def test_a_right_jacobian_passes_and_a_wrong_one_is_named(map):
    x = draw(5, map.N)
    assert isinstance(map, Map)
    assert check_jacobian(map, x) < 1e-8
    for wrong in (lambda z: -map.jacobian(z), lambda z: map.jacobian(z) + 1e-3):
        with pytest.raises(ValueError, match="jacobian must be the derivative of step, got one that is off by"):
            check_jacobian(Function(map.step, wrong, map.N), x)


def test_the_transposed_jacobian_is_found():
    with pytest.raises(ValueError, match="jacobian must be the derivative"):
        check_jacobian(Function(known.delayed(2.0).step, lambda z: known.delayed(2.0).jacobian(z).mT, 2), draw(3, 2))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"W_rec": torch.full((2, 2), torch.nan)}, "W_rec must be finite"),
        ({"push": torch.tensor([0.0, torch.inf])}, "push must be finite"),
        ({"form": "y"}, "form must be 'x' or 'h', got 'y'"),
    ],
)
def test_a_network_refuses_what_does_not_fit(change, said):
    good = {"W_rec": torch.eye(2), "push": torch.zeros(2), "sigma": Tanh()}
    Network(**good)
    with pytest.raises(ValueError, match=said):
        Network(**good | change)


def test_functions_of_another_shape_and_states_of_another_map_are_refused():
    summing = Function(lambda x: x.sum(-1), lambda x: x, N=2)
    with pytest.raises(ValueError, match=r"f must be a function to tensors of shape \(3, 2\) here, got"):
        summing.step(draw(3, 2))
    with pytest.raises(ValueError, match=r"df must be a function to tensors of shape \(3, 2, 2\) here, got"):
        summing.jacobian(draw(3, 2))
    with pytest.raises(ValueError, match=r"x_0 must have the 2 numbers of the map's states last, got shape \(3, 3\)"):
        orbit([known.henon(1.4)], draw(3, 3))
