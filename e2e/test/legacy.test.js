// Clients of Socket.IO 1 and 2, which speak Engine.IO 3, beside current ones: in
// the same namespaces, rooms and events, where the server allows them.

import assert from 'node:assert/strict';
import { legacySettings } from '../lib/client.js';
import { hello, refusals, sessionEvents } from '../lib/contract.js';
import { echoes, echoesWhileUpgrading } from '../lib/echo.js';
import { encode, encodeBinary, Polling } from '../lib/eio3.js';
import { like, number, text } from '../lib/like.js';
import { outsiders, scenario, tokenOf } from '../lib/scenario.js';
import { inSeconds, sign } from '../lib/token.js';
import { assign, goOnline, ping } from '../lib/trip.js';
import { wholeTrip } from '../lib/wholetrip.js';

const flags = ['-allow-eio3'];
const among = legacySettings;
const one = legacySettings.slice(0, 1);
const broken = ['transport close', 'transport error'];
const course = (c) => c.log.map((e) => [e.kind, e.name].join(' ').trim());

// With addresses and names that are not ASCII, and so on long-polling also to
// clients that could not read them as they are: JSON has another way to write them.
scenario('old clients: a whole trip, with a current admin', wholeTrip, { among, flags });
scenario('old clients: echo', echoes, { among, flags: [...flags, '-echo'] });
scenario('old clients: nothing is lost or reordered by the upgrade', echoesWhileUpgrading, { among, flags: [...flags, '-echo'] });

scenario('old clients are refused unless they are allowed', async (world) => {
  for (const transport of ['polling', 'websocket']) {
    const headers = transport === 'websocket' && {
      connection: 'Upgrade', upgrade: 'websocket', 'sec-websocket-version': '13', 'sec-websocket-key': 'dGhlIHNhbXBsZSBub25jZQ==',
    };
    const { status, body } = await world.server.rest('GET', `/socket.io/?EIO=3&transport=${transport}`, '', undefined, headers);
    assert.equal(status, 400);
    assert.deepEqual(body, { code: 5, message: 'Unsupported protocol version' });
  }
  const c = world.as('diego');
  await c.until('second failure', () => c.log.filter((e) => e.kind === 'failed').length >= 2);
  assert.deepEqual([...new Set(course(c))], ['failed connect_error']);
  const current = world.as('dora', { setting: world.setting.current });
  await current.hello();
}, { among });

scenario('old clients: other versions are refused all the same', async (world) => {
  for (const query of ['EIO=2', 'EIO=5', 'EIO=', 'EIO=3&EIO=3', 'EIO=3&EIO=4', 'EIO=03', '']) {
    const { status, body } = await world.server.rest('GET', `/socket.io/?${query}&transport=polling`);
    assert.equal(status, 400, query);
    assert.deepEqual(body, { code: 5, message: 'Unsupported protocol version' }, query);
  }
}, { among: one, flags });

scenario('old clients: the token', async (world) => {
  const token = tokenOf('diego');
  const bearer = (value) => ({ extraHeaders: { Authorization: value }, transportOptions: { polling: { extraHeaders: { Authorization: value } }, websocket: { extraHeaders: { Authorization: value } } } });
  for (const value of [`Bearer ${token}`, `bearer ${token}`]) {
    const c = world.client('/drivers', bearer(value));
    like(await c.hello(), hello('/drivers', 'diego', 'diego/a'), 'hello');
    assert.deepEqual(course(c), ['connect', 'event hello']);
    c.close();
  }
  for (const [code, namespace, options] of [
    ['missing_token', '/drivers', {}],
    ['invalid_token', '/drivers', bearer('Bearer nonsense')],
    ['missing_token', '/drivers', bearer(token)],
    // Not without the option.
    ['missing_token', '/drivers', { query: { token } }],
    ['missing_token', `/drivers?token=${token}`, {}],
  ]) {
    const c = world.client(namespace, options);
    assert.deepEqual(await c.refused(), { message: refusals[code], data: { code } }, `${code} in ${namespace}`);
    c.close();
  }
}, { among, flags });

scenario('old clients: the token in the query', async (world) => {
  const token = tokenOf('diego');
  for (const [namespace, options] of [
    ['/drivers', { query: { token } }],
    ['/drivers', { query: `token=${token}` }],
    [`/drivers?token=${token}`, {}],
    [`/drivers?token=${token}&other=%20x`, {}],
    ['/drivers', { query: { token: `Bearer ${token}` } }],
  ]) {
    const c = world.client(namespace, options);
    like(await c.hello(), hello('/drivers', 'diego', 'diego/a'), 'hello');
    c.close();
  }
  for (const [code, query] of [
    ['missing_token', {}], ['missing_token', { token: '' }], ['missing_token', { Token: token }],
    ['invalid_token', { token: 'nonsense' }], ['invalid_token', { token: tokenOf('diego', { filler: 'x'.repeat(6_000) }) + 'x'.repeat(3_000) }],
    ['token_expired', { token: tokenOf('diego', { exp: inSeconds(-10) }) }],
  ]) {
    const c = world.client('/drivers', { query });
    assert.deepEqual(await c.refused(), { message: refusals[code], data: { code } }, code);
    c.close();
  }
  // That no token shows up in the log is looked at when the world ends. Current
  // clients have better places for theirs.
  const current = world.client('/drivers', { setting: world.setting.current, query: { token } });
  assert.deepEqual((await current.refused()).data, { code: 'missing_token' });
}, { among, flags: [...flags, '-legacy-query-token'] });

scenario('old clients: refusals', async (world) => {
  for (const [code, namespace, token] of [
    ['missing_token', '/passengers', ''],
    ['invalid_token', '/drivers', sign({ sub: 'diego', sid: 'diego/a' }, { key: 'another' })],
    ['invalid_token', '/drivers', sign({ sub: 'diego', sid: 'diego/a' }, { alg: 'none' })],
    ['token_expired', '/drivers', tokenOf('diego', { exp: inSeconds(-10) })],
    ['missing_claims', '/drivers', sign({ sub: 'diego' })],
    ['user_not_found', '/drivers', tokenOf('nobody')],
    ['wrong_user_type', '/passengers', tokenOf('diego')],
    ['user_inactive', '/drivers', tokenOf('ines')],
    ['invalid_session', '/drivers', tokenOf('diego', { sid: 'diego/revoked' })],
    ['access_expired', '/drivers', tokenOf('diego', { sid: 'diego/expired' })],
  ]) {
    const c = world.client(namespace, { auth: { token } });
    assert.deepEqual(await c.refused(), { message: refusals[code], data: { code } }, code);
    assert.deepEqual(course(c), [`refused ${refusals[code]}`], `${code}: nothing else`);
    assert.equal(c.socket.connected, false);
    c.close();
  }
  for (const namespace of ['/nowhere', '/Drivers', '/drivers/']) {
    const c = world.client(namespace, { auth: { token: tokenOf('diego') } });
    assert.deepEqual(await c.refused(), { message: 'Invalid namespace' }, namespace);
    c.close();
  }
}, { among, flags, seed: outsiders });

scenario('old clients: one that is refused may come back', async (world) => {
  const began = Date.now();
  const c = world.as('diego', { token: tokenOf('diego', { exp: inSeconds(-10) }) });
  await c.refused();
  c.token = tokenOf('diego');
  // It stays, until the connect timeout closes its transport.
  await c.hello();
  assert.ok(Date.now() - began >= 950, 'closed after the connect timeout, not before');
}, { among, flags: [...flags, '-connect-timeout', '1s'], waits: true });

scenario('old clients: several namespaces on one connection', async (world) => {
  // One header, so one user, who is admitted to one namespace and refused in the others.
  const multiplex = true;
  const token = tokenOf('diego');
  const driver = world.as('diego', { multiplex, token });
  const passenger = world.as('paula', { multiplex, token });
  like(await driver.hello(), hello('/drivers', 'diego', 'diego/a'), 'hello');
  assert.deepEqual(await passenger.refused(), { message: refusals.wrong_user_type, data: { code: 'wrong_user_type' } });
  assert.equal(passenger.socket.io, driver.socket.io);
  await driver.settled();
  const connection = driver.socket.io.engine.id;

  driver.socket.disconnect();
  assert.equal(await driver.disconnected(), 'io client disconnect');
  driver.socket.connect();
  await driver.hello(2);
  await driver.roundTrip();
  assert.equal(driver.socket.io.engine.id, connection, 'on the same connection');
  // A refusal or a disconnection in one namespace does not affect the other.
  assert.deepEqual(course(driver), ['connect', 'event hello', 'disconnect io client disconnect', 'connect', 'event hello']);
}, { among, flags });

scenario('old clients: a token per namespace', async (world) => {
  const manager = new world.setting.io.Manager(world.server.url, { ...world.setting.options, reconnection: false });
  try {
    for (const [id, nsp] of [['diego', '/drivers'], ['paula', '/passengers']]) {
      const socket = manager.socket(nsp, { query: { token: tokenOf(id) } });
      const received = await new Promise((resolve, reject) => {
        socket.on('hello', resolve);
        socket.on('error', (err) => reject(new Error(JSON.stringify(err))));
        socket.on('connect_error', reject);
      });
      like(received, hello(nsp, id, `${id}/a`), 'hello');
    }
  } finally {
    manager.reconnection(false);
    manager.close();
  }
}, { among: among.filter((s) => s.version === '2.5.0'), flags: [...flags, '-legacy-query-token'] });

scenario('old clients: a revoked session gets an event and is disconnected', async (world) => {
  const [phone, dora] = await world.connect('diego', 'dora');
  const tablet = world.as('diego', { token: tokenOf('diego', { sid: 'diego/b' }), setting: world.setting.current });
  await tablet.hello();
  await world.server.post('/api/logout', tokenOf('diego'));
  assert.equal(await phone.disconnected(), 'io server disconnect');
  assert.deepEqual(course(phone), ['connect', 'event hello', 'event auth:session_revoked', 'disconnect io server disconnect']);
  like(phone.payloads('auth:session_revoked')[0], sessionEvents.revoked('diego/a'));
  like(await tablet.event('auth:session_revoked'), sessionEvents.revoked('diego/a'));
  await dora.roundTrip();
  assert.deepEqual(dora.heard(), []);
  assert.equal(phone.count('connect'), 1, 'it does not come back by itself');

  phone.socket.connect();
  assert.deepEqual(await phone.refused(), { message: refusals.invalid_session, data: { code: 'invalid_session' } });
}, { among, flags });

scenario('old clients: a token that runs out ends the socket, and a fresh one brings it back', async (world) => {
  const exp = inSeconds(6);
  const c = world.as('diego', { token: tokenOf('diego', { exp }) });
  await c.hello();
  c.token = tokenOf('diego');
  assert.equal(await c.disconnected(), 'transport close');
  assert.deepEqual(course(c).slice(0, 4), ['connect', 'event hello', 'event auth:expired', 'disconnect transport close']);
  await c.hello(2);

  // Renewed in place it stays.
  await c.must('auth:refresh', { token: tokenOf('diego', { sid: 'diego/b' }) });
  await c.roundTrip();
  assert.equal(c.count('disconnect'), 1);
}, { among, flags, waits: true });

scenario('old clients come back after restarts of the server', async (world) => {
  const { server } = world;
  const [driver, passenger, admin] = await world.connect('diego', 'paula', 'ana');
  const old = [driver, passenger];
  for (const n of [1, 2]) {
    await goOnline(driver);
    const { tripId } = await assign(server, driver, passenger, tokenOf('paula'));
    await server.post(`/api/trips/${tripId}/cancel`, tokenOf('paula'));
    for (const c of [driver, passenger, admin]) await c.event('trip:cancelled', n);
    await driver.event('driver:trip:update', 2 * n);

    if (n === 1) {
      assert.deepEqual(await server.stop('SIGTERM'), { code: 0, signal: null });
      for (const c of old) {
        assert.equal(await c.disconnected(), 'transport close');
        like(await c.event('server:drain'), { reconnectAfterMs: number });
      }
    } else {
      await server.stop('SIGKILL');
      for (const c of old) assert.ok(broken.includes(await c.disconnected(2)), c.log.at(-1).name);
    }
    await server.start();
    for (const c of [...old, admin]) await c.hello(n + 1);
  }
  for (const c of old) {
    await c.roundTrip();
    assert.equal(c.count('event', 'server:drain'), 1);
    assert.equal(c.count('refused'), 0);
  }
}, { among, flags });

scenario('old clients: cut in the middle of a trip', async (world) => {
  const { server } = world;
  const network = await world.network();
  const [driver, passenger] = ['diego', 'paula'].map((id) => world.as(id, { url: network.url }));
  for (const c of [driver, passenger]) {
    await c.hello();
    await c.settled();
  }
  await goOnline(driver);
  const { tripId } = await assign(server, driver, passenger, tokenOf('paula'));
  network.cut();
  for (const c of [driver, passenger]) assert.ok(broken.includes(await c.disconnected()), c.log.at(-1).name);
  network.heal();
  for (const c of [driver, passenger]) {
    await c.hello(2);
    await c.settled();
  }
  await ping(driver, { lat: 1, lng: 2 });
  assert.equal((await passenger.event('trip:driver_location')).tripId, tripId);
  await server.post(`/api/trips/${tripId}/arriving`, tokenOf('diego'));
  for (const c of [driver, passenger]) await c.event('trip:driver_en_route');
}, { among, flags });

scenario('old clients: quiet, but alive', async (world) => {
  const c = world.as('diego');
  await c.hello();
  await c.settled();
  // The heartbeat, which is the client's there, ten times over.
  let beats = 0;
  const { engine } = c.socket.io;
  assert.deepEqual([engine.pingInterval, engine.pingTimeout], [200, 10_000]);
  await new Promise((resolve, reject) => {
    engine.on('packet', ({ type }) => type === 'pong' && ++beats === 10 && resolve());
    engine.on('packet', ({ type }) => type === 'ping' && reject(new Error('the server pings')));
    engine.on('close', (reason) => reject(new Error(reason)));
  });
  await c.roundTrip();
  assert.equal(c.count('disconnect'), 0);
}, { among, flags: [...flags, '-ping-interval', '200ms', '-ping-timeout', '10s'], waits: true });

scenario('old clients: silent for longer than a heartbeat', async (world) => {
  const network = await world.network();
  const c = world.as('diego', { url: network.url, timeout: 1000 });
  await c.hello();
  await c.settled();
  network.freeze();
  assert.equal(await c.disconnected(), 'ping timeout');
  network.heal();
  await c.hello(2);
  await c.roundTrip();
}, { among, flags: [...flags, '-ping-interval', '2s', '-ping-timeout', '2s'], waits: true });

scenario('old clients: the server notices one that is silent', async (world) => {
  const headers = { authorization: `Bearer ${tokenOf('diego')}` };
  const p = await Polling.open(world.server.url, { headers });
  await p.post(encode('40/drivers,'));
  // Alive for longer than interval and timeout together.
  for (let i = 0; i < 10; i++) {
    await p.post(encode('2'));
    while (await p.next() !== '3');
    await new Promise((resolve) => setTimeout(resolve, 500));
  }
  const began = Date.now();
  // From here on it polls and does not ping.
  await assert.rejects(async () => {
    for (let last; ;) {
      last = await p.next();
      if (last === '1') throw new Error('closed');
    }
  }, /closed|"code":1|"code":3/);
  assert.ok(Date.now() - began < 9_000, `noticed after ${Date.now() - began} ms`);
}, { among: one, flags: [...flags, '-ping-interval', '2s', '-ping-timeout', '2s'], waits: true });

scenario('old clients: the bytes on long-polling', async (world) => {
  const headers = { authorization: `Bearer ${tokenOf('diego')}` };
  const event = '42/drivers,7["conformance:echo","ñ 🚕 \u2028",{"a":null}]';
  const binary = ['452-/drivers,8["conformance:echo",{"_placeholder":true,"num":0},"🚕",{"_placeholder":true,"num":1}]', Buffer.from([1, 2, 255]), Buffer.alloc(300, 7)];
  for (const b64 of [false, true]) {
    const p = await Polling.open(world.server.url, { headers, query: b64 ? { b64: '1' } : {} });
    like(p.handshake, { sid: text, upgrades: ['websocket'], pingInterval: 25000, pingTimeout: 20000, maxPayload: 1_000_000 });
    /** The next packet that is not about the namespace /, where every old client is by itself. */
    const next = async () => {
      const packet = await p.next();
      if (packet === '40') return next();
      // Text beyond ASCII may be escaped, as 1.x requires.
      return typeof packet === 'string' ? packet.replace(/\\u[0-9a-f]{4}/g, (escape) => JSON.parse(`"${escape}"`)) : packet;
    };
    await p.post(encode('40/drivers,'));
    assert.match(await next(), /^40\/drivers,?$/);
    for (const event of ['hello', 'trip:sync', 'driver:availability:update']) assert.ok((await next()).startsWith(`42/drivers,["${event}",{`));

    // Several packets in one payload, lengths in UTF-16 code units.
    await p.post(encode(event, '2'));
    const answers = [await next(), await next()].sort();
    assert.deepEqual(answers, ['3', '43/drivers,7["ñ 🚕 \u2028",{"a":null}]']);
    assert.deepEqual([...p.types], ['text/plain']);

    // Binary, sent either way, comes back the way that the client can read.
    for (const payload of [encode(...binary), encodeBinary(...binary)]) {
      await p.post(payload);
      assert.equal(await next(), '462-/drivers,8[{"_placeholder":true,"num":0},"🚕",{"_placeholder":true,"num":1}]');
      assert.deepEqual([await next(), await next()], binary.slice(1));
    }
    assert.deepEqual([...p.types], b64 ? ['text/plain'] : ['text/plain', 'application/octet-stream']);

    await p.post(encode('40/nowhere,'));
    assert.equal(await next(), '44/nowhere,{"message":"Invalid namespace"}');
    await p.post(encode('40/admin,'));
    assert.deepEqual(JSON.parse((await next()).slice('44/admin,'.length)), { message: refusals.wrong_user_type, data: { code: 'wrong_user_type' } });
    await p.post(encode('41/drivers,'));
    await p.post(encode('40/drivers,'));
    assert.match(await next(), /^40\/drivers,?$/);
    for (const event of ['hello', 'trip:sync', 'driver:availability:update']) assert.ok((await next()).startsWith(`42/drivers,["${event}",{`));
    await world.server.post('/api/logout', tokenOf('diego', { sid: b64 ? 'diego/b' : 'diego/a' }));
    assert.match(await next(), /^42\/drivers,\["auth:session_revoked",/);
    if (!b64) {
      assert.match(await next(), /^41\/drivers,?$/);
      headers.authorization = `Bearer ${tokenOf('diego', { sid: 'diego/b' })}`;
    }
  }

  // What is no payload ends the session, and nobody else's.
  for (const wrong of ['4', '5:40', '1:2x', 'x:2', '-1:2', '99999999999999999999:2', ':', '1', '2:4🚕🚕🚕', encodeBinary('2').subarray(0, 2), Buffer.from([0, 9, 9, 9, 9, 9, 9, 9, 9, 255])]) {
    const p = await Polling.open(world.server.url, { headers });
    // The answer may be "ok", as in Node, when the payload is looked at later.
    await p.post(wrong).catch((err) => assert.match(err.message, /^POST: 400 /));
    await assert.rejects(async () => {
      for (;;) if (await p.next() === '1') throw new Error('closed');
    }, /closed|GET: 400/, JSON.stringify(wrong));
  }
}, { among: one, flags: [...flags, '-echo'] });
