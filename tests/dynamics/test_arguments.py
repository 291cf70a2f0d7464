"""Numbers that make no sense are refused by name, whoever checks them."""

import pytest
import torch

from rnnlab.dynamics.jacobians import log_norms


@pytest.mark.parametrize("every", [0, -1])
def test_norms_are_of_every_so_many_factors(every):
    factors = [2.0 * torch.eye(2)[None]] * 4
    assert log_norms(factors, every=4).exp().tolist() == [[pytest.approx(16.0)]]
    with pytest.raises(ValueError, match=f"every must be a positive integer, got {every}"):
        log_norms(factors, every=every)
