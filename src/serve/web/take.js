// One recording or file in the transcript: its segments, and the part of the page that shows them.
//
//   const take = new Take({ title, detail, stem });  // stem: what its downloads are called
//   parent.append(take.element);
//   take.addFinals(finals); take.showWords(words);   // of a stream's update
//   take.close();                                    // words that never became final stay, as they were last seen
//   take.setNote(text, { failed, progress, onCancel }); take.setNote("");

import { element } from "./element.js";
import { copyText, download } from "./save.js";
import { toSrt, toText, toVtt } from "./subtitles.js";

// Below this a word is marked as doubtful.
const kDoubtful = 0.5;

const kForms = { txt: toText, srt: toSrt, vtt: toVtt };

export class Take {
  segments = [];
  #stem;
  #words = [];
  #finals = element("div", { className: "finals", role: "log", ariaLive: "polite", ariaRelevant: "additions" });
  #partial = element("div", { className: "line partial", ariaLive: "off", hidden: true });
  #note = element("div", { className: "take_note quiet", hidden: true });
  #actions = element("div", { className: "take_actions", hidden: true });
  #detail = element("span", { className: "quiet figures" });

  constructor({ title, detail = "", stem }) {
    this.#stem = stem;
    this.#finals.setAttribute("aria-label", `Text of ${title}`);
    const saveAs = element("span", { className: "quiet save_as", ariaHidden: true }, "Save as");
    const saveButtons = Object.keys(kForms).map((form) => this.#saveButton(form, title));
    this.#actions.append(this.#copyButton(title), saveAs, ...saveButtons);
    this.setDetail(detail);
    const heading = element("h2", { className: "take_title" }, title, this.#detail);
    const head = element("header", { className: "take_head" }, heading, this.#actions);
    this.element = element("section", { className: "take" }, head, this.#finals, this.#partial, this.#note);
    this.element.setAttribute("aria-label", title);
  }

  get isEmpty() {
    return this.segments.length === 0 && this.#words.length === 0;
  }

  setDetail(text) {
    this.#detail.textContent = text;
  }

  addFinals(finals) {
    for (const segment of finals) {
      if (!segment.text.trim()) continue;
      this.segments.push(segment);
      this.#finals.append(line("line", segment.start, textOf(segment)));
    }
    this.#actions.hidden = this.segments.length === 0;
  }

  // The words behind the last final; each call replaces the one before.
  showWords(words) {
    this.#words = words;
    this.#partial.hidden = words.length === 0;
    if (words.length === 0) return;
    const kind = (stable) => ({ className: stable ? "stable" : "tentative" });
    const spans = words.map(({ word, stable }) => element("span", kind(stable), word));
    this.#partial.replaceChildren(...line("line", words[0].start, spaced(spans)).childNodes);
  }

  close() {
    const words = this.#words;
    this.showWords([]);
    if (words.length === 0) return;
    const text = words.map(({ word }) => word).join(" ");
    this.addFinals([{ start: words[0].start, end: words.at(-1).end, text, words }]);
  }

  // progress: 0 to 1, or NaN while nobody knows; null: no bar.
  setNote(text, { failed = false, progress = null, onCancel = null } = {}) {
    this.#note.hidden = !text;
    this.#note.classList.toggle("failed", failed);
    const parts = [element("span", failed ? { role: "alert" } : {}, text)];
    if (progress !== null) {
      const bar = element("progress", { max: 1 });
      bar.setAttribute("aria-label", text);
      if (!Number.isNaN(progress)) bar.value = progress;
      parts.push(bar);
    }
    if (onCancel) {
      const cancel = element("button", { type: "button", className: "plain" }, "Cancel");
      cancel.addEventListener("click", onCancel);
      parts.push(cancel);
    }
    this.#note.replaceChildren(...parts);
  }

  #copyButton(title) {
    const button = element("button", { type: "button", className: "plain" }, "Copy");
    button.setAttribute("aria-label", `Copy the text of ${title}`);
    button.addEventListener("click", async () => {
      button.textContent = (await copyText(toText(this.segments))) ? "Copied" : "Not allowed";
      setTimeout(() => (button.textContent = "Copy"), 1500);
    });
    return button;
  }

  #saveButton(form, title) {
    const button = element("button", { type: "button", className: "plain" }, form);
    button.dataset.form = form;
    button.setAttribute("aria-label", `Download ${title} as ${form}`);
    button.addEventListener("click", () => download(`${this.#stem}.${form}`, kForms[form](this.segments)));
    return button;
  }
}

function line(className, start_s, content) {
  const time = element("time", { dateTime: `PT${start_s.toFixed(2)}S` }, clock(start_s));
  return element("div", { className }, time, element("p", { className: "line_text" }, ...content));
}

// The words with their times and certainty in the title, where they make up the text; else the text.
function textOf({ text, words = [] }) {
  if (words.map(({ word }) => word).join(" ") !== text) return [text];
  return spaced(
    words.map(({ word, start, end, confidence }) => {
      const span = element("span", {}, word);
      span.title = `${clock(start, 2)} to ${clock(end, 2)}`;
      if (confidence !== undefined) span.title += `, ${Math.round(100 * confidence)} % sure`;
      span.classList.toggle("doubtful", confidence < kDoubtful);
      return span;
    }),
  );
}

function spaced(spans) {
  return spans.flatMap((span, i) => (i === 0 ? [span] : [" ", span]));
}

// 1:02.3, with hours where there are any.
export function clock(seconds, digits = 1) {
  const unit = 10 ** digits;
  const units = Math.round(seconds * unit);
  const whole = Math.floor(units / unit);
  const minutes = Math.floor(whole / 60);
  const two = (value) => String(value).padStart(2, "0");
  const fraction = digits > 0 ? `.${String(units % unit).padStart(digits, "0")}` : "";
  const clockMinutes = minutes < 60 ? String(minutes) : `${Math.floor(minutes / 60)}:${two(minutes % 60)}`;
  return `${clockMinutes}:${two(whole % 60)}${fraction}`;
}
