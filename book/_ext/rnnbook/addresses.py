"""What those who look for a page, or are sent it, are told of it, and where it is and runs if the book knows.

It knows by `html.baseurl` and `repository` of _config.yml, or by the variables RNNLAB_SITE and RNNLAB_REPOSITORY, which
go first.
"""

import os
import re
from html import escape, unescape
from pathlib import Path
from urllib.parse import urlsplit

from docutils import nodes

from .formulas import mathml

LONGEST = 200  # letters of a description, which others cut
CARD = "_static/site.png"  # 1200 x 840


def setup(app):
    options = app.config.html_theme_options
    site = os.environ.get("RNNLAB_SITE", app.config.html_baseurl).rstrip("/")
    app.config.html_baseurl = site and f"{site}/"
    options["repository_url"] = os.environ.get("RNNLAB_REPOSITORY", options.get("repository_url", "")).rstrip("/")
    options["use_repository_button"] = bool(options["repository_url"])
    app.connect("html-page-context", describe)
    app.connect("html-page-context", say_where_it_runs)
    app.connect("build-finished", map_site)


def describe(app, pagename, templatename, context, doctree) -> None:
    """Put a page's description into its head, and what makes a card of a link to it."""
    if doctree is None:
        return
    title, site = unescape(re.sub("<[^>]*>", "", context["title"])), app.config.html_baseurl
    about = description(doctree)
    tags = {"og:type": "article", "og:site_name": app.config.html_title, "og:title": title, "og:description": about}
    if site:
        tags |= {"og:url": site + app.builder.get_target_uri(pagename), "og:image": site + CARD}
    context["metatags"] += f'<meta name="description" content="{escape(about)}" />\n'
    context["metatags"] += "".join(f'<meta property="{k}" content="{escape(v)}" />\n' for k, v in tags.items())
    context["metatags"] += '<meta name="twitter:card" content="summary_large_image" />\n'


def description(doctree: nodes.document) -> str:
    """Return a page's first sentences, its claim if it makes one: as many as are not cut."""
    first = next((node for node in doctree.findall(nodes.paragraph) if node.parent.tagname == "section"), None)
    text = re.sub(r"\s+", " ", "" if first is None else plain(first)).removeprefix("Claim. ").strip()
    said, *more = re.split(r"(?<=[.?!]) (?=[A-Z])", text)
    for sentence in more:
        if len(said) + len(sentence) >= LONGEST:
            break
        said += f" {sentence}"
    return said if len(said) <= LONGEST else f"{said[:LONGEST].rpartition(' ')[0]} …"


def plain(node: nodes.Node) -> str:
    """Return the text of a part of a page, formulas in letters alone."""
    if isinstance(node, nodes.math):
        return unescape(re.sub("<[^>]*>", "", mathml(node.astext(), False))).replace("\u2061", " ")
    return "".join(map(plain, node.children)) if node.children else node.astext()


def say_where_it_runs(app, pagename, templatename, context, doctree) -> None:
    """Give a page with code links to services that run it, which know what is on GitHub."""
    options = app.config.html_theme_options
    where, branch = urlsplit(options["repository_url"]), options.get("repository_branch") or "main"
    if where.hostname == "github.com" and "provenance" in context:
        name = where.path.strip("/")
        binder = f"{name}/{branch}?urlpath=lab/tree/book/{pagename}.md%3Ffactory%3DNotebook"
        context["runs"] = {
            "Binder": f"https://mybinder.org/v2/gh/{binder}",
            "Colab": f"https://colab.research.google.com/github/{name}/blob/gh-pages/_sources/{pagename}.ipynb",
        }


def map_site(app, exception) -> None:
    """Write a site map for those who search, if the site has an address."""
    if exception is None and app.builder.format == "html" and (site := app.config.html_baseurl):
        places = [escape(site + app.builder.get_target_uri(name)) for name in sorted(app.env.found_docs)]
        urls = "".join(f"<url><loc>{place}</loc></url>\n" for place in places)
        text = f'<?xml version="1.0" encoding="utf-8"?>\n<urlset xmlns="http://www.sitemaps.org/schemas/sitemap/0.9">\n{urls}</urlset>\n'
        (Path(app.outdir) / "sitemap.xml").write_text(text, encoding="utf8")
