// Many old clients at once, which leave in every way there is: who is there gets
// everything, once and in order, and of who was there nothing is left.

import assert from 'node:assert/strict';
import { legacySettings } from '../lib/client.js';
import { scenario, tokenOf } from '../lib/scenario.js';

const clients = 300;
const drivers = Array.from({ length: 10 }, (_, i) => `d${i}`);
const seed = () => ({
  users: drivers.map((id) => ({ id, type: 'driver', status: 'active', name: id })),
  sessions: drivers.map((id) => ({ sid: `${id}/a`, userId: id, revoked: false, accessTokenExpiresAt: null })),
});
const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** Ends a connection without notifying the server. */
function vanish(c) {
  const { transport } = c.socket.io.engine;
  if (transport.ws) {
    transport.ws.terminate();
    return;
  }
  for (const method of ['doPoll', 'doWrite', 'doClose']) transport[method] = () => {};
  transport.pollXhr?.abort();
}

/** What becomes of a client in the middle of it. */
const fates = {
  stay: () => {},
  early: () => {}, // it has left while the transport was being upgraded
  close: (c) => c.close(),
  vanish: (c) => {
    c.socket.io.reconnection(false);
    vanish(c);
  },
  // Of a polling client, that it leaves and comes back: it does not notice that its requests end.
  reconnect: (c) => (c.socket.io.engine.transport.ws ? vanish(c) : c.socket.io.engine.close()),
};
const names = Object.keys(fates);

scenario('300 old clients that come and go', async (world) => {
  const { server } = world;
  const before = await server.descriptors();
  const all = [];
  for (let i = 0; i < clients; i += 30) {
    const some = Array.from({ length: 30 }, (_, j) => {
      const setting = legacySettings[(i + j) % legacySettings.length];
      const driver = drivers[(i + j) % drivers.length];
      const c = world.client('/drivers', { setting, auth: { token: tokenOf(driver) } });
      return Object.assign(c, { driver, fate: names[Math.floor((i + j) / legacySettings.length) % names.length], sent: 0, acks: [] });
    });
    all.push(...some);
    await Promise.all(some.map(async (c) => {
      await c.hello();
      if (c.fate === 'early') c.close();
      else await c.settled();
    }));
  }
  for (const setting of legacySettings) {
    for (const fate of names) assert.ok(all.some((c) => c.setting === setting && c.fate === fate), `${setting.name} ${fate}`);
  }
  const there = all.filter((c) => c.fate !== 'early');

  // Every socket of the driver receives a login. Meanwhile all clients call the
  // server for something, and each answer has its question's number.
  const logins = Object.fromEntries(drivers.map((d) => [d, []]));
  const rounds = 12;
  for (let round = 0; round < rounds; round++) {
    for (const c of there.filter((o) => o.socket.connected)) {
      const n = c.sent++;
      c.socket.emit('conformance:echo', n, n % 3 ? 'text' : Buffer.from([n]), (back) => c.acks.push(back));
    }
    await Promise.all(drivers.map(async (driver) => {
      const { sid } = await server.post('/api/login', '', { userId: driver });
      logins[driver].push(sid);
    }));
    // A third of those that go, each round from the fourth on.
    if (round >= 3 && round < 6) there.filter((c, i) => i % 3 === round - 3).forEach((c) => fates[c.fate](c));
    await pause(40);
  }

  for (const c of there) {
    const received = logins[c.driver];
    /** What it has heard by now between its nth hello and the end of that connection. */
    const part = (n) => {
      const heard = c.log.filter((e) => e.kind !== 'event' || e.name === 'hello' || e.name === 'auth:logged_in');
      const from = heard.findIndex((e, i) => e.name === 'hello' && heard.slice(0, i + 1).filter((o) => o.name === 'hello').length === n);
      const end = heard.findIndex((e, i) => i > from && e.kind === 'disconnect');
      return heard.slice(from + 1, end < 0 ? undefined : end).filter((e) => e.name === 'auth:logged_in').map((e) => e.args[0].sid);
    };
    const what = `${c}, which was to ${c.fate}`;
    switch (c.fate) {
      case 'stay':
        await c.until('all logins', () => c.count('event', 'auth:logged_in') === rounds);
        await c.roundTrip();
        assert.deepEqual(part(1), received, what);
        assert.deepEqual(c.acks, Array.from({ length: c.sent }, (_, n) => n), what);
        assert.equal(c.count('disconnect'), 0, what);
        break;
      case 'reconnect': {
        await c.hello(2);
        await c.roundTrip();
        const [first, second] = [part(1), part(2)];
        assert.deepEqual(first, received.slice(0, first.length), what);
        assert.ok(first.length >= 3, `${what}: ${first.length} before`);
        assert.deepEqual(second, received.slice(received.length - second.length), what);
        assert.ok(first.length + second.length <= received.length, `${what}: ${first.length} and ${second.length}`);
        break;
      }
      default:
        assert.deepEqual(part(1), received.slice(0, part(1).length), what);
        assert.ok(part(1).length >= 3, `${what}: ${part(1).length} before`);
    }
    assert.equal(new Set(c.acks).size, c.acks.length, `${what}: an ack came twice`);
    assert.equal(c.count('refused'), 0, what);
  }
  // Nobody else is left whom the server would send anything to.
  const [late] = await world.connect('diego');
  await late.roundTrip();
  [...all, late].forEach((c) => c.close());

  // Those that vanished are noticed within a heartbeat.
  let left = 0;
  for (let i = 0; i < 300; i++) {
    left = await server.descriptors();
    if (left === undefined || left <= before + 2) break;
    await pause(100);
  }
  assert.ok(left === undefined || left <= before + 2, `${left} descriptors, ${before} before`);
  const stacks = await server.stacks();
  assert.ok(stacks.length > 0, 'stacks of goroutines');
  const busy = stacks.filter((s) => /net\/http\.\(\*conn\)\.serve|engineio\.\(\*(Session|wsConn)\)|socketio\.\(\*(Conn|Socket)\)/.test(s));
  assert.deepEqual(busy, [], 'goroutines that are left');
}, { among: legacySettings.slice(0, 1), flags: ['-allow-eio3', '-echo', '-ping-interval', '5s', '-ping-timeout', '5s'], seed });
