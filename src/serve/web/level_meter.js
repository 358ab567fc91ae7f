// How loud the microphone is, as a bar, and for a screen reader once a second as a value.
//
//   meter.accept(samples); meter.stop(); meter.silent_s  // how long nothing at all has come, until the first sound

const kFloor_db = -60;
const kFall_db_per_s = 40;
// Every microphone that is on has some noise; a muted one gives zeros, or nearly.
const kSilence_db = -85;

export class LevelMeter {
  silent_s = 0;
  #element;
  #bar;
  #level_db = kFloor_db;
  #shownAt = 0;
  #spokenAt = 0;
  #sampleAt = 0;
  #heard = false;

  constructor(element) {
    this.#element = element;
    this.#bar = element.firstElementChild;
  }

  accept(samples) {
    let sum = 0;
    for (const sample of samples) sum += sample * sample;
    const db = 10 * Math.log10(sum / samples.length + 1e-12);
    const now = performance.now();
    const since_s = this.#sampleAt ? (now - this.#sampleAt) / 1000 : 0;
    this.#sampleAt = now;
    this.#heard ||= db > kSilence_db;
    this.silent_s = this.#heard ? 0 : this.silent_s + since_s;
    this.#level_db = Math.max(kFloor_db, db, this.#level_db - kFall_db_per_s * since_s);
    this.#show(now);
  }

  stop() {
    this.#level_db = kFloor_db;
    this.#sampleAt = 0;
    this.silent_s = 0;
    this.#heard = false;
    this.#shownAt = this.#spokenAt = 0;
    this.#show(performance.now());
  }

  #show(now) {
    if (now - this.#shownAt < 30) return;
    this.#shownAt = now;
    this.#bar.style.transform = `scaleX(${(1 - this.#level_db / kFloor_db).toFixed(3)})`;
    if (now - this.#spokenAt < 1000) return;
    this.#spokenAt = now;
    const level = Math.min(0, Math.round(this.#level_db));
    this.#element.setAttribute("aria-valuenow", level);
    this.#element.setAttribute("aria-valuetext", level <= kFloor_db ? "silent" : `${level} decibels`);
  }
}
