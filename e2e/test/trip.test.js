// Trips, seen by everybody: each event once, in order, in its exact shape, and
// nothing else.

import assert from 'node:assert/strict';
import { tripEvents } from '../lib/contract.js';
import { like, text } from '../lib/like.js';
import { scenario, tokenOf } from '../lib/scenario.js';
import { assign, goOnline, requestTrip } from '../lib/trip.js';
import { wholeTrip } from '../lib/wholetrip.js';

scenario('a whole trip', wholeTrip);

scenario('a trip that is cancelled', async (world) => {
  const { server } = world;
  const [driver, passenger, admin, pedro] = await world.connect('diego', 'paula', 'ana', 'pedro');
  await goOnline(driver);
  const people = { driverId: 'diego', passengerId: 'paula', vehicleId: text };

  // By an admin, with a message before.
  const first = await assign(server, driver, passenger, tokenOf('paula'));
  const { to, message } = { to: 'both', message: 'Please wait: ¡5 minutos! 🚕' };
  await server.post(`/api/admin/trips/${first.tripId}/message`, tokenOf('ana'), { to, message });
  await server.post(`/api/trips/${first.tripId}/cancel`, tokenOf('ana'), { reason: 'flooded road' });
  for (const [who, c] of Object.entries({ driver, passenger, admin })) {
    const shape = tripEvents({ ...first, ...people })[who];
    like(await c.event('admin:trip:message_sent'), { ...shape['admin:trip:message_sent'], adminId: 'ana', to, message });
    like(await c.event('trip:cancelled'), { ...shape['trip:cancelled'], cancelledBy: 'admin', reason: 'flooded road' });
  }
  like(await admin.event('admin:trip:action_issued'), {
    ...tripEvents({ ...first, ...people }).admin['admin:trip:action_issued'], adminId: 'ana', reason: 'flooded road',
  });

  // By the passenger, while the offer is open.
  await driver.event('driver:trip:update', 2);
  await driver.must('driver:status:update', { isAvailableForTrips: true });
  const { tripId } = await requestTrip(server, tokenOf('paula'));
  const { assignmentId } = await driver.event('trip:assignment:offered', 2);
  await server.post(`/api/trips/${tripId}/cancel`, tokenOf('paula'));
  const shape = tripEvents({ tripId, assignmentId, ...people });
  like(await driver.event('trip:assignment:cancelled'), shape.driver['trip:assignment:cancelled']);
  for (const c of [passenger, admin]) {
    like(await c.event('trip:cancelled', 2), { ...shape.passenger['trip:cancelled'], cancelledBy: 'passenger', reason: null });
  }
  like(await admin.event('trip:assignment:cancelled'), shape.admin['trip:assignment:cancelled']);

  for (const c of [driver, passenger, admin, pedro]) await c.roundTrip();
  const assigned = ['trip:assignment:offered', 'trip:assignment:accepted', 'trip:driver_assigned'];
  const notOfDriver = (name) => !name.includes('driver:');
  assert.deepEqual(driver.heard(notOfDriver), [...assigned, 'admin:trip:message_sent', 'trip:cancelled', 'trip:assignment:offered', 'trip:assignment:cancelled']);
  assert.deepEqual(passenger.heard(), [
    'trip:requested', 'trip:assigning_started', 'trip:driver_accepted', 'trip:driver_assigned', 'admin:trip:message_sent', 'trip:cancelled',
    'trip:requested', 'trip:assigning_started', 'trip:cancelled',
  ]);
  assert.deepEqual(admin.heard(notOfDriver), [
    'trip:requested', 'trip:assigning_started', ...assigned, 'admin:trip:message_sent', 'admin:trip:action_issued', 'trip:cancelled',
    'trip:requested', 'trip:assigning_started', 'trip:assignment:offered', 'trip:assignment:cancelled', 'trip:cancelled',
  ]);
  assert.deepEqual(pedro.heard(), []);
});
