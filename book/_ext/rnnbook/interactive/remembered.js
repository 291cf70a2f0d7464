/* What is remembered: a trained network reads a sequence of the temporal order task, and answers at every step.

   Weights come as whole numbers of 16 bits and a scale; states are computed here, as `rnnlab.engine` does it. */
(() => {
  "use strict";
  const { Figure, drawn, each, element } = interactive;
  const LETTERS = "ABcdef";
  const FROM = [118, 42, 131], TO = [27, 120, 55];  // of states -1 and 1; 0 is nearly white
  const MARGIN = { left: 46, right: 12, top: 26, between: 16, bottom: 42 };
  const ROW = 17;  // of an answer
  const COLUMNS = 500;
  const thousands = (n) => String(n).replace(/\B(?=(\d{3})+$)/g, ",");

  /* The numbers that a page wrote as bytes. */
  function numbers({ scale, bytes }) {
    const read = Uint8Array.from(atob(bytes), (sign) => sign.charCodeAt(0));
    return Float64Array.from(new Int16Array(read.buffer), (whole) => scale * whole);
  }

  /* The sequence with this number: which symbols it has, and at which steps the two stand that count, from 0. */
  function sequence(length, number, order) {
    let state = Math.imul(number + 1, 2654435761) >>> 0;
    const below = (count) => {
      state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
      return Math.floor((count * state) / 2 ** 32);
    };
    const tenth = Math.floor(length / 10);
    const at = [tenth + below(tenth), Math.floor(length / 2) + below(tenth)];
    const symbols = Uint8Array.from({ length }, () => 2 + below(4));
    at.forEach((step, i) => { symbols[step] = (order >> i) & 1; });
    return { at, symbols };
  }

  class Remembered extends Figure {
    constructor(data, figure, picture) {
      super(figure, picture, (width) => (width < 560 ? 290 : 330));
      Object.assign(this, data);
      this.networks = data.networks.map((network) => ({ ...network, theta: numbers(network) }));
      const among = (count, value) => ({ min: 0, max: count - 1, step: 1, value });
      this.sliders = {
        network: this.slider("network", among(data.networks.length, 0), "Network"),
        order: this.slider("order", among(4, data.order), "Symbols"),
        length: this.slider("length", among(data.lengths.length, data.lengths.indexOf(data.length)), "Length"),
        number: this.slider("number", among(20, 0), "Sequence"),
        step: this.slider("step", { min: 1, max: data.length, step: 1, value: data.length }, "Step"),
      };
      this.button = element("button", { type: "button" }, "Play");
      this.button.addEventListener("click", () => (this.playing ? this.stop() : this.play()));
      this.words.before(this.button);
    }

    /* States and shares of the answers at every step of a sequence. */
    run(theta, symbols) {
      const N = this.units;
      const [I, O, T] = [LETTERS.length, 4, symbols.length];
      const [into, bias, out] = [N * N, N * (N + I), N * (N + I + 1)];
      const [states, shares] = [new Float64Array(T * N), new Float64Array(T * O)];
      let before = new Float64Array(N);
      for (let t = 0; t < T; t += 1) {
        const state = states.subarray(t * N, (t + 1) * N);
        for (let i = 0; i < N; i += 1) {
          let sum = theta[into + i * I + symbols[t]] + theta[bias + i];
          for (let j = 0; j < N; j += 1) sum += theta[i * N + j] * before[j];
          state[i] = Math.tanh(sum);
        }
        const read = Array.from({ length: O }, (_, k) =>
          state.reduce((sum, h, j) => sum + theta[out + k * N + j] * h, theta[out + O * N + k]));
        const odds = read.map((y) => Math.exp(y - Math.max(...read)));
        const all = odds.reduce((sum, odd) => sum + odd);
        odds.forEach((odd, k) => { shares[t * O + k] = odd / all; });
        before = state;
      }
      return { states, shares };
    }

    /* Values, `rows` at each step, as a picture: a column may stand for several steps, of which it has the mean. */
    painted(values, rows, color) {
      const steps = values.length / rows;
      const columns = Math.min(steps, COLUMNS);
      const canvas = element("canvas", { width: columns, height: rows });
      const context = canvas.getContext("2d");
      const image = context.createImageData(columns, rows);
      for (let x = 0; x < columns; x += 1) {
        const [from, to] = [x, x + 1].map((edge) => Math.floor((edge * steps) / columns));
        for (let y = 0; y < rows; y += 1) {
          let sum = 0;
          for (let t = from; t < to; t += 1) sum += values[t * rows + y];
          image.data.set([...color(sum / (to - from)), 255], 4 * (y * columns + x));
        }
      }
      context.putImageData(image, 0, 0);
      return canvas.toDataURL();
    }

    draw() {
      const [x0, y0, width] = [MARGIN.left, MARGIN.top, this.width - MARGIN.left - MARGIN.right];
      const floor = this.height - MARGIN.bottom;
      const answers = floor - 4 * ROW;
      const lines = this.clipped(x0, y0, width, floor - y0);
      const image = (y, height) => drawn(lines, "image",
        { x: x0, y, width, height, preserveAspectRatio: "none", style: "image-rendering: pixelated" });
      this.pictures = [image(y0, answers - MARGIN.between - y0), image(answers, 4 * ROW)];
      this.x = (step) => x0 + (step / this.steps) * width;
      this.marks = [0, 1].map(() => drawn(this.svg, "path", { class: "mark" }));
      this.veil = drawn(this.svg, "rect", { class: "veil", y: y0, height: floor - y0 + 1 });
      this.now = drawn(this.svg, "path", { class: "now" });
      this.symbols = [0, 1].map(() => drawn(this.svg, "text", { class: "strong", y: y0 - 8, "text-anchor": "middle" }));
      this.rows = [0, 1, 2, 3].map((k) =>
        drawn(this.svg, "text", { x: x0 - 6, y: answers + (k + 0.75) * ROW, "text-anchor": "end" }));
      this.ticks = [0, 0.5, 1].map((share) =>
        drawn(this.svg, "text", { y: floor + 17, "text-anchor": share === 1 ? "end" : "middle" }));
      drawn(this.svg, "text", { x: x0 + width / 2, y: floor + 36, "text-anchor": "middle" }, "step");
      const turned = `translate(16 ${(y0 + answers - MARGIN.between) / 2}) rotate(-90)`;
      drawn(this.svg, "text", { transform: turned, "text-anchor": "middle" }, "state of each unit");
      this.ends = [y0, floor];
      this.drawn = null;
    }

    /* Read a sequence, and go to its last step, unless the picture alone is new. */
    read(network, order, length, number) {
      const asked = [network, order, length, number].join();
      if (this.drawn === asked) return;
      const again = this.asked === asked;
      this.drawn = this.asked = asked;
      this.steps = this.lengths[length];
      this.sequence = sequence(this.steps, number, order);
      this.told = this.run(this.networks[network].theta, this.sequence.symbols);
      this.sliders.step.max = this.steps;
      if (!again) this.sliders.step.value = this.steps;
      const mixed = (state) => (state < 0 ? FROM : TO).map((end) => 247 + Math.abs(state) * (end - 247));
      this.pictures[0].setAttribute("href", this.painted(this.told.states, this.units, mixed));
      this.pictures[1].setAttribute("href", this.painted(this.told.shares, 4, (share) => Array(3).fill(255 * (1 - share))));
      this.sequence.at.forEach((step, i) => {
        this.symbols[i].textContent = LETTERS[(order >> i) & 1];
        this.symbols[i].setAttribute("x", this.x(step + 0.5));
        this.marks[i].setAttribute("d", `M${this.x(step + 0.5)} ${this.ends[0] - 4}V${this.ends[1]}`);
      });
      this.rows.forEach((row, k) => { row.textContent = (k === order ? "▸ " : "") + this.name(k); });
      this.ticks.forEach((tick, i) => {
        tick.setAttribute("x", this.x((i * this.steps) / 2));
        tick.textContent = thousands((i * this.steps) / 2);
      });
    }

    name(order) {
      return `${LETTERS[order & 1]} ${LETTERS[order >> 1]}`;
    }

    play() {
      const { step } = this.sliders;
      if (Number(step.value) >= this.steps) step.value = 0;
      const stride = Math.ceil(this.steps / 150);
      this.playing = setInterval(() => {
        step.value = Number(step.value) + stride;
        this.choose();
        if (Number(step.value) >= this.steps) this.stop();
      }, 6000 / Math.min(this.steps, 150));
      this.button.textContent = "Pause";
      this.words.setAttribute("aria-live", "off");  // or each step would be read out
    }

    stop() {
      clearInterval(this.playing);
      this.playing = null;
      this.button.textContent = "Play";
      this.words.removeAttribute("aria-live");
      this.choose();
    }

    choose() {
      const [network, order, length, number] = ["network", "order", "length", "number"].map((name) =>
        Number(this.sliders[name].value));
      this.read(network, order, length, number);
      const t = Number(this.sliders.step.value);
      const { at: [, second], symbols } = this.sequence;
      this.sliders.network.show(this.networks[network].name);
      this.sliders.order.show(this.name(order).replace(" ", ", then "));
      this.sliders.length.show(thousands(this.steps));
      this.sliders.number.show(String(number));
      this.sliders.step.show(thousands(t));
      const x = this.x(t);
      this.veil.setAttribute("x", x);
      this.veil.setAttribute("width", Math.max(0, this.x(this.steps) - x));
      this.now.setAttribute("d", `M${x} ${this.ends[0]}V${this.ends[1]}`);
      const answer = (step) => {
        const shares = [...this.told.shares.subarray(4 * step, 4 * step + 4)];
        return { shares, best: shares.indexOf(Math.max(...shares)) };
      };
      const { shares, best } = answer(t - 1);
      let [right, last] = [0, null];
      for (let step = second; step < t; step += 1) if (answer(step).best === order) [right, last] = [right + 1, step + 1];
      const since = t - second;
      const ends = since <= 0 ? "The second symbol is yet to come."
        : `${best === order ? "Right" : "Wrong"}. Since the second symbol, at step ${thousands(second + 1)}, it has been `
          + `right at ${thousands(right)} of ${thousands(since)} steps`
          + (last === null || last === t ? "." : `, for the last time at step ${thousands(last)}.`);
      this.words.textContent = `Step ${thousands(t)} reads ${LETTERS[symbols[t - 1]]}. Asked now, the network answers `
        + `${this.name(best)} with a probability of ${(100 * shares[best]).toFixed(0)} %. ${ends}`;
      const state = [...this.told.states.subarray((t - 1) * this.units, t * this.units)];
      this.box.dataset.told = JSON.stringify({ t, shares, state: state.slice(0, 3), right, last });
    }
  }

  each("remembered", Remembered);
})();
