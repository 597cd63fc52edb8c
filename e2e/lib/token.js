// Access tokens as the host's login service would mint them.

import { createHmac, randomBytes, randomUUID } from 'node:crypto';

/** The servers' JWT_SECRET. */
export const secret = randomBytes(32).toString('hex');

/** Every token made here; none may show up in a server's log. */
export const minted = new Set();

const encode = (value) => Buffer.from(JSON.stringify(value)).toString('base64url');

/**
 * Signs claims. `iat`, `exp` and a `jti` that makes the token unique are added
 * unless given; a claim that is undefined is left out.
 *
 * @param {object} claims
 * @param {{alg?: string, key?: string}} [how] `none` leaves the signature empty
 */
export function sign(claims, { alg = 'HS256', key = secret } = {}) {
  const now = Math.floor(Date.now() / 1000);
  const body = `${encode({ alg, typ: 'JWT' })}.${encode({ iat: now, exp: now + 3600, jti: randomUUID(), ...claims })}`;
  const hash = { HS256: 'sha256', HS512: 'sha512' }[alg];
  const signature = hash ? createHmac(hash, key).update(body).digest('base64url') : '';
  const token = `${body}.${signature}`;
  minted.add(token);
  return token;
}

/** The time in whole seconds since 1970, `seconds` from now at the soonest. */
export const inSeconds = (seconds) => Math.ceil(Date.now() / 1000 + seconds);

/** The claims of a token, not verified. */
export const claimsOf = (token) => JSON.parse(Buffer.from(token.split('.')[1], 'base64url'));
