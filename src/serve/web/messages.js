// What the page tells its user: one message at a time above the controls, and the question for a token.

import { setToken, token } from "./server.js";

const find = (id) => document.getElementById(id);

export function showNotice(text) {
  find("notice").hidden = false;
  find("notice_text").textContent = text;
}

export function hideNotice() {
  find("notice").hidden = true;
  find("notice_text").textContent = "";
}

// Asks for the token until `accept` (async, throws ServerError) takes it. Asking twice is asking once.
export function askForToken(accept) {
  const form = find("token_form");
  const input = find("token");
  find("token_hint").textContent = token() ? "It did not accept the one that it was given." : "";
  setToken("");
  if (form.hidden) {
    form.hidden = false;
    input.value = "";
  }
  input.focus();
  input.select();
  form.onsubmit = async (event) => {
    event.preventDefault();
    setToken(input.value.trim());
    try {
      await accept();
      form.hidden = true;
      hideNotice();
    } catch (error) {
      if (error.kind === "token") askForToken(accept);
      else showNotice(error.message);
    }
  };
}

find("notice_close").addEventListener("click", hideNotice);
