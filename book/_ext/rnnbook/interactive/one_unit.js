/* One unit: a slider moves its bias through the folds, another its start; the figure shows where the start goes.

   All is computed here, as `rnnlab.dynamics` does it. */
(() => {
  "use strict";
  const { Figure, drawn, each, element } = interactive;
  const MARGIN = { left: 46, right: 12, top: 10, bottom: 42 };
  const STEPS = 2000;  // near a fold it takes long
  const sigmoid = (x) => 1 / (1 + Math.exp(-x));
  const signed = (number, digits) => number.toFixed(digits).replace("-", "−");

  class Unit extends Figure {
    constructor(data, figure, picture) {
      super(figure, picture, (width) => Math.min(400, Math.max(300, 0.5 * width)));
      Object.assign(this, data);
      const [min, max] = data.biases;
      this.sliders = {
        b: this.slider("bias", { min, max, step: 0.005, value: data.bias }, "Bias ", element("i", {}, "b")),
        y: this.slider("start", { min: 0, max: 1, step: 0.01, value: data.start }, "Start ", element("i", {}, "y"), "₀"),
      };
      const half = Math.sqrt(1 / 4 - 1 / data.weight);
      this.turns = [0, 0.5 - half, 0.5 + half, 1];  // between two of them the graph meets the diagonal once at most
    }

    step(y, b) {
      return sigmoid(this.weight * y + b);
    }

    /* Fixed points, the least first, each with whether it attracts. */
    fixed(b) {
      return [0, 1, 2].flatMap((i) => {
        let [low, high] = this.turns.slice(i);
        const attracts = i !== 1;
        const above = (y) => (this.step(y, b) > y) === attracts;
        if (!above(low) || above(high)) return [];
        for (let k = 0; k < 50; k += 1) {
          const y = (low + high) / 2;
          [low, high] = above(y) ? [y, high] : [low, y];
        }
        return [{ y: low, attracts }];
      });
    }

    /* Axes from 0 to 1 upwards, and from `left` to `right` across; returns where their points are. */
    axes(left, right, [from, to], ticks, digits, name) {
      const [top, bottom] = [MARGIN.top, this.height - MARGIN.bottom];
      const x = (value) => left + ((value - from) / (to - from)) * (right - left);
      const y = (value) => bottom - value * (bottom - top);
      for (const value of [0, 0.5, 1]) drawn(this.svg, "path", { class: "grid", d: `M${left} ${y(value)}H${right}` });
      for (const value of ticks) {
        const at = { x: x(value), y: bottom + 17, "text-anchor": "middle" };
        drawn(this.svg, "text", at, signed(value, digits));
      }
      drawn(this.svg, "text", { x: (left + right) / 2, y: bottom + 36, "text-anchor": "middle" }, name);
      return (points) => "M" + points.map(([a, b]) => `${x(a).toFixed(1)} ${y(b).toFixed(1)}`).join("L");
    }

    draw() {
      const both = this.width >= 560;
      const [left, middle] = [MARGIN.left, both ? 0.5 * this.width - 8 : this.width - MARGIN.right];
      const range = (count) => Array.from({ length: count + 1 }, (_, i) => i / count);
      this.across = range(160);
      this.place = this.axes(left, middle, [0, 1], [0, 0.5, 1], 1, "output at one step");
      for (const value of [0, 0.5, 1]) {
        const at = { x: left - 6, y: Number(this.place([[0, value]]).split(" ")[1]) + 4, "text-anchor": "end" };
        drawn(this.svg, "text", at, value.toFixed(1));
      }
      const turned = `translate(12 ${(this.height - MARGIN.bottom) / 2}) rotate(-90)`;
      drawn(this.svg, "text", { transform: turned, "text-anchor": "middle" }, "output at the next step");
      this.lines = drawn(this.svg, "g", { class: "lines" });
      drawn(this.lines, "path", { class: "diagonal", d: this.place([[0, 0], [1, 1]]) });
      [this.graph, this.web] = ["graph", "cobweb"].map((name) => drawn(this.lines, "path", { class: name }));
      this.beside = null;
      if (both) {
        const [from, to] = this.biases;
        const ends = [middle + 40, this.width - MARGIN.right];
        this.beside = this.axes(...ends, this.biases, [from, (from + to) / 2, to], 1, "bias b");
        const curve = ([low, high]) => range(80).map((share) => low + share * (high - low))
          .map((y) => [Math.log(y / (1 - y)) - this.weight * y, y]).filter(([b]) => b >= from && b <= to);
        [0, 1, 2].forEach((i) => drawn(this.lines, "path", {
          class: i === 1 ? "repelling" : "attracting", d: this.beside(curve(this.turns.slice(i))),
        }));
        this.here = drawn(this.lines, "path", { class: "diagonal" });
      }
      this.dots = drawn(this.lines, "g");
    }

    choose() {
      const { b: bias, y: start } = this.sliders;
      const [b, y_0] = [Number(bias.value), Number(start.value)];
      bias.show(signed(b, 3));
      start.show(y_0.toFixed(2));
      const points = this.fixed(b);
      const way = [y_0];
      for (let t = 0; t < STEPS; t += 1) way.push(this.step(way[t], b));
      this.graph.setAttribute("d", this.place(this.across.map((y) => [y, this.step(y, b)])));
      const seen = way.slice(0, 200);
      this.web.setAttribute("d", this.place(seen.flatMap((y, t) => [[y, t ? y : 0], [y, way[t + 1]]])));
      this.dots.replaceChildren();
      this.here?.setAttribute("d", this.beside([[b, 0], [b, 1]]));
      for (const { y, attracts } of points) {
        for (const path of [this.place([[y, y]]), ...(this.beside ? [this.beside([[b, y]])] : [])]) {
          const [cx, cy] = path.slice(1).split(" ");
          drawn(this.dots, "circle", { cx, cy, r: 5, class: attracts ? "attracts" : "repels" });
        }
      }
      this.words.textContent = this.said(b, points, y_0, way[STEPS]);
      this.box.dataset.told = JSON.stringify({ points, end: way[STEPS] });
    }

    said(b, points, start, end) {
      const [b_2, b_1] = this.folds;
      const [first, middle, last] = points.map(({ y }) => y.toFixed(2));
      const goes = `From ${start.toFixed(2)} the output goes to ${end.toFixed(2)}.`;
      if (last) return `Two attractors, at ${first} and ${last}. Between them ${middle} repels: there their basins meet. ${goes}`;
      const lost = b > b_1 ? `The lower one appears at b₁ = ${signed(b_1, 3)}.` : `The upper one is lost at b₂ = ${signed(b_2, 3)}.`;
      return `One attractor, at ${first}. ${lost} ${goes}`;
    }
  }

  each("one_unit", Unit);
})();
