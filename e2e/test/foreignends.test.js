// Clients that are not in JavaScript, and the endings that take their time: a handshake that
// cannot be decided, a client that sends too much, one that sends while its connection ends.

import assert from 'node:assert/strict';
import { describe } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { settings } from '../lib/client.js';
import { foreignSettings, heartbeats } from '../lib/foreign.js';
import { scenario as each, tokenOf } from '../lib/scenario.js';
import { inSeconds } from '../lib/token.js';

const scenario = (name, body, { flags = [], ...options } = {}) => each(name, body, {
  among: foreignSettings, waits: true, flags: [...heartbeats, ...flags], ...options,
});

/** Longer than these clients need to come back. */
const later = 1000;

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

// All at once: they mostly wait.
describe('other languages, at length', { concurrency: true }, () => {
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
      await c.roundTrip();
      assert.equal(c.count('connect'), connects);
      // In JavaScript a poll that fails is one too, but without a code.
      assert.deepEqual(c.log.filter((e) => e.kind === 'refused' && e.args[0].data), []);
      assert.deepEqual(c.heard(), []);
    }
  }, { among: [...settings, ...foreignSettings], redis: true, logs: undecided });

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

  scenario('who goes on sending too much comes back once, and then stays away', async (world) => {
    const c = world.as('diego');
    for (const [i, reason] of [[1, closed], [2, dismissed]]) {
      await c.hello(i);
      await c.settled();
      await c.roundTrip();
      await sleep(10_500); // what it sends now is no burst behind a connect
      const acks = {};
      for (let n = 0; n < 400; n++) {
        c.socket.emit('driver:trip:set', {}, ({ ok, error }) => { acks[ok || error.code] = (acks[ok || error.code] ?? 0) + 1; });
      }
      assertReason(c, await c.disconnected(i), reason);
      assert.ok(acks.rate_limited > 0, `acks: ${JSON.stringify(acks)}`);
    }
    await sleep(later);
    assert.equal(c.count('connect'), 2);
    c.socket.connect(); // the app tries again
    await c.hello(3);
  }, { flags: ['-no-rate-limit=false'] });

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
        assert.equal(c.count('event', 'auth:expired'), i);
        await c.hello(i + 1);
      }
    } finally {
      clearInterval(sending);
    }
    await c.roundTrip();
  }, { among: foreignSettings.filter((s) => s.ends === 'polling') });
});
