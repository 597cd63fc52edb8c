// Clients that lose their connection get what they missed, if they take part in recovery; the others
// notice nothing of it.

import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';
import { legacySettings, recoveringSettings, settings } from '../lib/client.js';
import { scenario, tokenOf } from '../lib/scenario.js';
import { assign, goOnline } from '../lib/trip.js';

const flags = ['-allow-eio3', '-legacy-query-token', '-ping-interval', '2s', '-ping-timeout', '2s'];
const among = [...settings, ...recoveringSettings, ...legacySettings];

/** Longer than instances need to tell each other of their sockets, in milliseconds. */
const told = 2500;

/** Whether a client stores offsets. */
const takesPart = ({ version }) => version.startsWith('4.');

/**
 * What a client gets on its nth connection, as docs/clients.md has it: `offset`, as one more argument of an event;
 * `event`, behind it; or the `payload` alone.
 */
function gets(setting, n) {
  if (setting.legacy) return 'payload';
  const known = setting.version.startsWith('4.8.') || setting.options.transports?.[0] === 'websocket' || takesPart(setting) && n > 1;
  return known ? 'offset' : 'event';
}

/** What a client has got on its nth connection, which has begun behind so many entries of its log and events with an offset. */
function checkOffsets(c, n, { at, offsets }) {
  const way = gets(c.setting, n);
  for (const { kind, name, args, offset } of c.log.slice(at)) {
    if (kind !== 'event') continue;
    assert.equal(args.length, 1, `${c} got ${JSON.stringify(args)} with ${name}`);
    const has = way === 'offset' && name !== 'trip:assignment:offered' && !name.endsWith('location:update');
    assert.equal(offset !== undefined, has, `${c}: the offset of ${name} on connection ${n}`);
  }
  assert.equal(c.offsets > offsets, way === 'event', `${c}: ${c.offsets - offsets} offsets in events of their own on connection ${n}`);
}

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
  const begun = new Map([driver, passenger].map((c) => [c, { at: 0, offsets: 0 }]));
  const checkConnection = async (n) => {
    for (const [c, from] of begun) {
      await c.roundTrip(); // an offset may be on its way behind its event
      checkOffsets(c, n, from);
      begun.set(c, { at: c.log.length, offsets: c.offsets });
    }
  };
  for (const [n, [what, events]] of steps.entries()) {
    await checkConnection(n + 1);
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
      assert.equal(missed, c.before);
      assert.deepEqual(trip(c, at), [...events, 'hello'], `${c}: ${c.story()}`);
    }
  }
  await server.post(`/api/trips/${tripId}/complete`, tokenOf('diego'));
  for (const c of [driver, passenger]) await c.event('trip:completed');
  await checkConnection(steps.length + 1);
}, { flags, among });

// Its clients come to an instance on which they have never been.
scenario('recovery: the instance of a phone is killed', async (world, setting) => {
  const { server } = world;
  const other = await world.another();
  const network = await world.network();
  const driver = world.as('diego', { url: network.url });
  const passenger = world.as('paula', { url: network.url });
  const admin = world.as('ana', { url: other.url });
  for (const c of [driver, passenger, admin]) {
    await c.hello();
    await c.settled();
  }
  await goOnline(driver);
  const { tripId } = await assign(server, driver, passenger, tokenOf('paula'));
  await sleep(told);
  const before = [driver, passenger].map((c) => ({ c, id: c.socket.id, at: c.log.length }));
  assert.equal(driver.count('disconnect') + passenger.count('disconnect'), 0);

  await server.stop('SIGKILL');
  for (const { c } of before) await c.disconnected();
  await other.post(`/api/trips/${tripId}/arriving`, tokenOf('diego'));
  await admin.event('trip:driver_en_route'); // within 10 s: the other instance takes the events of the dead one over
  network.heal(other.port);
  for (const { c, id, at } of before) {
    const { recovered, missed } = await c.hello(2);
    await c.settled();
    await c.roundTrip();
    assert.equal(recovered, takesPart(setting), `${c}: ${c.story()}`);
    assert.equal(c.socket.recovered ?? false, recovered);
    assert.equal(c.snapshots.length, recovered ? 1 : 2);
    assert.deepEqual(trip(c, at), recovered ? ['trip:arriving_started', 'trip:driver_en_route', 'hello'] : ['hello'], `${c}: ${c.story()}`);
    if (!recovered) continue;
    assert.equal(c.socket.id, id);
    assert.equal(missed, c.before);
  }
  await other.post(`/api/trips/${tripId}/arrived`, tokenOf('diego'));
  for (const c of [driver, passenger]) {
    await c.event('trip:driver_arrived_pickup');
    const ids = c.log.filter((e) => e.kind === 'event' && e.name !== 'trip:assignment:offered').map((e) => e.args[0].eventId).filter(Boolean);
    assert.equal(new Set(ids).size, ids.length, `${c} has got an event twice: ${c.story()}`);
  }
}, { flags, among: [...settings, ...recoveringSettings].filter((s) => s.options.transports), redis: true });

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
