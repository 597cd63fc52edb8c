// What `make cluster` starts: three instances, nginx, Redis and cars.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { access, mkdtemp, rm, symlink } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { Dispatch, freePort, running } from '../lib/dispatch.js';

const script = fileURLToPath(new URL('../../examples/dispatch/deploy/cluster', import.meta.url));

/** Runs the script; `output` has what it has written. */
function run(env) {
  const child = spawn(script, [], { env: { ...process.env, JWT_SECRET: '', ...env }, stdio: ['ignore', 'pipe', 'pipe'] });
  const ended = { kill: () => child.kill('SIGINT') };
  running.add(ended);
  const r = { child, output: '', exit: once(child, 'close').then(([code]) => { running.delete(ended); return code; }) };
  for (const stream of [child.stdout, child.stderr]) stream.setEncoding('utf8').on('data', (text) => { r.output += text; });
  return r;
}

/** Repeats a question until its answer is true. */
async function eventually(what, probe, output) {
  for (const end = Date.now() + 90_000; Date.now() < end; await sleep(100)) {
    if (await probe()) return;
  }
  throw new Error(`${what} does not happen:\n${output()}`);
}

const alive = (pid) => {
  try {
    return process.kill(pid, 0);
  } catch {
    return false;
  }
};

it('make cluster: a car drives a trip while an instance is killed, and Ctrl-C ends everything', async () => {
  const port = await freePort();
  const r = run({ PORT: String(port), CARS: '3' });
  try {
    await eventually('the URL', () => r.output.includes(`open http://localhost:${port}`), () => r.output);
    const instances = [...r.output.matchAll(/^instance \d: .* process (\d+)$/gm)].map((m) => Number(m[1]));
    assert.equal(instances.length, 3);
    const balancer = { url: `http://127.0.0.1:${port}`, rest: Dispatch.prototype.rest };
    const { body: { token } } = await balancer.rest('POST', '/api/login', '', { userId: 'passenger-1' });
    const place = (lat) => ({ lat, lng: -82.38 });
    const statusIs = (...expected) => async () => {
      const { status, body } = await balancer.rest('GET', '/api/trips/current', token).catch(() => ({}));
      return status === 200 && expected.includes(body.trip?.status);
    };
    // The cars may still be connecting.
    await eventually('a trip with a driver', async () => {
      if (await statusIs('accepted', 'arriving', 'in_progress')()) return true;
      await balancer.rest('POST', '/api/trips', token, { pickup: place(23.12), dropoff: place(23.125) });
      return false;
    }, () => r.output);
    process.kill(instances[0], 'SIGKILL');
    await eventually('the end of the trip', statusIs(undefined), () => r.output);
    r.child.kill('SIGINT');
    assert.equal(await r.exit, 0, r.output);
    assert.deepEqual(instances.filter(alive), []);
    await assert.rejects(balancer.rest('GET', '/healthz', ''), 'nginx has ended');
  } finally {
    r.child.kill('SIGINT');
    await r.exit;
  }
});

it('make cluster says that its port is in use', async () => {
  const other = createServer().listen(0, '127.0.0.1');
  await once(other, 'listening');
  const r = run({ PORT: String(other.address().port), CARS: '1' });
  assert.equal(await r.exit, 1, r.output);
  assert.match(r.output, /Port \d+ is in use. Choose another one: make cluster PORT=/);
  for (const [, pid] of r.output.matchAll(/process (\d+)$/gm)) assert.ok(!alive(Number(pid)), 'everything has ended');
  other.close();
});

it('make cluster says what is missing', async () => {
  const dir = await mkdtemp(join(tmpdir(), 'e2e-'));
  const find = async (tool) => {
    for (const where of process.env.PATH.split(delimiter)) {
      const path = join(where, tool);
      if (await access(path).then(() => true, () => false)) return path;
    }
    throw new Error(`no ${tool}`);
  };
  try {
    for (const tool of ['bash', 'dirname', 'go', 'nginx']) await symlink(await find(tool), join(dir, tool));
    const r = run({ PATH: dir });
    assert.equal(await r.exit, 1);
    assert.match(r.output, /redis-server is not installed.*apt-get install redis-server/);
    assert.doesNotMatch(r.output, /nginx|go is/);
  } finally {
    await rm(dir, { recursive: true });
  }
});
