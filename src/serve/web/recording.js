// One recording from the press of the button to its last word: microphone, stream and what is drawn of both.
//
//   const recording = new Recording({ take, latency_ms, spectrogram, meter, onState, onProgress });
//   const error = await recording.run();  // null, or what ended it; the take keeps what it has either way
//   recording.stop();                     // run() returns when the server has sent the rest
//
// onState: "starting", "recording", "finishing". onProgress({ elapsed_s, delay_s, speech, latency_ms }).

import { Capture, MicrophoneError } from "./capture.js";
import { StreamClient } from "./stream_client.js";

export class Recording {
  #options;
  #capture = null;
  #client = null;
  #stopping = false;
  #done = withResolvers();
  #samples = 0;
  #encoderFrame_s = 0.04;
  #progress = { elapsed_s: 0, delay_s: 0, speech: false, latency_ms: 0 };

  constructor(options) {
    this.#options = options;
  }

  async run() {
    this.#options.onState("starting");
    let lost = null;
    try {
      this.#capture = await Capture.open({
        onSamples: (samples) => this.#onSamples(samples),
        onLost: () => {
          lost = new MicrophoneError("The microphone was disconnected. What was recognised so far stays here.");
          this.stop();
        },
      });
    } catch (error) {
      return error;
    }
    this.#connect();
    if (!this.#stopping) this.#options.onState("recording");
    else this.#client.end();
    const error = await this.#done.promise;
    this.#options.spectrogram.stop();
    this.#options.meter.stop();
    if (!this.#stopping) await this.#capture.stop();
    this.#options.take.close();
    return error ?? lost;
  }

  async stop() {
    if (this.#stopping) return;
    this.#stopping = true;
    this.#options.onState("finishing");
    await this.#capture?.stop();
    this.#client?.end();
  }

  #connect() {
    this.#options.spectrogram.start(this.#capture.sampleRate);
    this.#client = new StreamClient({
      sampleRate: this.#capture.sampleRate,
      latency_ms: this.#options.latency_ms,
      onReady: (message) => {
        this.#encoderFrame_s = message.encoder_frame_s;
        this.#progress.latency_ms = message.latency_ms;
      },
      onUpdate: (message) => this.#onUpdate(message),
      onClosed: (error) => this.#done.resolve(error),
    });
  }

  #onSamples(samples) {
    if (!this.#client) return;
    this.#client.send(samples);
    this.#samples += samples.length;
    this.#options.spectrogram.accept(samples);
    this.#options.meter.accept(samples);
    this.#progress.elapsed_s = this.#samples / this.#capture.sampleRate;
    this.#report();
  }

  #onUpdate({ finals = [], words = [], gate = [], gate_start = 0, speech = false, recognized = 0 }) {
    const { take, spectrogram } = this.#options;
    take.addFinals(finals);
    take.showWords(words);
    spectrogram.addGate(gate, gate_start, this.#encoderFrame_s);
    this.#progress.speech = speech;
    this.#progress.delay_s = Math.max(0, this.#progress.elapsed_s - recognized);
    this.#report();
  }

  #report() {
    this.#options.onProgress(this.#progress);
  }
}

// Promise.withResolvers, which browsers of 2023 lack.
function withResolvers() {
  const all = {};
  all.promise = new Promise((resolve, reject) => Object.assign(all, { resolve, reject }));
  return all;
}
