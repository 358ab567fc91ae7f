// The page: what its parts do together.

import { pickFiles } from "./file_picker.js";
import { sendFile } from "./file_upload.js";
import { LevelMeter } from "./level_meter.js";
import { askForToken, hideNotice, showNotice } from "./messages.js";
import { Recording } from "./recording.js";
import { fetchModels, ServerError } from "./server.js";
import { Spectrogram } from "./spectrogram.js";
import { clock, Take } from "./take.js";

const kStatus = { idle: "Ready", starting: "Starting", recording: "Listening", finishing: "Finishing" };
// Behind by this much more than it should be, the user is told.
const kSlow_s = 1;
const kMuted_s = 3;
const kMuted = "The microphone gives nothing but silence. Is it muted?";

const find = (id) => document.getElementById(id);
const spectrogram = new Spectrogram(find("spectrogram"));
const meter = new LevelMeter(find("level"));

let model = "";
let recording = null;
let numRecordings = 0;
let files = Promise.resolve(); // one after the other
let filesWaiting = 0;

async function connect() {
  const models = await fetchModels();
  model = models[0] ?? "";
  find("model").textContent = models.join(", ");
}

function explain(error) {
  if (error.kind === "token") askForToken(connect);
  else showNotice(error.message);
}

function addTake(options) {
  const take = new Take(options);
  find("invitation").hidden = true;
  find("takes").append(take.element);
  followEnd(true);
  return take;
}

function removeIfEmpty(take) {
  if (!take.isEmpty) return;
  take.element.remove();
  find("invitation").hidden = find("takes").childElementCount > 0;
}

// Keeps the newest text in sight, unless the user has scrolled up to read.
let atEnd = true;
addEventListener("scroll", () => {
  atEnd = innerHeight + scrollY > document.documentElement.scrollHeight - 80;
});
function followEnd(always = false) {
  if (atEnd || always) scrollTo({ top: document.documentElement.scrollHeight });
}
new ResizeObserver(() => followEnd()).observe(find("takes"));

function setState(state) {
  document.body.classList.remove(...Object.keys(kStatus));
  document.body.classList.add(state);
  find("status").textContent = kStatus[state];
  find("record").setAttribute("aria-label", state === "recording" ? "Stop recording" : "Start recording");
  // Not `disabled`: that would take the keyboard's focus away.
  find("record").setAttribute("aria-disabled", state === "starting" || state === "finishing");
  find("latency").disabled = state !== "idle";
  if (state !== "idle") return;
  document.body.classList.remove("speech");
  find("elapsed").textContent = "";
  find("delay").textContent = "";
}

function showProgress({ elapsed_s, delay_s, speech, latency_ms }) {
  document.body.classList.toggle("speech", speech);
  find("elapsed").textContent = clock(elapsed_s, 0);
  const slow = delay_s > latency_ms / 1000 + kSlow_s;
  find("delay").textContent = slow ? `${delay_s.toFixed(0)} s behind` : "";
  if (meter.silent_s > kMuted_s) showNotice(kMuted);
  else if (find("notice_text").textContent === kMuted) hideNotice();
}

async function record() {
  hideNotice();
  const now = new Date();
  const two = (value) => String(value).padStart(2, "0");
  const day = `${now.getFullYear()}-${two(now.getMonth() + 1)}-${two(now.getDate())}`;
  const stem = `recording-${day}-${two(now.getHours())}-${two(now.getMinutes())}`;
  const detail = now.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
  const take = addTake({ title: `Recording ${numRecordings + 1}`, detail, stem });
  const latency_ms = Number(find("latency").value);
  recording = new Recording({ take, latency_ms, spectrogram, meter, onState: setState, onProgress: showProgress });
  const error = await recording.run();
  take.setDetail(`${detail}, ${find("elapsed").textContent}`);
  recording = null;
  setState("idle");
  if (!take.isEmpty) numRecordings += 1;
  removeIfEmpty(take);
  if (error) explain(error);
  else if (take.isEmpty) showNotice("No speech was recognised.");
}

function toggle() {
  if (!recording) record();
  else if (document.body.classList.contains("recording")) recording.stop();
}

async function transcribe(file, take) {
  if (file.size === 0) throw new ServerError("refused", "The file is empty.");
  const upload = sendFile(file, {
    model,
    onProgress: (share) => {
      if (share < 1) take.setNote("Sending", { progress: share, onCancel });
      else take.setNote("Transcribing", { progress: NaN, onCancel });
    },
  });
  const onCancel = () => upload.cancel();
  take.setNote("Sending", { progress: 0, onCancel });
  const { duration, segments } = await upload.answer;
  take.setDetail(clock(duration));
  take.addFinals(segments);
  take.setNote(take.isEmpty ? "No speech was recognised." : "");
}

function addFiles(chosen) {
  hideNotice();
  for (const file of chosen) {
    const take = addTake({ title: file.name, stem: file.name.replace(/\.[^.]*$/, "") || "transcript" });
    if (filesWaiting > 0) take.setNote("Waits for the one before");
    filesWaiting += 1;
    files = files.then(async () => {
      try {
        await transcribe(file, take);
      } catch (error) {
        take.setNote(error.message, { failed: error.kind !== "cancelled" });
        if (error.kind === "token") explain(error);
      }
      filesWaiting -= 1;
      followEnd();
    });
  }
}

find("record").addEventListener("click", toggle);
addEventListener("keydown", (event) => {
  if (event.key !== " " || event.repeat || event.ctrlKey || event.altKey || event.metaKey) return;
  // There the space bar has a meaning of its own; on the round button it is a click, which is what is wanted.
  if (event.target.closest("button, input, select, textarea, a[href]")) return;
  event.preventDefault();
  toggle();
});
addEventListener("beforeunload", (event) => {
  if (recording || filesWaiting > 0) event.preventDefault();
});
pickFiles({ button: find("choose"), input: find("file"), overlay: find("drop"), onFiles: addFiles });

setState("idle");
connect().catch(explain);
