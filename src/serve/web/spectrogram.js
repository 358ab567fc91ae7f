// The last seconds of sound as ink on paper, and over them the model's gate as a curve.
//
//   spectrogram.start(sampleRate); spectrogram.accept(samples); spectrogram.addGate(gate, start_s, frame_s);
//   spectrogram.stop();  // stands still; what is there stays
//
// Both lie on the stream's own clock, so that the curve is where the sound is, however late it came. The picture
// scrolls; for those who want less motion it is written over from left to right instead, and nothing moves.

import { SpectrogramColumns } from "./spectrogram_columns.js";

const kColumn_s = 0.02;
const kColumnsPerPixel = 0.55;
const kSweepGap = 0.04;

export class Spectrogram {
  #canvas;
  #ink = document.createElement("canvas"); // a ring of columns: the ink's colour, darkness as alpha
  #columns = null;
  #gate = []; // { at_s, value }
  #running = false;
  #still = matchMedia("(prefers-reduced-motion: reduce)");

  constructor(canvas) {
    this.#canvas = canvas;
    new ResizeObserver(() => this.#draw()).observe(canvas);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.#recolour());
  }

  start(sampleRate) {
    this.#canvas.hidden = false;
    this.#columns = new SpectrogramColumns(sampleRate, kColumn_s);
    this.#ink.width = Math.round(Math.max(160, this.#canvas.clientWidth * kColumnsPerPixel));
    this.#ink.height = this.#columns.rows;
    this.#gate = [];
    this.#running = true;
    const tick = () => {
      if (!this.#running) return;
      this.#draw();
      requestAnimationFrame(tick);
    };
    requestAnimationFrame(tick);
  }

  stop() {
    this.#running = false;
    this.#draw();
  }

  accept(samples) {
    if (!this.#running) return;
    const context = this.#ink.getContext("2d");
    const [red, green, blue] = colour(this.#canvas, "color");
    const done = this.#columns.count;
    this.#columns.accept(samples).forEach((darkness, i) => {
      // The column behind stays empty, and the oldest is not shown: scaling blends neighbours of this ring.
      const image = context.createImageData(1, this.#ink.height);
      context.putImageData(image, (done + i + 1) % this.#ink.width, 0);
      darkness.forEach((value, row) => image.data.set([red, green, blue, 255 * value], 4 * row));
      context.putImageData(image, (done + i) % this.#ink.width, 0);
    });
  }

  addGate(gate, start_s, frame_s) {
    gate.forEach((value, i) => this.#gate.push({ at_s: start_s + (i + 0.5) * frame_s, value }));
    const oldest_s = this.#columns.time_s - this.#span_s;
    while (this.#gate.length > 0 && this.#gate[0].at_s < oldest_s) this.#gate.shift();
  }

  get #span_s() {
    return this.#ink.width * kColumn_s;
  }

  #recolour() {
    const context = this.#ink.getContext("2d");
    context.globalCompositeOperation = "source-in";
    context.fillStyle = getComputedStyle(this.#canvas).color;
    context.fillRect(0, 0, this.#ink.width, this.#ink.height);
    context.globalCompositeOperation = "source-over";
    this.#draw();
  }

  #draw() {
    if (!this.#columns) return;
    const canvas = this.#canvas;
    const scale = devicePixelRatio || 1;
    canvas.width = Math.round(canvas.clientWidth * scale);
    canvas.height = Math.round(canvas.clientHeight * scale);
    if (canvas.width === 0) return;
    const context = canvas.getContext("2d");
    const { width, height } = canvas;
    const total = this.#ink.width;
    const head = this.#columns.count % total;
    if (this.#still.matches) {
      context.drawImage(this.#ink, 0, 0, width, height);
      context.clearRect((head / total) * width, 0, kSweepGap * width, height);
    } else {
      const older = ((total - head) / total) * width;
      context.drawImage(this.#ink, head, 0, total - head, this.#ink.height, 0, 0, older, height);
      if (head > 0) context.drawImage(this.#ink, 0, 0, head, this.#ink.height, older, 0, width - older, height);
      context.clearRect(0, 0, Math.ceil((2 * width) / total), height);
    }
    this.#drawGate(context, width, height, scale);
  }

  // Where a time lies, as a share of the width.
  #place(at_s) {
    if (this.#still.matches) return (at_s / this.#span_s) % 1;
    return 1 - (this.#columns.count * kColumn_s - at_s) / this.#span_s;
  }

  #drawGate(context, width, height, scale) {
    const margin = 3 * scale;
    const reach_s = this.#still.matches ? this.#span_s * (1 - kSweepGap) : this.#span_s;
    context.beginPath();
    let last = Infinity;
    for (const { at_s, value } of this.#gate) {
      if (at_s < this.#columns.time_s - reach_s) continue;
      const x = this.#place(at_s) * width;
      const y = height - margin - value * (height - 2 * margin);
      if (x < last) context.moveTo(x, y);
      else context.lineTo(x, y);
      last = x;
    }
    context.strokeStyle = getComputedStyle(this.#canvas).accentColor;
    context.lineWidth = 1.75 * scale;
    context.lineJoin = "round";
    context.stroke();
  }
}

function colour(element, property) {
  return getComputedStyle(element)[property].match(/[\d.]+/g).map(Number);
}
