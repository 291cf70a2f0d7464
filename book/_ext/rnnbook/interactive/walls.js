/* Descents over the error of one unit: drag the start, choose learning rate and threshold, and see which one leaves.

   The surface is computed here, as `rnnlab.dynamics.surface` does it. */
(() => {
  "use strict";
  const { Figure, drawn, each, element, ten } = interactive;
  const GREENS = [[247, 252, 245], [116, 196, 118], [0, 68, 27]];  // of errors 0, 0.5 and 1
  const MARGIN = { left: 50, right: 10, top: 10, bottom: 42 };
  const sigmoid = (x) => 1 / (1 + Math.exp(-x));

  function said(number) {
    const power = Math.round(Math.log10(number));
    return number < 1e4 ? String(Number(number.toPrecision(2))) : `about ${ten(power)}`;
  }

  class Walls extends Figure {
    constructor(data, figure, picture) {
      super(figure, picture, (width) => Math.min(430, Math.max(270, 0.64 * width)));
      Object.assign(this, data);
      const italic = (letter) => element("i", {}, letter);
      const among = (values, value) => ({ min: 0, max: values.length - 1, step: 1, value: values.indexOf(value) });
      const between = ([min, max], value) => ({ min, max, step: 0.01, value });
      this.sliders = {
        rate: this.slider("rate", among(data.rates, data.rate), "Learning rate"),
        threshold: this.slider("threshold", among(data.thresholds, data.threshold), "Threshold"),
        w: this.slider("w", between(data.weights, data.start[0]), "Start: weight ", italic("w")),
        b: this.slider("b", between(data.biases, data.start[1]), "Start: bias ", italic("b")),
      };
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
    descend(start, rate, threshold) {
      const path = [start];
      let longest = 0;
      for (let n = 0; n < this.updates; n += 1) {
        const [, dw, db] = this.slope(path[n]);
        const norm = Math.hypot(dw, db);
        const step = rate * Math.min(1, threshold / norm);
        longest = Math.max(longest, step * norm);
        path.push([path[n][0] - step * dw, path[n][1] - step * db]);
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
      const [width, height] = [this.width - x0 - MARGIN.right, this.height - y0 - MARGIN.bottom];
      this.x = (w) => x0 + ((w - left) / (right - left)) * width;
      this.y = (b) => y0 + ((top - b) / (top - bottom)) * height;
      this.at = (x, y) => [left + ((x - x0) / width) * (right - left), top - ((y - y0) / height) * (top - bottom)];
      const ground = this.clipped(x0, y0, width, height);
      drawn(ground, "image", { x: x0, y: y0, width, height, href: this.map, preserveAspectRatio: "none" });
      const y = sigmoid(this.x_0);
      const wall = [1 / (y * (1 - y)), right].map((w) => [w, this.x_0 - w * y]);
      drawn(ground, "path", { class: "wall", d: this.line(wall) });
      this.paths = ["plain", "clipped"].map((name) => drawn(ground, "path", { class: name }));
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
      for (const [slider, value] of [[w, start[0]], [b, start[1]]]) slider.show(value.toFixed(2).replace("-", "−"));
      this.handle.setAttribute("transform", `translate(${this.x(start[0])} ${this.y(start[1])})`);
      const [plain, clipped] = [Infinity, limit].map((most) => this.descend(start, chosen, most));
      this.paths.forEach((path, i) => path.setAttribute("d", this.line([plain, clipped][i].path)));
      const told = ({ longest, error }) => `longest step ${said(longest)}, error ${said(error)} at the end`;
      this.words.textContent = `${this.updates} updates. Plain descent (grey): ${told(plain)}. `
        + `Clipped (blue): ${told(clipped)}. Black: the wall.`;
      this.box.dataset.told = JSON.stringify([plain, clipped].map((d) => [...d.path[this.updates], d.longest, d.error]));
    }
  }

  each("walls", Walls);
})();
