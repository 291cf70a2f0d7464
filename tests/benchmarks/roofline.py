"""What the machine could do: its processor, its caches, and the ceilings of one core, measured by a small program."""

import json
import platform
import subprocess
import tempfile
from pathlib import Path

from rnnlab.engine.cpu import kernel

SOURCE = Path(__file__).with_name("roofline.cpp")
CACHES = Path("/sys/devices/system/cpu/cpu0/cache")


def processor() -> dict[str, object]:
    """Name of the processor, and whether it has AVX-512."""
    try:
        lines = Path("/proc/cpuinfo").read_text().split("\n\n")[0].splitlines()
    except OSError:
        lines = []
    said = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    name = said.get("model name") or platform.processor() or platform.machine()
    if "cpu family" in said:
        name += f" (family {said['cpu family']}, model {said['model']})"
    return {"processor": name, "avx512": "avx512f" in said.get("flags", "").split()}


def caches() -> dict[str, int]:
    """Bytes of each cache that holds data, nearest first, as the system says; empty where it does not."""
    found = {}
    for folder in sorted(CACHES.glob("index*")):
        level, kind, size = ((folder / name).read_text().strip() for name in ("level", "type", "size"))
        if kind != "Instruction":
            found[f"L{level}"] = int(size.removesuffix("K")) * 1024
    return found


def compiler() -> str:
    """First line of what the kernel's compiler says of its version."""
    command = [kernel._compiler(), "--version"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[0]


def measure() -> dict[str, object]:
    """Multiply-adds and reading, by one core: what roofline.cpp says."""
    with tempfile.TemporaryDirectory() as folder:
        made, native = f"{folder}/roofline", "-mcpu=native" if kernel.instruction_set() == "neon" else "-march=native"
        command = [kernel._compiler(), "-std=c++17", "-O3", native, "-ffp-contract=fast", str(SOURCE), "-o", made]
        subprocess.run(command, check=True)
        return json.loads(subprocess.run([made], capture_output=True, text=True, check=True).stdout)
