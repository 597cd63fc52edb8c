// The generated files: the module for TypeScript compiles, and its helper does what every app
// must; the AsyncAPI document is valid.

import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { after, before, describe, it } from 'node:test';
import { promisify } from 'node:util';
import { Parser } from '@asyncapi/parser';
import ts from 'typescript';
import { outsiders, tokenOf, World } from '../lib/scenario.js';
import { inSeconds } from '../lib/token.js';

const file = (path) => new URL(`../${path}`, import.meta.url);

it('clients/typescript compiles under tsc --strict', async () => {
  const run = promisify(execFile)(process.execPath, [file('node_modules/typescript/bin/tsc').pathname, '-p', file('clients').pathname]);
  await run.catch((err) => assert.fail(err.stdout));
});

it('the code of docs/clients.md compiles under tsc --strict', async () => {
  const page = await readFile(file('../docs/clients.md'), 'utf8');
  const code = page.match(/\n```ts\n([^]*?)\n```\n/)[1];
  const dir = file('node_modules/.cache/page/');
  await mkdir(dir, { recursive: true });
  const events = file('../clients/typescript/events').pathname;
  await writeFile(new URL('page.ts', dir), `import type { AssignmentOfferedPayload, Ended, ErrorCode } from '${events}';
${code.replace("'./events'", `'${events}'`)}
declare const app: {
  freshToken: (renew: boolean) => Promise<string | null>;
  loadState: () => void;
  logOut: () => void;
  showEnded: (why: Ended) => void;
  showOffer: (offer: AssignmentOfferedPayload) => void;
  showError: (code: ErrorCode) => void;
};
`);
  await writeFile(new URL('tsconfig.json', dir), JSON.stringify({ extends: file('clients/tsconfig.json').pathname, files: ['page.ts'] }));
  const run = promisify(execFile)(process.execPath, [file('node_modules/typescript/bin/tsc').pathname, '-p', dir.pathname]);
  await run.catch((err) => assert.fail(err.stdout));
});

it('docs/asyncapi.yaml is valid', async () => {
  const { document, diagnostics } = await new Parser().parse(await readFile(file('../docs/asyncapi.yaml'), 'utf8'));
  // A newer version of AsyncAPI is no fault.
  assert.deepEqual(diagnostics.filter((d) => d.code !== 'asyncapi-latest-version').map((d) => `${d.range.start.line}: ${d.message}`), []);
  assert.deepEqual(document.channels().all().map((c) => c.address()), ['/drivers', '/passengers', '/admin']);
});

describe('connect of clients/typescript', { concurrency: 4 }, () => {
  let connect;
  let world;
  const open = [];
  before(async () => {
    // Within node_modules, so that it finds socket.io-client there.
    const dir = file('node_modules/.cache/clients/');
    await mkdir(dir, { recursive: true });
    const source = await readFile(file('../clients/typescript/events.ts'), 'utf8');
    const { outputText } = ts.transpileModule(source, { compilerOptions: { target: 'ES2020', module: 'ESNext' } });
    await writeFile(new URL('events.mjs', dir), outputText);
    ({ connect } = await import(new URL('events.mjs', dir)));
    world = await World.create({}, { seed: outsiders });
  });
  after(async () => {
    open.forEach((app) => app.close());
    assert.deepEqual(await world.close(), []);
  });

  /** An app that writes down what its connection does. tokens returns the next token, and null or a throw. */
  const start = (namespace, token, { url = world.server.url, ...options } = {}) => {
    const app = { log: [], recovered: [] };
    const changed = new Set();
    const note = (...line) => {
      app.log.push(line.join(' ').trim());
      changed.forEach((f) => f());
    };
    Object.assign(app, connect(url, namespace, {
      token: (renew) => {
        note('token', renew ? 'renew' : '');
        return token(renew);
      },
      connected: (hello) => {
        app.recovered.push(hello.recovered);
        note('connected', hello.sid);
      },
      ended: ({ kind, code = '', reason }) => note('ended', kind, code, reason ?? ''),
    }, { forceNew: true, reconnectionDelay: 20, reconnectionDelayMax: 200, ...options }));
    app.socket.on('disconnect', () => note('disconnect'));
    /** Waits for the line to have been written n times. */
    app.until = (line, n = 1) => new Promise((resolve, reject) => {
      const timer = setTimeout(() => reject(new Error(`no ${n} x "${line}" in ${JSON.stringify(app.log)}`)), 30_000);
      const check = () => {
        if (app.log.filter((l) => l === line).length < n) return;
        clearTimeout(timer);
        changed.delete(check);
        resolve();
      };
      changed.add(check);
      check();
    });
    app.call = (...args) => app.socket.timeout(20_000).emitWithAck(...args);
    open.push(app);
    return app;
  };

  it('renews the token before it expires', async () => {
    const exp = inSeconds(5);
    const app = start('/drivers', (renew) => tokenOf('diego', renew ? {} : { exp }));
    await app.until('token renew');
    assert.ok(Date.now() < exp * 1000, 'in time');
    await new Promise((done) => setTimeout(done, exp * 1000 + 1500 - Date.now()));
    assert.equal((await app.call('driver:location:ping', { lat: 23.1, lng: -82.4 })).ok, true);
    assert.deepEqual(app.log, ['token', 'connected diego/a', 'token renew']);
  });

  it('comes back with a new token when the old one has expired all the same', async () => {
    let renewals = 0;
    const old = tokenOf('dora', { exp: inSeconds(6) });
    const app = start('/drivers', (renew) => {
      if (!renew) return old;
      if (renewals++ === 0) throw new Error('no network');
      return tokenOf('dora');
    });
    await app.until('connected dora/a', 2);
    assert.equal(app.log.at(-2), 'token renew');
    assert.ok(!app.log.some((l) => l.startsWith('ended')));
  });

  it('gets a new token after a CONNECT with one that has expired', async () => {
    const app = start('/passengers', (renew) => tokenOf('paula', renew ? {} : { exp: inSeconds(-5) }));
    await app.until('connected paula/a');
    assert.deepEqual(app.log, ['token', 'token renew', 'connected paula/a']);
  });

  it('tries again when there is no token now', async () => {
    let times = 0;
    const app = start('/passengers', async () => {
      if (times++ < 2) throw new Error('no network');
      return tokenOf('paula');
    });
    await app.until('connected paula/a');
    assert.equal(times, 3);
  });

  it('sends one CONNECT when the connection closes while the token is awaited', async () => {
    const given = [];
    const network = await world.network();
    const app = start('/passengers', () => new Promise((resolve) => given.push(resolve)), { url: network.url, transports: ['websocket'] });
    await app.until('token');
    app.socket.io.engine.close();
    await app.until('token', 2);
    given[0](tokenOf('pedro', { sid: 'pedro/b' })); // belongs to the connection that has closed
    given[1](tokenOf('pedro'));
    await app.until('connected pedro/a');
    assert.deepEqual(app.log.filter((l) => l !== 'disconnect'), ['token', 'token', 'connected pedro/a']);
  });

  it('says whether the app has received what it missed', async () => {
    const network = await world.network();
    const received = [];
    const app = start('/passengers', () => tokenOf('pedro', { sid: 'pedro/b' }), { url: network.url });
    app.socket.on('auth:logged_in', (e) => received.push([e.sid, app.recovered.length]));
    await app.until('connected pedro/b');
    network.cut();
    await app.until('disconnect');
    const { sid } = await world.server.post('/api/login', '', { userId: 'pedro' });
    network.heal();
    await app.until('connected pedro/b', 2);
    assert.deepEqual(app.recovered, [false, true]);
    assert.deepEqual(received.filter(([of]) => of === sid), [[sid, 1]], 'once, and before connected');
  });

  it('shares a connection', async () => {
    const manager = { forceNew: false };
    const first = start('/passengers', () => tokenOf('pedro'), manager);
    await first.until('connected pedro/a');
    const second = start('/drivers', () => tokenOf('dora'), manager);
    await second.until('connected dora/a');
    assert.equal(first.socket.io, second.socket.io);
  });

  it('ends, once, when the user may not come in', async () => {
    for (const [namespace, token, log] of [
      ['/drivers', () => null, ['token', 'ended logged_out']],
      ['/drivers', () => tokenOf('diego', { sid: 'diego/revoked' }), ['token', 'ended logged_out invalid_session Invalid session']],
      ['/drivers', () => tokenOf('ines'), ['token', 'ended logged_out user_inactive User inactive']],
      ['/drivers', () => tokenOf('paula'), ['token', 'ended refused wrong_user_type Wrong userType']],
      ['/nowhere', () => tokenOf('paula'), ['token', 'ended refused  Invalid namespace']],
    ]) {
      const app = start(namespace, token);
      await app.until(log[1]);
      assert.deepEqual(app.log, log);
      assert.equal(app.socket.active, false);
    }
  });

  it('ends when its session is revoked, not when another one is, and can be opened again', async () => {
    let sid = 'axel/a';
    const [phone, tablet] = [start('/admin', () => tokenOf('axel', { sid })), start('/admin', () => tokenOf('axel', { sid: 'axel/b' }))];
    await phone.until('connected axel/a');
    await tablet.until('connected axel/b');
    await world.server.post('/api/admin/sessions/axel%2Fa/revoke', tokenOf('ana'), { reason: 'phone stolen' });
    await phone.until('ended logged_out  phone stolen');
    assert.equal((await tablet.call('admin:drivers:join')).ok, true);
    assert.deepEqual(tablet.log, ['token', 'connected axel/b']);
    assert.deepEqual(phone.log.filter((l) => l !== 'disconnect'), ['token', 'connected axel/a', 'ended logged_out  phone stolen']);
    sid = 'axel/b';
    phone.open();
    await phone.until('connected axel/b');
  });

  it('moves to the new login session of its device', async () => {
    const own = await world.server.post('/api/login', '', { userId: 'diego' });
    let { token } = own;
    const app = start('/drivers', () => token);
    await app.until(`connected ${own.sid}`);
    const renewed = await world.server.post('/api/refresh', token);
    ({ token } = renewed);
    await app.until('token', 2);
    // It is in the new session when that one's end is its own.
    for (let n = 0; n < 2; n++) await app.call('driver:location:ping', { lat: 23.1, lng: -82.4 }); // the second follows auth:refresh
    await world.server.post('/api/logout', token);
    await app.until('ended logged_out  logout');
    assert.ok(app.log.filter((l) => l.startsWith('connected')).length === 1, app.log.join());
  });
});

it('connect of clients/typescript comes back after a restart of the server', async () => {
  const { connect } = await import(file('node_modules/.cache/clients/events.mjs'));
  const world = await World.create({});
  try {
    let connects = 0;
    let drained;
    const hello = [];
    const wait = (n) => new Promise((resolve) => hello.push(() => connects >= n && resolve()));
    const app = connect(world.server.url, '/drivers', {
      token: () => tokenOf('diego'),
      connected: () => {
        connects++;
        hello.forEach((f) => f());
      },
      ended: (why) => assert.fail(JSON.stringify(why)),
    }, { reconnectionDelay: 20, reconnectionDelayMax: 200 });
    app.socket.on('server:drain', (e) => (drained = [e.reconnectAfterMs, app.socket.io.reconnectionDelay(), app.socket.io.reconnectionDelayMax()]));
    await wait(1);
    await world.server.stop('SIGTERM');
    await world.server.start();
    await wait(2);
    assert.deepEqual(drained, [drained[0], Math.max(500, drained[0]), Math.max(500, drained[0])]);
    assert.deepEqual([app.socket.io.reconnectionDelay(), app.socket.io.reconnectionDelayMax()], [20, 200]);
    app.close();
  } finally {
    await world.close();
  }
});
