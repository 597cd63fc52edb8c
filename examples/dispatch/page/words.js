// What errors and endings mean, in words.

const ofCode = {
  missing_token: 'The app sent no token. Log in again.',
  invalid_token: 'The server does not accept this token. Log in again.',
  token_expired: 'The token has expired. The app fetches a new one.',
  access_expired: 'The login has expired. The app fetches a new token.',
  missing_claims: 'The token does not say whose it is. Log in again.',
  user_not_found: 'This user does not exist any more.',
  user_inactive: 'This user is banned or deactivated.',
  wrong_user_type: 'This user may not use this app.',
  invalid_session: 'This session was ended. Log in again.',
  rate_limited: 'Too many at once. Wait a moment and try again.',
  unavailable: 'The server can not answer right now. Try again.',
  internal: 'The server has made a mistake; its log says which.',
};

/** An error as a sentence for people. */
export function inWords(err) {
  const code = err?.code ?? err?.data?.code;
  if (ofCode[code]) return ofCode[code];
  const text = String(err?.message ?? err);
  if (/operation has timed out/.test(text)) return 'No answer within five seconds. Try again.';
  if (/websocket error|xhr poll error|timeout|Failed to fetch|NetworkError/.test(text)) return 'The server can not be reached. The app keeps trying.';
  return text.charAt(0).toUpperCase() + text.slice(1) + (/[.!?]$/.test(text) ? '' : '.');
}

/** An error with a code of the server. */
export const errorOf = ({ code, message }) => Object.assign(new Error(message), { code });

export const money = (amount, currency) => (amount == null ? '' : `${Math.round(amount)} ${currency}`);
export const seconds = (ms) => `${(ms / 1000).toFixed(1)} s`;
export const clock = (at) => new Date(at).toLocaleTimeString([], { hour12: false }) + '.' + String(new Date(at).getMilliseconds()).padStart(3, '0');
export const millis = (ms) => (ms < 1000 ? `${Math.max(0, Math.round(ms))} ms` : seconds(ms));
export const meters = (m) => (m < 1000 ? `${Math.round(m / 10) * 10} m` : `${(m / 1000).toFixed(1)} km`);
export const size = (bytes) => (bytes < 1000 ? `${Math.round(bytes)} B` : bytes < 1e6 ? `${(bytes / 1000).toFixed(1)} kB` : `${(bytes / 1e6).toFixed(1)} MB`);
