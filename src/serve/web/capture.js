// The microphone as a flow of samples.
//
//   const capture = await Capture.open({ onSamples, onLost });  // asks the user; throws MicrophoneError
//   capture.sampleRate
//   await capture.stop();  // onSamples has had everything when this returns
//
// Call it from a click or a key press: some browsers let no audio run otherwise.

import { address } from "./server.js";

export class MicrophoneError extends Error {}

const kReasons = {
  NotAllowedError: "This page may not use the microphone. Allow it in the browser’s address bar, then try again.",
  NotFoundError: "No microphone was found. Connect one, then try again; files work without.",
  NotReadableError: "The microphone is in use by another program, or the system keeps it back.",
  AbortError: "The microphone could not be started.",
};

// The model knows plain speech: what browsers do for calls (echo, noise, gain) only bends it.
const kConstraints = {
  audio: { channelCount: 1, echoCancellation: false, noiseSuppression: false, autoGainControl: false },
};

export class Capture {
  #context;
  #stream;
  #node;
  #flushed;
  #wakeLock; // a promise

  static async open({ onSamples, onLost }) {
    if (!navigator.mediaDevices?.getUserMedia || !window.AudioWorkletNode) {
      throw new MicrophoneError(
        window.isSecureContext
          ? "This browser gives no access to a microphone. Files can still be transcribed."
          : "Browsers give the microphone only to pages opened over https, or from this same machine (localhost). " +
            "Files can still be transcribed.",
      );
    }
    const capture = new Capture();
    capture.#context = new AudioContext();
    try {
      capture.#stream = await navigator.mediaDevices.getUserMedia(kConstraints);
      await capture.#context.resume();
      await capture.#context.audioWorklet.addModule(address("static/capture_worklet.js"));
      capture.#connect(onSamples, onLost);
    } catch (error) {
      capture.#release();
      throw new MicrophoneError(kReasons[error.name] ?? `The microphone cannot be used: ${error.message}`);
    }
    capture.#stayAwake();
    return capture;
  }

  get sampleRate() {
    return this.#context.sampleRate;
  }

  async stop() {
    this.#node.port.postMessage("stop");
    // The audio thread does not answer when the device has gone; then there is nothing more to wait for.
    await Promise.race([this.#flushed, new Promise((resolve) => setTimeout(resolve, 500))]);
    this.#release();
  }

  #connect(onSamples, onLost) {
    const source = this.#context.createMediaStreamSource(this.#stream);
    this.#node = new AudioWorkletNode(this.#context, "capture", { channelCount: 1, channelCountMode: "explicit" });
    this.#flushed = new Promise((resolve) => {
      this.#node.port.onmessage = ({ data }) => (data ? onSamples(data) : resolve());
    });
    // Its output is silence; without a way to the speakers some browsers do not run it.
    source.connect(this.#node).connect(this.#context.destination);
    this.#stream.getAudioTracks()[0].addEventListener("ended", onLost);
  }

  // A phone that falls asleep takes the microphone with it. Refused when the battery is low: no matter.
  #stayAwake() {
    this.#wakeLock = navigator.wakeLock?.request("screen").catch(() => null);
  }

  #release() {
    for (const track of this.#stream?.getTracks() ?? []) track.stop();
    if (this.#context.state !== "closed") this.#context.close();
    this.#wakeLock?.then((lock) => lock?.release());
  }
}
