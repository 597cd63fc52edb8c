// npm install socket.io-client@4, then: node client.mjs <token>
import { io } from 'socket.io-client';

const socket = io('http://127.0.0.1:3000/drivers', { auth: { token: process.argv[2] } });

socket.onAny((event, payload) => console.log(event, payload));
socket.on('connect_error', (err) => console.log('refused:', err.message, err.data));
socket.on('connect', async () => {
  console.log(await socket.emitWithAck('driver:location:ping', { lat: 23.1, lng: -82.4 }));
  console.log(await socket.emitWithAck('driver:status:update', { isAvailableForTrips: true }));
  console.log(await socket.emitWithAck('driver:note:save', 'hello'));
});
