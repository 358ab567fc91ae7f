// The server as the page sees it: its addresses, the access token, and what its refusals mean.
//
// All addresses are relative to the page, so that it works behind a proxy under a path of its own.

const kTokenKey = "earshot.token";

// What can go wrong with a server. kind: "token" (asks for one, or for another), "full", "lost" (no connection),
// "cancelled", "refused" (everything that it explains itself).
export class ServerError extends Error {
  constructor(kind, message) {
    super(message);
    this.kind = kind;
  }
}

export const lostConnection = () =>
  new ServerError("lost", "The connection to the server is lost. What was recognised so far stays here.");

export const serverFull = () =>
  new ServerError("full", "The server is full: it takes nothing more at the moment. Try again a little later.");

// Kept until the tab is closed, and no longer.
export function token() {
  return sessionStorage.getItem(kTokenKey) ?? "";
}

export function setToken(value) {
  if (value) sessionStorage.setItem(kTokenKey, value);
  else sessionStorage.removeItem(kTokenKey);
}

export function address(path) {
  return new URL(path, document.baseURI).href;
}

export function authorization() {
  return token() ? { Authorization: `Bearer ${token()}` } : {};
}

export function streamAddress() {
  return address("v1/stream").replace(/^http/, "ws");
}

// A browser sets no headers on a WebSocket, so the token travels as a subprotocol: base64url without padding, as '='
// may not stand in a protocol's name. The server answers with "earshot".
export function streamProtocols() {
  if (!token()) return [];
  const bytes = String.fromCharCode(...new TextEncoder().encode(token()));
  const base64url = btoa(bytes).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
  return ["earshot", `bearer.${base64url}`];
}

// An answer that is no success, as a ServerError. body: what came with it, OpenAI's error object if all is well.
export function refusal(status, body) {
  let message = "";
  try {
    message = JSON.parse(body).error.message;
  } catch {
    // A proxy's page, or nothing: the status alone has to do.
  }
  if (status === 401) return new ServerError("token", message || "The server asks for a token.");
  if (status === 429) return serverFull();
  if (!message && status === 413) message = "The file is larger than this server accepts.";
  return new ServerError("refused", message || `The server answered with status ${status}.`);
}

// The names of the models. Throws ServerError.
export async function fetchModels() {
  let response;
  try {
    response = await fetch(address("v1/models"), { headers: authorization(), cache: "no-store" });
  } catch {
    throw new ServerError("lost", "The server cannot be reached.");
  }
  const body = await response.text();
  if (!response.ok) throw refusal(response.status, body);
  try {
    return JSON.parse(body).data.map((model) => model.id);
  } catch {
    throw new ServerError("refused", "What answers here is not an Earshot server.");
  }
}

// Why a WebSocket was not opened: the browser does not say, so the server is asked over HTTP.
export async function whyNoStream() {
  try {
    await fetchModels();
  } catch (error) {
    return error;
  }
  return new ServerError("full", "The server opened no stream: it is probably full. Try again a little later.");
}
