/* The error on its way back: a slider chooses the spectral radius, the figure says what is left of the error.

   Lines are powers of ten in hundredths, each number the difference from one step to the step before it, beginning with 0
   at the last step. */
(() => {
  "use strict";
  const { Figure, drawn, each, element, ten } = interactive;
  const COLOURS = [[0, 158, 115], [86, 180, 233], [204, 121, 167]];  // green, sky and purple of rnnlab.plots
  const DASHES = { sigmoid: "2 4", "basic tanh": "8 5", "smart tanh": "" };
  const MARGIN = { left: 44, right: 14, top: 30, bottom: 42 };

  /* Powers of ten at every step, the first step first. */
  function powers(differences) {
    let hundredths = 0;
    return [0, ...differences.map((difference) => (hundredths += difference) / 100)].reverse();
  }

  function median(values) {
    const sorted = [...values].sort((a, b) => a - b);
    return (sorted[(sorted.length - 1) >> 1] + sorted[sorted.length >> 1]) / 2;
  }

  function colour(share) {
    const at = Math.min(share * 2, 1.999);
    const [from, to] = COLOURS.slice(Math.floor(at));
    return `rgb(${from.map((value, i) => Math.round(value + (at % 1) * (to[i] - value))).join(" ")})`;
  }

  /* 10^power as it is said: one digit near 1, a power of ten far from it. */
  function amount(power) {
    return Math.abs(power) < 3 ? String(Number((10 ** power).toPrecision(1))) : ten(Math.round(power));
  }

  function left(power) {
    if (power < Math.log10(1.5)) return `${amount(power)} of the error is left`;
    return `the error is ${amount(power)} times as large`;
  }

  function radius(rho) {
    return String(rho).includes(".") ? String(rho) : rho.toFixed(1);
  }

  class Fan extends Figure {
    constructor(data, figure, picture) {
      super(figure, picture, (width) => Math.min(400, Math.max(290, 0.58 * width)));
      const [low, high] = [Math.min(...data.radii), Math.max(...data.radii)].map(Math.log);
      Object.assign(this, data);
      this.back = data.back.map((networks) => networks.map(powers));
      this.middle = this.back.map((networks) => networks[0].map((_, t) => median(networks.map((line) => line[t]))));
      this.paper = Object.entries(data.paper).map(([name, line]) => [name, powers(line)]);
      this.colours = data.radii.map((rho) => colour((Math.log(rho) - low) / (high - low || 1)));
      const choices = { min: 0, max: data.radii.length - 1, step: 1, value: (data.radii.length - 1) >> 1 };
      this.input = this.slider("radius", choices, "Spectral radius ", element("i", {}, "ρ"));
    }

    draw() {
      const { width } = this;
      const [bottom, top] = this.range;
      this.x = (t) => MARGIN.left + (t / this.steps) * (width - MARGIN.left - MARGIN.right);
      this.y = (p) => MARGIN.top + ((top - p) / (top - bottom)) * (this.height - MARGIN.top - MARGIN.bottom);
      this.axes();
      const lines = this.clipped(this.x(0), this.y(top), this.x(this.steps) - this.x(0), this.y(bottom) - this.y(top));
      this.fan = this.back.map((networks, i) => {
        const group = drawn(lines, "g", { class: "radius", stroke: this.colours[i] });
        for (const line of networks) drawn(group, "path", { d: this.path(line) });
        return group;
      });
      this.linear = drawn(lines, "path", { class: "linear" });
      for (const [name, line] of this.paper)
        drawn(lines, "path", { class: "paper", d: this.path(line), "stroke-dasharray": DASHES[name] ?? "" });
      for (const [name, line] of this.paper)
        this.label(drawn(this.svg, "text", {}, name), line, line[0] < this.range[0] ? 0.25 : 0.7);
      this.linearLabel = drawn(this.svg, "text", { class: "quiet" });
      this.radiusLabel = drawn(this.svg, "text", { class: "strong" });
    }

    axes() {
      const [bottom, top] = this.range;
      const [x0, x1, floor] = [this.x(0), this.x(this.steps), this.y(bottom)];
      for (let power = Math.ceil(bottom / 10) * 10; power <= top; power += 10) {
        drawn(this.svg, "path", { class: power === 0 ? "one" : "grid", d: `M${x0} ${this.y(power)}H${x1}` });
        drawn(this.svg, "text", { x: x0 - 7, y: this.y(power) + 4, "text-anchor": "end" }, ten(power));
      }
      for (const share of [0, 0.2, 0.4, 0.6, 0.8, 1]) {
        const t = Math.round(share * this.steps);
        drawn(this.svg, "text", { x: this.x(t), y: floor + 17, "text-anchor": "middle" }, String(t));
      }
      const named = drawn(this.svg, "text", { x: (x0 + x1) / 2, y: floor + 36, "text-anchor": "middle" }, "step ");
      drawn(named, "tspan", { "font-style": "italic" }, "t");
      drawn(this.svg, "text", { class: "quiet", x: x1, y: floor + 36, "text-anchor": "end" }, "← the error goes back");
      drawn(this.svg, "text", { x: 4, y: 14 }, "error that arrives (relative to the last step)");
    }

    path(line) {
      return "M" + line.map((power, t) => `${this.x(t).toFixed(1)} ${this.y(power).toFixed(1)}`).join("L");
    }

    /* Write above or below a line, on the side that the line leaves free, where the picture has room: as near as may be
       to this share of the steps that it shows of the line. */
    label(text, line, share, lift = -6) {
      const [bottom, top] = this.range;
      let first = this.steps;
      while (first > 0 && line[first - 1] >= bottom && line[first - 1] <= top) first -= 1;
      let t = first + Math.round(share * (this.steps - first));
      const y = () => this.y(line[t]) + lift;
      while (t < this.steps && (y() > this.y(bottom) - 6 || y() < this.y(top) + 12)) t += 1;
      const after = (line[this.steps] >= line[t]) !== (lift < 0);
      const rightmost = after ? this.width - text.getComputedTextLength() : this.width;
      text.setAttribute("x", Math.min(this.x(t) + 5, rightmost));
      text.setAttribute("y", y());
      text.setAttribute("text-anchor", after ? "start" : "end");
    }

    choose() {
      const i = Number(this.input.value);
      const rho = this.radii[i];
      const [middle, ends] = [this.middle[i], this.back[i].map((line) => line[0])];
      const [low, high] = [Math.min(...ends), Math.max(...ends)];
      this.input.show(radius(rho));
      this.fan.forEach((group, j) => group.classList.toggle("chosen", j === i));
      const linear = Array.from({ length: this.steps + 1 }, (_, t) => (this.steps - t) * Math.log10(rho));
      this.linear.setAttribute("d", this.path(linear));
      this.linearLabel.textContent = "linear units";
      this.label(this.linearLabel, linear, 0.4);
      this.radiusLabel.textContent = `ρ = ${radius(rho)}`;
      const edge = middle[0] > 0 ? Math.max : Math.min;  // of the fan, outside which the label stands
      const outer = middle.map((_, t) => edge(...this.back[i].map((line) => line[t])));
      this.label(this.radiusLabel, outer, 0.02, middle[0] > 0 ? -6 : 17);
      const spread = amount(low) === amount(high) ? "" : `, from ${amount(low)} to ${amount(high)}`;
      this.words.textContent = `${this.steps} steps back, ${left(middle[0])} `
        + `(median of ${ends.length} networks${spread}). `
        + `Linear units would multiply it by about ρ at each step, by ${amount(linear[0])} in all; `
        + "the slope of tanh, at most 1, lessens that.";
      Object.assign(this.box.dataset, { rho, low: low.toFixed(2), middle: middle[0].toFixed(2), high: high.toFixed(2) });
    }
  }

  each("error_back", Fan);
})();
