// Several namespaces on one connection, with a user each: what happens to one is
// no business of the others.

import assert from 'node:assert/strict';
import { hello } from '../lib/contract.js';
import { like } from '../lib/like.js';
import { scenario, tokenOf } from '../lib/scenario.js';
import { inSeconds } from '../lib/token.js';
import { assign, goOnline } from '../lib/trip.js';

const multiplex = true;

scenario('one connection, three users', async (world) => {
  const { server } = world;
  const [driver, passenger, admin] = ['diego', 'paula', 'ana'].map((id) => world.as(id, { multiplex }));
  for (const [c, id] of [[driver, 'diego'], [passenger, 'paula'], [admin, 'ana']]) {
    like(await c.hello(), hello(c.namespace, id, `${id}/a`), 'hello');
  }
  await driver.settled();
  assert.equal(passenger.socket.io, driver.socket.io);
  assert.equal(admin.socket.io, driver.socket.io);
  const connection = driver.socket.io.engine.id;
  assert.equal(new Set([driver, passenger, admin].map((c) => c.socket.id)).size, 3, 'socket ids');

  await goOnline(driver);
  const { tripId } = await assign(server, driver, passenger, tokenOf('paula'));
  await admin.event('trip:driver_assigned');
  await admin.event('admin:driver:trip:update');
  for (const c of [driver, passenger, admin]) await c.roundTrip();
  const ofTrip = (name) => name.startsWith('trip:');
  assert.deepEqual(driver.heard(ofTrip), ['trip:assignment:offered', 'trip:assignment:accepted', 'trip:driver_assigned']);
  assert.deepEqual(passenger.heard(), ['trip:requested', 'trip:assigning_started', 'trip:driver_accepted', 'trip:driver_assigned']);
  assert.deepEqual(admin.heard(ofTrip), [
    'trip:requested', 'trip:assigning_started', 'trip:assignment:offered', 'trip:assignment:accepted', 'trip:driver_assigned',
  ]);

  // One leaves and comes back, on the same connection, into the running trip.
  passenger.socket.disconnect();
  assert.equal(await passenger.disconnected(), 'io client disconnect');
  await driver.roundTrip();
  await admin.roundTrip();
  passenger.socket.connect();
  await passenger.hello(2);
  await driver.must('driver:location:ping', { lat: 1, lng: 2 });
  assert.equal((await passenger.event('trip:driver_location')).tripId, tripId);

  // One session ends: the other users stay where they are.
  await server.post('/api/logout', tokenOf('paula'));
  assert.equal(await passenger.disconnected(2), 'io server disconnect');
  assert.equal(passenger.count('event', 'auth:session_revoked'), 1);
  for (const c of [driver, admin]) {
    await c.roundTrip();
    assert.equal(c.count('disconnect'), 0);
    assert.equal(c.count('event', 'auth:session_revoked'), 0);
  }
  assert.equal(driver.socket.io.engine.id, connection, 'still the same connection');

  // The last one takes the connection with it.
  await server.post('/api/logout', tokenOf('diego'));
  assert.equal(await driver.disconnected(), 'io server disconnect');
  await admin.roundTrip();
  await server.post('/api/logout', tokenOf('ana'));
  assert.equal(await admin.disconnected(), 'io server disconnect');
});

scenario('one is refused, the others are not', async (world) => {
  const driver = world.as('diego', { multiplex });
  await driver.hello();
  await driver.settled();
  const connection = driver.socket.io.engine.id;

  const passenger = world.as('paula', { multiplex, token: tokenOf('paula', { exp: 1 }) });
  assert.deepEqual((await passenger.refused()).data, { code: 'token_expired' });
  const nowhere = world.client('/nowhere', { multiplex, auth: { token: tokenOf('diego') } });
  assert.equal((await nowhere.refused()).message, 'Invalid namespace');
  await driver.roundTrip();

  passenger.socket.auth = { token: tokenOf('paula') };
  passenger.socket.connect();
  await passenger.hello();
  await passenger.roundTrip();
  assert.equal(driver.socket.io.engine.id, connection, 'all of it on one connection');
  assert.equal(driver.count('disconnect'), 0);
});

scenario('one token runs out: all of the connection comes back', async (world) => {
  let token = tokenOf('paula', { exp: inSeconds(6) });
  const driver = world.as('diego', { multiplex });
  const passenger = world.as('paula', { multiplex, auth: (send) => send({ token }) });
  await driver.hello();
  await passenger.hello();
  token = tokenOf('paula');
  for (const c of [driver, passenger]) assert.match(await c.disconnected(), /^transport (close|error)$/);
  await driver.hello(2);
  await passenger.hello(2);
  assert.equal(driver.count('event', 'auth:expired'), 0);
  assert.equal(passenger.count('event', 'auth:expired'), 1);
}, { waits: true });
