"""What the raw numbers of the benchmarks come to, for the book: its roofline, the rows of its tables, its prose."""

from collections.abc import Mapping
from typing import Any

Raw = Mapping[str, Any]

PEERS = {
    "fused": "`rnnlab`'s kernel, one network a core",
    "avx2": "the same, compiled for AVX2",
    "jax": "JAX, `jit(vmap(scan))`, backward by hand, 64 networks",
    "batched": "`rnnlab` in PyTorch, `bmm` over networks, backward by hand",
    "vmap": "`torch.func.vmap` over networks, of `grad`",
    "nn_rnn": "`torch.nn.RNN` with clipping, without $\\Omega$",
    "eager": "an eager PyTorch loop, one network after another",
}
VARIANTS = {
    "strides at run time": "the number of units is known only at run time, not when the kernel is compiled",
    "16 lanes": "vectors of 16 lanes instead of 8, which pad to 64 units instead of 56",
    "8 lanes": "vectors of 8 lanes instead of 16",
    "the compiler's own tuning": "the compiler's tuning for this processor instead of its generic one",
    "avx2": "AVX2, with half as many registers, of 8 lanes",
}
POINTS = {"batched": "batched", "vmap": "torch.func.vmap", "nn_rnn": "nn.RNN", "eager": "eager loop"}
REGISTERS = 65_536  # of a multiprocessor, handed to a warp in units of 8 for each of its 32 threads


def useful(*, B: int, N: int, T: float, I: int = 0, O: int = 0) -> float:
    """Operations of an update that count: at each step three products of B N by N N, two by N I, three by N O.

    Args:
        B: sequences.
        N: units.
        T: steps, the mean where they differ.
        I: real inputs; symbols, whose rows are gathered, are none.
        O: outputs at every step; a loss at the last step has none.
    """
    return 2 * B * N * T * (3 * N + 2 * I + 3 * O)


def moved(*, B: int, width: int, T: int) -> int:
    """Bytes of history that the fused engine reads and writes in an update: six times a float32 of a padded row."""
    return 6 * 4 * B * width * T


def bandwidths(raw: Raw) -> dict[str, float]:
    """Bytes per second that a core reads from each cache, half of which it reads, and from memory."""
    reading = dict(raw["roofline"]["reading"])
    near = {name: reading[size // 2] for name, size in raw["machine"]["caches"].items()}
    return near | {"memory": reading[max(reading)]}


def rates(raw: Raw) -> dict[str, float]:
    """Operations per second of a core, at most: in registers, and in torch's product of two large matrices."""
    _, seconds, _ = raw["one_core"]["ms"]["product"]
    best = max(raw["roofline"]["multiply_adds"].values())
    return {"multiply-adds in registers": best, "PyTorch's product": 2 * 1024**3 / (seconds * 1e-3)}


def points(raw: Raw) -> list[tuple[str, int, float, float]]:
    """Who, of how many units: useful operations per byte, and per second of one core, in the least time."""
    case, alone = raw["case"], raw["one_core"]
    B, width = case["B"], raw["kernel"]["width"]
    found = []
    for row in alone["sizes"]:
        N, T = row["N"], row["T"]
        does, bytes_ = useful(B=B, N=N, T=T), moved(B=B, width=width[str(N)], T=T)
        found.append(("fused", N, does / bytes_, does / (row["fused"][1] * 1e-3)))
    does = useful(B=B, N=case["N"], T=case["T"])
    for name, who in POINTS.items():
        found.append((who, case["N"], does / raw["bytes"][name], does / (alone["ms"][name][1] * 1e-3)))
    return found


def parts(raw: Raw) -> dict[str, float]:
    """Milliseconds of what an update on one core is made of, by leaving parts out; their sum is `all`."""
    case, alone = raw["case"], {name: low for name, (_, low, _) in raw["one_core"]["ms"].items()}
    products = useful(B=case["B"], N=case["N"], T=case["T"]) / max(rates(raw).values()) * 1e3
    found = {
        "three products at the ceiling": products,
        "the same for the padding": products * (raw["kernel"]["width"][str(case["N"])] / case["N"] - 1),
        "tanh and its slope (against linear units)": alone["fused"] - alone["linear units"],
        "$\\Omega$ (against MSGD-C)": alone["fused"] - alone["without omega"],
        "sampling": alone["sampling"],
    }
    rest = "rest: history, edges of tiles, norms, clipping, step"
    return found | {rest: alone["fused"] - sum(found.values()), "all": alone["fused"]}


def told(raw: Raw) -> dict[str, Any]:
    """What the page's prose says, by the names that it uses."""
    case, ratio, machine, kernel = (raw[key] for key in ("case", "ratio", "machine", "kernel"))
    B, N, T = (case[name] for name in "BNT")
    alone = {name: low for name, (_, low, _) in raw["one_core"]["ms"].items()}
    at = {row["T"]: row["fused"][1] for row in raw["one_core"]["sizes"] if row["N"] == N}
    (peak, matrix), near, width = rates(raw).values(), bandwidths(raw), kernel["width"][str(N)]
    high, wide = kernel["rows"], kernel["panel"] * kernel["lanes"]
    history, step = moved(B=B, width=width, T=T), 4 * B * width
    slower = [c["ms"]["jax"][0] / c["ms"]["fused"][0] for c in raw["cases"]]
    missed = [target["what"] for target in raw["targets"].values() if target["verdict"] == "floor missed"]
    return {
        **{name: case[name] for name in ("N", "B", "T", "members", "rounds")},
        **{name: ratio[name] for name in ("matmul", "eager", "jax")},
        **{f"version {name}": version for name, version in raw["versions"].items()},
        **{f"ms {name}": history / near[name] * 1e3 for name in ("L2", "L3", "memory")},
        **{f"GB {name}": bandwidth / 1e9 for name, bandwidth in near.items()},
        **{f"kB {name}": size / 1024 for name, size in machine["caches"].items()},
        **{f"small {name}": 4 * peak / near[name] for name in ("L2", "L3", "memory")},
        **{f"peak {lanes}": raw["roofline"]["multiply_adds"][lanes] / 1e9 for lanes in ("8", "16")},
        "date": raw["date"],
        "processor": machine["processor"],
        "cores": machine["cores"],
        "vector": "with AVX-512" if machine["avx512"] else "without AVX-512",
        "least": min(slower),
        "most": max(slower),
        "ms eager": alone["eager"],
        "ms bytes": raw["bytes"]["eager"] / near["L2"] * 1e3,
        "ms fused": alone["fused"],
        "high": high,
        "wide": wide,
        "both": high + wide,
        "each": high * wide,
        "kB weights": 4 * N * width / 1024,
        "kB step": step / 1024,
        "kB history": 2 * (T + 1) * step / 1024,
        "moved": history / 1e6,
        "held": ratio["memory_per_member"] / 1e6,
        "longer": at[max(at)] / at[T],
        "peak": peak / 1e9,
        "matrix": matrix / 1e9,
        "matrix share": matrix / peak,
        "lanes": kernel["lanes"],
        "width": width,
        "padding": 1 - N / width,
        "ceiling": peak / matrix * N / width,
        "does": useful(B=B, N=N, T=T) / (alone["fused"] * 1e-3) / matrix,
        "missed": "; ".join(missed) or "none",
    }


def derived(raw: Raw) -> dict[str, Any]:
    """What the page shows of a stored bench, beside its raw numbers."""
    ms, alone = raw["ms"], {name: low for name, (_, low, _) in raw["one_core"]["ms"].items()}
    taken = [name for name in VARIANTS if name in alone]
    _, jax, _ = ms["jax"]
    does = useful(B=raw["case"]["B"], N=raw["case"]["N"], T=raw["case"]["T"])
    return {
        "told": told(raw),
        "rates": rates(raw),
        "bandwidths": bandwidths(raw),
        "points": points(raw),
        "jax_per_core": does / (jax * 1e-3) / raw["machine"]["cores"],
        "peers": [(PEERS[name], *ms[name], ms[name][0] / ms["fused"][0]) for name in PEERS if name in ms],
        "parts": [(name, part, part / alone["fused"]) for name, part in parts(raw).items()],
        "variants": [(VARIANTS[name], alone[name], alone[name] / alone["fused"] - 1) for name in taken],
    }


def bounded(report: Raw) -> dict[str, Any]:
    """What the page shows of a stored report on the GPU engine's machine code; the first case is the prose's."""
    first = report["cases"][0]
    gpu = report["gpus"][first["gpu"]]
    names = ("registers", "warps", "microseconds", "barriers")
    registers = 8 * -(-first["registers"] // 8)
    return {
        "told": {
            **{f"gpu {name}": report[name] for name in ("date", "triton")},
            **{name: first[name] for name in names},
            **first["floor"],
            "gpu": first["gpu"],
            "bound": first["network_steps_per_second"] / 1e6,
            "shared": first["shared"] / 1024,
            "resident": REGISTERS // (32 * first["warps"] * registers),
            "clock": gpu["clock"] / 1e9,
            "multiprocessors": gpu["multiprocessors"],
        },
        "bounds": [_bound(case, first) for case in report["cases"]],
    }


def _bound(case: Raw, first: Raw) -> tuple[str, int, int, int, float]:
    """Name, with what sets a case apart from the first; registers, bytes of stack, cycles, million steps a second."""
    name = [case["gpu"], f"{case['N']} units", case["algorithm"]]
    name += [case["task"]] * (case["task"] != first["task"])
    name += [case["precision"]] * (case["precision"] != first["precision"])
    name += [f"at most {case['limit']} registers"] * (case["limit"] is not None)
    steps = case["network_steps_per_second"] / 1e6
    return ", ".join(name), case["registers"], case["stack"], case["cycles"], steps
