"""Figures as `rnnlab.plots` has notebooks keep them: one drawing for desks, one for phones, each for light and dark.

Below stand links to the drawing, and to its data.
What a caption calls black is white on a dark page, and is called so there; what it calls left is above on a phone.
"""

import re
from dataclasses import replace
from pathlib import Path, PurePosixPath

from docutils import nodes
from myst_nb.core.render import NbElementRenderer
from sphinx.addnodes import pending_xref

NARROW = "screen and (max-width: 640px)"
DARK = {"black": "white", "Black": "White", "white": "black", "White": "Black"}
BELOW = {"left": "above", "Left": "Above", "right": "below", "Right": "Below"}
INKS = re.compile(rf"\b({'|'.join(DARK)})\b")
SIDES = re.compile(r"\b(Left\b|Right\b|(?:left|right)(?=\)|:| where))")
SIDE = re.compile(r"(?<=^, )(left|right)(?=\))|(?<=^ \()(left|right)(?=\))")  # of a figure that was just named


def setup(app):
    app.add_node(picture, html=(write, None))
    NbElementRenderer.render_image = render_image
    app.connect("doctree-read", call_otherwise)


def call_otherwise(app, doctree):
    """Have captions call black and white by what they are on a light page, and on a dark one, and sides likewise.

    What stands on the left or right of a desk's drawing may stand above or below on a phone.
    """
    below = set()
    for caption in doctree.findall(nodes.caption):
        for text in list(caption.findall(nodes.Text)):
            both_names(text, INKS, DARK, ("in-light", "in-dark"))
        if any(image.get("below") for image in caption.parent.findall(picture)):
            below |= {*caption.parent["names"], *caption.parent["ids"]}
            for text in list(caption.findall(nodes.Text)):
                both_names(text, SIDES, BELOW, ("in-wide", "in-narrow"))
    for named in list(doctree.findall(pending_xref)):
        after = named.next_node(descend=False, siblings=True)
        if named["reftarget"] in below and isinstance(after, nodes.Text):
            both_names(after, SIDE, BELOW, ("in-wide", "in-narrow"))


def both_names(text: nodes.Text, words: re.Pattern, others: dict[str, str], modes: tuple[str, str]) -> None:
    """Put both names in the place of each word that is called otherwise in the other mode."""
    if isinstance(text.parent, nodes.literal) or not words.search(text):
        return
    parts, end = [], 0
    for word in words.finditer(text):
        names = zip(modes, (word[0], others[word[0]]), strict=True)
        parts += [
            nodes.Text(text[end : word.start()]),
            *(nodes.inline("", name, classes=[mode]) for mode, name in names),
        ]
        end = word.end()
    text.parent.replace(text, [*parts, nodes.Text(text[end:])])


class picture(nodes.image):
    """A wide image that holds a narrow one, and data."""


def render_image(self, data, plain=NbElementRenderer.render_image):
    """Read a figure's narrow drawing and its data from the metadata of its output."""
    (wide,) = plain(self, data)
    if (figure := data.output_metadata.get("figure")) is None:
        return [wide]
    narrow = plain(self, replace(data, content=figure["narrow"]))
    return [picture("", *narrow, **wide.attributes, data=figure["data"], below=figure["below"])]


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
