// npm install socket.io-client@4, then: node client.mjs
import { io } from 'socket.io-client';

const url = process.env.URL ?? 'http://127.0.0.1:3000';
const freshToken = async () => (await fetch(`${url}/login`, { method: 'POST' })).text();

const socket = io(`${url}/drivers`, {
  // Called before each attempt, so that a client that reconnects sends a new token. Without a
  // token it closes the connection, and tries again.
  auth: (send) => freshToken().then((token) => send({ token }), () => socket.io.engine.close()),
});

socket.onAny((event, payload) => console.log(event, payload));
socket.on('connect_error', (err) => {
  console.log('refused:', err.message, err.data);
  // The token has expired on its way: the client does not try again by itself.
  if (err.data?.code === 'token_expired') setTimeout(() => socket.connect(), 1000);
});
socket.on('connect', async () => {
  console.log(await socket.emitWithAck('driver:location:ping', { lat: 23.1, lng: -82.4 }));
  console.log(await socket.emitWithAck('driver:status:update', { isAvailableForTrips: true }));
  console.log(await socket.emitWithAck('driver:note:save', 'hello'));
});
// A token lasts an hour. With a new one in time the socket stays connected.
setInterval(async () => {
  if (socket.connected) socket.emit('auth:refresh', { token: await freshToken() });
}, 30 * 60_000);
