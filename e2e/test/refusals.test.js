// Refusals: every code of the contract, exactly.

import assert from 'node:assert/strict';
import { hello, refusals } from '../lib/contract.js';
import { like } from '../lib/like.js';
import { outsiders, scenario, tokenOf } from '../lib/scenario.js';
import { inSeconds, sign } from '../lib/token.js';

const past = inSeconds(-10);

/** Each row: the code, what is special, namespace, and the auth payload. */
const rows = () => [
  ['missing_token', 'no auth', '/drivers', undefined],
  ['missing_token', 'an empty auth', '/drivers', {}],
  ['missing_token', 'an empty token', '/passengers', { token: '' }],
  ['missing_token', 'null', '/admin', { token: null }],
  ['missing_token', 'another case', '/drivers', { Token: tokenOf('diego') }],
  ['invalid_token', 'no JWT', '/drivers', { token: 'not a token' }],
  ['invalid_token', 'another key', '/drivers', { token: sign({ sub: 'diego', sid: 'diego/a' }, { key: 'another' }) }],
  ['invalid_token', 'alg none', '/drivers', { token: sign({ sub: 'diego', sid: 'diego/a' }, { alg: 'none' }) }],
  ['invalid_token', 'an algorithm that is not pinned', '/drivers', { token: sign({ sub: 'diego', sid: 'diego/a' }, { alg: 'HS512' }) }],
  ['invalid_token', 'claims that were changed', '/admin', { token: tampered() }],
  ['invalid_token', 'a number', '/drivers', { token: 123 }],
  ['invalid_token', 'an object', '/drivers', { token: { token: tokenOf('diego') } }],
  ['invalid_token', 'a list', '/drivers', { token: [tokenOf('diego')] }],
  ['invalid_token', '9 KiB', '/drivers', { token: tokenOf('diego', { filler: 'x'.repeat(9 * 1024 * 3 / 4) }) }],
  ['invalid_token', 'no exp', '/drivers', { token: tokenOf('diego', { exp: undefined }) }],
  ['invalid_token', 'not yet', '/drivers', { token: tokenOf('diego', { nbf: inSeconds(60) }) }],
  ['token_expired', 'an old one', '/drivers', { token: tokenOf('diego', { exp: past }) }],
  ['token_expired', 'before anything else is looked at', '/admin', { token: tokenOf('bruno', { exp: past }) }],
  ['missing_claims', 'no sub', '/drivers', { token: sign({ sid: 'diego/a' }) }],
  ['missing_claims', 'no sid', '/drivers', { token: sign({ sub: 'diego' }) }],
  ['missing_claims', 'empty', '/drivers', { token: sign({ sub: '', sid: '' }) }],
  ['missing_claims', 'no strings', '/drivers', { token: sign({ sub: 1, sid: true }) }],
  ['missing_claims', 'another case', '/drivers', { token: sign({ Sub: 'diego', SID: 'diego/a' }) }],
  ['user_not_found', 'with a session', '/drivers', { token: tokenOf('nobody') }],
  ['wrong_user_type', 'a driver', '/passengers', { token: tokenOf('diego') }],
  ['wrong_user_type', 'a driver', '/admin', { token: tokenOf('diego') }],
  ['wrong_user_type', 'a passenger', '/drivers', { token: tokenOf('paula') }],
  ['wrong_user_type', 'an admin', '/drivers', { token: tokenOf('ana') }],
  ['wrong_user_type', 'banned besides', '/drivers', { token: tokenOf('bruno') }],
  ['wrong_user_type', 'whatever the token claims', '/admin', { token: tokenOf('diego', { userType: 'admin', role: 'admin' }) }],
  ['user_inactive', 'inactive', '/drivers', { token: tokenOf('ines') }],
  ['user_inactive', 'banned', '/passengers', { token: tokenOf('bruno') }],
  ['user_inactive', 'with an unknown session besides', '/drivers', { token: tokenOf('ines', { sid: 'unknown' }) }],
  ['invalid_session', 'unknown', '/drivers', { token: tokenOf('diego', { sid: 'unknown' }) }],
  ['invalid_session', 'revoked', '/drivers', { token: tokenOf('diego', { sid: 'diego/revoked' }) }],
  ['invalid_session', "another user's", '/drivers', { token: tokenOf('diego', { sid: 'dora/a' }) }],
  ['access_expired', 'in the session', '/drivers', { token: tokenOf('diego', { sid: 'diego/expired' }) }],
];

function tampered() {
  const [header, , signature] = tokenOf('diego').split('.');
  return [header, Buffer.from(JSON.stringify({ sub: 'ana', sid: 'ana/a', exp: inSeconds(60) })).toString('base64url'), signature].join('.');
}

scenario('refusals', async (world) => {
  const cases = rows();
  assert.deepEqual([...new Set(cases.map(([code]) => code))], Object.keys(refusals), 'the table has every code');
  for (const [code, what, namespace, auth] of cases) {
    const c = world.client(namespace, { auth });
    const err = await c.refused();
    assert.equal(err.message, refusals[code], `${code}, ${what}`);
    assert.deepEqual(err.data, { code }, `${code}, ${what}`);
    assert.deepEqual(c.log.map((e) => e.kind), ['refused'], `${code}, ${what}: nothing else`);
    // A 3.x client keeps a refused socket active; see the next test.
    if (world.setting.version.startsWith('4')) assert.equal(c.socket.active, false);
    c.close();
  }
  for (const namespace of ['/', '/nowhere', '/drivers/', '/Drivers']) {
    const c = world.client(namespace, { auth: { token: tokenOf('diego') } });
    const err = await c.refused();
    assert.equal(err.message, 'Invalid namespace');
    assert.equal(err.data, undefined);
    c.close();
  }
}, { seed: outsiders });

scenario('a refused client that stays may try again, and is closed in the end', async (world, { version }) => {
  const began = Date.now();
  const c = world.client('/drivers', { auth: { token: tokenOf('diego', { exp: past }) } });
  await c.refused();
  c.socket.io.on('reconnect_attempt', () => { c.socket.auth = { token: tokenOf('diego') }; });
  if (version.startsWith('4')) {
    // The client has closed the connection itself; the app connects again.
    c.socket.auth = { token: tokenOf('diego') };
    c.socket.connect();
    await c.hello();
    return;
  }
  await c.hello();
  assert.ok(Date.now() - began >= 950, 'closed after the connect timeout, not before');
}, { flags: ['-connect-timeout', '1s'] });

scenario('the token, where a client may put it', async (world) => {
  const token = tokenOf('diego');
  const bad = 'Bearer nonsense';
  for (const options of [
    { auth: { token: `Bearer ${token}` } },
    { auth: { token: `bearer ${token}` } },
    { auth: (send) => send({ token }) },
    { extraHeaders: { Authorization: `Bearer ${token}` } },
    { extraHeaders: { authorization: `BEARER ${token}` } },
    { auth: { token: '' }, extraHeaders: { Authorization: `Bearer ${token}` } },
    { auth: { token: null }, extraHeaders: { Authorization: `Bearer ${token}` } },
    { auth: { token }, extraHeaders: { Authorization: bad } },
    // Issued by a clock that is ahead.
    { auth: { token: tokenOf('diego', { iat: inSeconds(600), nbf: inSeconds(2) }) } },
  ]) {
    const c = world.client('/drivers', options);
    like(await c.hello(), hello('/drivers', 'diego', 'diego/a'), 'hello');
    c.close();
  }
  for (const [code, options] of [
    ['invalid_token', { extraHeaders: { Authorization: bad } }],
    ['invalid_token', { auth: { token: 'nonsense' }, extraHeaders: { Authorization: `Bearer ${token}` } }],
    ['missing_token', { extraHeaders: { Authorization: `Basic ${Buffer.from('diego:secret').toString('base64')}` } }],
    ['missing_token', { query: { token } }],
  ]) {
    const c = world.client('/drivers', options);
    assert.deepEqual((await c.refused()).data, { code });
    c.close();
  }
});

scenario("an issuer's tokens only", async (world) => {
  const c = world.client('/drivers', { auth: { token: tokenOf('diego') } });
  assert.deepEqual((await c.refused()).data, { code: 'invalid_token' });
  const other = world.client('/drivers', { auth: { token: tokenOf('diego', { iss: 'Rodando' }) } });
  assert.deepEqual((await other.refused()).data, { code: 'invalid_token' });
  await world.as('diego', { token: tokenOf('diego', { iss: 'rodando' }) }).hello();
}, { env: { JWT_ISSUER: 'rodando' } });
