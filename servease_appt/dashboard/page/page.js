// Opens the page with a link or a token, and refreshes it.

import "./doctor.js";
import "./entities.js";
import "./events.js";
import "./keys.js";
import { clock } from "./html.js";
import { newest, show } from "./overview.js";
import { ErrorAnswer, Refused, ask, forgetToken, hasToken, keepToken } from "./server.js";

const CODE = "servease-cache-code"; // set by token.js
const POLL_MS = 2000;

const at = (id) => document.getElementById(id);
let timer = 0;
let lastContact = null;

function showContact(problem) {
  const contact = at("contact");
  contact.classList.toggle("lost", Boolean(problem));
  at("shown").classList.toggle("lost", Boolean(problem));
  if (!problem) contact.textContent = `Live, ${clock(lastContact)}`;
  else contact.textContent = lastContact ? `${problem} Last update ${clock(lastContact)}.` : problem;
}

function logOut(reason) {
  forgetToken();
  at("login").hidden = false;
  showContact(reason);
}

document.addEventListener("refused", (event) => logOut(event.detail));

async function poll() {
  clearTimeout(timer);
  try {
    const data = await ask(`data?since=${newest()}`);
    lastContact = new Date();
    show(data);
    showContact(null);
  } catch (error) {
    if (error instanceof Refused) return;
    showContact(error instanceof ErrorAnswer ? error.message : "Connection lost.");
  }
  if (!document.hidden) timer = setTimeout(poll, POLL_MS);
}

document.addEventListener("visibilitychange", () => {
  clearTimeout(timer);
  if (!document.hidden && hasToken()) poll();
});

// Takes a link from `cache dashboard`, a token, or a whole Authorization header.
at("login").addEventListener("submit", async (event) => {
  event.preventDefault();
  const given = at("token").value.trim();
  at("token").value = "";
  const code = /[#&]code=([\w.-]+)/.exec(given)?.[1];
  try {
    if (code) await exchange(code);
    else keepToken(given.replace(/^(authorization:\s*)?bearer\s+/i, ""));
  } catch (error) {
    return logOut(error.message);
  }
  at("login").hidden = true;
  poll();
});

async function exchange(code) {
  keepToken((await ask("session", { code })).token);
}

async function begin() {
  const code = sessionStorage.getItem(CODE);
  sessionStorage.removeItem(CODE);
  try {
    if (code) await exchange(code);
  } catch (error) {
    return logOut(error.message);
  }
  if (hasToken()) poll();
  else logOut("Paste a link or a token to open this page.");
}

begin();
