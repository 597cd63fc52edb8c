// What every test has: a server of its own with the same few people, and
// clients that are closed after it.

import { describe, it } from 'node:test';
import { Client, settings } from './client.js';
import { Dispatch } from './dispatch.js';
import { Proxy } from './proxy.js';
import { Redis } from './redis.js';
import { sign } from './token.js';

const user = (id, type, name, status = 'active') => ({ id, type, status, name });
const session = (sid, userId, more = {}) => ({ sid, userId, revoked: false, accessTokenExpiresAt: null, ...more });

/**
 * Two drivers, passengers and admins each. Everybody has two sessions, so that
 * one can end: `<id>/a` and `<id>/b`.
 */
export function people() {
  const users = [
    user('diego', 'driver', 'Diego'),
    user('dora', 'driver', 'Dora'),
    user('paula', 'passenger', 'Paula'),
    user('pedro', 'passenger', 'Pedro'),
    user('ana', 'admin', 'Ana'),
    user('axel', 'admin', 'Axel'),
  ];
  return { users, sessions: users.flatMap(({ id }) => [session(`${id}/a`, id), session(`${id}/b`, id)]) };
}

/** Users and sessions that may not come in, for the refusals. */
export function outsiders() {
  return {
    users: [user('ines', 'driver', 'Ines', 'inactive'), user('bruno', 'passenger', 'Bruno', 'banned')],
    sessions: [
      session('ines/a', 'ines'),
      session('bruno/a', 'bruno'),
      session('nobody/a', 'nobody'),
      session('diego/revoked', 'diego', { revoked: true }),
      session('diego/expired', 'diego', { accessTokenExpiresAt: new Date(Date.now() - 1000).toISOString() }),
    ],
  };
}

/** A token for a user's session, `a` unless it says otherwise. */
export const tokenOf = (id, { sid = `${id}/a`, ...claims } = {}) => sign({ sub: id, sid, ...claims });

const namespaces = { diego: '/drivers', dora: '/drivers', paula: '/passengers', pedro: '/passengers', ana: '/admin', axel: '/admin' };

export class World {
  #open = [];
  #others = [];

  static async create(setting, { flags, env, redis = false, seed = () => ({}) } = {}) {
    const world = new World();
    if (redis) world.redis = await Redis.start();
    const { users, sessions } = people();
    const more = seed(world);
    world.setting = setting;
    world.instance = () => Dispatch.start(
      { users: [...users, ...(more.users ?? [])], sessions: [...sessions, ...(more.sessions ?? [])] },
      flags, { ...env, ...(redis && { REDIS_URL: world.redis.url }) },
    );
    world.server = await world.instance();
    return world;
  }

  /** Another instance, on the same Redis. */
  async another() {
    const other = await this.instance();
    this.#others.push(other);
    return other;
  }

  /**
   * A client with these options, in a namespace of this server or of `url`. The
   * admins have current clients, whatever the others have.
   */
  client(namespace, { url = this.server.url, setting = namespace === '/admin' && this.setting.current || this.setting, ...options } = {}) {
    const c = new Client(setting, url, namespace, options);
    this.#open.push(c);
    return c;
  }

  /** A client of one of the people, with a token of theirs; not yet connected. */
  as(id, { token = tokenOf(id), ...options } = {}) {
    return this.client(namespaces[id], { auth: { token }, ...options });
  }

  /** Clients of several people, connected and on their final transport. */
  async connect(...ids) {
    const clients = ids.map((id) => this.as(id));
    for (const c of clients) {
      await c.hello();
      await c.settled();
    }
    return clients;
  }

  /** A network between clients and the server, or another port, as something with a URL; `line` may make it slow. */
  async network({ port = this.server.port, ...line } = {}) {
    const proxy = await Proxy.start(port, line);
    this.#open.push(proxy);
    return proxy;
  }

  /** Ends everything and returns what is wrong with what was logged, but for the lines that `logs` allows. */
  async close(logs) {
    this.#open.forEach((o) => o.close());
    const wrong = await this.server.close(logs);
    for (const other of this.#others) wrong.push(...await other.close(logs));
    await this.redis?.close();
    return wrong;
  }
}

/**
 * Declares a test that runs once for each way to set up a client.
 *
 * @param {string} name
 * @param {(world: World, setting: object) => Promise<void>} body
 * @param {{flags?: string[], env?: object, redis?: boolean, logs?: RegExp, seed?: (world: World) => object, among?: object[], waits?: boolean}} [options]
 *   of the server; `seed` returns users and sessions beside the usual ones. With `redis` its
 *   data is in a Redis, as `world.redis`. Lines that match `logs` are no fault in its log.
 *   `among` limits the settings; `waits` says that the test mostly waits for
 *   time to pass, so that all of its settings may run at once
 */
export function scenario(name, body, { among = settings, waits = false, logs, ...options } = {}) {
  describe(name, { concurrency: waits ? among.length : 3 }, () => {
    for (const setting of among) {
      it(setting.name, async () => {
        const world = await World.create(setting, options);
        let failure;
        try {
          await body(world, setting);
        } catch (err) {
          failure = err;
        }
        const wrong = await world.close(logs);
        if (failure) {
          failure.message += `\nThe server said:\n${world.server.said}`;
          throw failure;
        }
        if (wrong.length > 0) throw new Error(`${wrong.join(', ')}:\n${world.server.said}`);
      });
    }
  });
}
