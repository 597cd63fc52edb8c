// The trip as a list of steps: those that have happened, with how long each took to reach whom, and
// those that are expected.

import { clock, millis, seconds } from './words.js';
import { latency } from './records.js';

const steps = [
  { event: 'trip.requested', text: 'Requested' },
  { event: 'trip.assigning.started', text: 'Looking for a driver' },
  { event: 'trip.assignment.offered', text: 'Offered to a driver' },
  { event: 'trip.assignment.accepted', text: 'Accepted' },
  { event: 'trip.arriving.started', text: 'On the way to the pickup' },
  { event: 'trip.driver.arrived_pickup', text: 'At the pickup' },
  { event: 'trip.started', text: 'Riding' },
  { event: 'trip.completed', text: 'Arrived' },
];
const others = {
  'trip.assignment.rejected': 'Rejected by the driver',
  'trip.assignment.expired': 'Not answered in time',
  'trip.assignment.cancelled': 'Offer withdrawn',
  'trip.no_drivers_found': 'No driver found',
  'trip.cancelled': 'Canceled',
  'trip.waiting_surcharge.applied': 'Charged for waiting',
  'admin.trip.message_sent': 'Message to both',
};
const ends = ['trip.no_drivers_found', 'trip.cancelled', 'trip.completed'];

export class Timeline {
  #trip;
  #rows = [];

  constructor(section, records, people) {
    this.list = section.querySelector('.timeline');
    this.people = people;
    records.onRow((row) => this.#add(row));
    this.#draw();
  }

  /** Shows another trip. */
  show(tripId) {
    if (!tripId || tripId === this.#trip) return;
    this.#trip = tripId;
    this.#rows = [];
    this.#draw();
  }

  #add(row) {
    if (row.kind !== 'event' || row.tripId !== this.#trip || !this.#trip || !row.domain) return;
    if (!this.#rows.includes(row)) this.#rows.push(row);
    if (this.pending) return;
    this.pending = true;
    requestAnimationFrame(() => this.#draw());
  }

  #draw() {
    this.pending = false;
    const known = this.#rows.filter((r) => steps.some((s) => s.event === r.domain) || others[r.domain]);
    known.sort((a, b) => when(a) - when(b) || place(a) - place(b));
    const lines = known.map((row, i) => this.#done(row, i > 0 ? when(known[0]) : undefined));
    const last = steps.findIndex((s) => s.event === known.findLast((r) => steps.some((step) => step.event === r.domain))?.domain);
    if (!known.some((r) => ends.includes(r.domain))) lines.push(...steps.slice(last + 1).map((s) => item('next', s.text)));
    this.list.replaceChildren(...lines);
  }

  #done(row, start) {
    const text = steps.find((s) => s.event === row.domain)?.text ?? others[row.domain];
    const li = item('done', text);
    const time = document.createElement('time');
    time.textContent = start === undefined ? clock(when(row)) : `+${seconds(when(row) - start)}`;
    const to = document.createElement('span');
    to.textContent = this.people.filter((p) => row.to.has(p.id)).map((p) => `${p.name} ${millis(latency(row, p.id))}`).join(' · ');
    li.append(to, time);
    return li;
  }
}

const when = (row) => row.at ?? row.published;
const place = (row) => steps.findIndex((s) => s.event === row.domain);

function item(kind, text) {
  const li = document.createElement('li');
  li.className = kind;
  const b = document.createElement('b');
  b.textContent = text;
  li.append(b);
  return li;
}
