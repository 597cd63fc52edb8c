// Bad networks: a connection that is cut, one that falls silent, and a client
// that breaks the limits. Clients come back by themselves.

import assert from 'node:assert/strict';
import { scenario, tokenOf } from '../lib/scenario.js';
import { assign, goOnline, ping } from '../lib/trip.js';

/** Why a client thinks that a connection ended under it. */
const broken = ['transport close', 'transport error'];

scenario('cut in the middle of a trip', async (world) => {
  const { server } = world;
  const network = await world.network();
  const [driver, passenger, admin] = ['diego', 'paula', 'ana'].map((id) => world.as(id, { url: network.url }));
  const all = [driver, passenger, admin];
  for (const c of all) {
    await c.hello();
    await c.settled();
  }
  await goOnline(driver);
  const { tripId } = await assign(server, driver, passenger, tokenOf('paula'));
  await admin.event('admin:driver:trip:update');

  network.cut();
  for (const c of all) assert.ok(broken.includes(await c.disconnected()), c.log.at(-1).name);
  // After they have connected, the apps request what they missed.
  await server.post(`/api/trips/${tripId}/arriving`, tokenOf('diego'));
  network.heal();
  for (const c of all) {
    await c.hello(2);
    await c.settled();
  }
  assert.equal((await server.get('/api/trips/current', tokenOf('paula'))).trip.status, 'arriving');

  // They are where they were: the trip goes on, each event once.
  await admin.must('admin:trip:join', { tripId });
  await ping(driver, { lat: 1, lng: 2 });
  for (const c of [passenger, admin]) await c.event('trip:driver_location');
  for (const [what, event] of [['arrived', 'trip:driver_arrived_pickup'], ['start', 'trip:started'], ['complete', 'trip:completed']]) {
    await server.post(`/api/trips/${tripId}/${what}`, tokenOf('diego'));
    for (const c of all) await c.event(event);
  }
  await driver.event('driver:trip:update', 2);
  await admin.event('admin:driver:trip:update', 2);
  for (const c of all) await c.roundTrip();
  const rest = ['trip:driver_arrived_pickup', 'trip:started', 'trip:completed'];
  assert.deepEqual(driver.heard((n) => n.startsWith('trip:')), rest);
  assert.deepEqual(passenger.heard(), ['trip:driver_location', ...rest]);
  assert.deepEqual(admin.heard((n) => n.startsWith('trip:')), ['trip:driver_location', ...rest]);
});

scenario('silent for longer than a heartbeat', async (world) => {
  const network = await world.network();
  const c = world.as('diego', { url: network.url, timeout: 1000 });
  await c.hello();
  await c.settled();
  network.freeze();
  assert.equal(await c.disconnected(), 'ping timeout');
  network.heal();
  await c.hello(2);
  await c.roundTrip();
}, { flags: ['-ping-interval', '700ms', '-ping-timeout', '700ms'], waits: true });

scenario('quiet, but alive', async (world) => {
  const c = world.as('diego');
  await c.hello();
  await c.settled();
  // The server's heartbeat, which the client answers, ten times over.
  let beats = 0;
  const { engine } = c.socket.io;
  await new Promise((resolve) => {
    engine.on('packet', ({ type }) => type === 'ping' && ++beats === 10 && resolve());
  });
  await c.roundTrip();
  assert.equal(c.count('disconnect'), 0);
}, { flags: ['-ping-interval', '200ms', '-ping-timeout', '2s'], waits: true });

scenario('a message that is too large, or has too many attachments', async (world) => {
  const c = world.as('diego');
  const other = world.as('dora');
  await other.hello();
  const tooMuch = [['x'.repeat(1_000_001)], Array.from({ length: 11 }, () => Buffer.from('one'))];
  for (const [i, args] of tooMuch.entries()) {
    await c.hello(i + 1);
    await c.settled();
    c.socket.emit('conformance:echo', ...args);
    assert.ok(broken.includes(await c.disconnected(i + 1)), c.log.at(-1).name);
  }
  await c.hello(3);
  await c.roundTrip();
  await other.roundTrip();
  assert.equal(other.count('disconnect'), 0);
}, { flags: ['-echo'] });
