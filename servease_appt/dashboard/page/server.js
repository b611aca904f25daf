// Asks the service.

const KEY = "servease-cache-token";
const GIVE_UP_MS = 5000;

// The service answered, with an error.
export class ErrorAnswer extends Error {}
// It does not accept the token.
export class Refused extends ErrorAnswer {}

export const hasToken = () => sessionStorage.getItem(KEY) !== null;
export const keepToken = (token) => sessionStorage.setItem(KEY, token);
export const forgetToken = () => sessionStorage.removeItem(KEY);

function refuse(reason) {
  document.dispatchEvent(new CustomEvent("refused", { detail: reason }));
  throw new Refused(reason);
}

// Raises an ErrorAnswer with the service's sentence; Refused where the token is not accepted, which the page hears of
// too; another error where no answer came.
export async function ask(path, body, giveUpMs = GIVE_UP_MS) {
  const token = sessionStorage.getItem(KEY);
  const answer = await fetch(`${document.body.dataset.base}/${path}`, {
    method: body ? "POST" : "GET",
    headers: { ...(token && { Authorization: `Bearer ${token}` }), ...(body && { "Content-Type": "application/json" }) },
    body: body && JSON.stringify(body),
    cache: "no-store",
    signal: AbortSignal.timeout(giveUpMs),
  });
  if (answer.status === 403) refuse("This page needs an admin's token.");
  if (answer.ok) return answer.json();
  const { detail } = await answer.json().catch(() => ({})); // a proxy's page is no JSON
  if (answer.status === 401) refuse(detail);
  throw new ErrorAnswer(detail ?? `The service answered with the status ${answer.status}.`);
}
