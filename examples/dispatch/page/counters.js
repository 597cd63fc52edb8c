// The numbers of the server, of all its instances together, and the frames of the map.

import { millis, size } from './words.js';

const silentAfter = 3_000; // an instance that says nothing for so long has ended

export class Counters {
  #nodes = new Map(); // by their names: {at, counters}
  #fields = {};

  constructor(list) {
    for (const [name, text] of [['sockets', 'sockets'], ['in', 'events in /s'], ['out', 'events out /s'], ['bytes', 'sent /s'], ['p99', 'p99 to answer'], ['frames', 'frames /s']]) {
      const div = document.createElement('div');
      const dt = document.createElement('dt');
      dt.textContent = text;
      const dd = document.createElement('dd');
      dd.textContent = '–';
      dd.dataset.name = name;
      div.append(dt, dd);
      list.append(div);
      this.#fields[name] = dd;
    }
  }

  /** An instance has reported. */
  report(node, counters) {
    const now = Date.now();
    this.#nodes.set(node, { at: now, counters });
    for (const [name, { at }] of this.#nodes) if (now - at > silentAfter) this.#nodes.delete(name);
    const all = [...this.#nodes.values()].map((n) => n.counters);
    const sum = (f) => all.reduce((total, c) => total + f(c), 0);
    const byNamespace = {};
    for (const c of all) for (const [nsp, n] of Object.entries(c.sockets)) byNamespace[nsp] = (byNamespace[nsp] ?? 0) + n;
    this.#show('sockets', sum((c) => Object.values(c.sockets).reduce((a, b) => a + b, 0)));
    this.#fields.sockets.title = Object.entries(byNamespace).map(([nsp, n]) => `${nsp} ${n}`).join(', ');
    this.#show('in', Math.round(sum((c) => c.in)));
    this.#show('out', Math.round(sum((c) => c.out)));
    this.#show('bytes', size(sum((c) => c.outBytes)));
    const p99 = Math.max(...all.map((c) => c.p99));
    this.#show('p99', p99 < 10 ? `${p99.toFixed(2)} ms` : millis(p99));
  }

  frames(n) {
    this.#show('frames', n);
  }

  #show(name, text) {
    this.#fields[name].textContent = text;
  }
}
