// Three instances, a Node server in the same cluster, and a load balancer before them: trips go
// on while one instance is killed and another one is drained.

import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { Client, settings } from '../lib/client.js';
import { agentOf, balancers, Cluster } from '../lib/cluster.js';
import { tokenOf } from '../lib/scenario.js';
import { ping } from '../lib/trip.js';

/** Pairs of a driver and a passenger, each far from the others: one for each setting. */
const pairs = settings.map((setting, i) => ({
  i, setting, driverId: `driver-${i}`, passengerId: `passenger-${i}`,
  pickup: { lat: 10 + i, lng: -80 }, dropoff: { lat: 10.01 + i, lng: -80 },
}));

/** Everybody, with the bystanders. */
function everybody() {
  const user = (id, type) => ({ id, type, status: 'active', name: id });
  const users = [
    ...pairs.flatMap((p) => [user(p.driverId, 'driver'), user(p.passengerId, 'passenger')]),
    user('idle-driver', 'driver'), user('idle-passenger', 'passenger'), user('admin-1', 'admin'), user('admin-2', 'admin'),
  ];
  return { users, sessions: users.map(({ id }) => ({ sid: `${id}/a`, userId: id, revoked: false, accessTokenExpiresAt: null })) };
}

/** The steps of a trip after the driver was assigned: the state that each leads to, and its last event. */
const steps = [
  { name: 'arriving', status: 'arriving', event: 'trip:driver_en_route' },
  { name: 'arrived', status: 'arriving', event: 'trip:driver_arrived_pickup' },
  { name: 'start', status: 'in_progress', event: 'trip:started' },
  { name: 'complete', status: 'completed', event: 'trip:completed' },
];

class Scene {
  clients = [];

  constructor(cluster) {
    this.cluster = cluster;
  }

  client(setting, namespace, id) {
    const c = new Client(setting, this.cluster.url, namespace, { auth: { token: tokenOf(id) }, agent: agentOf(this.clients.length) });
    c.userId = id;
    this.clients.push(c);
    return c;
  }

  /**
   * Waits until the server answers every client. One that has not noticed yet that its instance
   * has died gets no answer on its old connection, and one more try on the next.
   */
  async settled() {
    await Promise.all(this.clients.map((c) => this.persist(c, () => c.roundTrip())));
  }

  /**
   * Does something with a client's connection until it works. A balancer that takes an instance
   * back sends the polling clients there that belong to it, and they connect again.
   */
  async persist(c, act) {
    for (let i = 0; ; i++) {
      await c.until('connection', () => c.socket.connected && c.log.findLast((e) => e.kind === 'connect' || (e.kind === 'event' && e.name === 'hello'))?.name === 'hello');
      try {
        return await act();
      } catch (err) {
        if (c.socket.connected || i === 10) throw err;
      }
    }
  }

  /**
   * The pair's people and the admins receive an event of the trip. Only one who was not
   * connected all the time may have missed it, and reads the trip instead.
   */
  async hear({ driver, passenger, tripId }, name, before) {
    for (const c of [driver, passenger, ...this.admins]) {
      await c.until(`${name} of ${tripId}`, () => c.payloads(name).some((p) => p.tripId === tripId) || c.count('disconnect') > before.get(c));
    }
  }

  /** How often each client had lost its connection before this one, if it has one. */
  losses() {
    return new Map(this.clients.map((c) => [c, c.count('disconnect') - (c.socket.connected ? 0 : 1)]));
  }

  /** Takes the pair's trip one step further, and waits until everybody concerned knows. */
  async advance(pair) {
    const { name, status, event } = steps[pair.step++];
    const before = this.losses();
    const answer = await this.cluster.persist(`/api/trips/${pair.tripId}/${name}`, tokenOf(pair.driverId));
    // A conflict: the instance that had done it died before it could say so.
    assert.ok(answer.status === 200 || answer.status === 409, `${name}: ${JSON.stringify(answer)}`);
    assert.equal((await this.cluster.get(`/api/trips/${pair.tripId}`, tokenOf(pair.passengerId))).status, status);
    await this.hear(pair, event, before);
  }

  async accept(pair) {
    const before = this.losses();
    const { assignmentId } = pair.driver.payloads('trip:assignment:offered').find((o) => o.tripId === pair.tripId);
    const answer = await this.persist(pair.driver, () => pair.driver.must('driver:offer:accept', { assignmentId }));
    assert.deepEqual(answer, { assignmentId, tripId: pair.tripId });
    await this.hear(pair, 'trip:driver_assigned', before);
    pair.step = 0;
  }

  /** The driver moves, and the passenger sees it. */
  async move(pair) {
    const seen = () => pair.passenger.payloads('trip:driver_location').length;
    const from = seen();
    for (let i = 1; seen() === from; i++) {
      assert.ok(i < 40, `${pair.passengerId} sees no position`);
      const ack = await this.persist(pair.driver, () => pair.driver.call('driver:location:ping', { lat: pair.pickup.lat + i / 1e5, lng: pair.pickup.lng }));
      assert.deepEqual(ack, { ok: true });
      for (let n = 0; n < 50 && seen() === from; n++) await sleep(20);
    }
  }

  /** The Node server emits to a driver at an instance, who receives it. */
  async emitFromNode(driver) {
    const from = driver.count('event', 'from:node');
    for (let i = 1; driver.count('event', 'from:node') === from; i++) {
      assert.ok(i < 40, `${driver.userId} receives nothing from Node`);
      await this.cluster.node.do('emit', { rooms: [`driver:${driver.userId}`], args: ['from:node', { n: ++this.emitted }] });
      for (let n = 0; n < 50 && driver.count('event', 'from:node') === from; n++) await sleep(20);
    }
  }

  emitted = 0;

  /** Keeps clients that lose their connection away. Returns a function that lets them come back. */
  hold() {
    const holds = new Map(this.clients.map((c) => [c, () => c.socket.io.reconnection(false)]));
    for (const [c, stay] of holds) c.socket.on('disconnect', stay);
    return () => {
      for (const [c, stay] of holds) {
        c.socket.off('disconnect', stay);
        if (c.socket.connected) continue;
        c.socket.io.reconnection(true);
        c.socket.connect();
      }
    };
  }

  /** The clients that have no instance any more. One that has not noticed yet finds out. */
  async lost() {
    const answers = await Promise.all(this.clients.map((c) => c.socket.connected && c.roundTrip().then(() => true, () => false)));
    return this.clients.filter((c, i) => !answers[i]);
  }

  /** How many clients have lost their connection so far. */
  get disconnects() {
    return this.clients.filter((c) => c.count('disconnect') > 0).length;
  }
}

/** Longer than instances need to tell each other of their sockets, in milliseconds. */
const told = 2500;

/** Whether a client can recover. The others are of 3.1.3. */
const canRecover = (c) => c.setting.version === '4.8.4';

/**
 * The clients of an instance that was killed have come to others. Each that can recover has its socket again, and what
 * it had missed; each other one has got the state. Only driver-1 may be one of those too: they were sent an event of
 * Node, which has no mark, so that nobody knows whether they have received it.
 */
function checkRecovered(away) {
  for (const { c, id, snapshots } of away) {
    const { recovered, missed } = c.payloads('hello').at(-1);
    assert.equal(c.count('event', 'hello'), 2, `${c}: ${c.story()}`);
    assert.equal(c.socket.recovered ?? false, recovered);
    assert.ok(recovered === canRecover(c) || c.userId === 'driver-1', `${c}, user ${c.userId}, recovered: ${recovered}; ${c.story()}`);
    assert.equal(c.snapshots.length - snapshots, recovered || c.namespace === '/admin' ? 0 : 1, `${c}: the state, unless it has what changed it`);
    if (!recovered) continue;
    assert.equal(c.socket.id, id);
    assert.equal(missed, c.before, `${c}: ${c.story()}`);
  }
}

/** The whole story, behind one of the load balancers. */
async function story(cluster, scene) {
  const client = (...args) => scene.client(...args);
  const byName = (name) => settings.find((s) => s.name === name);
  const running = pairs.map((p) => ({ ...p, driver: client(p.setting, '/drivers', p.driverId), passenger: client(p.setting, '/passengers', p.passengerId) }));
  scene.admins = [client(byName('4.8.4 websocket'), '/admin', 'admin-1'), client(byName('4.8.4 polling'), '/admin', 'admin-2')];
  const idle = [client(byName('4.8.4 polling'), '/drivers', 'idle-driver'), client(byName('4.8.4 default'), '/passengers', 'idle-passenger')];
  await scene.settled();
  await cluster.node.do('client', { name: 'beside', rooms: ['driver:driver-0'] });
  await cluster.node.do('client', { name: 'stranger', rooms: ['driver:nobody'] });

  for (const pair of running) {
    await pair.driver.must('driver:status:update', { isOnline: true, isAvailableForTrips: true });
    await ping(pair.driver, pair.pickup);
  }
  for (const pair of running) {
    const { pickup, dropoff } = pair;
    pair.tripId = (await cluster.post('/api/trips', tokenOf(pair.passengerId), { pickup, dropoff })).tripId;
    await pair.driver.until('offer of the trip', () => pair.driver.payloads('trip:assignment:offered').find((o) => o.tripId === pair.tripId));
  }
  // They are in the middle of their trips: the first one's offer is open, the others have
  // come 0 to 3 steps far.
  const [first, ...others] = running;
  for (const pair of others) {
    await scene.accept(pair);
    for (let n = 0; n < pair.i % 4; n++) if (pair.step < 3) await scene.advance(pair);
  }
  await scene.emitFromNode(running[1].driver);

  // One instance is killed. Its clients stay away until something has happened.
  assert.equal(scene.disconnects, 0);
  await sleep(told);
  const former = new Map(scene.clients.map((c) => [c, { c, id: c.socket.id, snapshots: c.snapshots.length }]));
  const release = scene.hold();
  await cluster.nodes[0].stop('SIGKILL');
  const away = await scene.lost();
  assert.ok(away.length > 0 && away.length < scene.clients.length, `${away.length} of ${scene.clients.length} clients had to reconnect`);
  for (const pair of others) if (pair.step < 3) await scene.advance(pair);
  release();
  await scene.settled();
  checkRecovered(away.map((c) => former.get(c)));
  await scene.accept(first);
  for (const pair of running) await scene.move(pair);
  for (const pair of others) if (pair.step < 3) await scene.advance(pair);

  // It comes back; another one is drained.
  await cluster.nodes[0].start();
  const before = scene.clients.map((c) => c.count('event', 'server:drain'));
  const exit = await cluster.nodes[1].stop('SIGTERM');
  assert.deepEqual(exit, { code: 0, signal: null });
  await scene.settled();
  assert.ok(scene.clients.some((c, i) => c.count('event', 'server:drain') > before[i]), 'somebody was asked to go elsewhere');
  for (const pair of running) {
    await scene.move(pair);
    while (pair.step < steps.length) await scene.advance(pair);
  }
  await scene.emitFromNode(running[1].driver);

  // Nobody misses anything: the trips have ended, and the people may have others.
  for (const pair of running) {
    const trip = await cluster.get(`/api/trips/${pair.tripId}`, tokenOf('admin-1'));
    assert.deepEqual([trip.status, trip.driverId, trip.passengerId], ['completed', pair.driverId, pair.passengerId]);
    assert.deepEqual(await cluster.get('/api/trips/current', tokenOf(pair.driverId)), { trip: null, offer: null });
  }
  const list = await cluster.get('/api/admin/trips', tokenOf('admin-1'));
  assert.equal(list.trips, undefined, 'no trip runs any more');
  assert.ok(running.every(({ tripId }) => list.data.some((t) => t.id === tripId && t.currentStatus === 'completed')), 'all have ended');
  await scene.settled();

  check(scene, running, idle);
  checkNothingMissing(scene, running);
  const beside = cluster.node.received.filter((r) => r.client === 'beside').map((r) => r.args[0]);
  assert.ok(beside.includes('trip:completed') && beside.includes('trip:assignment:offered'), `the Node server's client received ${beside}`);
  assert.deepEqual(cluster.node.received.filter((r) => r.client === 'stranger'), []);
}

/** Whoever was connected all the time, or has recovered each time, has received every event of their trips, in order. */
function checkNothingMissing(scene, running) {
  const whole = ['trip:driver_assigned', ...steps.map(({ event }) => event)];
  for (const c of scene.clients.filter((c) => c.payloads('hello').slice(1).every(({ recovered }) => recovered))) {
    for (const pair of running.filter(({ driver, passenger }) => [driver, passenger, ...scene.admins].includes(c))) {
      const heard = c.log.filter((e) => e.kind === 'event' && whole.includes(e.name) && e.args[0].tripId === pair.tripId).map((e) => e.name);
      assert.deepEqual(heard, whole, `${c}, user ${c.userId}: ${pair.tripId}; ${c.story()}`);
    }
  }
}

/** Nobody has received a stranger's event, or one twice. */
function check(scene, running, idle) {
  for (const c of scene.clients) {
    const seen = new Set();
    let connects = 0;
    for (const { kind, name, args } of c.log) {
      if (kind === 'connect') connects += 1;
      if (kind !== 'event' || !args[0]?.eventId) continue;
      // A device that connects while an offer runs gets it again.
      const id = `${name} ${args[0].eventId}${name === 'trip:assignment:offered' ? ` on connection ${connects}` : ''}`;
      assert.ok(!seen.has(id), `${c} received ${id} twice`);
      seen.add(id);
    }
  }
  for (const { driver, passenger, tripId, driverId, passengerId } of running) {
    for (const c of [driver, passenger]) {
      for (const { kind, name, args: [body] } of c.log) {
        if (kind !== 'event' || name === 'hello' || name === 'server:drain' || name === 'from:node') continue;
        for (const [field, own] of Object.entries({ tripId, driverId, passengerId })) {
          assert.ok(body[field] === undefined || body[field] === own, `${c}, user ${c.userId}, received ${name} ${JSON.stringify(body)}`);
        }
      }
    }
    const fromNode = driver.payloads('from:node').map(({ n }) => n);
    assert.equal(new Set(fromNode).size, driverId === 'driver-1' ? fromNode.length : 0, `${driverId}: events from Node ${fromNode}`);
    assert.equal(passenger.count('event', 'from:node'), 0);
  }
  for (const c of idle) {
    assert.deepEqual(c.log.filter((e) => e.kind === 'event' && e.name !== 'hello' && e.name !== 'server:drain'), [], `${c} has no trip`);
  }
}

describe('three instances, of which one is killed and one drained', { concurrency: 1 }, () => {
  for (const name of Object.keys(balancers)) {
    it(`behind ${name}`, async () => {
      const cluster = await Cluster.start(name, everybody());
      const scene = new Scene(cluster);
      let failure;
      try {
        await story(cluster, scene);
      } catch (err) {
        failure = err;
      }
      for (const c of scene.clients) c.close();
      const { said } = cluster;
      const wrong = await cluster.close();
      if (failure) {
        failure.message += `\n${said}`;
        throw failure;
      }
      assert.deepEqual(wrong, [], said);
    });
  }
});
