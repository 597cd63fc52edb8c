// Options of the clients' transports that change what is on the wire.

import assert from 'node:assert/strict';
import { legacySettings, settings } from '../lib/client.js';
import { flags, messages } from '../lib/echo.js';
import { scenario } from '../lib/scenario.js';

// In Node the old clients have no subprotocols.
scenario('base64 only, and a subprotocol', async (world, { legacy }) => {
  const c = world.as('diego', { forceBase64: true, protocols: ['dispatch-v1', 'other'] });
  await c.hello();
  await c.settled();
  for (const args of messages) {
    assert.deepEqual(await c.ask('conformance:echo', ...args), args);
  }
  const { transport } = c.socket.io.engine;
  if (transport.name === 'websocket' && !legacy) assert.equal(transport.ws.protocol, 'dispatch-v1');
  assert.equal(c.count('disconnect'), 0);
}, { among: [...settings, ...legacySettings], flags: [...flags, '-allow-eio3'] });
