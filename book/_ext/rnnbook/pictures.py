"""Figures as `rnnlab.plots` has notebooks keep them: one drawing for desks, one for phones, each for light and dark.

Below stand links to the drawing, and to its data.
What a caption calls black is white on a dark page, and is called so there.
"""

import re
from dataclasses import replace
from pathlib import Path, PurePosixPath

from docutils import nodes
from myst_nb.core.render import NbElementRenderer

NARROW = "screen and (max-width: 640px)"
DARK = {"black": "white", "Black": "White", "white": "black", "White": "Black"}


def setup(app):
    app.add_node(picture, html=(write, None))
    NbElementRenderer.render_image = render_image
    app.connect("doctree-read", call_inks)


def call_inks(app, doctree):
    """Have captions call black and white by what they are on a light page, and on a dark one."""
    for caption in doctree.findall(nodes.caption):
        for text in list(caption.findall(nodes.Text)):
            words = re.split(rf"\b({'|'.join(DARK)})\b", text)
            if len(words) > 1 and not isinstance(text.parent, nodes.literal):
                text.parent.replace(text, [part for word in words for part in inks(word)])


def inks(word: str) -> list[nodes.Node]:
    """Return a text, or, of what is called otherwise on a dark page, both names."""
    if word not in DARK:
        return [nodes.Text(word)]
    both = (("in-light", word), ("in-dark", DARK[word]))
    return [nodes.inline("", name, classes=[mode]) for mode, name in both]


class picture(nodes.image):
    """A wide image that holds a narrow one, and data."""


def render_image(self, data, plain=NbElementRenderer.render_image):
    """Read a figure's narrow drawing and its data from the metadata of its output."""
    (wide,) = plain(self, data)
    if (figure := data.output_metadata.get("figure")) is None:
        return [wide]
    narrow = plain(self, replace(data, content=figure["narrow"]))
    return [picture("", *narrow, **wide.attributes, data=figure["data"])]


def write(self, node):
    """Write a picture for each of light and dark, of the same two files, whose inks their address chooses."""
    wide, narrow = (f"{self.builder.imgpath}/{self.builder.images[image['uri']]}" for image in (node, node[0]))
    data = Path(self.builder.outdir, self.builder.imagedir, PurePosixPath(wide).name).with_suffix(".csv")
    data.parent.mkdir(parents=True, exist_ok=True)
    data.write_text(node["data"], encoding="utf8")
    for mode, ink in (("light", ""), ("dark", "#dark")):
        source = f'<source media="{NARROW}" srcset="{narrow}{ink}"/>'
        image = f'<img src="{wide}{ink}" alt="{self.attval(node.get("alt", ""))}"/>'
        self.body.append(f'<picture class="in-{mode}">{source}{image}</picture>\n')
    name = "".join(node.parent["ids"][:1]) or "figure"
    told = node["data"].rstrip().rpartition("\n")[2][:1].isdigit()  # by more than what the columns are called
    links = ((wide, "svg", "SVG"), (wide.replace(".svg", ".csv"), "csv", "data"))[: 1 + told]
    words = (f'<a href="{address}" download="{name}.{end}">{word}</a>' for address, end, word in links)
    self.body.append(f'<p class="figure-files">{" ".join(words)}</p>\n')
    raise nodes.SkipNode
