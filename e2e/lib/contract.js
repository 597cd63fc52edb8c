// What the contract says about payloads: the shape of each event, as each of its
// audiences sees it. Keys are exact; `null` is sent, not left out.

import { is, maybe, number, oneOf, orNull, text, time, uuid } from './like.js';

const position = { lat: number, lng: number };
const place = { ...position, address: orNull(text) };
const reason = orNull(is('OFFLINE, ON_TRIP or UNAVAILABLE', (v) => ['OFFLINE', 'ON_TRIP', 'UNAVAILABLE'].includes(v)));
const flag = is('true or false', (v) => typeof v === 'boolean');

/** A driver as the passenger sees them. */
const driverCard = (id) => ({
  id, name: orNull(text), photoUrl: orNull(text), phoneMasked: orNull(text), ratingAvg: orNull(number), ratingCount: orNull(number),
});
const vehicleCard = (id) => ({ id, make: orNull(text), model: orNull(text), color: orNull(text), plateNumber: orNull(text) });
const passengerCard = (id) => ({ id, name: orNull(text), photoUrl: orNull(text), phoneMasked: orNull(text) });

/** hello, for a user in a namespace, whose client has no former socket. */
export const hello = (nsp, userId, sid) => ({ ok: true, nsp, sid, userId, serverTime: time, recovered: false });

/** The snapshot of a driver's availability, as acks carry it. */
export const snapshot = (driverId, known = {}) => ({
  driverId, isOnline: flag, isAvailableForTrips: flag, availabilityReason: reason, currentTripId: orNull(uuid), currentVehicleId: orNull(text),
  lastLocation: oneOf(null, position), lastLocationTimestamp: orNull(time), lastOnlineTimestamp: orNull(time), updatedAt: time, ...known,
});

/** The events about a driver, to the driver and to the watching admins. */
export const driverEvents = (driverId) => {
  const availability = { eventId: uuid, ...snapshot(driverId) };
  const location = {
    eventId: uuid, driverId, lastLocation: position, lastLocationTimestamp: time, heading: maybe(number), speed: maybe(number),
  };
  const trip = { eventId: uuid, driverId, currentTripId: orNull(uuid), availabilityReason: reason, isAvailableForTrips: flag };
  return {
    'driver:availability:update': availability,
    'admin:driver:availability:update': availability,
    'driver:location:update': location,
    'admin:driver:location:update': location,
    'driver:trip:update': trip,
    'admin:driver:trip:update': trip,
  };
};

/**
 * The events of a trip as passenger, driver and admins see them.
 *
 * @param {{tripId: string, assignmentId?: string, driverId?: string, passengerId: string, vehicleId?: string}} trip
 */
export function tripEvents({ tripId, assignmentId, driverId, passengerId, vehicleId }) {
  const at = { eventId: uuid, tripId, at: time };
  const assignment = { ...at, assignmentId, driverId, vehicleId };
  const offered = {
    eventId: uuid, assignmentId, tripId, ttlSec: number, expiresAt: time,
    pickup: maybe(place), destinationHint: maybe(place), stopsCount: maybe(number), priceEstimate: maybe(number), currency: maybe(text),
  };
  const accepted = { ...at, currentStatus: 'accepted', driver: driverCard(driverId), vehicle: vehicleCard(vehicleId) };
  const assigned = { ...at, driverId, vehicleId, currentStatus: 'accepted' };
  const by = is('passenger, driver, system or admin', (v) => ['passenger', 'driver', 'system', 'admin'].includes(v));
  const enRoute = { ...at, etaMinutes: orNull(number), driverPosition: oneOf(null, position) };
  const arrived = { ...at, currentStatus: 'arriving' };
  const started = { ...at, currentStatus: 'in_progress' };

  const all = {
    'trip:requested': {
      eventId: uuid, tripId, passengerId, requestedAt: time, pickup: oneOf(null, place),
      fareEstimatedTotal: orNull(number), fareFinalCurrency: orNull(text), status: 'pending',
    },
    'trip:assigning_started': { ...at, previousStatus: 'pending', currentStatus: 'assigning' },
    'trip:assignment:accepted': assignment,
    'trip:assignment:rejected': { ...assignment, reason: orNull(text) },
    'trip:assignment:expired': assignment,
    'trip:assignment:cancelled': { ...assignment, reason: orNull(text) },
    'trip:no_drivers_found': { ...at, reason: orNull(text) },
    'trip:arriving_started': { ...at, previousStatus: 'accepted', currentStatus: 'arriving' },
    'trip:completed': { ...at, driverId, currentStatus: 'completed', fareTotal: number, currency: text },
    'trip:cancelled': { ...at, currentStatus: 'cancelled', cancelledBy: by, reason: orNull(text) },
    'trip:driver_location': { ...driverEvents(driverId)['driver:location:update'], tripId },
    'admin:trip:action_issued': { ...at, adminId: text, action: text, reason: orNull(text) },
    'admin:trip:message_sent': { ...at, adminId: text, to: text, message: text },
  };
  return {
    passenger: {
      ...all,
      'trip:driver_accepted': accepted,
      'trip:driver_assigned': { ...accepted, driverId, vehicleId },
      'trip:driver_en_route': enRoute,
      'trip:driver_arrived_pickup': arrived,
      'trip:started': started,
    },
    driver: {
      ...all,
      'trip:assignment:offered': offered,
      'trip:driver_assigned': { ...assigned, passenger: passengerCard(passengerId) },
      'trip:driver_en_route': enRoute,
      'trip:driver_arrived_pickup': arrived,
      'trip:started': started,
    },
    admin: {
      ...all,
      'trip:assignment:offered': { ...offered, driverId, vehicleId },
      'trip:assignment:delivered': { ...at, assignmentId, driverId, socketId: text, latencyMs: number, by: text },
      'trip:assignment:undelivered': { ...at, assignmentId, driverId, reason: text },
      'trip:driver_assigned': { ...assigned, passenger: passengerCard(passengerId), passengerId },
      'trip:driver_en_route': { ...enRoute, driverId },
      'trip:driver_arrived_pickup': { ...arrived, driverId },
      'trip:started': { ...started, driverId },
    },
  };
}

/** The events about login sessions. */
export const sessionEvents = {
  loggedIn: (sid) => ({ eventId: uuid, sid, at: time }),
  userLoggedIn: (userId, userType, sid) => ({
    eventId: uuid, userId, userType, sid, sessionType: orNull(text), at: time, deviceInfo: is('an object or null', (v) => typeof v === 'object'),
  }),
  refreshed: (oldSid, newSid) => ({ eventId: uuid, oldSid, newSid, at: time }),
  revoked: (sid) => ({ eventId: uuid, sid, reason: orNull(text), at: time }),
};

/**
 * What refuses a CONNECT: the code and the message that belongs to it.
 */
export const refusals = {
  missing_token: 'Missing token',
  invalid_token: 'Invalid token',
  token_expired: 'Access token expired',
  missing_claims: 'Missing sub/sid',
  user_not_found: 'User not found',
  wrong_user_type: 'Wrong userType',
  user_inactive: 'User inactive',
  invalid_session: 'Invalid session',
  access_expired: 'Access expired',
};
