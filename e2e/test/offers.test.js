// Offers: accepting twice, too late, or somebody else's; turning one down; letting
// one run out.

import assert from 'node:assert/strict';
import { tripEvents } from '../lib/contract.js';
import { like, text } from '../lib/like.js';
import { scenario, tokenOf } from '../lib/scenario.js';
import { goOnline, requestTrip } from '../lib/trip.js';

const code = async (ack) => {
  const { ok, error } = await ack;
  assert.equal(ok, false);
  like(error, { code: text, message: text }, 'error');
  return error.code;
};

scenario('an offer goes to the next driver', async (world) => {
  const { server } = world;
  const [diego, dora, paula, ana] = await world.connect('diego', 'dora', 'paula', 'ana');
  await goOnline(diego, 0.001);
  await goOnline(dora, 0.02);
  const { tripId } = await requestTrip(server, tokenOf('paula'));

  // The nearer one turns it down.
  const { assignmentId: first } = await diego.event('trip:assignment:offered');
  assert.equal(await code(dora.call('driver:offer:accept', { assignmentId: first })), 'not_found');
  assert.deepEqual(await diego.call('driver:offer:reject', { assignmentId: first, reason: 'too far' }), { ok: true, data: { assignmentId: first } });
  like(await ana.event('trip:assignment:rejected'), {
    ...tripEvents({ tripId, assignmentId: first, driverId: 'diego', vehicleId: text }).admin['trip:assignment:rejected'], reason: 'too far',
  });
  assert.equal(await code(diego.call('driver:offer:accept', { assignmentId: first })), 'conflict');

  // The other driver accepts it, and accepts again as if the ack had been lost.
  const { assignmentId } = await dora.event('trip:assignment:offered');
  assert.notEqual(assignmentId, first);
  for (let i = 0; i < 2; i++) {
    assert.deepEqual(await dora.call('driver:offer:accept', { assignmentId }), { ok: true, data: { assignmentId, tripId } });
  }
  assert.deepEqual(await server.post(`/api/trips/${tripId}/accept`, tokenOf('dora')), { assignmentId, tripId });
  assert.equal(await code(diego.call('driver:offer:accept', { assignmentId })), 'not_found');
  assert.equal(await code(dora.call('driver:offer:reject', { assignmentId })), 'conflict');
  assert.equal(await code(dora.call('driver:offer:accept', { assignmentId: 'none of ours' })), 'not_found');
  assert.equal(await code(dora.call('driver:status:update', { isAvailableForTrips: true })), 'conflict');

  await paula.event('trip:driver_assigned');
  await ana.event('trip:driver_assigned');
  await ana.event('admin:driver:trip:update');
  for (const c of [diego, dora, paula, ana]) await c.roundTrip();
  const ofTrip = (name) => name.startsWith('trip:');
  assert.deepEqual(diego.heard(ofTrip), ['trip:assignment:offered']);
  assert.deepEqual(dora.heard(ofTrip), ['trip:assignment:offered', 'trip:assignment:accepted', 'trip:driver_assigned']);
  assert.deepEqual(paula.heard(), ['trip:requested', 'trip:assigning_started', 'trip:driver_accepted', 'trip:driver_assigned']);
  assert.deepEqual(ana.heard(ofTrip), [
    'trip:requested', 'trip:assigning_started', 'trip:assignment:offered', 'trip:assignment:rejected',
    'trip:assignment:offered', 'trip:assignment:accepted', 'trip:driver_assigned',
  ]);
});

scenario('an offer runs out, and nobody is left', async (world) => {
  const [diego, paula, ana] = await world.connect('diego', 'paula', 'ana');
  await goOnline(diego);
  const { tripId } = await requestTrip(world.server, tokenOf('paula'));
  const { assignmentId } = await diego.event('trip:assignment:offered');
  const shape = tripEvents({ tripId, assignmentId, driverId: 'diego', vehicleId: text, passengerId: 'paula' });
  like(await diego.event('trip:assignment:expired'), shape.driver['trip:assignment:expired']);
  assert.equal(await code(diego.call('driver:offer:accept', { assignmentId })), 'conflict');
  like(await paula.event('trip:no_drivers_found'), shape.passenger['trip:no_drivers_found']);
  like(await ana.event('trip:assignment:expired'), shape.admin['trip:assignment:expired']);
  like(await ana.event('trip:no_drivers_found'), shape.admin['trip:no_drivers_found']);
  await diego.roundTrip();
  assert.equal(diego.count('event', 'trip:no_drivers_found'), 0);
}, { flags: ['-offer-ttl', '500ms'] });
