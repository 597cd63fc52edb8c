// What an app does with the generated module, and what the compiler must refuse.

import { connect, type Ack, type AssignmentOfferedPayload, type Availability, type RefusalCode } from '../../clients/typescript/events';

const { socket, open, close } = connect('https://api.example.com', '/drivers', {
  token: async (renew) => (renew ? 'a new one' : null),
  connected: ({ sid, serverTime }) => console.log(sid.length, serverTime.length),
  ended: ({ kind, code, reason }) => console.log(kind === 'logged_out', code as RefusalCode, reason?.length),
}, { transports: ['websocket'] });

const offers: AssignmentOfferedPayload[] = [];
socket.on('trip:assignment:offered', (offer) => offers.push(offer));
socket.on('driver:availability:update', (a) => console.log(a.availabilityReason === 'ON_TRIP', a.lastLocation?.lat));

export async function work(): Promise<Availability | undefined> {
  const ack: Ack<Availability> = await socket.timeout(5000).emitWithAck('driver:status:update', { isOnline: true });
  if (!ack.ok) {
    console.log(ack.error.code === 'conflict', ack.error.fields?.join());
    return undefined;
  }
  const nothing = await socket.timeout(5000).emitWithAck('driver:location:ping', { lat: 23.1, lng: -82.4 });
  console.log(nothing.ok);
  open();
  close();
  return ack.data;
}

const board = connect('https://api.example.com', '/admin', { token: () => 'a token' }).socket;
board.on('trip:cancelled', (trip) => console.log(trip.cancelledBy === 'system', trip.reason));
board.emit('admin:drivers:leave', (ack) => console.log(ack.ok));

// @ts-expect-error there is no such namespace
connect('https://api.example.com', '/drones', { token: () => null });
// @ts-expect-error there is no such event
socket.on('trip:assignment:offer', () => undefined);
// @ts-expect-error a passenger's event
socket.on('trip:driver_accepted', () => undefined);
// @ts-expect-error a field is missing
socket.emit('driver:location:ping', { lat: 23.1 }, () => undefined);
// @ts-expect-error an admin's event
socket.emit('admin:drivers:leave', () => undefined);
// @ts-expect-error no such reason
socket.emit('driver:status:update', { availabilityReason: 'TIRED' }, () => undefined);
// @ts-expect-error a time is a string
socket.on('driver:location:update', (p) => p.lastLocationTimestamp.getTime());
