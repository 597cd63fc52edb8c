// Bad lines before real load balancers: one on which everything takes 0.7 s, a narrow one, and
// one that is cut. Whatever the transport, what a client is told before the end arrives.

import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { settings } from '../lib/client.js';
import { Balancer, balancers } from '../lib/cluster.js';
import { tokenOf, World } from '../lib/scenario.js';

const current = settings.filter((s) => s.version === '4.8.4');
const broken = ['transport close', 'transport error'];

/** Clients of one person behind one line, one for each transport. */
const behind = (world, line, id) => current.map((setting) => world.as(id, { url: line.url, setting, timeout: 20_000 }));

/** Checks that clients are told why they are disconnected, and stay away. */
async function toldAndAway(clients, n = 1) {
  for (const c of clients) {
    assert.equal(await c.disconnected(n), 'io server disconnect', c.story());
    assert.equal(c.payloads('auth:session_revoked').length, 1, c.story());
    assert.equal(c.socket.active, false);
  }
}

const connected = (clients, n = 1) => Promise.all(clients.map(async (c) => {
  await c.hello(n);
  await c.settled();
}));

const lines = {
  async 'a slow line'(world, port) {
    const line = await world.network({ port, delay: 700 });
    const clients = behind(world, line, 'diego');
    await connected(clients);
    await Promise.all(clients.map((c) => c.roundTrip()));
    await world.server.post('/api/logout', tokenOf('diego'));
    await toldAndAway(clients);
  },

  async 'a narrow line'(world, port) {
    const line = await world.network({ port, uplink: 100_000, downlink: 100_000 });
    const clients = behind(world, line, 'dora');
    await connected(clients);
    const long = 'ñ'.repeat(50_000);
    await Promise.all(clients.map(async (c) => assert.deepEqual(await c.ask('conformance:echo', long), [long])));
    // The last words come behind what is still on its way.
    clients.forEach((c) => c.socket.emit('conformance:echo', long, () => {}));
    await Promise.all(clients.map((c) => c.roundTrip()));
    await world.server.post('/api/logout', tokenOf('dora'));
    await toldAndAway(clients);
  },

  async 'a line that is cut'(world, port) {
    const line = await world.network({ port });
    const clients = behind(world, line, 'paula');
    await connected(clients);
    line.cut();
    for (const c of clients) assert.ok(broken.includes(await c.disconnected()), c.story());
    line.heal();
    await connected(clients, 2);
    await Promise.all(clients.map((c) => c.roundTrip()));
    await world.server.post('/api/admin/users/paula/ban', tokenOf('ana'), { reason: 'complaints' });
    await toldAndAway(clients, 2);
  },
};

describe('bad lines', { concurrency: 6 }, () => {
  for (const program of Object.keys(balancers)) {
    for (const [name, body] of Object.entries(lines)) {
      it(`${name} before ${program}`, async () => {
        const world = await World.create(current[0], { flags: ['-echo'], env: { TRUSTED_PROXIES: '127.0.0.1' } });
        let balancer, failure;
        try {
          balancer = await Balancer.start(program, [world.server.port]);
          await body(world, balancer.port);
        } catch (err) {
          failure = err;
        }
        const wrong = await world.close();
        await balancer?.close();
        if (failure) {
          failure.message += `\nThe server said:\n${world.server.said}\n${program} said:\n${balancer?.said}`;
          throw failure;
        }
        assert.deepEqual(wrong, [], world.server.said);
      });
    }
  }
});
