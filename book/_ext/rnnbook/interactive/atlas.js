/* An atlas of clipping: choose a rule, a learning rate and a threshold, and see how many networks were solved, and when.

   All numbers are those that the page read from the stored trainings. */
(() => {
  "use strict";
  const { Figure, drawn, each } = interactive;
  const SCALE = [[253, 231, 37], [94, 201, 98], [33, 145, 140], [59, 82, 139], [68, 1, 84]];  // soon to late
  const MARGIN = { left: 52, top: 22, between: 60, bottom: 42 };
  const WIDE = 620;
  const listed = (words) => [words.slice(0, -1).join(", "), words.at(-1)].filter(Boolean).join(" and ");
  const thousands = (n) => String(n).replace(/\B(?=(\d{3})+$)/g, ",");

  class Atlas extends Figure {
    constructor(data, figure, picture) {
      super(figure, picture, (width) => (width < WIDE ? 560 : 310));
      Object.assign(this, data);
      const among = (values, at) => ({ min: 0, max: values.length - 1, step: 1, value: at });
      this.sliders = {
        rule: this.slider("rule", among(this.rules, 0), "Rule"),
        rate: this.slider("rate", among(this.rates, this.chosen[0]), "Learning rate"),
        threshold: this.slider("threshold", among(this.thresholds, this.chosen[1]), "Threshold"),
      };
    }

    /* Updates until solved of a cell's networks, those that were not last; null for a cell without networks. */
    times(rule, rate, threshold) {
      return this.rules[rule].times[rate][threshold];
    }

    /* The mean of a cell's times, the budget for those not solved. */
    mean(times) {
      return times.reduce((sum, time) => sum + (time ?? this.budget), 0) / times.length;
    }

    color(mean) {
      const [soon, late] = [Math.log(this.soonest), Math.log(this.budget)];
      const at = Math.min(3.999, Math.max(0, (4 * (Math.log(mean) - soon)) / (late - soon)));
      const [from, to] = SCALE.slice(Math.floor(at));
      return `rgb(${from.map((value, k) => Math.round(value + (at % 1) * (to[k] - value)))})`;
    }

    draw() {
      const wide = this.width >= WIDE;
      const size = wide ? 0.52 * this.width : this.width;
      const [x0, y0] = [MARGIN.left, MARGIN.top];
      const [columns, rows] = [this.thresholds.length, this.rates.length];
      const [width, height] = [(size - x0 - 8) / columns, 246 / rows];
      const text = (x, y, said, how = {}) => drawn(this.svg, "text", { x, y, "text-anchor": "middle", ...how }, said);
      this.cells = this.rates.map((rate, i) => this.thresholds.map((threshold, j) => {
        const [x, y] = [x0 + j * width, y0 + (rows - 1 - i) * height];
        const cell = drawn(this.svg, "rect", { x, y, width, height, class: "cell" });
        const count = text(x + width / 2, y + height / 2 + 4, "");
        for (const part of [cell, count]) part.onclick = () => {
          [this.sliders.rate.value, this.sliders.threshold.value] = [i, j];
          this.choose();
        };
        return { cell, count };
      }));
      const [i, j] = this.chosen;  // the paper's
      text(x0 + (j + 1) * width - 10, y0 + (rows - 1 - i) * height + 14, "★");
      this.frame = drawn(this.svg, "rect", { width, height, class: "frame" });
      this.frameAt = (i, j) => [x0 + j * width, y0 + (rows - 1 - i) * height];
      this.rates.forEach((rate, i) => text(x0 - 6, y0 + (rows - 0.5 - i) * height + 4, String(rate), { "text-anchor": "end" }));
      this.thresholds.forEach((threshold, j) => text(x0 + (j + 0.5) * width, y0 + rows * height + 16, String(threshold)));
      text(x0 + (columns * width) / 2, y0 + rows * height + 34, "threshold");
      text(0, y0 - 8, "learning rate", { "text-anchor": "start" });
      const [left, top] = wide ? [size + MARGIN.between, y0] : [x0, y0 + rows * height + MARGIN.between + 12];
      const [across, down] = [this.width - left - 14, (wide ? 246 : 170)];
      this.x = (update) => left + (update / this.budget) * across;
      this.y = (share) => top + (1 - share) * down;
      for (const share of [0, 0.5, 1]) {
        drawn(this.svg, "path", { class: "grid", d: `M${left} ${this.y(share)}H${left + across}` });
        text(left - 6, this.y(share) + 4, String(share), { "text-anchor": "end" });
      }
      for (const [part, anchor] of [[0, "middle"], [0.5, "middle"], [1, "end"]])
        text(this.x(part * this.budget), top + down + 16, thousands(part * this.budget), { "text-anchor": anchor });
      text(left + across / 2, top + down + 34, "updates");
      text(left - 24, top - 8, "share solved", { "text-anchor": "start" });
      this.others = this.thresholds.map(() => drawn(this.clippedOnce(), "path", { class: "quietly" }));
      this.curve = drawn(this.ground, "path", { class: "clipped" });
    }

    /* The group of what is turned over in a dark page. */
    clippedOnce() {
      if (this.ground?.ownerSVGElement !== this.svg) this.ground = drawn(this.svg, "g", { class: "lines" });
      return this.ground;
    }

    /* The share of a cell's networks that are solved, as a staircase. */
    stairs(times) {
      const solved = times.filter((time) => time !== null);
      return [[0, 0], ...solved.map((time, k) => [time, (k + 1) / times.length])];
    }

    line(points) {
      const path = points.slice(1).map(([update, share]) => `H${this.x(update)}V${this.y(share)}`).join("");
      return `M${this.x(0)} ${this.y(0)}${path}H${this.x(this.budget)}`;
    }

    choose() {
      const [rule, i, j] = ["rule", "rate", "threshold"].map((name) => Number(this.sliders[name].value));
      this.sliders.rule.show(this.rules[rule].name);
      this.sliders.rate.show(String(this.rates[i]));
      this.sliders.threshold.show(String(this.thresholds[j]));
      this.cells.forEach((row, m) => row.forEach(({ cell, count }, n) => {
        const times = this.times(rule, m, n);
        cell.setAttribute("fill", times ? this.color(this.mean(times)) : "none");
        count.textContent = times ? `${times.filter((time) => time !== null).length}/${times.length}` : "";
      }));
      const [x, y] = this.frameAt(i, j);
      this.frame.setAttribute("x", x);
      this.frame.setAttribute("y", y);
      this.others.forEach((path, n) => {
        const times = this.times(rule, i, n);
        path.setAttribute("d", times && n !== j ? this.line(this.stairs(times)) : "");
      });
      const times = this.times(rule, i, j);
      const points = times ? this.stairs(times) : [];
      this.curve.setAttribute("d", times ? this.line(points) : "");
      const when = points.slice(1).map(([update]) => thousands(update));
      const said = times && (when.length === 0 ? `none of ${times.length} networks was solved within `
        + `${thousands(this.budget)} updates` : `${when.length} of ${times.length} networks were solved, after `
        + `${listed(when)} updates`);
      this.words.textContent = `${this.rules[rule].name}, learning rate ${this.rates[i]}, threshold ${this.thresholds[j]}: `
        + `${said ?? "no network has been trained yet"}. Blue: this cell; thin: the other thresholds at this rate.`;
      this.box.dataset.told = JSON.stringify({ times: times ?? null, points });
    }
  }

  each("atlas", Atlas);
})();
