"""Numbers as a person writes them."""

import re
from collections.abc import Sequence

import numpy as np

_VERBATIM = re.compile(r"(`[^`]*`|\$[^$]*\$)")
_NUMBER = re.compile(r"(?<![\w.,−-])(-?)((?:\d[\d,]*)?\.?\d+)(?:e([+-]?\d+))?(?!\w)")
_PERCENT = re.compile(r"(?<=\d) ?%(?!\w)")
_ABOVE = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def written(shown: str) -> str:
    """Return a text, or a number, as a person writes it: 5 × 10⁻¹⁰ with a real minus; code and formulas as they are.

    A percent sign stands apart from its number, by a space at which no line breaks.
    """
    parts = _VERBATIM.split(_PERCENT.sub("\u00a0%", shown))
    parts[::2] = [_NUMBER.sub(_number, part) for part in parts[::2]]
    return "".join(parts)


def mean(values: np.ndarray) -> str:
    """Return the mean of what there is (NaN is not) to two digits, with Student's 95 % interval from three on."""
    from scipy import stats  # takes a while, and few pages ask

    x = values[np.isfinite(values)]
    wide = f" ± {stats.t.ppf(0.975, len(x) - 1) * stats.sem(x):.2f}" if len(x) > 2 else ""
    return f"{round(x.mean(), 2) + 0:.2f}{wide}".replace("-", "−") if len(x) else "\u2013"


def listed(words: Sequence[str]) -> str:
    """Return words as a sentence has them: "a", "a and b", "a, b and c"; "none" without any."""
    return " and ".join([", ".join(words[:-1])] * (len(words) > 1) + [*words[-1:]]) or "none"


def _number(found: re.Match[str]) -> str:
    sign, digits, power = found.groups()
    minus = "−" if sign and digits.strip("0.,") else ""
    if power and int(power):
        ten = "10" + str(int(power)).translate(_ABOVE)
        digits = ten if digits == "1" else f"{digits}\u00a0×\u00a0{ten}"
    return minus + digits
