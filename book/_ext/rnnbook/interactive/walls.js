/* Descents over the error of one unit: drag the start, choose learning rate and threshold, and see which one leaves.

   The surface is computed here, as `rnnlab.dynamics.surface` does it. A page that hands over `look`, a number of an
   update, has a third descent, clipped entry by entry, and beside the map what either rule makes of one gradient. */
(() => {
  "use strict";
  const { Figure, drawn, each, element, ten } = interactive;
  const GREENS = [[247, 252, 245], [116, 196, 118], [0, 68, 27]];  // of errors 0, 0.5 and 1
  const MARGIN = { left: 50, right: 10, top: 10, bottom: 42 };
  const WIDE = 600;  // where two panels stand side by side
  const BELOW = 230;  // what the second is high where they do not
  const sigmoid = (x) => 1 / (1 + Math.exp(-x));
  const minus = (number, digits) => number.toFixed(digits).replace("-", "−");

  /* What is left of a gradient, by rule. */
  const RULES = {
    plain: (g) => g,
    clipped: (g, threshold) => g.map((entry) => entry * Math.min(1, threshold / Math.hypot(...g))),
    entries: (g, threshold) => g.map((entry) => Math.max(-threshold, Math.min(threshold, entry))),
  };
  const SAID = { plain: "Plain descent (grey)", clipped: "Clipped (blue)", entries: "Entry by entry (green)" };

  /* The angle between two vectors, in degrees. */
  function angle([a, b], [c, d]) {
    return (Math.abs(Math.atan2(a * d - b * c, a * c + b * d)) * 180) / Math.PI;
  }

  function said(number) {
    const power = Math.round(Math.log10(number));
    return number < 1e4 ? String(Number(number.toPrecision(2))) : `about ${ten(power)}`;
  }

  class Walls extends Figure {
    constructor(data, figure, picture) {
      const both = "look" in data;
      super(figure, picture, (width) => (both && width >= WIDE ? 330
        : Math.min(430, Math.max(270, 0.64 * width)) + (both ? BELOW : 0)));
      Object.assign(this, data, { both, rules: Object.keys(RULES).slice(0, both ? 3 : 2) });
      const italic = (letter) => element("i", {}, letter);
      const among = (values, value) => ({ min: 0, max: values.length - 1, step: 1, value: values.indexOf(value) });
      const between = ([min, max], value) => ({ min, max, step: 0.01, value });
      this.sliders = {
        rate: this.slider("rate", among(data.rates, data.rate), "Learning rate"),
        threshold: this.slider("threshold", among(data.thresholds, data.threshold), "Threshold"),
        w: this.slider("w", between(data.weights, data.start[0]), "Start: weight ", italic("w")),
        b: this.slider("b", between(data.biases, data.start[1]), "Start: bias ", italic("b")),
      };
      if (both) this.sliders.look = this.slider("look", { min: 1, max: data.updates, step: 1, value: data.look }, "Update");
      this.map = this.painted(150, 100);
    }

    /* Error and gradient for w and b. */
    slope([w, b]) {
      let [x, dw, db] = [this.x_0, 0, 0];
      for (let t = 0; t < this.steps; t += 1) {
        const y = sigmoid(x);
        const back = w * y * (1 - y);
        [dw, db, x] = [y + back * dw, 1 + back * db, w * y + b];
      }
      const y = sigmoid(x);
      const factor = 2 * (y - this.target) * y * (1 - y);
      return [(y - this.target) ** 2, factor * dw, factor * db];
    }

    /* Points on the way, the longest step and the error at the end. */
    descend(start, rate, rule, threshold) {
      const path = [start];
      let longest = 0;
      for (let n = 0; n < this.updates; n += 1) {
        const step = RULES[rule](this.slope(path[n]).slice(1), threshold).map((entry) => rate * entry);
        longest = Math.max(longest, Math.hypot(...step));
        path.push(path[n].map((at, i) => at - step[i]));
      }
      return { path, longest, error: this.slope(path[this.updates])[0] };
    }

    /* The errors as a picture. */
    painted(columns, rows) {
      const canvas = element("canvas", { width: columns, height: rows });
      const context = canvas.getContext("2d");
      const image = context.createImageData(columns, rows);
      const [[left, right], [bottom, top]] = [this.weights, this.biases];
      for (let i = 0; i < columns * rows; i += 1) {
        const w = left + (((i % columns) + 0.5) / columns) * (right - left);
        const at = 2 * this.slope([w, top - ((Math.floor(i / columns) + 0.5) / rows) * (top - bottom)])[0];
        const [from, to] = GREENS.slice(Math.floor(at));
        image.data.set([...from.map((value, k) => value + (at % 1) * (to[k] - value)), 255], 4 * i);
      }
      context.putImageData(image, 0, 0);
      return canvas.toDataURL();
    }

    draw() {
      const [[left, right], [bottom, top]] = [this.weights, this.biases];
      const [x0, y0] = [MARGIN.left, MARGIN.top];
      const beside = this.both && this.width >= WIDE;
      const width = (beside ? 0.58 * this.width : this.width) - x0 - MARGIN.right;
      const height = this.height - y0 - MARGIN.bottom - (this.both && !beside ? BELOW : 0);
      this.x = (w) => x0 + ((w - left) / (right - left)) * width;
      this.y = (b) => y0 + ((top - b) / (top - bottom)) * height;
      this.at = (x, y) => [left + ((x - x0) / width) * (right - left), top - ((y - y0) / height) * (top - bottom)];
      const ground = this.clipped(x0, y0, width, height);
      drawn(ground, "image", { x: x0, y: y0, width, height, href: this.map, preserveAspectRatio: "none" });
      const y = sigmoid(this.x_0);
      const wall = [1 / (y * (1 - y)), right].map((w) => [w, this.x_0 - w * y]);
      drawn(ground, "path", { class: "wall", d: this.line(wall) });
      this.paths = this.rules.map((name) => drawn(ground, "path", { class: name }));
      this.handle = drawn(this.svg, "g", { class: "handle" });
      for (const [name, r] of [["touched", 22], ["seen", 7]]) drawn(this.handle, "circle", { class: name, r });
      for (let w = Math.ceil(2 * left) / 2; w <= right; w += 0.5)
        drawn(this.svg, "text", { x: this.x(w), y: y0 + height + 17, "text-anchor": "middle" }, w.toFixed(1));
      for (let b = Math.ceil(2 * bottom) / 2; b <= top; b += 0.5)
        drawn(this.svg, "text", { x: x0 - 6, y: this.y(b) + 4, "text-anchor": "end" }, b.toFixed(1).replace("-", "−"));
      drawn(this.svg, "text", { x: x0 + width / 2, y: y0 + height + 36, "text-anchor": "middle" }, "weight w");
      const turned = `translate(12 ${y0 + height / 2}) rotate(-90)`;
      drawn(this.svg, "text", { transform: turned, "text-anchor": "middle" }, "bias b");
      drawn(this.svg, "text", { x: this.x(right) - 6, y: this.y(bottom) - 8, "text-anchor": "end" }, "drag the start");
      const moved = (event) => {
        const box = this.svg.getBoundingClientRect();
        [this.sliders.w.value, this.sliders.b.value] = this.at(event.clientX - box.left, event.clientY - box.top);
        this.choose();
      };
      ground.onclick = moved;
      this.handle.onpointerdown = (event) => {
        this.handle.setPointerCapture(event.pointerId);
        this.handle.onpointermove = moved;
      };
      this.handle.onlostpointercapture = () => { this.handle.onpointermove = null; };
      if (!this.both) return;
      this.here = drawn(this.svg, "circle", { class: "here", r: 5 });
      const side = beside ? this.width - (x0 + width) - MARGIN.right - 50 : BELOW - 66;
      this.plane(beside ? this.width - MARGIN.right - side : x0, beside ? y0 + 20 : y0 + height + MARGIN.bottom + 24, side);
    }

    /* Where gradients of the update are drawn, in units of the threshold, and what the rules leave of any gradient. */
    plane(x0, y0, side) {
      const unit = side / 3.2;
      const at = ([dw, db]) => `${(x0 + side / 2 + unit * dw).toFixed(1)} ${(y0 + side / 2 - unit * db).toFixed(1)}`;
      const lines = this.clipped(x0, y0, side, side);
      drawn(lines, "path", { class: "grid", d: `M${at([-1.6, 0])}L${at([1.6, 0])}M${at([0, -1.6])}L${at([0, 1.6])}` });
      drawn(lines, "circle", { class: "limit", cx: x0 + side / 2, cy: y0 + side / 2, r: unit });
      drawn(lines, "path", { class: "limit", d: `M${at([-1, -1])}L${at([1, -1])}L${at([1, 1])}L${at([-1, 1])}Z` });
      this.arrows = this.rules.map((name) => drawn(lines, "path", { class: `${name} arrow` }));
      this.arrow = (g) => `M${at([0, 0])}L${at(g)}`;
      const text = (x, y, said, anchor) => drawn(this.svg, "text", { x, y, "text-anchor": anchor }, said);
      text(x0 + side / 2, y0 + side + 16, "gradient for w, in thresholds", "middle");
      text(x0, y0 - 7, "for b", "start");
    }

    line(points) {
      return "M" + points.map(([w, b]) => `${this.x(w).toFixed(1)} ${this.y(b).toFixed(1)}`).join("L");
    }

    choose() {
      const { rate, threshold, w, b } = this.sliders;
      const start = [Number(w.value), Number(b.value)];
      const [chosen, limit] = [this.rates[rate.value], this.thresholds[threshold.value]];
      rate.show(String(chosen));
      threshold.show(String(limit));
      for (const [slider, value] of [[w, start[0]], [b, start[1]]]) slider.show(minus(value, 2));
      this.handle.setAttribute("transform", `translate(${this.x(start[0])} ${this.y(start[1])})`);
      const descents = this.rules.map((rule) => this.descend(start, chosen, rule, limit));
      this.paths.forEach((path, i) => path.setAttribute("d", this.line(descents[i].path)));
      const told = ({ longest, error }, i) =>
        `${SAID[this.rules[i]]}: longest step ${said(longest)}, error ${said(error)} at the end. `;
      this.words.textContent = `${this.updates} updates. ${descents.map(told).join("")}Straight line: the wall.`;
      this.box.dataset.told = JSON.stringify(descents.map((d) => [...d.path[this.updates], d.longest, d.error]));
      if (this.both) this.turn(descents[1].path, limit);
    }

    /* What the rules make of the gradient from which an update of the clipped descent comes. */
    turn(path, limit) {
      const n = Number(this.sliders.look.value);
      const [w, b] = path[n - 1];
      const g = this.slope([w, b]).slice(1);
      const left = this.rules.map((rule) => RULES[rule](g, limit));
      this.sliders.look.show(String(n));
      this.here.setAttribute("cx", this.x(w));
      this.here.setAttribute("cy", this.y(b));
      const far = Math.min(1, (5 * limit) / Math.hypot(...g));  // beyond the edge all the same
      this.arrows.forEach((arrow, i) => arrow.setAttribute("d", this.arrow(left[i].map((x) => (i ? x : x * far) / limit))));
      const turned = angle(g, left[2]);
      const norm = Math.hypot(...g);
      this.words.textContent += ` Update ${n} of the clipped descent (dot): a gradient of norm ${said(norm)}`
        + (norm > limit ? `, rescaled to ${limit} (circle); entry by entry (square) it would be turned by ${minus(turned, 1)}°.`
          : ", below the threshold: nothing is clipped.");
      this.box.dataset.turned = JSON.stringify([...g, ...left[1], ...left[2], turned]);
    }
  }

  each("walls", Walls);
})();
