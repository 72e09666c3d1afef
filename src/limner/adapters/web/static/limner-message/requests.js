/** Requests to the app, and what to tell a reader of those that came to nothing. */

import { asSentence, words } from "./words.js";

/** The kind of a refusal that does not say, in the app's way, what it is. */
export const NOT_OF_THE_APP = "http_error";

/** An answer that is not what was asked for. */
export class Refused extends Error {
  constructor(status, problem = {}) {
    super(problem.message || `The server answered ${status}.`);
    this.status = status;
    this.kind = problem.kind ?? NOT_OF_THE_APP;
    this.hint = problem.hint ?? "";
  }
}

export async function ask(address, options = {}) {
  const response = await fetch(address, { cache: "no-store", ...options });
  if (response.ok) return response;
  const content = await response.json().catch(() => ({}));
  throw new Refused(response.status, content?.error);
}

/** Whether an answer may be that of a server which knows nothing of Limner. */
export const isNone = (error) => error instanceof Refused && (error.status === 404 || error.status < 300);

export const noApp = (address) =>
  new Refused(404, {
    kind: "no_app",
    message: `there is no Limner app at ${address}`,
    hint: "Let the attribute base name the path where Limner.asgi() is mounted.",
  });

/** What to tell a reader of a request that came to nothing. */
export function explain(error) {
  if (!(error instanceof Refused)) return words.unreachable;
  if (error.status === 401 || error.status === 403) return words.refused;
  if (error.status >= 500 || error.status === 429) return words.unavailable;
  return asSentence(error.message);
}
