"""A reader whose environment would change every page that it reached, and a page that shows whether it did."""

from pathlib import Path

HOSTILE = {
    "MPLBACKEND": "Agg",
    "PYTHONOPTIMIZE": "1",
    "PYTHONWARNINGS": "error",
    "PYTHONHASHSEED": "5",
    "PYTHONIOENCODING": "ascii",
    "OMP_NUM_THREADS": "2",
    "OPENBLAS_NUM_THREADS": "3",
    "MKL_NUM_THREADS": "3",
    "LC_ALL": "de_DE.ISO-8859-1",
    "LANG": "de_DE",
    "TZ": "Asia/Tokyo",
    "RNNLAB_INSTRUCTIONS": "baseline",
    "ATEN_CPU_CAPABILITY": "default",
    "JUPYTER_PLATFORM_DIRS": "1",
}
# What a page could show of its reader, and a figure.
PROBE = """
import locale, os, sys, time, warnings
import matplotlib
from matplotlib import pyplot as plt
print(matplotlib.get_backend(), plt.rcParams["text.usetex"], plt.rcParams["font.size"], plt.rcParams["figure.dpi"])
print(__debug__, os.environ["OMP_NUM_THREADS"], hash("a"), time.tzname, locale.setlocale(locale.LC_ALL, ""))
print(warnings.filters[:1], sys.stdout.encoding, open(os.devnull).encoding, "started" in globals())
others = ("ATEN", "LANG", "LC_", "MKL", "OPENBLAS", "PYTHON", "RNNLAB_I", "TZ")
print({name: value for name, value in sorted(os.environ.items()) if name.startswith(others) and name != "PYTHONPATH"})
plt.plot([0, 1.5])
plt.show()
"""


def environment(folder: Path) -> dict[str, str]:
    """The reader's environment, with the files in `folder` that hold settings of hers."""
    settings, startup = folder / "mpl" / "matplotlibrc", folder / "ipython" / "profile_default" / "startup" / "a.py"
    for file, text in {
        settings: "text.usetex: True\nfont.size: 30\nfigure.dpi: 30\n",
        startup: "started = True\nimport matplotlib; matplotlib.rcParams['font.size'] = 31\n",
        folder / "startup.py": "started = True\n",
        folder / "jupyter" / "kernels" / "python3" / "kernel.json": '{"argv": ["false"], "display_name": "-"}',
    }.items():
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    places = {"MATPLOTLIBRC": settings, "IPYTHONDIR": startup.parents[2], "PYTHONSTARTUP": folder / "startup.py"}
    places |= {"JUPYTER_PATH": folder / "jupyter", "JUPYTER_CONFIG_DIR": folder / "jupyter"}
    return HOSTILE | {name: str(place) for name, place in places.items()}
