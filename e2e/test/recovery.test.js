// Clients that lose their connection get what they missed, if they take part in recovery; the others
// notice nothing of it.

import assert from 'node:assert/strict';
import { legacySettings, settings } from '../lib/client.js';
import { scenario, tokenOf } from '../lib/scenario.js';
import { assign, goOnline } from '../lib/trip.js';

const flags = ['-allow-eio3', '-legacy-query-token', '-ping-interval', '2s', '-ping-timeout', '2s'];
const among = [...settings, ...legacySettings];

/** Whether a client stores offsets. */
const takesPart = ({ version }) => version.startsWith('4.');

/** Whether its first request looks like that of one that does. */
const looksLike = (setting) => takesPart(setting) || version3(setting) && setting.options.transports?.[0] === 'websocket';
const version3 = ({ version }) => version.startsWith('3.');

/** Whether it gets offsets in an event of their own, because it may be one that does. */
const mayTakePart = (setting) => version3(setting) && !looksLike(setting);

const trip = (c, from) => c.log.slice(from).filter((e) => e.kind === 'event' && (e.name.startsWith('trip:') && e.name !== 'trip:assignment:offered' || e.name === 'hello')).map((e) => e.name);

scenario('recovery: a phone that loses its network in the middle of a trip', async (world, setting) => {
  const { server } = world;
  const network = await world.network();
  const driver = world.as('diego', { url: network.url });
  const passenger = world.as('paula', { url: network.url });
  for (const c of [driver, passenger]) {
    const { recovered, missed } = await c.hello();
    assert.deepEqual([recovered, missed], [false, undefined]);
    await c.settled();
  }
  await goOnline(driver);
  const { tripId } = await assign(server, driver, passenger, tokenOf('paula'));
  const steps = [['arriving', ['trip:arriving_started', 'trip:driver_en_route']], ['arrived', ['trip:driver_arrived_pickup']], ['start', ['trip:started']]];
  for (const [n, [what, events]] of steps.entries()) {
    const before = [driver, passenger].map((c) => ({ c, id: c.socket.id, at: c.log.length, connects: c.count('connect') }));
    network.cut();
    for (const { c } of before) await c.disconnected(n + 1);
    await server.post(`/api/trips/${tripId}/${what}`, tokenOf('diego'));
    network.heal();
    for (const { c, id, at, connects } of before) {
      const { recovered, missed } = await c.hello(connects + 1);
      await c.settled();
      await c.roundTrip();
      assert.equal(recovered, takesPart(setting), `${c}: ${c.story()}`);
      assert.equal(c.snapshots.length, recovered ? 1 : n + 2, `${c}: the state, unless it has what changed it`);
      if (!recovered) {
        assert.deepEqual([missed, trip(c, at)], [undefined, ['hello']]);
        continue;
      }
      assert.ok(c.socket.recovered);
      assert.equal(c.socket.id, id);
      assert.ok(missed >= events.length);
      assert.deepEqual(trip(c, at), [...events, 'hello'], `${c}: ${c.story()}`);
    }
  }
  await server.post(`/api/trips/${tripId}/complete`, tokenOf('diego'));
  for (const c of [driver, passenger]) {
    await c.event('trip:completed');
    for (const { kind, name, args, offset } of c.log) {
      if (kind !== 'event') continue;
      assert.equal(args.length, 1, `${c} got ${JSON.stringify(args)} with ${name}`);
      const has = looksLike(setting) && name !== 'trip:assignment:offered' && !name.endsWith('location:update');
      assert.equal(offset !== undefined, has, `${c}: the offset of ${name}`);
    }
    assert.equal(c.offsets > 0, mayTakePart(setting), `${c}: ${c.offsets} offsets in events of their own`);
  }
}, { flags, among });

// Nobody gets a pid or an offset then, and each client the state whenever it comes.
scenario('a server without recovery', async (world, setting) => {
  const network = await world.network();
  const driver = world.as('diego', { url: network.url });
  for (const n of [1, 2]) {
    const hello = await driver.hello(n);
    assert.deepEqual([hello.recovered, hello.missed], [undefined, undefined]);
    await driver.settled();
    await driver.roundTrip();
    assert.equal(driver.snapshots.length, n);
    assert.ok(!driver.socket.recovered);
    if (n > 1) break;
    await goOnline(driver);
    network.cut();
    await driver.disconnected();
    network.heal();
  }
  assert.deepEqual(driver.log.filter((e) => e.offset || e.args.length > 1), [], setting.name);
  assert.equal(driver.offsets, 0, 'events with an offset');
}, { flags: [...flags, '-recovery=false'], among });
