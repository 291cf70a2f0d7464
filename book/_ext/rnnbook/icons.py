"""The theme brings a script of 1.5 MB and a font of 2,000 icons; pages load a font of those that they show."""

import re
from pathlib import Path

import pydata_sphinx_theme
from fontTools import subset

THEME = Path(pydata_sphinx_theme.__file__).parent / "theme" / "pydata_sphinx_theme" / "static"
STYLE, FONT = "styles/pydata-sphinx-theme.css", "vendor/fontawesome/webfonts/fa-solid-900"
NAMED = re.compile(r'(?<=})(?:\.fa-[\w-]+:before,?)+{content:"[^"]*"}')  # rules that give an icon to a name
SOURCE = re.compile(rf"src:url\(\.\./{FONT}\.woff2\)[^}}]*")
SIGN = re.compile(r"\\(f[\da-f]{3})\b|([\uf000-\uf8ff])")  # an icon's place in the font, in a style sheet


def setup(app):
    app.connect("build-finished", leave_out_icons)


def leave_out_icons(app, exception) -> None:
    """Cut style sheet and font down to the icons that pages and scripts name."""
    if exception is not None or app.builder.format != "html":
        return
    static = Path(app.outdir) / "_static"
    (static / "scripts" / "fontawesome.js").write_text("", encoding="utf8")  # draws what the font has
    texts = [path.read_text(encoding="utf8") for end in ("html", "js") for path in Path(app.outdir).rglob(f"*.{end}")]
    named = {name for text in texts for name in re.findall(r"\bfa-[\w-]+", text)}
    style = (THEME / STYLE).read_text(encoding="utf8")
    style = NAMED.sub(lambda rule: rule[0] if named & set(re.findall(r"fa-[\w-]+", rule[0])) else "", style)
    style = SOURCE.sub(f'src:url(../{FONT}.woff) format("woff")', style)
    (static / STYLE).write_text(style, encoding="utf8")
    options = subset.Options(flavor="woff")
    font = subset.load_font(str(THEME / f"{FONT}.ttf"), options)
    chosen = subset.Subsetter(options)
    chosen.populate(unicodes=[int(code, 16) if code else ord(sign) for code, sign in SIGN.findall(style)])
    chosen.subset(font)
    subset.save_font(font, str(static / f"{FONT}.woff"), options)
