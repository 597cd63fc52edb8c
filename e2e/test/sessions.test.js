// A live socket stays authorized: what happens when its session is revoked, its
// user banned, its token runs out or is renewed.

import assert from 'node:assert/strict';
import { sessionEvents } from '../lib/contract.js';
import { like, text, time } from '../lib/like.js';
import { outsiders, scenario, tokenOf } from '../lib/scenario.js';
import { claimsOf, inSeconds } from '../lib/token.js';
import { goOnline } from '../lib/trip.js';

// A polling client finds its session unknown, which is an error to it.
const anyEnd = (line) => line.replace('transport error', 'transport close');

/** What happened to a client, in words, from its first connect on. */
const course = (c) => c.log.map((e) => [e.kind, e.name].join(' ').trim());

scenario('a login is sent to the user and the admins', async (world) => {
  const [diego, dora, paula, ana] = await world.connect('diego', 'dora', 'paula', 'ana');
  const deviceInfo = { os: 'Android 14', model: 'ñ' };
  const { sid } = await world.server.post('/api/login', '', { userId: 'diego', deviceInfo });
  like(await diego.event('auth:logged_in'), sessionEvents.loggedIn(sid));
  const received = await ana.event('admin:auth:user_logged_in');
  like(received, { ...sessionEvents.userLoggedIn('diego', 'driver', sid), deviceInfo });
  assert.equal(received.eventId, diego.payloads('auth:logged_in')[0].eventId);
  for (const [c, names] of [[diego, ['auth:logged_in']], [ana, ['admin:auth:user_logged_in']], [dora, []], [paula, []]]) {
    await c.roundTrip();
    assert.deepEqual(c.heard(), names, `${c}`);
  }
});

scenario('a revoked session gets an event and is disconnected', async (world) => {
  const { server } = world;
  const [phone, tablet, dora, ana] = [
    world.as('diego'), world.as('diego', { token: tokenOf('diego', { sid: 'diego/b' }) }), world.as('dora'), world.as('ana'),
  ];
  for (const c of [phone, tablet, dora, ana]) {
    await c.hello();
    await c.settled();
  }
  assert.deepEqual(await server.post('/api/logout', tokenOf('diego')), { sid: 'diego/a' });

  assert.equal(await phone.disconnected(), 'io server disconnect');
  assert.deepEqual(course(phone), ['connect', 'event hello', 'event auth:session_revoked', 'disconnect io server disconnect']);
  like(phone.payloads('auth:session_revoked')[0], sessionEvents.revoked('diego/a'));
  assert.equal(phone.socket.active, false, 'a stock client does not come back by itself');
  // The user's other session receives the event too, and stays connected.
  like(await tablet.event('auth:session_revoked'), sessionEvents.revoked('diego/a'));
  await goOnline(tablet);
  for (const c of [dora, tablet, ana]) await c.roundTrip();
  assert.deepEqual(dora.heard(), []);
  assert.deepEqual(ana.heard(), ['admin:driver:availability:update', 'admin:driver:location:update']);

  phone.socket.connect();
  assert.deepEqual((await phone.refused()).data, { code: 'invalid_session' });
  phone.socket.auth = { token: tokenOf('diego', { sid: 'diego/b' }) };
  phone.socket.connect();
  assert.equal((await phone.hello(2)).sid, 'diego/b');
  assert.equal(tablet.count('disconnect'), 0);

  // An admin may do it too.
  await server.post('/api/admin/sessions/diego%2Fb/revoke', tokenOf('ana'), { reason: 'phone stolen' });
  for (const [c, n] of [[tablet, 1], [phone, 2]]) {
    assert.equal(await c.disconnected(n), 'io server disconnect');
    like(c.payloads('auth:session_revoked').at(-1), { ...sessionEvents.revoked('diego/b'), reason: 'phone stolen' });
  }
});

scenario('a banned or deactivated user gets an event and is disconnected, with all devices', async (world) => {
  const { server } = world;
  for (const [id, change, other] of [['diego', 'ban', 'dora'], ['paula', 'deactivate', 'pedro']]) {
    const devices = ['a', 'b'].map((s) => world.as(id, { token: tokenOf(id, { sid: `${id}/${s}` }) }));
    const bystander = world.as(other);
    for (const c of [...devices, bystander]) {
      await c.hello();
      await c.settled();
    }
    await server.post(`/api/admin/users/${id}/${change}`, tokenOf('ana'), { reason: 'complaints' });
    for (const c of devices) {
      assert.equal(await c.disconnected(), 'io server disconnect');
      assert.deepEqual(course(c), ['connect', 'event hello', 'event auth:session_revoked', 'disconnect io server disconnect']);
      like(c.payloads('auth:session_revoked')[0], { ...sessionEvents.revoked(null), reason: 'complaints' });
      assert.equal(c.socket.active, false);
    }
    devices[0].socket.connect();
    assert.deepEqual((await devices[0].refused()).data, { code: 'user_inactive' });
    await bystander.roundTrip();
    assert.deepEqual(bystander.heard(), []);

    await server.post(`/api/admin/users/${id}/activate`, tokenOf('ana'));
    devices[1].socket.connect();
    await devices[1].hello(2);
  }
});

scenario('a token that runs out ends the socket, and a fresh one brings it back', async (world) => {
  const exp = inSeconds(6);
  const first = tokenOf('diego', { exp });
  let token = first;
  const c = world.as('diego', { token: undefined, auth: (send) => send({ token }) });
  await c.hello();
  token = tokenOf('diego');
  assert.match(await c.disconnected(), /^transport (close|error)$/);
  // Within a second, of which a busy machine may make a few; never earlier,
  // when the old token would let it in again.
  const late = Date.now() - exp * 1000;
  assert.ok(late >= 0 && late < 10_000, `ended ${late} ms after the token`);
  assert.deepEqual(course(c).map(anyEnd), ['connect', 'event hello', 'event auth:expired', 'disconnect transport close']);
  assert.deepEqual(c.payloads('auth:expired'), [{ at: new Date(exp * 1000).toISOString() }]);
  await c.hello(2);
  await c.roundTrip();

  // The old token is of no use any more.
  const old = world.as('diego', { token: first });
  assert.deepEqual((await old.refused()).data, { code: 'token_expired' });
}, { waits: true });

scenario('an app that renews its token when it reconnects comes back, where the server lets it', async (world) => {
  // As the apps of the NestJS system do: the token of the first attempt is an old one.
  for (const old of [tokenOf('diego', { exp: inSeconds(-5) }), tokenOf('diego', { sid: 'diego/expired' })]) {
    const c = world.as('diego', { token: old });
    c.socket.io.on('reconnect_attempt', () => { c.socket.auth = { token: tokenOf('diego') }; });
    await c.hello();
    // Over polling the client reports the closed transport as a failed request, without a code.
    assert.deepEqual(c.log.filter((e) => e.kind === 'refused' && e.args[0].data), []);
    c.close();
  }
  // Who may not come in is refused as ever.
  const revoked = world.as('diego', { token: tokenOf('diego', { sid: 'diego/revoked' }) });
  assert.deepEqual((await revoked.refused()).data, { code: 'invalid_session' });
}, { waits: true, flags: ['-retry-expired'], seed: outsiders });

scenario('a session that runs out ends the socket before its token does', async (world) => {
  const { sid, accessTokenExpiresAt } = world.short;
  let token = tokenOf('diego', { sid });
  const c = world.as('diego', { auth: (send) => send({ token }) });
  assert.equal((await c.hello()).sid, sid);
  token = tokenOf('diego');
  assert.match(await c.disconnected(), /^transport (close|error)$/);
  assert.deepEqual(c.payloads('auth:expired'), [{ at: accessTokenExpiresAt }]);
  assert.equal((await c.hello(2)).sid, 'diego/a');
}, {
  waits: true,
  seed: (world) => {
    world.short = { sid: 'diego/short', userId: 'diego', revoked: false, accessTokenExpiresAt: new Date(Date.now() + 8000).toISOString() };
    return { sessions: [world.short] };
  },
});

scenario('a token is renewed in place', async (world) => {
  const exp = inSeconds(8);
  const renewed = world.as('diego', { token: tokenOf('diego', { exp }) });
  const control = world.as('diego', { token: tokenOf('diego', { exp }), reconnection: false });
  const tablet = world.as('diego', { token: tokenOf('diego', { sid: 'diego/b' }) });
  for (const c of [renewed, control, tablet]) {
    await c.hello();
    await c.settled();
  }

  // What does not count: nonsense, an old token, another user's, one that is
  // refused for its session.
  for (const [token, code] of [
    ['nonsense', 'unauthorized'],
    [tokenOf('diego', { exp: inSeconds(-5) }), 'unauthorized'],
    [tokenOf('dora'), 'forbidden'],
    [tokenOf('diego', { sid: 'dora/a' }), 'unauthorized'],
  ]) {
    const ack = await renewed.call('auth:refresh', { token });
    like(ack, { ok: false, error: { code, message: text } }, `refresh with ${JSON.stringify(claimsOrText(token))}`);
  }
  const token = tokenOf('diego', { sid: 'diego/b' });
  like(await renewed.call('auth:refresh', { token: `Bearer ${token}` }), { ok: true, data: { expiresAt: time } });
  const { expiresAt } = await renewed.must('auth:refresh', { token });
  assert.equal(expiresAt, new Date(claimsOf(token).exp * 1000).toISOString());

  // The other one runs out when this one would have.
  assert.match(await control.disconnected(), /^transport (close|error)$/);
  assert.equal(control.count('event', 'auth:expired'), 1);
  await renewed.roundTrip();
  assert.equal(renewed.count('disconnect'), 0);
  assert.equal(renewed.count('event', 'auth:expired'), 0);

  // It has left the old session for the new one.
  await world.server.post('/api/logout', tokenOf('diego'));
  await renewed.event('auth:session_revoked');
  await renewed.roundTrip();
  assert.equal(renewed.count('disconnect'), 0);
  await world.server.post('/api/logout', token);
  for (const c of [renewed, tablet]) {
    assert.equal(await c.disconnected(), 'io server disconnect');
    assert.deepEqual(c.payloads('auth:session_revoked').map((p) => p.sid), ['diego/a', 'diego/b']);
  }
}, { waits: true });

scenario('a replaced session gets an event, and time to renew', async (world) => {
  const [renewing, idle, dora] = [world.as('diego'), world.as('diego', { reconnection: false }), world.as('dora')];
  for (const c of [renewing, idle, dora]) {
    await c.hello();
    await c.settled();
  }
  const { token, sid } = await world.server.post('/api/refresh', tokenOf('diego'));
  for (const c of [renewing, idle]) like(await c.event('auth:session_refreshed'), sessionEvents.refreshed('diego/a', sid));
  await renewing.must('auth:refresh', { token });
  // Who does not renew is closed after the grace time, 10 s.
  assert.match(await idle.disconnected(), /^transport (close|error)$/);
  assert.deepEqual(course(idle).map(anyEnd), ['connect', 'event hello', 'event auth:session_refreshed', 'event auth:expired', 'disconnect transport close']);
  for (const c of [renewing, dora]) await c.roundTrip();
  assert.deepEqual(renewing.heard(), ['auth:session_refreshed']);
  assert.deepEqual(dora.heard(), []);
}, { waits: true });

function claimsOrText(token) {
  return token.includes('.') ? claimsOf(token) : token;
}
