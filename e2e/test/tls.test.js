// The file for TLS in examples/dispatch/deploy, with nginx.conf: stock clients over https and wss.

import assert from 'node:assert/strict';
import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmod, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { Client, settings } from '../lib/client.js';
import { Dispatch, freePort, running } from '../lib/dispatch.js';
import { sign } from '../lib/token.js';

const run = promisify(execFile);
const deploy = (file) => readFile(fileURLToPath(new URL(`../../examples/dispatch/deploy/${file}`, import.meta.url)), 'utf8');

/** Replaces what must be in a text. */
function replaced(text, what, by) {
  assert.ok(text.includes(what), what);
  return text.replaceAll(what, by);
}

it('nginx.conf with tls.conf', async (t) => {
  const dir = await mkdtemp(join(tmpdir(), 'e2e-'));
  t.after(() => rm(dir, { recursive: true }));
  await chmod(dir, 0o755);
  const { stdout: goroot } = await run('go', ['env', 'GOROOT']);
  await run('go', ['run', join(goroot.trim(), 'src/crypto/tls/generate_cert.go'), '--host', 'localhost', '--ca', '--ecdsa-curve', 'P256'], { cwd: dir });

  const [https, plain, http] = [await freePort(), await freePort(), await freePort()];
  // Only pages of the server's own host may connect, which has to be taken from the proxy's headers.
  const server = await Dispatch.start({
    users: [{ id: 'dora', type: 'driver', status: 'active', name: 'Dora' }],
    sessions: [{ sid: 's1', userId: 'dora', revoked: false, accessTokenExpiresAt: null }],
  }, [], { TRUSTED_PROXIES: '127.0.0.1', WS_CORS_ORIGIN: 'https://other.example' });
  t.after(() => server.close());

  let tls = replaced(await deploy('tls.conf'), 'listen 443 ssl', `listen 127.0.0.1:${https} ssl`);
  tls = replaced(replaced(tls, 'listen 80;', `listen 127.0.0.1:${http};`), 'api.example.com;', 'localhost;');
  tls = replaced(replaced(tls, '/etc/ssl/api.example.com.pem', join(dir, 'cert.pem')), '/etc/ssl/api.example.com.key', join(dir, 'key.pem'));
  await writeFile(join(dir, 'tls.conf'), tls);
  const conf = (await deploy('nginx.conf')).replace(/127\.0\.0\.1:(300[123]|8080)\b/g, (_, p) => `127.0.0.1:${p === '8080' ? plain : server.port}`);
  await writeFile(join(dir, 'nginx.conf'), conf.replace(/}\s*$/, 'include tls.conf;\n}\n'));
  const nginx = spawn('nginx', ['-p', dir, '-c', join(dir, 'nginx.conf')], { stdio: ['ignore', 'ignore', 'pipe'] });
  const killed = { kill: () => nginx.kill('SIGTERM') };
  running.add(killed);
  let said = '';
  nginx.stderr.setEncoding('utf8').on('data', (text) => { said += text; });
  const ended = once(nginx, 'close').then(() => running.delete(killed));
  t.after(async () => {
    nginx.kill('SIGTERM');
    await ended;
  });
  for (let i = 0; ; i++) {
    const socket = connect(https, '127.0.0.1');
    const up = await new Promise((resolve) => socket.once('connect', () => resolve(true)).once('error', () => resolve(false)));
    socket.destroy();
    if (up) break;
    assert.ok(i < 200 && nginx.exitCode === null, said);
    await sleep(100);
  }

  const ca = await readFile(join(dir, 'cert.pem'), 'utf8');
  const url = `https://localhost:${https}`;
  const auth = () => ({ token: sign({ sub: 'dora', sid: 's1' }) });
  for (const setting of settings) {
    const c = new Client(setting, url, '/drivers', { ca, auth: auth(), extraHeaders: { Origin: url } });
    await c.hello();
    if (setting.ends === 'websocket') await c.settled();
    c.socket.disconnect();
    // A page of the same host without TLS is another origin.
    const foreign = new Client(setting, url, '/drivers', { ca, auth: auth(), extraHeaders: { Origin: `http://localhost:${https}` }, reconnection: false });
    const err = await foreign.refused();
    assert.match(err.message, /error/, foreign.story()); // 403, for the transport: no CONNECT was made
    foreign.socket.disconnect();
  }
  const redirect = await fetch(`http://127.0.0.1:${http}/readyz`, { redirect: 'manual' });
  assert.equal(redirect.status, 301);
  assert.match(redirect.headers.get('location'), /^https:\/\/127\.0\.0\.1\/readyz$/);
});
