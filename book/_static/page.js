/* Code folds, sections have names, and what is too wide can be reached by keys. Without this script it is simply there. */
"use strict";

/* Code that a page shows can be folded like that which it hides. */
function foldCode(article) {
  for (const code of article.querySelectorAll("div.cell > div.cell_input")) {
    const fold = document.createElement("details");
    const summary = document.createElement("summary");
    fold.className = "fold-code";
    fold.open = true;
    summary.textContent = "Code";
    code.replaceWith(fold);
    fold.append(summary, code);
  }
  const folds = article.querySelectorAll("details.fold-code, details.hide.above-input");
  const buttons = document.querySelector(".article-header-buttons");
  if (!folds.length || !buttons) return;
  const all = document.createElement("button");
  all.type = "button";
  all.className = "btn btn-sm pst-navbar-icon fold-all-code";
  const label = () => {
    all.dataset.open = [...folds].some((fold) => fold.open);
    all.title = all.ariaLabel = all.dataset.open === "true" ? "Fold all code" : "Show all code";
  };
  const icon = document.createElement("i");
  icon.className = "fas fa-code";
  icon.ariaHidden = "true";
  all.append(icon);
  all.addEventListener("click", () => {
    const open = all.dataset.open !== "true";
    for (const fold of folds) fold.open = open;
  });
  for (const fold of folds) fold.addEventListener("toggle", label);
  label();
  buttons.prepend(all);
}

/* What scrolls sideways can be scrolled without a mouse; what does not is no stop on the way. */
function reachByKeys(article) {
  const seen = new ResizeObserver((entries) => {
    for (const { target: box } of entries)
      if (box.scrollWidth > box.clientWidth) box.tabIndex = 0;
      else box.removeAttribute("tabindex");
  });
  for (const box of article.querySelectorAll("div.math, pre, div.cell_output > .output, .pst-scrollable-table-container"))
    seen.observe(box);
}

/* The theme gives no name to what opens a chapter's sections in the sidebar. */
function nameSections() {
  for (const summary of document.querySelectorAll("nav.bd-links details > summary"))
    summary.ariaLabel = `Sections of ${summary.closest("li").querySelector("a").textContent.trim()}`;
}

/* A page opened as a file may not fetch the pages that a search has found, to show a line of each. */
function searchFiles() {
  if (location.protocol === "file:") DOCUMENTATION_OPTIONS.SHOW_SEARCH_SUMMARY = false;
}

searchFiles();
document.addEventListener("DOMContentLoaded", () => {
  nameSections();
  const article = document.querySelector("article.bd-article");
  if (!article) return;
  foldCode(article);
  reachByKeys(article);
});
