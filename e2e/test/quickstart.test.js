// The two programs of docs/quickstart.md, as it runs them.

import assert from 'node:assert/strict';
import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { copyFile, mkdtemp, rm, symlink } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { freePort, running } from '../lib/dispatch.js';

const root = fileURLToPath(new URL('../..', import.meta.url));

it('the quickstart', async (t) => {
  const dir = await mkdtemp(join(tmpdir(), 'e2e-'));
  t.after(() => rm(dir, { recursive: true }));
  // Built and not run by go, which would not end its child when it is killed.
  await promisify(execFile)('go', ['build', '-o', join(dir, 'server'), './examples/quickstart'], { cwd: root });
  await copyFile(join(root, 'examples/quickstart/client.mjs'), join(dir, 'client.mjs'));
  await symlink(join(root, 'e2e/node_modules'), join(dir, 'node_modules'));
  const addr = `127.0.0.1:${await freePort()}`;

  const start = (program, args, env) => {
    const child = spawn(program, args, { env: { ...process.env, ...env }, stdio: ['ignore', 'pipe', 'pipe'] });
    running.add(child);
    const r = { output: '' };
    for (const stream of [child.stdout, child.stderr]) stream.setEncoding('utf8').on('data', (text) => { r.output += text; });
    const ended = once(child, 'close').then(() => { r.ended = true; running.delete(child); });
    t.after(async () => {
      child.kill('SIGKILL');
      await ended;
    });
    r.says = async (text) => {
      for (const end = Date.now() + 60_000; !r.output.includes(text); await sleep(50)) {
        assert.ok(Date.now() < end && !r.ended, `it does not say ${text}: ${r.output}`);
      }
    };
    return r;
  };
  const server = start(join(dir, 'server'), [], { ADDR: addr });
  await server.says(`listening on http://${addr}`);
  const client = start(process.execPath, [join(dir, 'client.mjs')], { URL: `http://${addr}` });
  for (const text of ['hello', 'driver:location:update', 'driver:availability:update', 'trip:assignment:offered', 'saved hello']) await client.says(text);
  assert.ok(!client.output.includes('refused'), client.output);
});
