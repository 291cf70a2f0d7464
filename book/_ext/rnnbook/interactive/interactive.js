/* What interactive figures share: elements, sliders, and the figure that stands in the place of a static one.

   Classic scripts, of which this one defines the one name `interactive`: a page opened as a file may not import modules.
   Data come from `rnnlab.book.pages.interactive`. */
const interactive = (() => {
  "use strict";
  const SVG = "http://www.w3.org/2000/svg";

  function element(name, attributes = {}, ...children) {
    const made = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    made.append(...children);
    return made;
  }

  function drawn(parent, name, attributes = {}, text = "") {
    const made = document.createElementNS(SVG, name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    made.textContent = text;
    parent.append(made);
    return made;
  }

  function ten(power) {
    const raised = [...String(power)].map((sign) => "⁰¹²³⁴⁵⁶⁷⁸⁹⁻"["0123456789-".indexOf(sign)]);
    return power === 0 ? "1" : `10${raised.join("")}`;
  }

  /* `draw` is called for each new width, `choose` whenever a slider moves; `words` are below the sliders. */
  class Figure {
    constructor(figure, picture, height) {
      this.svg = drawn(document.createDocumentFragment(), "svg", { role: "img", "aria-label": picture.alt });
      this.words = element("output");
      this.box = element("div", { class: "interactive" }, this.svg, this.words);
      Object.assign(this, { figure, picture, heightOf: height });
    }

    /* A slider, labelled with what is given and with the value chosen, `shown`. */
    slider(name, attributes, ...label) {
      const id = `${this.figure.id}-${name}`;
      const input = element("input", { id, type: "range", autocomplete: "off", ...attributes });
      const shown = element("span", { class: "chosen" });
      this.words.before(element("div", { class: "slider" }, element("label", { for: id }, ...label, " = ", shown), input));
      this.words.htmlFor.add(id);
      input.addEventListener("input", () => this.choose());
      return Object.assign(input, { show(text) { shown.textContent = text; input.setAttribute("aria-valuetext", text); } });
    }

    place() {
      (this.picture.closest("picture") ?? this.picture).before(this.box);
      this.figure.classList.add("has-interactive");
      new ResizeObserver(() => this.resize()).observe(this.box);
    }

    resize() {
      const width = Math.round(this.box.clientWidth);
      if (width === 0 || width === this.width) return;  // not to be seen, as on paper
      this.width = width;
      this.height = Math.round(this.heightOf(width));
      this.svg.setAttribute("viewBox", `0 0 ${width} ${this.height}`);
      this.svg.style.height = `${this.height}px`;
      this.svg.replaceChildren();
      this.draw();
      this.choose();
    }

    /* A group whose lines end at the edges of this rectangle. */
    clipped(x, y, width, height) {
      const clip = drawn(this.svg, "clipPath", { id: `${this.figure.id}-clip-${x}-${y}` });
      drawn(clip, "rect", { x, y, width, height });
      return drawn(this.svg, "g", { class: "lines", "clip-path": `url(#${clip.id})` });
    }
  }

  /* Have `Kind` make each figure that the page asks for by this name. */
  function each(name, Kind) {
    for (const given of document.querySelectorAll(`script[data-interactive="${name}"]`)) {
      const figure = document.getElementById(given.dataset.over);
      const picture = figure?.querySelector("img");
      if (picture) new Kind(JSON.parse(given.textContent), figure, picture).place();
    }
  }

  return { Figure, drawn, each, element, ten };
})();
