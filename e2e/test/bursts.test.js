// What clients send at once when they connect.

import assert from 'node:assert/strict';
import { scenario } from '../lib/scenario.js';

/** The rate limits are the server's own; the other tests do without. */
const flags = ['-no-rate-limit=false'];

scenario('a board joins 100 trips whenever it connects', async (world) => {
  const board = world.as('ana');
  const acks = { joined: 0, refused: 0 };
  board.socket.on('connect', () => {
    for (let i = 0; i < 100; i++) board.socket.emit('admin:trip:join', { tripId: `trip-${i}` }, ({ ok }) => acks[ok ? 'joined' : 'refused']++);
  });
  await board.hello();
  await board.roundTrip();
  board.socket.io.engine.close();
  await board.hello(2);
  await board.roundTrip();
  await board.settled();
  assert.deepEqual(acks, { joined: 200, refused: 0 });
  assert.equal(board.count('disconnect'), 1, 'its own');
}, { flags });
