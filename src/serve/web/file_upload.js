// A recording sent to the server as a whole.
//
//   const upload = sendFile(file, { model, onProgress });  // onProgress(share sent, 0 to 1)
//   const { duration, segments } = await upload.answer;    // segments as a Take has them; throws ServerError
//   upload.cancel();                                       // the answer throws one of kind "cancelled"

import { address, authorization, refusal, ServerError } from "./server.js";

export function sendFile(file, { model, onProgress }) {
  const form = new FormData();
  form.append("model", model);
  form.append("response_format", "verbose_json");
  form.append("timestamp_granularities[]", "word");
  form.append("timestamp_granularities[]", "segment");
  // Last, so that a server that reads as it comes knows by then what is wanted of it.
  form.append("file", file, file.name);
  // fetch() does not tell how much has been sent.
  const request = new XMLHttpRequest();
  const answer = new Promise((resolve, reject) => {
    request.upload.addEventListener("progress", ({ loaded, total }) => onProgress(total ? loaded / total : 1));
    request.addEventListener("load", () => {
      if (request.status !== 200) return reject(refusal(request.status, request.responseText));
      const transcript = parse(request.responseText);
      return transcript ? resolve(transcript) : reject(new ServerError("refused", "The server's answer is damaged."));
    });
    request.addEventListener("error", () => reject(failure(file)));
    request.addEventListener("abort", () => reject(new ServerError("cancelled", "Cancelled.")));
    request.open("POST", address("v1/audio/transcriptions"));
    for (const [name, value] of Object.entries(authorization())) request.setRequestHeader(name, value);
    request.send(form);
  });
  return { answer, cancel: () => request.abort() };
}

function failure(file) {
  // A folder that was dropped looks like a file without a type, and cannot be read.
  if (file.type === "" && file.size % 4096 === 0) return new ServerError("refused", "This cannot be read as a file.");
  return new ServerError("lost", "The connection broke off. The file may be larger than this server accepts.");
}

function parse(body) {
  let answer;
  try {
    answer = JSON.parse(body);
  } catch {
    return null;
  }
  const { text = "", duration = 0, words = [] } = answer;
  const segments = answer.segments ?? (text ? [{ start: 0, end: duration, text }] : []);
  // The words come in one list for all segments, in the same order: each goes to the segment that holds its middle.
  let at = 0;
  const withWords = segments.map((segment) => {
    const own = [];
    while (at < words.length && (words[at].start + words[at].end) / 2 <= segment.end) own.push(words[at++]);
    return { ...segment, words: own };
  });
  if (at < words.length && withWords.length > 0) withWords.at(-1).words.push(...words.slice(at));
  return { duration, segments: withWords };
}
