// Clients that are not in JavaScript: Python's and a Go one, through a whole trip and every way
// in which the server ends a connection. Who is to come back does, and who is not stays away.

import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';
import { sessionEvents } from '../lib/contract.js';
import { foreignSettings, heartbeats } from '../lib/foreign.js';
import { like } from '../lib/like.js';
import { outsiders, scenario as each, tokenOf } from '../lib/scenario.js';
import { inSeconds } from '../lib/token.js';
import { goOnline } from '../lib/trip.js';
import { wholeTrip } from '../lib/wholetrip.js';

const scenario = (name, body, { flags = [], ...options } = {}) => each(`other languages: ${name}`, body, {
  among: foreignSettings, waits: true, flags: [...heartbeats, ...flags], ...options,
});

/** Longer than these clients need to come back. */
const later = 2000;

/** Checks that a client is disconnected, and stays so. */
async function staysAway(c) {
  await c.disconnected();
  await sleep(later);
  assert.equal(c.count('connect'), 1, `${c} came back:\n${c.story()}`);
}

scenario('a whole trip', wholeTrip, {
  among: foreignSettings.map((s) => ({ ...s, io: (url, options) => s.io(url, { ...options, ordered: true }) })),
});

scenario('who is revoked or banned is told why, and stays away', async (world) => {
  const { server } = world;
  const [driver, passenger, ana] = await world.connect('diego', 'paula', 'ana');
  await server.post('/api/logout', tokenOf('diego'));
  await server.post('/api/admin/users/paula/ban', tokenOf('ana'), { reason: 'complaints' });
  await Promise.all([driver, passenger].map(staysAway)); // what Python has read before the end is told by then
  like(driver.payloads('auth:session_revoked'), [sessionEvents.revoked('diego/a')]);
  like(passenger.payloads('auth:session_revoked'), [{ ...sessionEvents.revoked(null), reason: 'complaints' }]);
  await ana.roundTrip();
});

scenario('whose token runs out is told, and comes back with a fresh one', async (world) => {
  const c = world.as('diego');
  await c.hello();
  await c.settled();
  const exp = inSeconds(3);
  await c.must('auth:refresh', { token: tokenOf('diego', { exp }) });
  await c.disconnected();
  assert.deepEqual(await c.event('auth:expired'), { at: new Date(exp * 1000).toISOString() });
  await c.hello(2);
  await c.firstRoundTrip();
  await goOnline(c);
});

scenario('who comes with an old token is refused, and stays away', async (world) => {
  for (const [token, code] of [[tokenOf('diego', { exp: inSeconds(-5) }), 'token_expired'], [tokenOf('diego', { sid: 'diego/revoked' }), 'invalid_session']]) {
    const c = world.as('diego', { token });
    assert.deepEqual((await c.refused()).data, { code });
    await sleep(later);
    assert.deepEqual([c.count('connect'), c.count('refused')], [0, 1]);
  }
}, { seed: outsiders });

scenario('a server that drains says so, and its clients come back to the next', async (world) => {
  const clients = await world.connect('diego', 'paula');
  const stopped = world.server.stop('SIGTERM');
  for (const c of clients) {
    await c.disconnected();
    assert.deepEqual(Object.keys(await c.event('server:drain')), ['reconnectAfterMs']);
  }
  assert.deepEqual(await stopped, { code: 0, signal: null });
  await world.server.start();
  for (const c of clients) {
    await c.hello(2);
    await c.firstRoundTrip();
  }
});

scenario('a connection that is cut is no end', async (world) => {
  const network = await world.network();
  const c = world.as('diego', { url: network.url });
  await c.hello();
  await c.settled();
  network.cut();
  await c.disconnected();
  network.heal();
  assert.equal((await c.hello(2)).recovered, c.setting.version === 'Go', 'Python has no part in recovery');
  await c.settled();
  await c.firstRoundTrip();
});

scenario('a message that is too large is no end', async (world) => {
  const c = world.as('diego');
  await c.hello();
  await c.settled();
  c.socket.emit('conformance:echo', 'x'.repeat(1_000_001));
  await c.disconnected();
  await c.hello(2);
  await c.firstRoundTrip();
}, {
  flags: ['-echo'],
  // After a POST that failed, Python's client stops without a word.
  among: foreignSettings.filter((s) => s.name !== 'python-socketio polling'),
});
