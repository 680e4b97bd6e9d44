/**
 * Calls to the server. Every failure is an ApiError whose kind says what to do about it:
 * 'offline' and 'busy' are tried again later, 'signed-out' waits for a person, 'refused' can never succeed as it is.
 */

const TIMEOUT_MS = 20_000;
const AGAIN = new Set([408, 425, 429]);

export class ApiError extends Error {
  /**
   * @param {'offline'|'busy'|'signed-out'|'refused'} kind
   * @param {string} message one sentence for the reader
   * @param {{status?: number, retryAfterS?: number}} [details]
   */
  constructor(kind, message, { status = 0, retryAfterS = 0 } = {}) {
    super(message);
    this.kind = kind;
    this.status = status;
    this.retryAfterS = retryAfterS;
  }
}

/**
 * Send JSON, get JSON.
 * @param {string} path
 * @param {object} [body] present for a POST
 * @returns {Promise<any>}
 * @throws {ApiError}
 */
export async function call(path, body) {
  const headers = { 'X-Gptsim': '1', ...(body && { 'Content-Type': 'application/json' }) };
  const options = { method: body ? 'POST' : 'GET', headers, body: body && JSON.stringify(body), cache: 'no-store' };
  let response, answer;
  try {
    // keepalive lets an answer leave the browser even when the tab closes right after the key press
    response = await fetch(path, { ...options, keepalive: Boolean(body), signal: AbortSignal.timeout(TIMEOUT_MS) });
    answer = await response.json();
  } catch {
    answer = null;
  }
  if (response?.ok && answer !== null) return answer;
  throw toError(response, answer);
}

/** A page in place of JSON comes from a proxy or a hotel's Wi-Fi, not from our server: nothing was decided, try again. */
function toError(response, answer) {
  const status = response?.status ?? 0;
  if (status === 401) return new ApiError('signed-out', 'You are signed out.', { status });
  if (AGAIN.has(status)) {
    const retryAfterS = Number(response.headers.get('Retry-After')) || 0;
    return new ApiError('busy', 'The server is busy.', { status, retryAfterS });
  }
  if (status >= 400 && status < 500 && typeof answer?.error === 'string') {
    return new ApiError('refused', answer.error, { status });
  }
  return new ApiError('offline', 'The server can’t be reached.', { status });
}

/** Seconds to wait after so many failures in a row: 1, 2, 4 … 30, spread so that fifty browsers don't return at once. */
export function backoffS(failures, retryAfterS = 0) {
  const wait = Math.min(30, 2 ** Math.max(0, failures - 1));
  return Math.max(retryAfterS, wait * (0.75 + Math.random() / 2));
}

/** A random id; crypto.randomUUID is missing where a team serves plain http on its own network. */
export function makeId() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');
}
