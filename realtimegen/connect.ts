// What every app must do, whatever its events are.

/** The app's part of a connection. */
export interface App {
  /**
   * Returns an access token. It is called before each attempt to connect, and before the token
   * expires. With `renew` the token that it returned last has expired, or soon will: return a
   * new one. null says that the user is logged out: the connection ends. If it throws, it
   * is called again later.
   */
  token: (renew: boolean) => string | null | Promise<string | null>;
  /**
   * Called after each connect, also after a reconnect: load the current state, unless `hello.recovered` is
   * true. Then the app has received all that the server sent in between; otherwise it is not sent again.
   */
  connected?: (hello: { sid: string; userId: string; serverTime: ISOTime; recovered?: boolean }) => void;
  /** Called when the connection has ended and does not come back by itself. */
  ended?: (why: Ended) => void;
}

/** Why a connection does not come back by itself. */
export interface Ended {
  /**
   * - `logged_out`: the token, the login session or the user's access is not valid any more. Log out.
   * - `refused`: the user may not enter this namespace, or it does not exist.
   * - `disconnected`: the server disconnected the socket: the user has too many sockets, or it sent too much
   *   for too long, or the backend did it. Call open when the user asks for it, not at once.
   */
  kind: 'logged_out' | 'refused' | 'disconnected';
  /** Of a refused CONNECT. */
  code?: string;
  /** For people. */
  reason: string | null;
}

/** A connection to one namespace. */
export interface Connection<N extends Namespace> {
  /** The app's events are on it. Use `socket.timeout(5000).emitWithAck(...)`: no ack comes if the connection is closed before. */
  socket: Socket<ServerToClientEvents[N], ClientToServerEvents[N]>;
  /** Connects again after close, or after it has ended. */
  open: () => void;
  /** Ends the connection, and the attempts to reconnect. */
  close: () => void;
}

/** The events of the connection itself. */
interface OwnEvents {
  hello: (hello: { sid: string; userId: string; serverTime: ISOTime; recovered?: boolean }) => void;
  'auth:expired': () => void;
  'auth:session_refreshed': (e: { oldSid: string; newSid: string }) => void;
  'auth:session_revoked': (e: { sid: string | null; reason: string | null }) => void;
  'server:drain': (e: { reconnectAfterMs: number }) => void;
}

interface OwnCalls {
  'auth:refresh': (body: { token: string }, ack: (ack: Ack<{ expiresAt: ISOTime }>) => void) => void;
}

/**
 * Connects to a namespace, and stays connected: a token is asked for before each attempt and
 * renewed before it expires, and each kind of ending leads to what the server expects of an app.
 *
 * @param url of the server, such as `https://api.example.com`
 * @param options of socket.io-client; `auth` is this function's own
 */
export function connect<N extends Namespace>(
  url: string,
  namespace: N,
  app: App,
  options: Partial<ManagerOptions & SocketOptions> = {},
): Connection<N> {
  let over = false; // closed by the app, or ended
  let renew = false; // the next token must be a new one
  let token = ''; // of the last CONNECT or auth:refresh
  let sid = ''; // the login session of the socket
  let skew = 0; // the server's clock minus this one, in milliseconds
  let attempts = 0; // CONNECTs that were begun
  let refused = 0; // in a row
  let refreshing = Promise.resolve(false);
  let timer: ReturnType<typeof setTimeout> | undefined; // until the next refresh, or the next attempt

  const later = (ms: number, then: () => void): void => {
    clearTimeout(timer);
    timer = setTimeout(then, Math.min(ms, 86_400_000));
  };

  const close = (): void => {
    over = true;
    clearTimeout(timer);
    socket.disconnect();
  };

  const open = (): void => {
    clearTimeout(timer);
    over = false;
    refused = 0;
    socket.connect();
  };

  const finish = (why: Ended): void => {
    if (over) return;
    close();
    app.ended?.(why);
  };

  const freshToken = async (): Promise<string | null> => {
    const must = renew;
    renew = false;
    try {
      return await app.token(must);
    } catch (err) {
      renew = renew || must;
      throw err;
    }
  };

  /** Sends a CONNECT, with a token, on the connection that has just opened. */
  const attempt = async (send: (auth: object) => void): Promise<void> => {
    const mine = ++attempts;
    await Promise.resolve(); // io may call this before it has returned the socket
    const engine = socket.io.engine;
    const stale = (): boolean => over || mine !== attempts || engine !== socket.io.engine;
    try {
      const fresh = await freshToken();
      if (stale()) return; // the connection has closed meanwhile; the next attempt asks again
      if (fresh === null) {
        finish({ kind: 'logged_out', reason: null });
        return;
      }
      token = fresh;
      send({ token });
    } catch {
      if (!stale()) engine.close(); // the client tries again by itself
    }
  };

  /** Replaces the socket's token, and returns whether that succeeded. */
  const refresh = async (): Promise<boolean> => {
    try {
      const fresh = await freshToken();
      if (fresh === null) finish({ kind: 'logged_out', reason: null });
      if (fresh === null || !socket.connected) return false;
      const ack = await socket.timeout(10_000).emitWithAck('auth:refresh', { token: fresh });
      if (ack.ok) {
        token = fresh;
        sid = claimsOf(token).sid ?? sid;
        refreshBefore(Date.parse(ack.data.expiresAt));
        return true;
      }
      // Then the token does not do. The server closes the connection when the old one expires,
      // and the next CONNECT says what is wrong.
      if (!['rate_limited', 'unavailable', 'internal'].includes(ack.error.code)) return false;
    } catch {
      // no token, or no ack
    }
    if (socket.connected) later(15_000, refreshLater);
    return false;
  };

  const refreshLater = (): void => {
    renew = true;
    refreshing = refreshing.then(refresh);
  };

  /** Renews the token when four fifths of its time, or all but a minute, are over. */
  const refreshBefore = (expiresAt: number): void => {
    const left = expiresAt - skew - Date.now();
    if (!Number.isNaN(left)) later(Math.max(left - Math.min(left / 5, 60_000), 1000), refreshLater);
  };

  const socket: Socket<OwnEvents, OwnCalls> = io(url.replace(/\/+$/, '') + namespace, {
    ...options,
    auth: (send: (auth: object) => void) => void attempt(send),
  });
  const delay = socket.io.reconnectionDelay();
  const delayMax = socket.io.reconnectionDelayMax();

  socket.on('hello', (hello) => {
    sid = hello.sid;
    skew = Date.parse(hello.serverTime) - Date.now();
    refused = 0;
    socket.io.reconnectionDelay(delay);
    socket.io.reconnectionDelayMax(delayMax);
    refreshBefore(claimsOf(token).exp ?? NaN);
    app.connected?.(hello);
  });

  socket.on('connect_error', (err) => {
    if (socket.active) return; // the network, or the server: the client tries again by itself
    const code = (err as { data?: { code?: string } }).data?.code;
    switch (code) {
      case 'token_expired':
      case 'access_expired':
      case 'rate_limited':
      case 'unavailable':
        if (over) return;
        renew = renew || code.endsWith('_expired');
        later((0.5 + Math.random()) * Math.min(1000 * 2 ** refused++, 60_000), () => socket.connect());
        return;
      case 'missing_token':
      case 'invalid_token':
      case 'missing_claims':
      case 'user_not_found':
      case 'user_inactive':
      case 'invalid_session':
        finish({ kind: 'logged_out', code, reason: err.message });
        return;
      default: // wrong_user_type, a code of the backend's own, or no such namespace
        finish({ kind: 'refused', ...(code === undefined ? {} : { code }), reason: err.message });
    }
  });

  socket.on('auth:expired', () => {
    renew = true; // the connection closes, and the client reconnects
  });

  socket.on('auth:session_refreshed', (e) => {
    // Not if another device was refreshed, or if this socket has renewed its token meanwhile.
    refreshing = refreshing.then(() => e.oldSid === sid && refresh()).then((done) => {
      if (done) sid = e.newSid;
      return done;
    });
  });

  socket.on('auth:session_revoked', (e) => {
    if (e.sid === null || e.sid === sid) finish({ kind: 'logged_out', reason: e.reason });
  });

  socket.on('server:drain', (e) => {
    const ms = Math.max(500, e.reconnectAfterMs);
    socket.io.reconnectionDelayMax(Math.max(delayMax, ms));
    socket.io.reconnectionDelay(ms);
  });

  socket.on('disconnect', (reason) => {
    clearTimeout(timer);
    if (reason === 'io server disconnect') finish({ kind: 'disconnected', reason: null });
  });

  return { socket: socket as unknown as Connection<N>['socket'], open, close };
}

/** The claims of a JSON Web Token that matter here; `exp` in milliseconds. Another kind of token has none. */
function claimsOf(token: string): { exp?: number; sid?: string } {
  try {
    const { exp, sid } = JSON.parse(atob((token.split('.')[1] ?? '').replace(/-/g, '+').replace(/_/g, '/'))) as Record<string, unknown>;
    return { ...(typeof exp === 'number' ? { exp: exp * 1000 } : {}), ...(typeof sid === 'string' ? { sid } : {}) };
  } catch {
    return {};
  }
}
