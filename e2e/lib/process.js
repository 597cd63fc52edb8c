// Processes beside the server: they are started, watched and ended here.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { connect } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { running } from './dispatch.js';

/**
 * A process that must not outlive this one; `output` has what it writes. It is ended by SIGTERM:
 * nginx ends its workers with itself.
 */
export function start(program, args) {
  const child = spawn(program, args, { stdio: ['pipe', 'pipe', 'pipe'] });
  const killed = { kill: () => child.kill('SIGTERM') };
  running.add(killed);
  child.output = '';
  child.ended = once(child, 'close').then(() => running.delete(killed));
  child.stderr.setEncoding('utf8').on('data', (text) => { child.output += text; });
  child.once('error', (err) => { child.output += String(err); });
  return child;
}

export async function end(child) {
  child?.kill('SIGTERM');
  await child?.ended;
}

/** Waits until something listens on a port of this machine. */
export async function listening(child, port) {
  for (let i = 0; i < 200; i++) {
    const socket = connect(port, '127.0.0.1');
    const up = await new Promise((resolve) => socket.once('connect', () => resolve(true)).once('error', () => resolve(false)));
    socket.destroy();
    if (up) return;
    if (child.exitCode !== null) break;
    await sleep(100);
  }
  throw new Error(`${child.spawnargs.join(' ')} does not listen: ${child.output}`);
}
