// Samples into columns of a spectrogram: how dark each of `rows` bands is, 0 to 1, highest band first.
//
// The bands lie evenly on the mel scale from 60 Hz to 8 kHz, as ears have it. Darkness is level against the loudest of
// the last seconds, so that a soft microphone draws as well as a loud one.

import { PowerSpectrum } from "./fft.js";

const kWindow_s = 0.03;
const kRange_db = 55;
// The loudest is forgotten at this rate, and is never less than a soft voice's.
const kForget_db_per_s = 3;
const kFloor_db = -50;

const mel = (hz) => 2595 * Math.log10(1 + hz / 700);
const hertz = (mels) => 700 * (10 ** (mels / 2595) - 1);

export class SpectrogramColumns {
  rows = 80;
  count = 0; // columns made so far

  constructor(sampleRate, column_s) {
    this.sampleRate = sampleRate;
    this.column_s = column_s;
    this.spectrum = new PowerSpectrum(2 ** Math.ceil(Math.log2(sampleRate * kWindow_s)));
    this.history = new Float32Array(this.spectrum.size);
    this.step = Math.round(sampleRate * column_s);
    this.pending = 0;
    this.taken = 0;
    this.loudest_db = kFloor_db;
    this.bands = this.#bands();
  }

  get time_s() {
    return this.taken / this.sampleRate;
  }

  // The columns that these samples complete.
  accept(samples) {
    const columns = [];
    for (let at = 0; at < samples.length;) {
      const count = Math.min(samples.length - at, this.step - this.pending);
      this.history.copyWithin(0, count);
      this.history.set(samples.subarray(at, at + count), this.history.length - count);
      at += count;
      this.taken += count;
      this.pending += count;
      if (this.pending < this.step) break;
      this.pending = 0;
      this.count += 1;
      columns.push(this.#column());
    }
    return columns;
  }

  // [first, last] bin of each row.
  #bands() {
    const hz_per_bin = this.sampleRate / this.spectrum.size;
    const low = mel(60);
    const high = mel(Math.min(8000, this.sampleRate / 2));
    const bin = (row) => hertz(high - ((high - low) * row) / this.rows) / hz_per_bin;
    return Array.from({ length: this.rows }, (_, row) => {
      const first = Math.round(bin(row + 1));
      return [first, Math.max(first, Math.round(bin(row)) - 1)];
    });
  }

  #column() {
    const power = this.spectrum.of(this.history);
    const levels = this.bands.map(([first, last]) => {
      let loudest = 1e-12;
      for (let i = first; i <= last; ++i) loudest = Math.max(loudest, power[i]);
      return 10 * Math.log10(loudest);
    });
    this.loudest_db = Math.max(kFloor_db, this.loudest_db - kForget_db_per_s * this.column_s, ...levels);
    return levels.map((db) => Math.max(0, 1 + (db - this.loudest_db) / kRange_db) ** 1.6);
  }
}
