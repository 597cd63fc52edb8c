// What has happened, in rows: an event with everybody who received it, and the calls. A domain
// event reaches several clients under one eventId, so they are one row. The server's own report
// says to how many sockets it was delivered, and when it was published.

const positions = ['driver:location:update', 'admin:driver:location:update', 'trip:driver_location'];
export const isPosition = (event) => positions.includes(event);

const most = 400; // rows

export class Records {
  rows = [];
  watched = new Set(); // ids of the drivers whose positions are rows
  #byKey = new Map();
  #listeners = [];

  /** Calls f with each row that is new or has changed. */
  onRow(f) {
    this.#listeners.push(f);
  }

  #changed(row) {
    for (const f of this.#listeners) f(row);
  }

  #row(key, kind, event) {
    let row = this.#byKey.get(key);
    if (!row) {
      row = { key, kind, event, at: undefined, seen: Date.now(), to: new Map(), audiences: [], bytes: 0 };
      this.#byKey.set(key, row);
      this.rows.push(row);
      if (this.rows.length > most) this.#byKey.delete(this.rows.shift().key);
    }
    return row;
  }

  /** A client has received an event. */
  received(person, event, payload, bytes) {
    const now = Date.now();
    const id = payload?.eventId;
    const position = isPosition(event);
    if (position && !this.watched.has(payload.driverId)) return;
    // Events without an id concern one socket; those that many get at once are one row.
    const row = this.#row(id ?? `${event} ${event === 'server:drain' ? Math.round(now / 3_000) : `${person.id} ${now}`}`, position ? 'position' : 'event', event);
    if (person.type !== 'admin') row.event = event;
    row.tripId ??= payload?.tripId;
    row.at ??= published(payload);
    row.bytes ||= bytes;
    row.payload ??= payload;
    row.to.set(person.id, { event, at: now });
    this.#changed(row);
  }

  /** The server has delivered a domain event. */
  delivered({ event, id, at, to }) {
    const row = this.#row(id, 'event', to[0]?.event ?? event);
    row.domain = event;
    row.published = Date.parse(at);
    row.audiences = to;
    this.#changed(row);
  }

  /** A socket has ended, as the server says. */
  ended(userId, reason) {
    const row = this.#row(`end ${userId} ${Date.now()} ${this.rows.length}`, 'end', `disconnected: ${reason}`);
    row.by = userId;
    this.#changed(row);
  }

  /** A client has called the server, and has an answer. */
  answered(person, event, body, answer, ms) {
    const row = this.#row(`${event} ${person.id} ${Date.now()}`, 'call', event);
    Object.assign(row, { by: person.id, ms, error: answer.ok ? undefined : answer.error, payload: body });
    this.#changed(row);
  }
}

/** When an event was published, as its payload says, in milliseconds. */
function published(payload) {
  if (payload?.updatedAt) return undefined; // a driver's snapshot does not say what has changed when
  const offered = payload?.expiresAt && payload.ttlSec ? Date.parse(payload.expiresAt) - 1_000 * payload.ttlSec : undefined;
  return offered ?? (Date.parse(payload?.at ?? payload?.requestedAt ?? payload?.lastLocationTimestamp) || undefined);
}

/** How long an event took to a client, in milliseconds. */
export const latency = (row, personId) => {
  const from = row.at ?? row.published;
  return from === undefined ? undefined : Math.max(0, row.to.get(personId).at - from);
};
