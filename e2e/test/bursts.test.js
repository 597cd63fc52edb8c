// What clients send at once when they connect.

import assert from 'node:assert/strict';
import { legacySettings, settings } from '../lib/client.js';
import { scenario } from '../lib/scenario.js';

/** The rate limits are the server's own; the other tests do without. */
const flags = ['-no-rate-limit=false'];

scenario('a board joins 100 trips whenever it connects', async (world) => {
  const board = world.as('ana');
  const acks = { joined: 0, refused: 0 };
  board.socket.on('connect', () => {
    for (let i = 0; i < 100; i++) board.socket.emit('admin:trip:join', { tripId: `trip-${i}` }, ({ ok }) => acks[ok ? 'joined' : 'refused']++);
  });
  await board.hello();
  await board.roundTrip();
  board.socket.io.engine.close();
  await board.hello(2);
  await board.roundTrip();
  await board.settled();
  assert.deepEqual(acks, { joined: 200, refused: 0 });
  assert.equal(board.count('disconnect'), 1, 'its own');
}, { flags });

scenario('a driver comes out of a tunnel', async (world) => {
  const [driver, admin] = await world.connect('diego', 'ana');
  const seconds = 150;
  const acks = [];
  let status;
  driver.socket.io.engine.close();
  await driver.disconnected(); // and the app goes on: a position a second
  for (let i = 0; i < seconds; i++) {
    const position = { lat: 23 + i / 1e4, lng: -82.4 };
    if (i % 2) driver.socket.emit('driver:location:ping', position);
    else driver.socket.emit('driver:location:ping', position, (ack) => acks.push(ack));
  }
  driver.socket.emit('driver:status:update', { isOnline: true, isAvailableForTrips: true }, (ack) => (status = ack));
  await driver.hello(2);
  const newest = 23 + (seconds - 1) / 1e4;
  const shown = () => admin.payloads('admin:driver:location:update').map((p) => p.lastLocation.lat);
  await admin.until('newest position', () => shown().at(-1) === newest);
  assert.ok(shown().length < 20, `${shown().length} positions emitted`);
  await driver.roundTrip();
  assert.equal(status?.ok, true);
  assert.deepEqual(acks, Array(seconds / 2).fill({ ok: true }));
  const { lastLocation } = await driver.must('driver:status:update', { isOnline: true, isAvailableForTrips: true });
  assert.equal(lastLocation.lat, newest, 'stored');
  assert.equal(driver.count('disconnect'), 1, 'its own');
}, { flags: [...flags, '-allow-eio3'], among: [...settings, ...legacySettings] });

scenario('a client that goes on sending too much', async (world) => {
  const c = world.as('diego');
  const ends = ['comes back', 'stays away'];
  for (const [i, end] of ends.entries()) {
    await c.hello(i + 1);
    await c.settled();
    await c.roundTrip();
    await new Promise((resolve) => setTimeout(resolve, 10_500)); // what it sends now is no burst behind a connect
    let refused;
    for (let n = 0; n < 400; n++) c.socket.emit('driver:trip:set', {}, (ack) => (refused ??= ack.error?.code));
    const reason = await c.disconnected(i + 1);
    assert.equal(refused, 'rate_limited');
    if (end === 'comes back') assert.ok(['transport close', 'transport error'].includes(reason), reason);
    else assert.equal(reason, 'io server disconnect');
  }
}, { flags, waits: true });
