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
}, { flags: ['-ping-interval', '2s', '-ping-timeout', '2s'], waits: true });

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
}, { flags: ['-ping-interval', '200ms', '-ping-timeout', '10s'], waits: true });

scenario('a message that is too large', async (world) => {
  const c = world.as('diego');
  const other = world.as('dora');
  await other.hello();
  await c.hello();
  await c.settled();
  c.socket.emit('conformance:echo', 'x'.repeat(1_000_001));
  assert.ok(broken.includes(await c.disconnected()), c.log.at(-1).name);
  await c.hello(2);
  await c.roundTrip();
  await other.roundTrip();
  assert.equal(other.count('disconnect'), 0);
}, { flags: ['-echo'] });

// On long-polling 3.x puts everything into one body, whatever MaxPayload is.
scenario('large events, and events over a limit', async (world, { version, ends }) => {
  const c = world.as('diego');
  await c.hello();
  await c.settled();
  // A track of 4000 points, and two photos of 600 kB.
  const track = Array.from({ length: 4000 }, (_, i) => ({ lat: 23 + i / 1e5, lng: -82.4, t: i }));
  assert.deepEqual(await c.ask('conformance:echo', track), [track]);
  const photos = [Buffer.alloc(600_000, 1), Buffer.alloc(600_000, 2)];
  const whole = version === '3.1.3' && ends === 'polling';
  if (!whole) assert.deepEqual(await c.ask('conformance:echo', ...photos), photos);
  for (const [limit, ...args] of [
    ['Values', Array(100_001).fill(0)],
    ['Attachments', ...Array.from({ length: 11 }, () => Buffer.from('one'))],
    ['AttachmentBytes', ...Array.from({ length: 6 }, () => Buffer.alloc(700_000))],
  ].slice(0, whole ? 2 : 3)) {
    const ack = await c.call('conformance:echo', ...args);
    assert.deepEqual(ack, { ok: false, error: { code: 'invalid_payload', message: `exceeds Limits.${limit}` } });
  }
  // What an app emits while it is offline goes out in one polling body.
  c.socket.io.engine.close();
  await c.until('disconnect', () => !c.socket.connected);
  const answers = Array.from({ length: 1500 }, (_, i) => c.ask('conformance:echo', i).catch((err) => err));
  assert.deepEqual(await Promise.all(answers), answers.map((_, i) => [i]));
  assert.equal(c.count('disconnect'), 1);
}, { flags: ['-echo'] });
