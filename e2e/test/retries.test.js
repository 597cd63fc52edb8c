// Stock clients of 4.6 and later that send an event again when no ack comes: `retries` and `ackTimeout`.

import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { settings } from '../lib/client.js';
import { scenario } from '../lib/scenario.js';

const among = settings.filter((s) => s.version === '4.8.4');
const online = { isOnline: true, isAvailableForTrips: true };

/**
 * Emits an event whose acks are lost until the client comes back, to the instance at `port`. Returns how
 * often it was handled, and whether the client has got the first ack.
 */
async function retry({ network, admin, driver, port }, body) {
  const shown = () => admin.payloads('admin:driver:availability:update');
  const sent = [];
  const note = (...args) => sent.push(args);
  driver.socket.onAnyOutgoing(note);
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
  network.heal(port);
  await driver.hello(hellos + 1);
  const { ok, data } = await answer;
  assert.equal(ok, true);
  await admin.roundTrip();
  driver.socket.offAnyOutgoing(note);
  assert.ok(sent.length >= 2, `${sent.length} tries`);
  for (const args of sent) assert.deepEqual(args, ['driver:status:update', body], 'unchanged');
  return { made: shown().length - before, first: data.updatedAt === shown()[before].updatedAt };
}

const keyed = () => ({ ...online, idempotencyKey: randomUUID() });

async function meet(world) {
  const network = await world.network();
  const admin = world.as('ana');
  const driver = world.as('diego', { url: network.url, retries: 20, ackTimeout: 500 });
  for (const c of [admin, driver]) {
    await c.hello();
    await c.settled();
  }
  return { network, admin, driver };
}

scenario('an ack that is lost', async (world) => {
  const scene = await meet(world);
  assert.deepEqual(await retry(scene, keyed()), { made: 1, first: true });
  const { made } = await retry(scene, online);
  assert.ok(made >= 2, 'without a key each try is handled');
}, { among, waits: true });

scenario('an ack that is lost, and a client that comes back to another instance', async (world) => {
  const other = await world.another();
  const scene = await meet(world);
  assert.deepEqual(await retry({ ...scene, port: other.port }, keyed()), { made: 1, first: true });
  assert.deepEqual(await retry({ ...scene, port: world.server.port }, keyed()), { made: 1, first: true });
}, { among, waits: true, redis: true });
