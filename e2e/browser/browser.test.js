// Pages in a real browser: what only a browser does is cross-origin requests and
// their preflights, and text and octets in long-polling as XMLHttpRequest has them. Needs a
// Chromium; E2E_BROWSER names one that is not called chromium.

import assert from 'node:assert/strict';
import { createServer } from 'node:http';
import { readFile } from 'node:fs/promises';
import { after, before, describe, it } from 'node:test';
import { Dispatch } from '../lib/dispatch.js';
import { people, tokenOf } from '../lib/scenario.js';
import { launch } from './launch.js';

const modules = new URL('../node_modules/', import.meta.url);
const clients = {
  '4.8.4': 'sio4/dist/socket.io.js',
  '3.1.3': 'sio3/dist/socket.io.js',
  '2.5.0': 'socket.io-client-2/dist/socket.io.js',
  '1.7.4': 'socket.io-client-1/dist/socket.io.js',
};

/** Serves empty pages and the clients, as a web app's server does. */
async function site() {
  const server = createServer(async (req, res) => {
    const file = clients[req.url.slice(1)];
    if (file) res.setHeader('content-type', 'text/javascript').end(await readFile(new URL(file, modules)));
    else res.setHeader('content-type', 'text/html; charset=utf-8').end('<!doctype html><title>app</title>');
  });
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  return { origin: `http://127.0.0.1:${server.address().port}`, close: () => server.close() };
}

/** Runs in the page: connects, has everything echoed, lives through heartbeats. */
function use({ url, token, old, transports }) {
  const options = { ...(transports && { transports }), ...(old ? { query: { token } } : { auth: { token } }), reconnection: false };
  const socket = globalThis.io(`${url}/drivers`, options);
  return new Promise((resolve) => {
    const said = [];
    const end = (what) => {
      said.push(what);
      resolve({ said: said.slice(), transport: socket.io.engine && socket.io.engine.transport.name });
      socket.close();
    };
    socket.on('connect_error', () => end('connect_error'));
    socket.on('error', (e) => end(`error ${JSON.stringify(e)}`));
    socket.on('disconnect', (reason) => said.push(`disconnect ${reason}`));
    socket.on('hello', (hello) => {
      said.push(`hello ${hello.userId}`);
      const text = 'añá ☃ 😀 \u2028';
      const bytes = new Uint8Array([0, 1, 0x1e, 255]);
      socket.emit('conformance:echo', text, bytes.buffer, { deep: text }, (a, b, c) => {
        said.push(a === text && c.deep === text ? 'text' : `text ${a} ${c.deep}`, `bytes ${new Uint8Array(b).join()}`);
        setTimeout(() => end(socket.connected ? 'still there' : 'gone'), 4_000); // beyond a heartbeat that was not answered
      });
    });
  });
}

describe('in a browser', () => {
  let app, stranger, server, browser;

  before(async () => {
    [app, stranger] = [await site(), await site()];
    server = await Dispatch.start(people(), ['-allow-eio3', '-legacy-query-token', '-echo', '-ping-interval', '700ms', '-ping-timeout', '2500ms'], { WS_CORS_ORIGIN: app.origin });
    browser = await launch();
  });

  after(async () => {
    await browser?.close();
    app?.close();
    stranger?.close();
    assert.deepEqual(await server?.close(), []);
  });

  async function run(origin, version, transports) {
    const page = await browser.newPage();
    await page.goto(origin);
    await page.addScriptTag({ url: `${origin}/${version}` });
    const got = await page.evaluate(use, { url: server.url, token: tokenOf('diego'), old: version < '3', transports });
    await page.close();
    return got;
  }

  for (const version of Object.keys(clients)) {
    for (const [name, transports] of [['websocket', ['websocket']], ['polling', ['polling']], ['default', undefined]]) {
      it(`${version} ${name}`, async () => {
        assert.deepEqual(await run(app.origin, version, transports), {
          said: ['hello diego', 'text', 'bytes 0,1,30,255', 'still there'],
          transport: name === 'polling' ? 'polling' : 'websocket',
        });
      });
      it(`${version} ${name} of a page from elsewhere`, async () => {
        assert.deepEqual((await run(stranger.origin, version, transports)).said, ['connect_error']);
      });
    }
  }
});
