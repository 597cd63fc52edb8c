// What a phone that was away receives behind hello.

import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';
import { legacySettings, settings } from '../lib/client.js';
import { snapshot, tripEvents } from '../lib/contract.js';
import { is, like, orNull, text, time, uuid } from '../lib/like.js';
import { scenario, tokenOf } from '../lib/scenario.js';
import { goOnline, pickup, dropoff, requestTrip } from '../lib/trip.js';

const anything = is('anything', () => true);
const availability = { eventId: uuid, ...snapshot('diego') };

/** A trip of trip:sync. */
const synced = (known) => ({
  tripId: uuid, currentStatus: text, at: orNull(time), passengerId: 'paula', driverId: orNull(text), vehicleId: orNull(text), requestedAt: time, arrivedAt: orNull(time),
  pickup, destination: dropoff, fareEstimatedTotal: anything, currency: 'CUP', etaMinutes: anything, driverPosition: anything,
  driver: null, vehicle: null, passenger: null, details: null, ...known,
});
/** Ends a client's connection, and waits until it has ended: a polling one gets what is under way until then. */
async function leave(c) {
  const { engine } = c.socket.io;
  c.socket.disconnect();
  while (engine.readyState !== 'closed') await sleep(10);
}

const sync = (trips, offers = []) => ({ trips, offers, serverTime: time });

scenario('a phone that was away', async (world, setting) => {
  const { server } = world;
  const [driver, passenger, admin] = await world.connect('diego', 'paula', 'ana');
  like(driver.snapshots, [{ sync: sync([]), availability: { ...availability, isOnline: false, updatedAt: null } }]);
  like(passenger.snapshots, [{ sync: sync([]) }]);
  await goOnline(driver);
  // The driver's other device, a current one, receives the offer, so that it stays with the driver.
  const tablet = world.client('/drivers', { setting: setting.current ?? setting, auth: { token: tokenOf('diego', { sid: 'diego/b' }) } });
  await tablet.hello();

  // The phone has no network when the trip is offered.
  await leave(driver);
  const { tripId } = await requestTrip(server, tokenOf('paula'));
  const { assignmentId } = await admin.event('trip:assignment:offered');
  driver.socket.connect();
  await driver.hello(2);
  await driver.roundTrip();
  const { eventId, ...offer } = tripEvents({ tripId, assignmentId }).driver['trip:assignment:offered'];
  assert.ok(eventId);
  like(driver.snapshots[1], { sync: sync([], [offer]), availability: { ...availability, isOnline: true, isAvailableForTrips: true } });
  assert.equal((await driver.event('trip:assignment:offered')).assignmentId, assignmentId, 'behind it, as the offer runs');

  // The passenger has none when the driver accepts.
  await leave(passenger);
  await driver.must('driver:offer:accept', { assignmentId });
  await driver.event('trip:driver_assigned');
  passenger.socket.connect();
  await passenger.hello(2);
  await passenger.roundTrip();
  const { driver: driverCard, vehicle } = tripEvents({ tripId, driverId: 'diego', vehicleId: text }).passenger['trip:driver_assigned'];
  like(passenger.snapshots[1], { sync: sync([synced({ tripId, currentStatus: 'accepted', driverId: 'diego', vehicleId: text, driver: driverCard, vehicle })]) });
  assert.equal(passenger.payloads('trip:driver_assigned').length, 0, 'it was not there');
  assert.equal(admin.snapshots.length, 0);
}, { flags: ['-allow-eio3'], among: [...settings, ...legacySettings] });
