// The steps of a trip that several tests need.

import assert from 'node:assert/strict';

export const pickup = { lat: 23.1136, lng: -82.3666, address: 'Calle 23 № 1, La Habana' };
export const dropoff = { lat: 23.0989, lng: -82.3856, address: 'Túnel de Línea' };

/** Takes a connected driver online, near the pickup or `offset` degrees away. */
export async function goOnline(driver, offset = 0.001) {
  await driver.must('driver:status:update', { isOnline: true, isAvailableForTrips: true });
  await driver.event('driver:availability:update');
  await ping(driver, { lat: pickup.lat + offset, lng: pickup.lng });
}

/** Reports a position and waits until the driver's own device has heard of it. */
export async function ping(driver, position) {
  const n = driver.count('event', 'driver:location:update');
  assert.deepEqual(await driver.call('driver:location:ping', position), { ok: true });
  return driver.event('driver:location:update', n + 1);
}

/** Requests a trip over REST, as the passenger whose token it is. */
export const requestTrip = (server, token) => server.post('/api/trips', token, { pickup, dropoff });

/**
 * Takes a trip to where the driver is assigned and both people know it, and
 * returns what the offer was. The driver is online.
 */
export async function assign(server, driver, passenger, passengerToken) {
  const { tripId } = await requestTrip(server, passengerToken);
  const { assignmentId } = await driver.until('offer of the trip', () => driver.payloads('trip:assignment:offered').find((o) => o.tripId === tripId));
  assert.deepEqual(await driver.must('driver:offer:accept', { assignmentId }), { assignmentId, tripId });
  for (const c of [driver, passenger]) {
    await c.until('assignment of the trip', () => c.payloads('trip:driver_assigned').find((p) => p.tripId === tripId));
  }
  // Not of the trip's own events, so that it may come before or after them.
  await driver.until('trip in the snapshot', () => driver.payloads('driver:trip:update').some((p) => p.currentTripId === tripId));
  return { tripId, assignmentId };
}
