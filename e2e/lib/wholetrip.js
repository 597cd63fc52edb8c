// A whole trip, seen by everybody: each event once, in order, in its exact shape,
// and nothing else.

import assert from 'node:assert/strict';
import { driverEvents, hello, snapshot, tripEvents } from './contract.js';
import { like, text, time, uuid } from './like.js';
import { tokenOf } from './scenario.js';
import { ping, pickup, requestTrip } from './trip.js';

const ofTrip = (name) => name.startsWith('trip:');
const ofDriver = (name) => !ofTrip(name);

/** Takes a trip from request to end, in a world of its own. */
export async function wholeTrip(world) {
  const { server } = world;
  const login = {};
  for (const [userId, type] of [['diego', 'driver'], ['paula', 'passenger'], ['ana', 'admin']]) {
    login[userId] = await server.post('/api/login', '', { userId });
    like(login[userId], { token: text, sid: uuid, userId, type, expiresAt: time }, 'answer to the login');
  }

  // Those of the trip, the driver on two devices, and bystanders.
  const [driver, passenger, admin] = ['diego', 'paula', 'ana'].map((id) => world.as(id, { token: login[id].token }));
  const [tablet, dora, pedro, axel] = ['diego', 'dora', 'pedro', 'axel'].map((id) => world.as(id, { token: tokenOf(id, { sid: `${id}/b` }) }));
  const everybody = { driver, passenger, admin, tablet, dora, pedro, axel };
  for (const [c, userId] of [[driver, 'diego'], [passenger, 'paula'], [admin, 'ana'], [tablet, 'diego'], [dora, 'dora'], [pedro, 'pedro'], [axel, 'axel']]) {
    const sid = login[userId] && c !== tablet ? login[userId].sid : `${userId}/b`;
    like(await c.hello(), hello(c.namespace, userId, sid), 'hello');
    await c.settled();
    assert.deepEqual(c.log.slice(0, 2).map((e) => e.name), ['', 'hello'], `${c}: hello is the first event`);
  }

  const ack = await driver.must('driver:status:update', { isOnline: true, isAvailableForTrips: true });
  like(ack, snapshot('diego', {
    isOnline: true, isAvailableForTrips: true, availabilityReason: null, currentTripId: null, currentVehicleId: null, lastLocation: null, lastLocationTimestamp: null,
  }), 'snapshot');
  // A position is volatile: the next one is sent when the last has arrived.
  let pings = 0;
  const report = async (position) => {
    await ping(driver, position);
    pings++;
    await tablet.event('driver:location:update', pings);
    for (const c of [admin, axel]) await c.event('admin:driver:location:update', pings);
  };
  await report({ lat: pickup.lat + 0.01, lng: pickup.lng });

  const { tripId, passengerId } = await requestTrip(server, login.paula.token);
  assert.equal(passengerId, 'paula');
  await admin.event('trip:requested');
  assert.deepEqual(await admin.call('admin:trip:join', { tripId }), { ok: true, data: { tripId } });

  const offer = await driver.event('trip:assignment:offered');
  const { assignmentId } = offer;
  assert.equal(offer.tripId, tripId);
  assert.equal((await server.get('/api/trips/current', login.diego.token)).offer.assignmentId, assignmentId);
  assert.deepEqual(await driver.call('driver:offer:accept', { assignmentId }), { ok: true, data: { assignmentId, tripId } });
  const { vehicleId } = await driver.event('trip:assignment:accepted');
  await passenger.event('trip:driver_assigned');

  // What the driver does, and the position meanwhile.
  let seen = 0;
  const drive = async (position) => {
    await report(position);
    seen++;
    const shown = await passenger.event('trip:driver_location', seen);
    await admin.event('trip:driver_location', seen);
    assert.deepEqual(shown.lastLocation, { lat: position.lat, lng: position.lng });
    assert.deepEqual([shown.heading, shown.speed], [position.heading, position.speed]);
    assert.ok(!('accuracyMeters' in shown));
  };
  const act = async (what, event) => {
    await server.post(`/api/trips/${tripId}/${what}`, login.diego.token);
    for (const c of [driver, tablet, passenger, admin, axel]) await c.event(event);
  };
  await act('arriving', 'trip:driver_en_route');
  await drive({ lat: pickup.lat + 0.005, lng: pickup.lng, heading: 180, speed: 8.5, accuracyMeters: 12 });
  await drive({ lat: pickup.lat, lng: pickup.lng });
  await act('arrived', 'trip:driver_arrived_pickup');
  await act('start', 'trip:started');
  await drive({ lat: pickup.lat - 0.01, lng: pickup.lng, heading: 0, speed: 0 });
  await drive({ lat: pickup.lat - 0.02, lng: pickup.lng });
  await act('complete', 'trip:completed');
  await driver.event('driver:availability:update', 3);

  // The driver's further positions are not the passenger's.
  await tablet.event('driver:availability:update', 3);
  for (const c of [admin, axel]) await c.event('admin:driver:availability:update', 3);
  await report({ lat: 23, lng: -82 });
  for (const c of Object.values(everybody)) await c.roundTrip();

  // In order, exactly once, and nothing else.
  const course = ['trip:arriving_started', 'trip:driver_en_route', 'trip:driver_arrived_pickup', 'trip:started', 'trip:completed'];
  const withPositions = (names) => names.flatMap((n) => (['trip:driver_en_route', 'trip:started'].includes(n) ? [n, 'trip:driver_location', 'trip:driver_location'] : [n]));
  const adminsTrip = ['trip:requested', 'trip:assigning_started', 'trip:assignment:offered', 'trip:assignment:accepted', 'trip:driver_assigned'];
  const heard = (c, passes) => c.heard(passes);
  for (const c of [driver, tablet]) {
    assert.deepEqual(heard(c, ofTrip), ['trip:assignment:offered', 'trip:assignment:accepted', 'trip:driver_assigned', ...course], `${c}`);
    assert.deepEqual(heard(c, ofDriver), [
      'driver:availability:update', 'driver:location:update', 'driver:trip:update', 'driver:availability:update',
      ...Array(4).fill('driver:location:update'), 'driver:trip:update', 'driver:availability:update', 'driver:location:update',
    ], `${c}`);
  }
  assert.deepEqual(heard(passenger), [
    'trip:requested', 'trip:assigning_started', 'trip:driver_accepted', 'trip:driver_assigned', ...withPositions(course),
  ]);
  assert.deepEqual(heard(admin, ofTrip), [...adminsTrip, ...withPositions(course)], 'the admin who joined');
  assert.deepEqual(heard(axel, ofTrip), [...adminsTrip, ...course], 'the admin who did not join');
  for (const c of [admin, axel]) {
    assert.deepEqual(heard(c, ofDriver), [
      'admin:driver:availability:update', 'admin:driver:location:update', 'admin:driver:trip:update', 'admin:driver:availability:update',
      ...Array(4).fill('admin:driver:location:update'), 'admin:driver:trip:update', 'admin:driver:availability:update', 'admin:driver:location:update',
    ]);
  }
  assert.deepEqual(heard(dora), [], 'another driver');
  assert.deepEqual(heard(pedro), [], 'another passenger');

  // Each in its shape.
  const trip = tripEvents({ tripId, assignmentId, driverId: 'diego', passengerId: 'paula', vehicleId });
  const shapes = { driver: trip.driver, tablet: trip.driver, passenger: trip.passenger, admin: trip.admin, axel: trip.admin };
  const ids = {};
  for (const [who, shape] of Object.entries(shapes)) {
    const all = { ...shape, ...driverEvents('diego') };
    const own = new Set();
    for (const { kind, name, args } of everybody[who].log) {
      if (kind !== 'event' || name === 'hello') continue;
      assert.equal(args.length, 1, name);
      like(args[0], all[name], `${name} at the ${who}`);
      const { eventId } = args[0];
      (ids[who] ??= {})[name] ??= eventId;
      if (name === 'trip:driver_location') continue; // the admin also receives it under another name
      assert.ok(!own.has(eventId), `${name} at the ${who}: eventId is another event's`);
      own.add(eventId);
    }
  }
  // A domain event has one id, for all receivers and under all its names.
  for (const [a, b] of [['driver', 'tablet'], ['driver', 'passenger'], ['driver', 'admin'], ['passenger', 'admin'], ['admin', 'axel']]) {
    for (const name of Object.keys(ids[a]).filter((n) => ids[b][n])) {
      assert.equal(ids[a][name], ids[b][name], `eventId of ${name} at ${a} and ${b}`);
    }
  }
  assert.equal(ids.passenger['trip:driver_accepted'], ids.driver['trip:assignment:accepted']);
  assert.equal(ids.driver['driver:trip:update'], ids.admin['admin:driver:trip:update']);

  const [taken, free] = driver.payloads('driver:trip:update');
  like(taken, { ...driverEvents('diego')['driver:trip:update'], currentTripId: tripId, availabilityReason: 'ON_TRIP', isAvailableForTrips: false });
  like(free, { ...driverEvents('diego')['driver:trip:update'], currentTripId: null, availabilityReason: null, isAvailableForTrips: true });
  const [, busy, again] = driver.payloads('driver:availability:update');
  like(busy, { ...driverEvents('diego')['driver:availability:update'], currentTripId: tripId, availabilityReason: 'ON_TRIP', isAvailableForTrips: false });
  like(again, { ...driverEvents('diego')['driver:availability:update'], currentTripId: null, availabilityReason: null, isAvailableForTrips: true });
  assert.equal((await server.get('/api/trips/current', login.paula.token)).trip, null);
}
