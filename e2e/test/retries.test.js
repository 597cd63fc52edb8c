// Stock clients of 4.6 and later that send an event again when no ack comes: `retries` and `ackTimeout`.

import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { settings } from '../lib/client.js';
import { scenario } from '../lib/scenario.js';

const among = settings.filter((s) => s.version === '4.8.4');
const online = { isOnline: true, isAvailableForTrips: true };

scenario('an ack that is lost', async (world) => {
  const network = await world.network();
  const admin = world.as('ana');
  const driver = world.as('diego', { url: network.url, retries: 3, ackTimeout: 500 });
  for (const c of [admin, driver]) {
    await c.hello();
    await c.settled();
  }
  const sent = [];
  driver.socket.onAnyOutgoing((...args) => sent.push(args));
  const shown = () => admin.payloads('admin:driver:availability:update');

  for (const [times, body] of [[1, { ...online, idempotencyKey: randomUUID() }], [2, online]]) {
    sent.length = 0;
    const before = shown().length;
    const hellos = driver.count('event', 'hello');
    network.deafen();
    const answer = new Promise((resolve, reject) => {
      driver.socket.emit('driver:status:update', body, (err, ack) => (err ? reject(err) : resolve(ack)));
    });
    await admin.until('the first try', () => shown().length > before);
    await sleep(700); // the second one, on the same connection, unless that waits for an answer
    network.cut();
    await driver.disconnected(hellos);
    network.heal();
    await driver.hello(hellos + 1);
    const { ok, data } = await answer;
    assert.equal(ok, true);
    await admin.roundTrip();
    assert.ok(sent.length >= 2, `${sent.length} tries`);
    for (const args of sent) assert.deepEqual(args, ['driver:status:update', body], 'unchanged');
    const made = shown().length - before;
    if (times === 1) {
      assert.equal(made, 1, 'handled once');
      assert.equal(data.updatedAt, shown().at(-1).updatedAt, 'the first ack');
    } else {
      assert.ok(made >= 2, 'without a key each try is handled');
    }
  }
}, { among, waits: true });
