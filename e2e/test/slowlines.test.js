// Slow lines: what a phone is told last arrives, and its pong may stand behind its events.

import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';
import { settings, websocketOnly } from '../lib/client.js';
import { scenario, tokenOf } from '../lib/scenario.js';

// Busy phones that poll over a line of 0.7 s each way. Each is banned at another moment of its polls.
scenario('the last words over a slow polling line', async (world) => {
  const { server } = world;
  const network = await world.network({ delay: 700 });
  await Promise.all(['diego', 'dora'].map(async (id, i) => {
    const c = world.as(id, { url: network.url });
    await c.hello();
    const busy = setInterval(() => c.socket.emit('driver:status:update', { isOnline: true }), 300); // each is answered by two events
    try {
      await sleep(1000 + i * 450);
      await server.post(`/api/admin/users/${id}/ban`, tokenOf('ana'));
      await c.event('auth:session_revoked');
      assert.equal(await c.disconnected(), 'io server disconnect');
    } finally {
      clearInterval(busy);
    }
  }));
}, { among: settings.filter((s) => s.ends === 'polling'), flags: ['-no-rate-limit'], waits: true });

scenario('a pong behind events', async (world) => {
  const network = await world.network({ uplink: 40_000 });
  const c = world.as('diego', { url: network.url });
  await c.hello();
  const text = 'x'.repeat(4000);
  // 5 s of the line: the pong to the ping after two seconds comes too late by itself.
  const asked = Array.from({ length: 50 }, () => c.ask('conformance:echo', text));
  for (const answer of await Promise.all(asked)) assert.deepEqual(answer, [text]);
  await c.roundTrip();
  assert.equal(c.count('disconnect'), 0);
}, { among: websocketOnly, flags: ['-echo', '-no-rate-limit', '-ping-interval', '2s', '-ping-timeout', '2s'], waits: true });
