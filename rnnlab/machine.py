"""What this machine is."""

import functools
from pathlib import Path


@functools.cache
def processor() -> dict[str, str]:
    """What the system says of the first core, by name; nothing where it says nothing."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf8")
    except OSError:
        return {}
    lines = (line.partition(":") for line in text.split("\n\n")[0].splitlines())
    return {name.strip(): value.strip() for name, _, value in lines}
