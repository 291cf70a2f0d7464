"""Shows docstrings as they are written: plain text, in which backquotes mark code and nothing else has a meaning."""

import re

CODE = re.compile(r"(``.+?``|`.+?`)", re.DOTALL)
# What reStructuredText would take for emphasis, a substitution, a reference, a list: 2 * x, |d|, apply_, "1.", "N.".
MARKUP = re.compile(r"\\|\*|\||_(?!\w)|(?<=\d)\.(?!\d)|(?<=\b[A-Za-z])\.(?=\s|$)")
# A field's type with the check of its value, a function, which would be shown by its address in memory.
CHECKED = re.compile(r"~?[\w.]+\.Annotated\[((?:[^\[\],]|\[[^\[\]]*\])+), .*? at 0x\w+>(?:, \w+=\w+)*\)?\]")


def setup(app):
    # Before napoleon, which turns Args, Raises and Source into markup that is meant.
    app.connect("autodoc-process-docstring", mark_up, priority=400)
    app.connect("autodoc-process-signature", leave_out_checks)


def mark_up(app, what, name, obj, options, lines: list[str]) -> None:
    """Rewrite the lines of a docstring, in place, as reStructuredText that shows them, code in backquotes as code."""
    pieces = CODE.split("\n".join(lines))
    pieces[0::2] = [MARKUP.sub(r"\\\g<0>", words) for words in pieces[0::2]]
    pieces[1::2] = [f"``{code.strip('`')}``" for code in pieces[1::2]]
    lines[:] = "".join(pieces).split("\n")


def leave_out_checks(app, what, name, obj, options, signature, returned):
    """Show what type a field is of, which is the same at every build."""
    return signature and CHECKED.sub(r"\1", signature), returned
