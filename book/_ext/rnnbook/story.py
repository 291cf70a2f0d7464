"""The book as one story: a page ends with the question of the next; a page of results tells questions and answers.

The questions are in story.yml. The answers are what pages claim in their first paragraph, and what they found about the
papers' claims, as this build computed them.
"""

import re
from collections import Counter
from pathlib import Path

import yaml
from docutils import nodes
from sphinx.util.docutils import SphinxDirective

from rnnlab.book.claims import VERDICTS

from .ledger import Shown, ledger, linked, verdict_of

SYMBOLS = re.compile(r"\s*(Symbols|Algorithms|Symbols and algorithms|Algorithms and symbols) are (as in|those of)")


def setup(app):
    app.add_directive("story", Story)
    app.add_directive("ledger-told", Told)
    app.add_node(answer)
    app.connect("doctree-resolved", fill_in)
    app.connect("html-page-context", ask)


def story(env) -> list[dict]:
    """Return the parts of the story, with the pages that this book has."""
    path = Path(env.srcdir) / "story.yml"
    parts = yaml.safe_load(path.read_text(encoding="utf8")) if path.exists() else []
    return [part | {"pages": {k: v for k, v in part["pages"].items() if k in env.found_docs}} for part in parts]


class answer(nodes.General, nodes.Element):
    """The place of a page's claim, which is known once that page is resolved."""


class Story(SphinxDirective):
    """The questions of all pages, or of the new ones, each with the page's claim and its verdicts on the papers'."""

    optional_arguments = 1

    def run(self):
        shown = []
        for part in story(self.env):
            chosen = part.get(self.arguments[0], []) if self.arguments else part["pages"]
            items = [self.item(*page) for page in part["pages"].items() if page[0] in chosen]
            shown += [nodes.rubric("", part["part"]), nodes.definition_list("", *items)] if items else []
        return shown

    def item(self, name: str, question: str) -> nodes.definition_list_item:
        found = Counter(row["verdict"] for row in ledger(self.env) if row["docname"] == name)
        definition = nodes.definition("", answer(docname=name))
        if found:
            said = ", ".join(f"{found[verdict]} {verdict}" for verdict in VERDICTS if found[verdict])
            definition += nodes.paragraph("", f"Claims of the papers: {said}.", classes=["ledger-where"])
        term = nodes.term("", "", linked(self.env, name, "", nodes.Text(question)))
        return nodes.definition_list_item("", term, definition)


class Told(Shown):
    """The claims of the papers that have one verdict, with what was found."""

    required_arguments = 1
    final_argument_whitespace = True

    def run(self):
        told = nodes.bullet_list()
        for row in ledger(self.env):
            if row["docname"] and row["verdict"] == self.arguments[0]:
                item = self.text(
                    "", f"{row['claim']} *Here:* {row['shown']}{'; ' if row['note'] else ''}{row['note']}. "
                )
                item += linked(self.env, row["docname"], f"claim-{row['id']}", verdict_of(row["verdict"], row["id"]))
                told += nodes.list_item("", item)
        return [told] if len(told) else [nodes.paragraph("", "None.")]


def fill_in(app, doctree, docname) -> None:
    """Put claims in their places, without their links, which lead from their own page."""
    for place in list(doctree.findall(answer)):
        page = app.env.get_and_resolve_doctree(place["docname"], app.builder)
        first = next((node for node in page.findall(nodes.paragraph) if node.parent.tagname == "section"), None)
        claim = nodes.paragraph() if first is None else first.deepcopy()
        for link in list(claim.findall(nodes.reference)):
            link.replace_self(link.children)
        for n, node in enumerate(claim.children):
            if node.astext() == "Claim.":
                node.replace_self(nodes.Text(""))
            elif isinstance(node, nodes.Text) and (ends := SYMBOLS.search(node)):
                claim.children[n:] = [nodes.Text(node[: ends.start()])]
                break
        place.replace_self(claim)


def ask(app, pagename, templatename, context, doctree) -> None:
    """Give a page the question of the next."""
    questions = {name: asks for part in story(app.env) for name, asks in part["pages"].items()}
    _, _, after = app.builder.relations.get(pagename, (None, None, None))
    context["question"] = questions.get(after)
