// The list of events: a row each, the newest first, with a column for each person.

import { clock, millis, size } from './words.js';
import { latency } from './records.js';

const most = 150; // rows

export class Log {
  #lines = new Map(); // by the row's key

  constructor(section, records, people) {
    this.people = people;
    this.body = section.querySelector('tbody');
    const head = section.querySelector('thead tr');
    for (const { name, type } of people) {
      const th = document.createElement('th');
      th.scope = 'col';
      th.textContent = name;
      th.title = type;
      head.append(th);
    }
    const box = section.querySelector('[name=positions]');
    this.positions = box.checked;
    box.onchange = () => { this.positions = box.checked; };
    records.onRow((row) => this.#show(row));
  }

  #show(row) {
    if (row.kind === 'position' && !this.positions) return;
    let line = this.#lines.get(row.key);
    if (!line) {
      line = this.#newLine(row);
      this.#lines.set(row.key, line);
      this.body.prepend(line.tr);
      while (this.#lines.size > most) this.#drop(this.#lines.keys().next().value);
    }
    if (line.pending) return;
    line.pending = true;
    queueMicrotask(() => this.#fill(line, row));
  }

  #drop(key) {
    const { tr, more } = this.#lines.get(key);
    tr.remove();
    more?.remove();
    this.#lines.delete(key);
  }

  #newLine(row) {
    const tr = document.createElement('tr');
    tr.className = row.kind;
    const time = tr.insertCell();
    time.className = 'time';
    const name = document.createElement('th');
    name.scope = 'row';
    const button = document.createElement('button');
    button.setAttribute('aria-expanded', 'false');
    const rooms = document.createElement('div');
    rooms.className = 'rooms';
    name.append(button, rooms);
    tr.append(name);
    const bytes = tr.insertCell();
    bytes.className = 'bytes';
    const cells = new Map(this.people.map((p) => [p.id, tr.insertCell()]));
    const line = { tr, time, button, rooms, bytes, cells };
    button.onclick = () => this.#toggle(line, row);
    return line;
  }

  #fill(line, row) {
    line.pending = false;
    line.time.textContent = clock(row.at ?? row.published ?? row.seen);
    line.button.textContent = row.event;
    line.rooms.textContent = row.audiences.map((a) => roomsOf(a.audience)).join(' · ');
    line.bytes.textContent = row.bytes ? size(row.bytes) : '';
    for (const { id, name } of this.people) {
      const cell = line.cells.get(id);
      if (row.kind === 'end') {
        if (row.by === id) [cell.className, cell.textContent] = ['refused', 'ended'];
      } else if (row.kind === 'call') {
        if (row.by !== id) continue;
        cell.className = row.error ? 'refused' : 'called';
        cell.textContent = row.error ? row.error.code.replaceAll('_', ' ') : `ack ${millis(row.ms)}`;
      } else if (row.to.has(id)) {
        const ms = latency(row, id);
        cell.className = 'got';
        cell.textContent = ms === undefined ? '✓' : millis(ms);
        cell.title = `${name} received ${row.to.get(id).event}`;
      } else {
        cell.className = 'none';
        cell.textContent = '–';
        cell.title = `${name} did not receive it`;
      }
    }
    if (line.more) line.more.querySelector('pre').textContent = detail(row);
  }

  #toggle(line, row) {
    const open = !line.more;
    line.button.setAttribute('aria-expanded', String(open));
    if (!open) {
      line.more.remove();
      line.more = undefined;
      return;
    }
    line.more = document.createElement('tr');
    const cell = line.more.insertCell();
    cell.colSpan = 3 + this.people.length;
    cell.append(document.createElement('pre'));
    line.tr.after(line.more);
    this.#fill(line, row);
  }
}

/** The rooms of an audience, without the namespace that their names begin with, and with short ids. */
const roomsOf = (audience) => audience.replace(/^\/(passenger|driver|admin)s? (?=\1:)/, '').replace(/([0-9a-f]{8})(-[0-9a-f]{4}){3}-[0-9a-f]{12}/g, '$1');

/** What the server says about the row, and what it carries. */
function detail(row) {
  const lines = row.domain ? [`domain event ${row.domain}`] : [];
  for (const { event, audience, receivers } of row.audiences) lines.push(`${event} → ${audience}: ${receivers} ${receivers === 1 ? 'socket' : 'sockets'}`);
  if (row.error) lines.push(`refused: ${row.error.message}`);
  lines.push(JSON.stringify(row.payload ?? null, null, 1));
  return lines.join('\n');
}
