// Offers that arrive: what proves that a stock client has received one, and what the admins
// hear when there is no proof.

import assert from 'node:assert/strict';
import { legacySettings } from '../lib/client.js';
import { tripEvents } from '../lib/contract.js';
import { like } from '../lib/like.js';
import { scenario, tokenOf } from '../lib/scenario.js';
import { goOnline, requestTrip } from '../lib/trip.js';

const shape = (tripId, assignmentId) => tripEvents({ tripId, assignmentId, driverId: 'diego' }).admin;
const delivered = (tripId, assignmentId, more) => ({ ...shape(tripId, assignmentId)['trip:assignment:delivered'], ...more });
const undelivered = (tripId, assignmentId) => shape(tripId, assignmentId)['trip:assignment:undelivered'];

// No listener of the app acks: the client's answer to the ping behind the offer is the proof.
scenario('an offer is delivered', async (world) => {
  const [diego, paula, ana] = await world.connect('diego', 'paula', 'ana');
  await goOnline(diego);
  const { tripId } = await requestTrip(world.server, tokenOf('paula'));
  const { assignmentId } = await diego.event('trip:assignment:offered');
  like(await ana.event('trip:assignment:delivered'), delivered(tripId, assignmentId, { by: 'heartbeat', socketId: diego.socket.id }));

  // A second device gets the same offer when it connects, and neither gets it twice.
  const tablet = world.as('diego');
  await tablet.hello();
  assert.deepEqual(await tablet.event('trip:assignment:offered'), diego.payloads('trip:assignment:offered')[0]);
  await diego.must('driver:offer:accept', { assignmentId });
  await diego.event('trip:driver_assigned');
  const late = world.as('diego');
  await late.hello();
  for (const c of [diego, tablet, late, paula, ana]) await c.roundTrip();
  assert.equal(diego.count('event', 'trip:assignment:offered'), 1);
  assert.equal(tablet.count('event', 'trip:assignment:offered'), 1);
  assert.equal(late.count('event', 'trip:assignment:offered'), 0);
  assert.equal(ana.count('event', 'trip:assignment:delivered'), 1);
  assert.equal(ana.count('event', 'trip:assignment:undelivered'), 0);
  for (const c of [diego, tablet, late, paula]) assert.equal(c.count('event', 'trip:assignment:delivered'), 0);
});

// A client of Engine.IO 3 sends the pings itself: the app's ack, or its answer, is the only proof.
scenario('old clients: an offer is delivered by ack or answer', async (world) => {
  const [diego, , ana] = await world.connect('diego', 'paula', 'ana');
  await goOnline(diego);
  const { tripId } = await requestTrip(world.server, tokenOf('paula'));
  const { assignmentId } = await diego.event('trip:assignment:offered');
  await diego.roundTrip();
  assert.equal(ana.count('event', 'trip:assignment:delivered'), 0);
  await diego.must('driver:offer:accept', { assignmentId });
  like(await ana.event('trip:assignment:delivered'), delivered(tripId, assignmentId, { by: 'ack' }));
}, { among: legacySettings, flags: ['-allow-eio3'] });

scenario('old clients: an app that acks', async (world) => {
  const [diego, , ana] = await world.connect('diego', 'paula', 'ana');
  diego.socket.on('trip:assignment:offered', (offer, ack) => ack());
  await goOnline(diego);
  const { tripId } = await requestTrip(world.server, tokenOf('paula'));
  const { assignmentId } = await diego.event('trip:assignment:offered');
  like(await ana.event('trip:assignment:delivered'), delivered(tripId, assignmentId, { by: 'ack' }));
}, { among: legacySettings, flags: ['-allow-eio3'] });

// The trip then goes to the next driver at once: there is none, so the passenger hears that long
// before the offer would have expired.
scenario('an offer without a device', async (world) => {
  const [diego, paula, ana] = await world.connect('diego', 'paula', 'ana');
  await goOnline(diego);
  diego.close();
  const { tripId } = await requestTrip(world.server, tokenOf('paula'));
  const { assignmentId } = await ana.event('trip:assignment:offered');
  // On polling the server may still have the socket when the offer is made.
  const told = await ana.event('trip:assignment:undelivered');
  like(told, undelivered(tripId, assignmentId));
  assert.ok(['no_device', 'no_receipt'].includes(told.reason), told.reason);
  await paula.event('trip:no_drivers_found');
  assert.equal(ana.count('event', 'trip:assignment:delivered'), 0);
});
