// What clients send: every event is acknowledged, and what is wrong with it is
// named.

import assert from 'node:assert/strict';
import { driverEvents, snapshot } from '../lib/contract.js';
import { is, like, text } from '../lib/like.js';
import { scenario, tokenOf } from '../lib/scenario.js';
import { assign, goOnline } from '../lib/trip.js';

/** Asserts a failed ack, whose fields are exactly these. */
function fails(ack, code, fields, what) {
  like(ack, { ok: false, error: { code, message: text, ...(fields.length > 0 && { fields: is('a list', Array.isArray) }) } }, what);
  assert.deepEqual([...(ack.error.fields ?? [])].sort(), [...fields].sort(), what);
}

scenario('invalid payloads name their fields', async (world) => {
  const [driver, admin] = await world.connect('diego', 'ana');
  const here = { lat: 1, lng: 2 };
  const day = 24 * 3600 * 1000;
  for (const [c, event, body, ...fields] of [
    [driver, 'driver:status:update', {}, 'isOnline', 'isAvailableForTrips', 'availabilityReason'],
    [driver, 'driver:status:update', { isOnline: 'yes' }, 'isOnline'],
    [driver, 'driver:status:update', { isAvailableForTrips: 1 }, 'isAvailableForTrips'],
    [driver, 'driver:status:update', { availabilityReason: 'LUNCH' }, 'availabilityReason'],
    [driver, 'driver:status:update', { isOnline: false, isAvailableForTrips: true }, 'isOnline', 'isAvailableForTrips'],
    [driver, 'driver:location:ping', {}, 'lat', 'lng'],
    [driver, 'driver:location:ping', { lat: 1 }, 'lng'],
    [driver, 'driver:location:ping', { LAT: 1, lng: 2 }, 'lat'],
    [driver, 'driver:location:ping', { lat: 90.0001, lng: 2 }, 'lat'],
    [driver, 'driver:location:ping', { lat: 1, lng: -180.5 }, 'lng'],
    [driver, 'driver:location:ping', { lat: '1', lng: 2 }, 'lat'],
    [driver, 'driver:location:ping', { lat: NaN, lng: 2 }, 'lat'], // null in JSON
    [driver, 'driver:location:ping', { ...here, heading: 361 }, 'heading'],
    [driver, 'driver:location:ping', { ...here, speed: -2 }, 'speed'],
    [driver, 'driver:location:ping', { ...here, accuracyMeters: -0.5, heading: -90 }, 'heading', 'accuracyMeters'],
    [driver, 'driver:location:ping', { ...here, lastLocationTimestamp: 'yesterday' }, 'lastLocationTimestamp'],
    [driver, 'driver:location:ping', { ...here, lastLocationTimestamp: new Date(Date.now() - day - 60_000).toISOString() }, 'lastLocationTimestamp'],
    [driver, 'driver:location:ping', { ...here, lastLocationTimestamp: new Date(Date.now() + day + 60_000).toISOString() }, 'lastLocationTimestamp'],
    [driver, 'driver:trip:set', { currentTripId: 7 }, 'currentTripId'],
    [driver, 'driver:offer:accept', {}, 'assignmentId'],
    [driver, 'driver:offer:accept', { assignmentId: '' }, 'assignmentId'],
    [driver, 'driver:offer:accept', { assignmentId: ['a'] }, 'assignmentId'],
    [driver, 'driver:offer:reject', { assignmentId: 'a', reason: 'x'.repeat(201) }, 'reason'],
    [driver, 'driver:offer:reject', { reason: 5 }, 'reason'],
    [driver, 'auth:refresh', {}, 'token'],
    [driver, 'auth:refresh', { token: 5 }, 'token'],
    [admin, 'admin:trip:join', {}, 'tripId'],
    [admin, 'admin:trip:join', { tripId: null }, 'tripId'],
    [admin, 'admin:trip:leave', { tripId: {} }, 'tripId'],
  ]) {
    fails(await c.call(event, body), 'invalid_payload', fields, `${event} ${JSON.stringify(body)}`);
  }
  for (const body of [5, 'text', [], true, Buffer.from('binary')]) {
    const ack = await driver.call('driver:location:ping', body);
    assert.equal(ack.ok === false && ack.error.code, 'invalid_payload', `driver:location:ping ${JSON.stringify(body)}`);
  }
  // Nothing came of it, and nothing is emitted about it.
  for (const c of [driver, admin]) {
    await c.roundTrip();
    assert.deepEqual(c.heard(), []);
  }
});

scenario('a position is read as phones write it', async (world) => {
  const [driver, admin] = await world.connect('diego', 'ana');
  const lastLocation = { lat: 23.1, lng: -82.4 };
  const at = Math.floor(Date.now() / 1000) * 1000;
  const positions = [
    // An iPhone that stands still does not know these.
    [{ heading: -1, speed: -1, accuracyMeters: -1 }],
    [{ heading: 360.25, speed: -0.0 }, 0.25, 0],
    [{ lastLocationTimestamp: at }],
    [{ lastLocationTimestamp: new Date(at).toISOString().replace('Z', '') }],
    [{ lastLocationTimestamp: new Date(at).toISOString().replace('Z', '+0000') }],
    [{ lastLocationTimestamp: new Date(at + 3600_000).toISOString().replace('.000Z', '+01') }],
  ];
  for (const [i, [sent, heading, speed]] of positions.entries()) {
    const ack = await driver.call('driver:location:ping', { ...lastLocation, lastLocationTimestamp: at, ...sent });
    assert.deepEqual(ack, { ok: true }, JSON.stringify(sent));
    for (const [c, name] of [[driver, 'driver:location:update'], [admin, 'admin:driver:location:update']]) {
      const { eventId, driverId, ...shown } = await c.event(name, i + 1);
      assert.deepEqual(shown, {
        lastLocation, lastLocationTimestamp: new Date(at).toISOString(), ...(heading !== undefined && { heading, speed }),
      }, JSON.stringify(sent));
    }
  }
});

scenario('an unknown event is not found when it asks, and ignored when it does not', async (world) => {
  const clients = await world.connect('diego', 'paula', 'ana');
  for (const c of clients) {
    for (const name of ['no:such:event', 'driver:location', 'error', 'ñ', '__proto__']) {
      fails(await c.call(name, { a: 1 }), 'not_found', [], name);
      c.socket.emit(name, 'and', Buffer.from('binary'));
    }
  }
  // Nor does an event of another namespace exist.
  fails(await clients[1].call('driver:location:ping', { lat: 1, lng: 2 }), 'not_found', [], 'a passenger');
  fails(await clients[0].call('admin:drivers:join'), 'not_found', [], 'a driver');
  fails(await clients[0].call('conformance:echo', 1), 'not_found', [], 'without -echo');
  for (const c of clients) {
    await c.roundTrip();
    assert.deepEqual(c.heard(), []);
    assert.equal(c.count('disconnect'), 0);
  }
});

scenario("a driver's status, position and trip", async (world) => {
  const { server } = world;
  const [driver, paula, admin] = await world.connect('diego', 'paula', 'ana');
  const status = async (body, known) => {
    like(await driver.must('driver:status:update', body), snapshot('diego', known), JSON.stringify(body));
  };
  await status({ isOnline: true }, { isOnline: true, isAvailableForTrips: true, availabilityReason: null, currentTripId: null });
  await status({ isAvailableForTrips: true, unknown: [1] }, { isOnline: true, isAvailableForTrips: true, availabilityReason: null });
  await status({ isOnline: false }, { isOnline: false, isAvailableForTrips: false, availabilityReason: 'OFFLINE' });
  await status({ isOnline: true, availabilityReason: 'UNAVAILABLE' }, { isOnline: true, isAvailableForTrips: false, availabilityReason: 'UNAVAILABLE' });
  like(await admin.event('admin:driver:availability:update', 4), driverEvents('diego')['admin:driver:availability:update']);
  assert.equal(driver.count('event', 'driver:availability:update'), 4);

  // An older position is acknowledged and not emitted.
  const at = new Date(Date.now() - 5000).toISOString();
  assert.deepEqual(await driver.call('driver:location:ping', { lat: 1, lng: 2, lastLocationTimestamp: at }), { ok: true });
  like(await driver.event('driver:location:update'), {
    ...driverEvents('diego')['driver:location:update'], lastLocation: { lat: 1, lng: 2 }, lastLocationTimestamp: at,
  });
  assert.deepEqual(await driver.call('driver:location:ping', { lat: 3, lng: 4, lastLocationTimestamp: new Date(Date.now() - 60_000).toISOString() }), { ok: true });
  await driver.roundTrip();
  assert.equal(driver.count('event', 'driver:location:update'), 1);

  // A driver can only set a trip that is theirs, and that does not show it to anybody.
  await goOnline(driver);
  const { tripId } = await assign(server, driver, paula, tokenOf('paula'));
  fails(await driver.call('driver:trip:set', { currentTripId: 'another' }), 'forbidden', [], 'a trip that is not theirs');
  like(await driver.must('driver:trip:set', { currentTripId: tripId }), snapshot('diego', { currentTripId: tripId, availabilityReason: 'ON_TRIP' }));
  await driver.event('driver:trip:update', 2);
  await admin.event('admin:driver:trip:update', 2);

  // The stream of positions is the admin's to turn off and on.
  assert.deepEqual(await admin.call('admin:drivers:leave'), { ok: true });
  const before = admin.count('event', 'admin:driver:location:update');
  await driver.must('driver:location:ping', { lat: 5, lng: 6 });
  await paula.event('trip:driver_location');
  await admin.roundTrip();
  assert.equal(admin.count('event', 'admin:driver:location:update'), before);
  assert.deepEqual(await admin.call('admin:drivers:join'), { ok: true });
  await driver.must('driver:location:ping', { lat: 7, lng: 8 });
  await admin.event('admin:driver:location:update', before + 1);

  // So are the positions of one trip.
  assert.deepEqual(await admin.must('admin:trip:join', { tripId }), { tripId });
  await driver.must('driver:location:ping', { lat: 9, lng: 10 });
  await admin.event('trip:driver_location');
  assert.deepEqual(await admin.must('admin:trip:leave', { tripId }), { tripId });
  await driver.must('driver:location:ping', { lat: 11, lng: 12 });
  await paula.until('the last position', () => paula.payloads('trip:driver_location').some((p) => p.lastLocation.lat === 11));
  await admin.roundTrip();
  assert.equal(admin.count('event', 'trip:driver_location'), 1);
});
