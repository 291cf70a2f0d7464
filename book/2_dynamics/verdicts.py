"""What is proved of the networks of 2_dynamics/every_length: trains what is missing, and writes a table.

`python book/2_dynamics/verdicts.py NAME ...` does so for some of the results in the manifest; all, unless told.
Networks come from the store that RNNLAB_STORE names, or are trained into it; with `--stored` those that are not
there are left out.
"""

import sys
from datetime import UTC, datetime

import numpy as np
import torch
import xarray

from rnnlab import Ensemble, Start, Store, TemporalOrder, bits, train
from rnnlab.book import pages
from rnnlab.dynamics.backward import signal
from rnnlab.dynamics.every_length import prove
from rnnlab.naming import digest
from rnnlab.sweeps.results import manifest
from rnnlab.sweeps.summaries import write_table
from rnnlab.training.loop import finished

RESULTS = [f"every_length_{name}" for name in ("8", "16", "50", "alpha", "clock")]
TESTED = {20: 200, 200: 200, 1000: 100}  # sequences, by length in steps


def columns(result, spec, seeds):
    """The rows of some networks, as columns, and their parameters."""
    runs = train(spec, seeds=seeds, store=Store(), device="cpu", progress=False)
    theta = runs["theta"].values
    networks = Ensemble(spec, seeds, start=Start(theta, spec.updates), device="cpu")
    found = prove(networks.parameters, TemporalOrder(50))
    batch = TemporalOrder(30).chunk(networks._seeds, torch.arange(1), batch=200, stream=bits.TEST)[0]
    kept = signal(networks.parameters, batch, loss=spec.task.loss, sigma=spec.sigma).kept[:, 1].clamp(min=1e-300)
    outcomes = [verdict.outcome for verdict in found]
    method = getattr(spec.algorithm, "methods", [spec.algorithm])[0]
    alpha = method.alpha.value if method.omega else np.nan
    told = {
        "result": [result] * len(seeds),
        "updates": [spec.updates] * len(seeds),
        "alpha": [alpha] * len(seeds),
        "seed": seeds,
        "digest": [digest(row.tobytes().hex()) for row in theta],
        "outcome": outcomes,
        "length": [verdict.length for verdict in found],
        "margin": [float(verdict.margin) for verdict in found],
        "word": [len(verdict.word) for verdict in found],
        "error": runs["fresh_error"].values,
        "error_longest": runs["fresh_error_longest"].values,
        "log10_kept": kept.log10().mean(dim=1).numpy(),
    }
    for length, count in TESTED.items():
        told[f"error_{length}"] = networks.errors(count, stream=bits.TEST, task=TemporalOrder(length)).numpy()
    said = ", ".join(f"{outcomes.count(kind)} {kind}" for kind in ("proved", "refuted", "open"))
    print(f"{result}, {spec.updates:,} updates, alpha {alpha}: {said}", flush=True)
    return told, theta, runs.attrs


def main(names, *, stored):
    """Write a table of each result."""
    for result in manifest(pages.RESULTS, only=names).values():
        specs = [spec.with_(updates=n) for spec in result.specs.values.flat for n in sorted({60_000, spec.updates})]
        seeds, store = list(result.seeds), Store()
        specs = [spec for spec in specs if not stored or finished(spec, seeds, store) is not None]
        parts = [columns(result.name, spec, seeds) for spec in specs]
        told = {name: ("network", np.concatenate([part[0][name] for part in parts])) for name in parts[0][0]}
        attrs = {name: parts[-1][2][name] for name in ("engine", "device", "torch")}
        attrs |= {"date": datetime.now(UTC).isoformat(timespec="seconds")}
        attrs |= {"command": f"python book/2_dynamics/verdicts.py {result.name}"}
        theta, proved = np.concatenate([part[1] for part in parts]), np.flatnonzero(told["outcome"][1] == "proved")
        kept = proved if theta.shape[1] < 1_000 else proved[-2:]  # of large ones no more than there is room for
        told |= {"theta": (("kept", "parameter"), theta[kept]), "kept_network": ("kept", kept)}
        write_table(xarray.Dataset(told, attrs=attrs), pages.RESULTS / f"{result.name}_verdicts.summary")


if __name__ == "__main__":
    main([name for name in sys.argv[1:] if name != "--stored"] or RESULTS, stored="--stored" in sys.argv)
