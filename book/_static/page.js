/* Figures open large, code folds. Without this script figures and code are simply there. */
"use strict";

/* A figure is a link to its file; followed in place, it opens over the page. Escape, or a click, closes it. */
function enlargeFigures(article) {
  const dialog = document.createElement("dialog");
  dialog.className = "enlarged";
  const picture = document.createElement("img");
  const close = document.createElement("button");
  close.type = "button";
  close.textContent = "×";
  close.ariaLabel = "Close";
  dialog.append(close);
  dialog.addEventListener("click", () => dialog.close());
  for (const image of article.querySelectorAll(".cell_output img, figure img")) {
    if (image.closest("a")) continue;
    const link = document.createElement("a");
    link.href = image.src;
    link.className = "enlarge";
    link.title = "Enlarge";
    image.replaceWith(link);
    link.append(image);
    link.addEventListener("click", (event) => {
      if (event.ctrlKey || event.metaKey || event.shiftKey) return;
      event.preventDefault();
      picture.src = image.src;
      picture.alt = image.alt;
      dialog.ariaLabel = image.alt;
      dialog.append(picture);
      if (!dialog.isConnected) document.body.append(dialog);
      dialog.showModal();
    });
  }
}

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

document.addEventListener("DOMContentLoaded", () => {
  const article = document.querySelector("article.bd-article");
  if (!article) return;
  enlargeFigures(article);
  foldCode(article);
});
