// A TCP proxy between client and server: the network, which a test can cut.

import { connect, createServer } from 'node:net';
import { once } from 'node:events';

export class Proxy {
  #server = createServer({ allowHalfOpen: true }, (client) => this.#accept(client));
  #pairs = new Set();
  #port;
  #state = 'up'; // or cut, or frozen
  /** How many connections clients have made, refused ones included. */
  accepted = 0;

  /** Starts a proxy before the server at `port` of this machine. */
  static async start(port) {
    const proxy = new Proxy();
    proxy.#port = port;
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

  /** Lets new connections through again. Those that froze stay as they are. */
  heal() {
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
      if (this.#state === 'up') from.pipe(to);
    }
  }
}
