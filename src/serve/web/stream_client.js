// One live stream over a WebSocket: audio out, transcript in.
//
//   const client = new StreamClient({ sampleRate, latency_ms, onReady, onUpdate, onClosed });
//   client.send(samples);  // Float32Array in [-1, 1]; what comes before the server is ready waits for it
//   client.end();          // asks for what is still missing; onClosed follows
//
// onReady(message) and onUpdate(message) get the server's messages as they are. onClosed(error) comes exactly once,
// last: null after a finished stream, else a ServerError.

import { lostConnection, ServerError, serverFull, streamAddress, streamProtocols, whyNoStream } from "./server.js";

// Until the server is ready; and after the end, when it may have much to compute, but sends an update for every chunk.
const kPatience_ms = 30000;

// In which the close that an error announces is here.
const kCloseFollows_ms = 500;

// Some 40 s at 48 kHz.
const kMostUnsent_bytes = 4 << 20;

const kClosedNormally = 1000;
const kClosedGoingAway = 1001;
const kClosedByPolicy = 1008;
const kClosedTryAgainLater = 1013;

export class StreamClient {
  #socket;
  #waiting = [];
  #ready = false;
  #ending = false;
  #closed = false;
  #failure = null;
  #timer = 0;
  #handlers;

  constructor({ sampleRate, latency_ms, onReady, onUpdate, onClosed }) {
    this.#handlers = { onReady, onUpdate, onClosed };
    const config = { type: "config", sample_rate: sampleRate, format: "s16le" };
    if (latency_ms) config.latency_ms = latency_ms;
    this.#socket = new WebSocket(streamAddress(), streamProtocols());
    this.#socket.addEventListener("open", () => this.#socket.send(JSON.stringify(config)));
    this.#socket.addEventListener("message", (event) => this.#onMessage(event.data));
    this.#socket.addEventListener("close", (event) => this.#onClose(event));
    this.#beWatchful();
  }

  send(samples) {
    if (this.#ending) return;
    // A network that cannot carry the audio would fill the memory.
    if (this.#socket.bufferedAmount > kMostUnsent_bytes) this.#close(lostConnection());
    else this.#post(toInt16(samples));
  }

  end() {
    if (this.#ending || this.#closed) return;
    this.#ending = true;
    this.#post(JSON.stringify({ type: "end" }));
    this.#beWatchful();
  }

  #post(message) {
    if (this.#closed) return;
    if (this.#ready) this.#socket.send(message);
    else this.#waiting.push(message);
  }

  #onMessage(data) {
    if (this.#closed) return;
    let message;
    try {
      message = JSON.parse(data);
    } catch {
      return;
    }
    clearTimeout(this.#timer);
    if (message.type === "ready") {
      this.#ready = true;
      this.#handlers.onReady(message);
      for (const block of this.#waiting.splice(0)) this.#socket.send(block);
    } else if (message.type === "update") {
      this.#handlers.onUpdate(message);
      // A server that shuts down finishes streams that nobody has ended; its close follows and says so.
      if (message.finished && this.#ending && !this.#failure) this.#close(null);
    } else if (message.type === "error") {
      this.#failure = new ServerError("refused", message.message);
    }
    if (this.#closed) return;
    // A config that is not to its taste: it waits for a better one. When it is full, its close follows and says so.
    if (this.#failure && !this.#ready) this.#beWatchful(kCloseFollows_ms);
    else if (this.#ending) this.#beWatchful();
  }

  #beWatchful(patience_ms = kPatience_ms) {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#close(this.#failure ?? lostConnection()), patience_ms);
  }

  async #onClose({ code, reason }) {
    if (this.#closed) return;
    if (code === kClosedTryAgainLater) this.#close(serverFull());
    else if (this.#failure) this.#close(this.#failure);
    else if (code === kClosedGoingAway) this.#close(new ServerError("lost", "The server is shutting down."));
    else if (code === kClosedByPolicy) this.#close(new ServerError("token", reason || "The server asks for a token."));
    else if (code !== kClosedNormally && reason) this.#close(new ServerError("refused", reason));
    else if (this.#ready) this.#close(lostConnection());
    else this.#close(await whyNoStream());
  }

  #close(error) {
    if (this.#closed) return;
    this.#closed = true;
    clearTimeout(this.#timer);
    this.#socket.close();
    this.#handlers.onClosed(error);
  }
}

// Typed arrays have the machine's byte order, which is little-endian wherever a browser runs.
function toInt16(samples) {
  const out = new Int16Array(samples.length);
  for (let i = 0; i < samples.length; ++i) out[i] = Math.round(Math.max(-1, Math.min(1, samples[i])) * 32767);
  return out;
}
