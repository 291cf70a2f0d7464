"""What the pages found about the papers' claims: a box where a page says so, and the ledger, which gathers them all.

`rnnlab.book.pages.claim` leaves a directive `claim` in the output of its cell. So boxes and ledger come from the
executed pages, whether this build executed them or papermill did. A page that shows the ledger, or its counts, is read
after all the others, and again whenever one of them has changed (`quoting`).
"""

import json
from collections import Counter
from pathlib import Path

from docutils import nodes
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective

from rnnlab.book.claims import ROWS, VERDICTS, rows

log = logging.getLogger(__name__)

LEDGER = "6_lab/ledger"
NOT_TREATED = "not treated"  # open, since no page has measured anything
# Classes in the style sheet, best first.
CLASSES = {
    **dict(zip(VERDICTS, ("verdict-reproduced", "verdict-difference", "verdict-not", "verdict-open"), strict=True)),
    NOT_TREATED: "verdict-untreated",
}
WIDTHS = {"No.": 7, "Claim": 34, "Paper": 18, "Here": 20, "Verdict": 21}
FIELDS = ("id", "paper", "claim", "paper_value", "ours", "interval", "runs", "verdict", "note")
UNTREATED = {**dict.fromkeys(FIELDS[4:7]), "verdict": "open", "note": "", "shown": "", "docname": None}


def setup(app):
    app.add_directive("claim", Claim)
    app.add_directive("ledger", Ledger)
    app.add_directive("ledger-counts", LedgerCounts)
    # The output of a claim holds HTML too, for Jupyter.
    app.config.nb_mime_priority_overrides = [("html", "text/markdown", 0)]
    app.connect("env-purge-doc", forget)
    app.connect("build-finished", refuse_claims_made_twice)
    app.connect("build-finished", write_json)


class Shown(SphinxDirective):
    """A directive that shows texts in Markdown, and follows the rows of the claims."""

    def text(self, css: str, markdown: str) -> nodes.paragraph:
        self.env.note_dependency(str(ROWS))
        return _paragraph(css, *self.state.inline_text(markdown, self.lineno)[0])


class Claim(Shown):
    """The box of one claim on the page that makes it; its content is the finding as JSON."""

    has_content = True

    def run(self):
        found = json.loads("\n".join(self.content))
        row = rows().get(found["id"])
        if row is None:
            raise self.error(f"no claim {found['id']} in {ROWS}")
        _found(self.env).setdefault(self.env.docname, []).append(found)
        name = nodes.inline("", row["id"], classes=["claim-id"])
        if LEDGER in self.env.found_docs:
            name = linked(self.env, LEDGER, row["id"], name)
        where = nodes.inline("", f"{row['paper']}, {row['where']}", classes=["claim-where"])
        box = nodes.compound("", classes=["claim", CLASSES[found["verdict"]]], ids=[f"claim-{row['id']}"])
        box += _spaced("claim-head", name, where, verdict_of(found["verdict"]))
        box += self.text("claim-says", row["claim"])
        for label, text in (("Paper", row["paper_value"]), ("Here", found["shown"])):
            value = nodes.inline("", "", *self.text("", text).children, classes=["claim-value"])
            box += _spaced("claim-values", nodes.inline("", label, classes=["claim-label"]), value)
        if found["note"]:
            box += self.text("claim-note", found["note"])
        return [box]


class Ledger(Shown):
    """The table of the claims whose ids begin with one of the letters given, or of all."""

    optional_arguments = 1

    def run(self):
        letters = tuple(self.arguments[0]) if self.arguments else ("",)
        chosen = [row for row in ledger(self.env) if row["id"].startswith(letters)]
        body = nodes.tbody("", *map(self.row, sorted(chosen, key=lambda row: kind(row) == NOT_TREATED)))
        head = nodes.row("", *(nodes.entry("", nodes.paragraph("", name)) for name in WIDTHS))
        columns = [nodes.colspec(colwidth=width) for width in WIDTHS.values()]
        group = nodes.tgroup("", *columns, nodes.thead("", head), body, cols=len(columns))
        return [nodes.table("", group, classes=["ledger", "colwidths-given"])]

    def row(self, row):
        here, verdict = [], [_paragraph("", verdict_of(kind(row)))]
        if row["note"]:
            verdict.append(self.text("ledger-note", row["note"]))
        if row["docname"]:
            here.append(self.text("", row["shown"]))
            title = nodes.inline("", "", *self.env.titles[row["docname"]].deepcopy().children)
            verdict.append(_paragraph("ledger-page", linked(self.env, row["docname"], f"claim-{row['id']}", title)))
        claim = [self.text("", row["claim"]), _paragraph("ledger-where", nodes.Text(row["where"]))]
        cells = [nodes.paragraph("", row["id"])], claim, [self.text("", row["paper_value"])], here, verdict
        entries = [nodes.entry("", *cell) for cell in cells]
        return nodes.row("", *entries, ids=[row["id"]], classes=[CLASSES[kind(row)]])


class LedgerCounts(SphinxDirective):
    """How many claims there are of each verdict: a bar, the numbers, and all of the ledger as a file.

    Where the ledger stands, a box beside each number says whether its rows are shown.
    """

    def run(self):
        counts = Counter(map(kind, ledger(self.env)))
        file = "../" * self.env.docname.count("/") + "ledger.json"
        said = ", ".join(f"{counts[verdict]} {verdict}" for verdict in CLASSES)
        box = '<label><input type="checkbox" class="shows-%s" checked/> %s</label>'
        written = box if self.env.docname == LEDGER else "%.0s%s"
        parts = [(css, counts[verdict], verdict) for verdict, css in CLASSES.items()]
        html = [
            f'<div class="ledger-bar" role="img" aria-label="Of {counts.total()} claims: {said}.">',
            *(f'<span class="{css}" style="flex-grow: {count}"></span>' for css, count, _ in parts if count),
            '</div><ul class="ledger-counts">',
            *(
                f'<li class="{css}">{written % (css, f"<b>{count}</b> {verdict}")}</li>'
                for css, count, verdict in parts
            ),
            f'<li class="ledger-json"><a href="{file}">ledger.json</a></li></ul>',
        ]
        return [nodes.raw("", "\n".join(html), format="html")]


def kind(row: dict) -> str:
    """Return a row's verdict, and of those that are open which no page has treated."""
    return row["verdict"] if row["docname"] else NOT_TREATED


def ledger(env) -> list[dict]:
    """Return every row of the claims with what the pages found: those of untreated claims are open."""
    made = _made(env)
    return [{**row, **UNTREATED, **made.get(name, [{}])[0]} for name, row in rows().items()]


def write_json(app, exception) -> None:
    """Put the ledger at the site's root, for programs."""
    if exception is not None or app.builder.format != "html" or not rows():
        return
    said = []
    for row in ledger(app.env):
        page = row["docname"] and app.builder.get_target_uri(row["docname"])
        said.append({key: row[key] for key in FIELDS} | {"page": page})
    text = json.dumps(said, ensure_ascii=False, indent=1)
    (Path(app.outdir) / "ledger.json").write_text(text + "\n", encoding="utf8")


def forget(app, env, docname) -> None:
    """Drop what a page found, before it is read again or because it is gone."""
    _found(env).pop(docname, None)


def refuse_claims_made_twice(app, exception) -> None:
    """Hold the book to one verdict for each claim: name the pages that give more, and make the exit status say so."""
    for name, made in _made(app.env).items() if exception is None else []:
        if len(made) > 1:
            places = ", ".join(finding["docname"] for finding in made)
            log.error("claim %s is made more than once, keep one: %s", name, places)
            app.statuscode = 1


def _found(env) -> dict[str, list[dict]]:
    """What pages found, by page; kept with what Sphinx keeps from build to build."""
    return vars(env).setdefault("rnnbook_claims", {})


def _made(env) -> dict[str, list[dict]]:
    """What was found about each claim, page by page."""
    made: dict[str, list[dict]] = {}
    for docname, findings in sorted(_found(env).items()):
        for finding in findings:
            made.setdefault(finding["id"], []).append({**finding, "docname": docname})
    return made


def verdict_of(verdict: str, said: str = "") -> nodes.inline:
    """Return a verdict in its colour, or what is `said` in that."""
    return nodes.inline("", said or verdict, classes=["claim-verdict", CLASSES[verdict]])


def _paragraph(css: str, *children) -> nodes.paragraph:
    return nodes.paragraph("", "", *children, classes=[css] if css else [])


def _spaced(css: str, *parts) -> nodes.paragraph:
    return _paragraph(css, *[node for part in parts for node in (nodes.Text(" "), part)][1:])


def linked(env, docname: str, anchor: str, text) -> nodes.reference:
    """Return a link from the page that is read to a place of another."""
    address = env.app.builder.get_relative_uri(env.docname, docname)
    return nodes.reference("", "", text, internal=True, refuri=f"{address}#{anchor}" if anchor else address)
