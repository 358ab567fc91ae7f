// A transcript's segments as plain text, SubRip or WebVTT. They are cut into cues as `earshot transcribe` does it:
// at pauses, and where two lines of 42 characters or 7 s are full; a cue stands for at least 0.8 s.
//
// A segment: { start, end, text, words: [{ word, start, end }] }, times in seconds.

const kLineCharacters = 42;
const kMaxLines = 2;
const kMax_s = 7;
const kMin_s = 0.8;
const kPause_s = 0.8;
// What a full cue is worth against a half full one, in seconds of pause.
const kFullness_s = 0.4;

export function toText(segments) {
  return segments.map((segment) => oneLine(segment.text) + "\n").join("");
}

export function toSrt(segments) {
  return makeCues(segments)
    .map((cue, i) => `${i + 1}\n${timeOfDay(cue.start, ",")} --> ${timeOfDay(cue.end, ",")}\n${cue.lines.join("\n")}\n`)
    .join("\n");
}

export function toVtt(segments) {
  const escape = (line) => line.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
  const cues = makeCues(segments).map(
    (cue) => `\n${timeOfDay(cue.start, ".")} --> ${timeOfDay(cue.end, ".")}\n${cue.lines.map(escape).join("\n")}\n`,
  );
  return "WEBVTT\n" + cues.join("");
}

// [{ start, end, lines }] in milliseconds, in order and without overlap.
export function makeCues(segments) {
  const cues = [];
  let freeFrom = 0;
  for (const words of segments.flatMap((segment) => cutWords(wordsOf(segment)))) {
    const start = Math.max(Math.round(words[0].start * 1000), freeFrom);
    const last = Math.max(...words.map((word) => word.end));
    const end = Math.min(Math.max(Math.round(last * 1000), start + kMin_s * 1000), start + kMax_s * 1000);
    cues.push({ start, end, lines: wrap(words) });
    freeFrom = end;
  }
  return cues;
}

function oneLine(text) {
  return text.replace(/\s+/g, " ").trim();
}

// Where a segment has only text: its words, each with its share of the time.
function wordsOf({ start, end, text, words }) {
  const clean = (words ?? []).map((word) => ({ ...word, word: oneLine(word.word) })).filter((word) => word.word);
  if (clean.length > 0) return clean;
  const line = oneLine(text);
  const at = (character) => start + ((end - start) * character) / Math.max(1, line.length);
  return [...line.matchAll(/\S+/g)].map((match) => ({
    word: match[0],
    start: at(match.index),
    end: at(match.index + match[0].length),
  }));
}

function wrap(words) {
  const lines = [];
  for (const { word } of words) {
    const longer = lines.length > 0 ? `${lines.at(-1)} ${word}` : "";
    if (longer && [...longer].length <= kLineCharacters) lines[lines.length - 1] = longer;
    else lines.push(word);
  }
  return lines;
}

function fits(words) {
  return words.at(-1).end - words[0].start <= kMax_s && wrap(words).length <= kMaxLines;
}

function cutWords(words) {
  const groups = [];
  const held = [];
  const take = (count) => groups.push(held.splice(0, count));
  for (const word of words) {
    if (held.length > 0 && word.start - held.at(-1).end >= kPause_s) take(held.length);
    while (held.length > 0 && !fits([...held, word])) take(bestCut(held, word));
    held.push(word);
  }
  if (held.length > 0) take(held.length);
  return groups;
}

// The best place in the later half: the longest pause, or where a sentence ends.
function bestCut(held, next) {
  let best = held.length;
  let bestScore = -1;
  for (let cut = Math.floor(held.length / 2) + 1; cut <= held.length; ++cut) {
    const before = held[cut - 1];
    const after = held[cut] ?? next;
    const mark = /[.?!]$/.test(before.word) ? 1 : /[,;:]$/.test(before.word) ? 0.3 : 0;
    const score = Math.max(0, after.start - before.end) + mark + (kFullness_s * cut) / held.length;
    if (score >= bestScore) [best, bestScore] = [cut, score];
  }
  return best;
}

function timeOfDay(ms, point) {
  const two = (value) => String(Math.floor(value)).padStart(2, "0");
  const thousandths = String(ms % 1000).padStart(3, "0");
  return `${two(ms / 3600000)}:${two((ms / 60000) % 60)}:${two((ms / 1000) % 60)}${point}${thousandths}`;
}
