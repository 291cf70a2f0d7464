"""How often something happened, and how sure one can be: shares with their intervals."""

import itertools
import math
from collections.abc import Sequence

import numpy as np
import xarray
from jaxtyping import Bool, Float
from torch import Tensor

from rnnlab.training.records import EVENTS
from rnnlab.values import Count, Positive, checked, refusal


@checked
def wilson(successes: int, trials: Count, *, z: Positive = 1.959964) -> tuple[float, float]:
    """Wilson's interval for a success rate, 95 % unless told otherwise.

    Args:
        successes: how many.
        trials: of how many; at least 1.
        z: normal quantile of the interval.

    Raises:
        ValueError: there was no trial, or more successes than trials.

    Source:
        Wilson 1927, "Probable inference, the law of succession, and statistical inference".
    """
    if not 0 <= successes <= trials:
        raise ValueError(f"successes must be from 0 to trials, and trials at least 1, got {successes} of {trials}")
    share, weight = successes / trials, z * z / trials
    middle = (share + weight / 2) / (1 + weight)
    half = z / (1 + weight) * math.sqrt(share * (1 - share) / trials + weight / (4 * trials))
    # The ends that are 0 and 1 exactly would otherwise miss them by a rounding error.
    return (middle - half if successes else 0.0), (middle + half if successes < trials else 1.0)


@checked
def mcnemar(one: Bool[Tensor, "M"], other: Bool[Tensor, "M"]) -> float:
    """p of McNemar's exact test, two-sided: whether something happens as often to one of a pair as to the other.

    Only pairs to which it happened once tell, and if it is as often, to either with a chance of one half.

    Args:
        one: whether it happened to the first of each pair.
        other: to the second.

    Source:
        McNemar 1947, "Note on the sampling error of the difference between correlated proportions or percentages".
    """
    first, second = int((one & ~other).sum()), int((other & ~one).sum())
    tail = sum(math.comb(first + second, k) for k in range(min(first, second) + 1))
    return min(1.0, 2 * tail / 2 ** (first + second))


@checked
def wilcoxon(d: Float[np.ndarray, "M"]) -> float:
    """p of Wilcoxon's signed-rank test, two-sided, by its normal limit: whether differences lie evenly about 0.

    Those that are 0 tell nothing; without any other p is 1.

    Args:
        d: of each pair, in any unit.

    Source:
        Wilcoxon 1945, "Individual comparisons by ranking methods".
    """
    size = np.abs(d[d != 0])
    rank = (size[:, None] > size).sum(axis=1) + ((size[:, None] == size).sum(axis=1) + 1) / 2
    return math.erfc(abs((np.sign(d[d != 0]) * rank).sum()) / math.sqrt(2 * max(1.0, (rank**2).sum())))


@checked
def sign_flips(d: Float[np.ndarray, "M"]) -> float:
    """p of Fisher's sign-flip test, one-sided: the share of all 2^M ways to sign differences whose sum is as large.

    Args:
        d: of each pair, in any unit; where one is not a number p is 1.

    Raises:
        ValueError: more than 20 pairs, whose signs are too many to try.

    Source:
        Fisher 1935, "The Design of Experiments", section 21.
    """
    if len(d) > 20:
        raise ValueError(f"d must be of at most 20 pairs, whose signs are all tried, got {len(d)}")
    if not np.isfinite(d).all():
        return 1.0
    sums = np.zeros(1)
    for size in np.abs(d):
        sums = np.concatenate([sums + size, sums - size])
    return float((sums >= d.sum() - 1e-9 * np.abs(d).sum()).mean())


@checked
def jonckheere(x: Float[np.ndarray, "M L"]) -> float:
    """p of as many pairs that rise from a column to a later one within the rows, one-sided, by the normal limit.

    It is the chance if each row's values were exchanged at random.

    Args:
        x: a row for each seed, a column for each of up to seven values of what it may rise with.

    Raises:
        ValueError: there are more columns.

    Source:
        Jonckheere 1954, "A distribution-free k-sample test against ordered alternatives", with rows as blocks.
    """
    if x.shape[1] > 7:
        raise refusal("x", "of at most 7 columns, whose orders are all tried", x.shape)
    one, two = np.triu_indices(x.shape[1], 1)
    orders = [list(order) for order in itertools.permutations(range(x.shape[1]))]
    S = np.stack([np.sign(x[:, order][:, two] - x[:, order][:, one]).sum(axis=1) for order in orders])
    return math.erfc(S[0].sum() / math.sqrt(2 * max(1.0, (S**2).mean(axis=0).sum()))) / 2


@checked
def holm(p: Sequence[float]) -> np.ndarray:
    """Values of p corrected for their number, by Holm's steps, in their order.

    Source:
        Holm 1979, "A simple sequentially rejective multiple test procedure".
    """
    order = np.argsort(p)
    steps = np.maximum.accumulate(np.array(p)[order] * np.arange(len(p), 0, -1))
    return steps.clip(max=1)[order.argsort()]


@checked
def ran(runs: xarray.Dataset) -> xarray.DataArray:
    """Which networks there are, over the dimensions of `runs["run"]`.

    A grid may have more seeds in one cell than in another; a network that was not trained has no name there.

    Args:
        runs: what `run` or `gather` returned, or several such combined.
    """
    return runs["run"].notnull() & (runs["run"] != "")


@checked
def complete(runs: xarray.Dataset) -> xarray.DataArray:
    """Which cells have as many networks as the fullest one of their length.

    Args:
        runs: what `run` or `gather` returned, over `init`, `algorithm`, `length` and `seed`.
    """
    networks = ran(runs).sum("seed")
    return (networks == networks.max(("init", "algorithm"))) & (networks > 0)


@checked
def leads(rates: xarray.DataArray, one: str, *, floor: float = 0.0) -> xarray.DataArray:
    """By how much an algorithm's success rate exceeds the best other one; NaN where that says nothing.

    It says nothing where all solve at most the share `floor` of their networks, or all at least 1 - `floor`, of a
    positive `floor`.

    Args:
        rates: over `algorithm` and other dimensions.
        one: label of the algorithm.
        floor: dimensionless.
    """
    mute = (rates <= floor).all("algorithm") | ((rates >= 1 - floor).all("algorithm") & (floor > 0))
    return (rates.sel(algorithm=one) - rates.drop_sel(algorithm=one).max("algorithm")).where(~mute)


@checked
def regression(y: xarray.DataArray, causes: xarray.Dataset, *, draws: int = 2_000) -> xarray.Dataset:
    """Slopes of `y` on its causes at once, by least squares, with 95 % intervals by resampling whole seeds.

    Networks of one seed begin with the same weights and see the same sequences, so that the seed is the independent
    unit; a seed may be that of many networks, or of none.

    Args:
        y: over `network`, with the coordinate `seed`.
        causes: over `network`, too.
        draws: samples of seeds.

    Returns:
        `slope`, `low` and `high` over `cause` (units of `y` per unit of the cause).
    """
    table = np.stack([np.ones(y.size), *(causes[name].values for name in causes)], axis=1)
    seeds, which = np.unique(y["seed"], return_inverse=True)
    of_seed = np.eye(len(seeds))[which]
    products, sums = (np.einsum("ns,ni,nj->sij", of_seed, table, x) for x in (table, y.values[:, None]))
    drawn = np.random.default_rng(0).integers(0, len(seeds), (draws, len(seeds)))
    often = np.vstack([np.ones(len(seeds)), (drawn[..., None] == np.arange(len(seeds))).sum(axis=1)])  # draws, seeds
    normal, right = (np.einsum("ds,sij->dij", often, x) for x in (products, sums))
    slopes = (np.linalg.pinv(normal, rcond=1e-12, hermitian=True) @ right)[:, 1:, 0]
    low, high = np.quantile(slopes[1:], (0.025, 0.975), axis=0)
    ends = {"slope": ("cause", slopes[0]), "low": ("cause", low), "high": ("cause", high)}
    return xarray.Dataset(ends, {"cause": list(causes)})


@checked
def trend(won: xarray.DataArray, *, draws: Count = 10_000) -> xarray.Dataset:
    """Whether something is won more often at longer sequences, by comparisons within seeds.

    Conditional logistic regression: each seed has odds of its own, of which one unit of length changes the logarithm by
    the slope. Its p is that of as many wins at long sequences if lengths were exchanged within seeds, one-sided, of
    those lengths at which somebody won.

    Args:
        won: 1 or 0, NaN where nobody won, over `length` (units of the slope), `seed` and more.
        draws: of exchanged lengths.

    Returns:
        `slope`, infinite if every seed won at its longest or its shortest alone, and `p`; both NaN if none won at one
        length and lost at another.

    Source:
        Breslow & Day 1980, "Statistical methods in cancer research", vol. 1, section 7.1.
    """
    table = won.transpose("seed", "length", ...).values.reshape(won.sizes["seed"], won.sizes["length"], -1)
    said, lengths, rng = ~np.isnan(table), won["length"].values.astype(float), np.random.default_rng(0)
    at = np.broadcast_to(lengths[:, None], table.shape[1:])
    pairs = [(at[there], wins[there].astype(bool)) for wins, there in zip(table, said, strict=True)]
    pairs = [(where, wins) for where, wins in pairs if 0 < wins.sum() < len(wins) and np.ptp(where) > 0]
    if not pairs:
        return xarray.Dataset({"slope": np.nan, "p": np.nan})
    sums = [np.array([sum(some) for some in itertools.combinations(where, wins.sum())]) for where, wins in pairs]
    seen = sum(where[wins].sum() for where, wins in pairs)
    ends = sum(some.min() for some in sums), sum(some.max() for some in sums)
    slope = {ends[0]: -math.inf, ends[1]: math.inf}.get(seen, 0.0)
    for _ in range(100 * math.isfinite(slope)):  # Newton's steps
        odds = [np.exp(slope * some - (slope * some).max()) for some in sums]
        means = [np.average(some, weights=each) for some, each in zip(sums, odds, strict=True)]
        spread = sum(np.average((x - m) ** 2, weights=w) for x, m, w in zip(sums, means, odds, strict=True))
        slope += np.clip((seen - sum(means)) / spread, -1 / np.ptp(lengths), 1 / np.ptp(lengths))
    above = np.where(said, table - np.nanmean(table, axis=(1, 2), keepdims=True), 0.0).sum(axis=2)  # seed length
    moved = np.tile(lengths, (draws, len(above), 1))
    for s, there in enumerate(said.any(axis=2)):  # those at which the seed says something
        moved[:, s, there] = rng.permuted(moved[:, s, there], axis=1)
    chance = np.einsum("sl,dsl->d", above, moved) >= (above * lengths).sum() - 1e-9
    return xarray.Dataset({"slope": slope, "p": (1 + chance.sum()) / (1 + draws)})


@checked
def log_rank(one: xarray.DataArray, other: xarray.DataArray, *, draws: Count = 10_000) -> float:
    """p of a log-rank test of pairs, two-sided: whether something happens sooner to one of a pair than to the other.

    The chance of as much more or less than is expected of those to whom it has not happened yet, summed over strata,
    if the two of a pair were exchanged: a seed's in all strata at once, since they are no pairs of their own.

    Args:
        one: update at which it happened, NaN if not by the end, over `seed` and what divides into strata.
        other: of the other of each pair, likewise.
        draws: of exchanges.

    Source:
        Mantel 1966, "Evaluation of survival data and two new rank order statistics arising in its consideration".
    """
    sides = [side.transpose("seed", ...).fillna(np.inf).values.reshape(one.sizes["seed"], -1) for side in (one, other)]
    times = np.stack(sides)  # 2 S strata
    score = np.isfinite(times).astype(float)
    for stratum in range(times.shape[2]):
        when = times[..., stratum]
        for update in np.unique(when[np.isfinite(when)]):
            score[..., stratum] -= (when >= update) * (when == update).sum() / (when >= update).sum()
    apart = (score[0] - score[1]).sum(axis=1)
    chance = np.abs(np.random.default_rng(0).choice([-1.0, 1.0], (draws, len(apart))) @ apart)
    return float((1 + (chance >= abs(apart.sum()) - 1e-9).sum()) / (1 + draws))


@checked
def at_lowest(runs: xarray.Dataset, *, by: str = "validation_loss", dim: str = "check") -> xarray.Dataset:
    """What was taken down where one series of each network is lowest; its first value where that is never a number.

    Args:
        runs: series of networks over `dim`, and what else there is.
        by: the series, in any unit; NaN is beyond all numbers.
        dim: dimension of the series: checks, or epochs.
    """
    return runs.isel({dim: runs[by].fillna(np.inf).argmin(dim)})


@checked
def success(runs: xarray.Dataset, *, event: str = "first_below_1_percent") -> xarray.Dataset:
    """The share of seeds that got there, with Wilson's 95 % interval.

    Args:
        runs: what `run`, `gather` or `rnnlab.train` returned; only networks that `ran` count, all if unnamed.
        event: an outcome that holds an update (updates), NaN where it did not happen; or "fresh_below_1_percent", by
            `fresh_error`, among the networks that have it or diverged.

    Returns:
        `rate`, `low` and `high` (dimensionless) and `trials` over the dimensions of `runs[event]` but `seed`; NaN where
        nothing was run.

    Raises:
        ValueError: `runs` has no such outcome.

    Source:
        Wilson 1927, for the interval.
    """
    if event == "fresh_below_1_percent" and "fresh_error" in runs:
        fresh = runs["fresh_error"]
        reached, tested = fresh < 0.01, fresh.notnull() | runs["diverged_at"].notnull()
    elif event in EVENTS and event in runs:
        reached, tested = runs[event].notnull(), xarray.ones_like(runs[event], dtype=bool)
    else:
        raise ValueError(f"event must be one of {[*EVENTS, 'fresh_below_1_percent']} that runs holds, got {event!r}")
    if "seed" not in reached.dims:
        raise ValueError(f"runs must have a dimension seed, got {dict(runs.sizes)}")
    count, trials = reached.sum("seed"), (tested & ran(runs) if "run" in runs else tested).sum("seed")
    interval = np.vectorize(lambda k, n: wilson(k, n) if n else (np.nan, np.nan), otypes=[float, float])
    low, high = xarray.apply_ufunc(interval, count, trials, output_core_dims=[[], []])
    rates = xarray.Dataset({"rate": count / trials.where(trials > 0), "low": low, "high": high, "trials": trials})
    for name, text in (("rate", "success rate"), ("low", "Wilson 95 %, lower end"), ("high", "Wilson 95 %, upper end")):
        rates[name].attrs = {"long_name": text, "units": "1"}
    return rates
