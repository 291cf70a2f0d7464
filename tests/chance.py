"""What chance allows: bounds that a right draw passes but once in a million, for tests with fixed seeds."""

import math

import torch

P, Z = 1e-6, 4.8916  # two-sided; Z is the normal quantile of 1 - P/2


def assert_distributed(counts, expected):
    """Pearson's chi squared of the counts is neither too large nor too small to be chance.

    Its quantiles by Wilson & Hilferty 1931: the cube root of chi squared over k degrees of freedom is nearly normal.
    """
    assert float(expected.min()) >= 5  # below, chi squared is none
    k = len(counts) - 1
    chi2 = float(((counts - expected) ** 2 / expected).sum())
    low, high = (k * max(0.0, 1 - 2 / (9 * k) + z * math.sqrt(2 / (9 * k))) ** 3 for z in (-Z, Z))
    assert low <= chi2 <= high, f"chi squared {chi2:.0f} of {k} degrees of freedom, allowed {low:.0f} to {high:.0f}"


def assert_uniform(*axes):
    """Draws of some integers are uniform on all cells of their ranges, and so independent of each other.

    Args:
        axes: pairs of draws and the range that they must fill.
    """
    cell = torch.zeros_like(axes[0][0], dtype=torch.int64)
    for drawn, of in axes:
        assert of.start <= int(drawn.min()) <= int(drawn.max()) < of.stop
        cell = cell * len(of) + drawn.long() - of.start
    cells = math.prod(len(of) for _, of in axes)
    counts = torch.bincount(cell.flatten(), minlength=cells).double()
    assert_distributed(counts, torch.full_like(counts, cell.numel() / cells))


def assert_from(drawn, distribution):
    """Kolmogorov and Smirnov's distance between draws and a distribution function; its bound is Massart's of 1990."""
    x = drawn.flatten().double().sort().values
    n = len(x)
    F, steps = distribution(x), torch.arange(n + 1) / n
    distance = max(float((steps[1:] - F).max()), float((F - steps[:-1]).max()))
    assert distance <= math.sqrt(math.log(2 / P) / (2 * n))


def assert_uncorrelated(a, b):
    """The correlation of draws that are independent has standard deviation 1/sqrt(n)."""
    a, b = a.flatten().double(), b.flatten().double()
    assert abs(float(torch.corrcoef(torch.stack((a, b)))[0, 1])) <= Z / math.sqrt(len(a))
