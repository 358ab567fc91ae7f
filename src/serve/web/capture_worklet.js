// Runs on the browser's audio thread: hands the microphone's samples to the page in blocks of 20 ms.

const kBlock_s = 0.02;

class CaptureProcessor extends AudioWorkletProcessor {
  constructor() {
    super();
    this.block = new Float32Array(Math.round(sampleRate * kBlock_s));
    this.used = 0;
    this.stopped = false;
    this.port.onmessage = () => this.stop();
  }

  process([input]) {
    if (this.stopped) return false;
    const samples = input[0];
    for (let at = 0; samples && at < samples.length; ) {
      const count = Math.min(samples.length - at, this.block.length - this.used);
      this.block.set(samples.subarray(at, at + count), this.used);
      this.used += count;
      at += count;
      if (this.used === this.block.length) this.post();
    }
    return true;
  }

  post() {
    this.port.postMessage(this.block.slice(0, this.used));
    this.used = 0;
  }

  // The last block is a short one; null says that none follows.
  stop() {
    if (this.used > 0) this.post();
    this.stopped = true;
    this.port.postMessage(null);
  }
}

registerProcessor("capture", CaptureProcessor);
