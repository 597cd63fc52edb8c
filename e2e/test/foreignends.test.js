// Clients that are not in JavaScript, and the endings that take their time: a handshake that
// cannot be decided, a client that sends too much, one that sends while its connection ends, and a
// login session that is replaced.

import assert from 'node:assert/strict';
import { describe } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { settings } from '../lib/client.js';
import { sessionEvents } from '../lib/contract.js';
import { foreignSettings, heartbeats } from '../lib/foreign.js';
import { like, time } from '../lib/like.js';
import { scenario as each, tokenOf } from '../lib/scenario.js';
import { inSeconds } from '../lib/token.js';

const scenario = (name, body, { flags = [], ...options } = {}) => each(name, body, {
  among: foreignSettings, waits: true, flags: [...heartbeats, ...flags], ...options,
});

const all = [...settings, ...foreignSettings];

/** Longer than these clients need to come back. */
const later = 2000;

/** Checks the reason of a disconnect, where the client knows one. */
function assertReason({ setting }, reason, wanted) {
  if (setting.version !== 'python-socketio') assert.match(reason, wanted);
}

const closed = /^transport (close|error)$/;
const dismissed = /^io server disconnect$/;

/** What the server logs of a handshake that it cannot decide. */
const undecided = /handshake not decided/;

/** Waits until the server has failed to decide n handshakes of a user. */
async function attempts(server, user, n) {
  const deadline = Date.now() + 30_000;
  for (;;) {
    const lines = server.output.split('\n').filter((line) => undecided.test(line) && line.includes(` user=${user} `));
    if (lines.length >= n) return;
    assert.ok(Date.now() < deadline, `${user} has tried ${lines.length} times, not ${n}`);
    await sleep(20);
  }
}

/** The database answers no reads from now on, or does again. */
const database = { fails: 'ACL SETUSER default -mget', heals: 'ACL SETUSER default +mget' };

// Several at once: they mostly wait.
describe('other languages, at length', { concurrency: 4 }, () => {
  scenario('who goes on sending too much comes back once, and then stays away', async (world) => {
    const c = world.as('diego');
    for (const [i, reason] of [[1, closed], [2, dismissed]]) {
      await c.hello(i);
      await c.settled();
      await c.roundTrip();
      await sleep(10_500); // what it sends now is no burst behind a connect
      const codes = await Promise.all(Array.from({ length: 100 }, () => c.call('driver:trip:set', {}))).then((acks) => acks.map((a) => a.error?.code));
      assert.deepEqual(new Set(codes), new Set([undefined, 'rate_limited']));
      for (let n = 0; n < 200; n++) c.socket.emit('driver:trip:set', {});
      assertReason(c, await c.disconnected(i), reason);
    }
    await sleep(later);
    assert.equal(c.count('connect'), 2);
    c.socket.connect(); // the app tries again
    await c.hello(3);
  }, { flags: ['-no-rate-limit=false'] });

  scenario('a handshake that cannot be decided is tried again until it can', async (world) => {
    const { redis, server } = world;
    const network = await world.network();
    const back = world.as('dora', { url: network.url });
    await back.hello();
    await back.settled();
    await sleep(1100); // the server uses the rows of a handshake for a second
    await redis.do(database.fails);
    network.cut();
    await back.disconnected();
    network.heal();
    const fresh = world.as('diego');
    await Promise.all([attempts(server, 'dora', 2), attempts(server, 'diego', 2)]);
    await redis.do(database.heals);
    await Promise.all([fresh.hello(), back.hello(2)]);
    for (const [c, connects] of [[fresh, 1], [back, 2]]) {
      await c.settled();
      await c.firstRoundTrip();
      assert.equal(c.count('connect'), connects);
      // In JavaScript a poll that fails is one too, but without a code.
      assert.deepEqual(c.log.filter((e) => e.kind === 'refused' && e.args[0].data), []);
      assert.deepEqual(c.heard(), []);
    }
  }, { among: all, redis: true, logs: undecided });

  scenario("Python's first connect gives up before the server ends such a handshake, unless it waits longer", async (world) => {
    const { redis, server } = world;
    await redis.do(database.fails);
    const hasty = world.as('diego', { wait: 0.5 }); // its default is 1 s, when the server ends the first of them
    await hasty.until('failure of connect()', () => hasty.count('failed', 'One or more namespaces failed to connect') > 0);
    const patient = world.as('dora', { wait: 10 });
    await attempts(server, 'dora', 2);
    await redis.do(database.heals);
    await patient.hello();
    await attempts(server, 'diego', 1);
    assert.equal(hasty.count('connect'), 0);
    hasty.socket.connect(); // the app tries again
    await hasty.hello();
    await hasty.roundTrip();
  }, { among: foreignSettings.filter((s) => s.version === 'python-socketio'), redis: true, logs: undecided });

  // Python's client stops for good, without a word, when one of its POSTs fails.
  scenario('who sends while the connection ends comes back', async (world) => {
    const network = await world.network({ delay: 150 });
    const c = world.as('diego', { url: network.url });
    await c.hello();
    await c.settled();
    const sending = setInterval(() => c.socket.emit('driver:location:ping', { lat: 23, lng: -82 }), 50);
    try {
      for (const i of [1, 2]) {
        await c.must('auth:refresh', { token: tokenOf('diego', { exp: inSeconds(3) }) });
        await c.disconnected(i);
        await c.event('auth:expired', i);
        await c.hello(i + 1);
      }
    } finally {
      clearInterval(sending);
    }
    await c.roundTrip();
  }, { among: foreignSettings.filter((s) => s.ends === 'polling') });

  scenario('of a session that is replaced, who renews stays, and who does not comes back', async (world) => {
    const [renews, idle] = await world.connect('diego', 'paula');
    const fresh = new Map();
    for (const [id, c] of [['diego', renews], ['paula', idle]]) {
      fresh.set(c, await world.server.post('/api/refresh', tokenOf(id)));
      like(await c.event('auth:session_refreshed'), sessionEvents.refreshed(`${id}/a`, fresh.get(c).sid));
    }
    await renews.must('auth:refresh', { token: fresh.get(renews).token });
    idle.token = fresh.get(idle).token;
    assertReason(idle, await idle.disconnected(), closed); // after the grace time, 10 s
    like(await idle.event('auth:expired'), { at: time });
    assert.equal((await idle.hello(2)).sid, fresh.get(idle).sid);
    await renews.roundTrip();
    await idle.firstRoundTrip();
    assert.equal(renews.count('disconnect'), 0);
    assert.deepEqual(renews.heard(), ['auth:session_refreshed']);
    assert.deepEqual(idle.heard(), []);
  });

  scenario('a session that is carried over goes on in the new one', async (world) => {
    const [c] = await world.connect('diego');
    await c.must('auth:refresh', { token: tokenOf('diego', { exp: inSeconds(4) }) });
    const { sid, token } = await world.server.post('/api/refresh', tokenOf('diego'));
    like(await c.event('auth:session_refreshed'), sessionEvents.refreshed('diego/a', sid));
    await sleep(11_500); // beyond the old token, and the grace time of 10 s
    await c.roundTrip();
    assert.deepEqual(c.heard(), ['auth:session_refreshed']);
    assert.equal(c.count('disconnect'), 0);

    await world.server.post('/api/logout', token);
    assertReason(c, await c.disconnected(), dismissed);
    like(await c.event('auth:session_revoked'), sessionEvents.revoked(sid));
    await sleep(later);
    assert.equal(c.count('connect'), 1);
  }, { among: all, flags: ['-carry-sessions'] });

  scenario('a session that is carried over ends with the new token', async (world) => {
    const [c] = await world.connect('diego');
    const { sid, expiresAt } = await world.server.post('/api/refresh', tokenOf('diego'));
    like(await c.event('auth:session_refreshed'), sessionEvents.refreshed('diego/a', sid));
    c.token = tokenOf('diego', { sid });
    assertReason(c, await c.disconnected(), closed);
    assert.deepEqual(await c.event('auth:expired'), { at: expiresAt });
    assert.equal((await c.hello(2)).sid, sid);
    await c.firstRoundTrip();
    assert.deepEqual(c.heard(), []);
  }, { among: all, flags: ['-carry-sessions', '-token-ttl', '4s'] });
});
