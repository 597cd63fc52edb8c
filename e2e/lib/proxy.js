// A TCP proxy between client and server: the network, which a test can cut.

import { connect, createServer } from 'node:net';
import { once } from 'node:events';

export class Proxy {
  #server = createServer({ allowHalfOpen: true }, (client) => this.#accept(client));
  #pairs = new Set();
  #port;
  #state = 'up'; // or cut, frozen, deaf
  #line; // what makes it slow
  /** How many connections clients have made, refused ones included. */
  accepted = 0;

  /**
   * Starts a proxy before the server at `port` of this machine. Its line takes `delay` ms each
   * way, and `uplink` bytes a second from the client, `downlink` to it. A slow line cannot be
   * frozen.
   */
  static async start(port, { delay = 0, uplink = Infinity, downlink = Infinity } = {}) {
    const proxy = new Proxy();
    proxy.#port = port;
    if (delay > 0 || uplink < Infinity || downlink < Infinity) proxy.#line = { delay, uplink, downlink };
    proxy.#server.listen(0, '127.0.0.1');
    await once(proxy.#server, 'listening');
    return proxy;
  }

  get url() {
    return `http://127.0.0.1:${this.#server.address().port}`;
  }

  /** Ends every connection at both ends, and every new one until heal. */
  cut() {
    this.#state = 'cut';
    this.#drop();
  }

  /** Lets new connections through again, to the server at `port` if that is given. Those that froze stay as they are. */
  heal(port = this.#port) {
    this.#port = port;
    this.#state = 'up';
  }

  /**
   * Leaves all connections open and passes nothing on any more, in neither
   * direction, nor on new ones until heal: a phone in a tunnel.
   */
  freeze() {
    this.#state = 'frozen';
    for (const [client, server] of this.#pairs) {
      client.unpipe(server).pause();
      server.unpipe(client).pause();
    }
  }

  /** Passes nothing to the clients any more, also on new connections until heal; what they send arrives. */
  deafen() {
    this.#state = 'deaf';
    for (const [client, server] of this.#pairs) server.unpipe(client).pause();
  }

  close() {
    this.#server.close();
    this.#drop();
  }

  #drop() {
    for (const [client, server] of this.#pairs) {
      client.destroy();
      server.destroy();
    }
    this.#pairs.clear();
  }

  #accept(client) {
    this.accepted++;
    if (this.#state === 'cut') {
      client.destroy();
      return;
    }
    const server = connect({ port: this.#port, host: '127.0.0.1', allowHalfOpen: true });
    const pair = [client, server];
    this.#pairs.add(pair);
    for (const [from, to] of [pair, [server, client]]) {
      from.setNoDelay(true);
      from.on('error', () => to.destroy());
      from.on('close', () => {
        this.#pairs.delete(pair);
        to.destroySoon();
      });
      if (this.#line) slowly(from, to, this.#line.delay, this.#line[from === client ? 'uplink' : 'downlink']);
      else if (this.#state === 'up' || (this.#state === 'deaf' && from === client)) from.pipe(to);
    }
  }
}

/** Passes on what `from` receives, in order, with a delay and at a rate. */
function slowly(from, to, delay, rate) {
  const waiting = [];
  let free = 0; // when the line has sent all that waits
  const send = () => {
    while (waiting[0]?.at <= Date.now()) {
      const { part } = waiting.shift();
      if (!part) to.end();
      else if (!to.destroyed) to.write(part);
    }
    if (waiting.length > 0) setTimeout(send, 5);
  };
  const add = (part) => {
    free = Math.max(free, Date.now()) + 1000 * (part?.length ?? 0) / rate;
    waiting.push({ part, at: free + delay });
    if (waiting.length === 1) send();
  };
  from.on('data', (data) => {
    for (let i = 0; i < data.length; i += 1024) add(data.subarray(i, i + 1024));
  });
  from.on('end', () => add(null));
}
