// Puts the parts of the page together: the people of the server's seed, their clients, and what
// shows what they receive.

import { Client } from './client.js';
import { Counters } from './counters.js';
import { Desk } from './desk.js';
import { DriverPhone } from './driver.js';
import { Fleet } from './fleet.js';
import { Log } from './log.js';
import { TownMap } from './map.js';
import { PassengerPhone } from './passenger.js';
import { Records } from './records.js';
import { Timeline } from './timeline.js';
import { Tour } from './tour.js';
import { Town } from './town.js';
import { inWords } from './words.js';

const find = (selector) => document.querySelector(selector);

function say(text) {
  const p = find('#problem');
  p.textContent = text;
  p.hidden = !text;
}

async function start() {
  const town = await Town.load();
  const { people } = await (await fetch('/api/people')).json();
  const [[paula, pedro], [diego, dora], [ana]] = ['passenger', 'driver', 'admin'].map((type) => people.filter((p) => p.type === type));
  if (!paula || !diego || !ana) throw new Error('The page needs a passenger, a driver and an admin among the users of the seed');

  const shown = [paula, diego, ana, pedro, dora].filter(Boolean);
  const records = new Records();
  const clients = shown.map((person) => new Client(person));
  clients.forEach((client) => {
    client.on('event', (event, payload, bytes) => { if (event !== 'demo:report') records.received(client.person, event, payload, bytes); });
    client.on('answer', (event, body, answer, ms) => records.answered(client.person, event, body, answer, ms));
  });
  const [passengers, drivers, admins] = clients;
  records.watched.add(diego.id);

  const fleet = new Fleet(town);
  const map = new TownMap(find('#map .ground'), town, fleet);
  const counters = new Counters(find('#counters'));
  const passenger = new PassengerPhone(find('#passenger'), passengers, town, diego.id);
  const driver = new DriverPhone(find('#driver'), drivers, town);
  const desk = new Desk(find('#desk'), admins, passenger, driver, say);
  const timeline = new Timeline(find('#trip'), records, [paula, diego, ana]);
  new Log(find('#log'), records, shown);
  new Tour(find('#tour'), { passenger, driver, desk, records, clients, bystanders: shown.slice(3) });

  admins.on('event', (event, payload) => {
    switch (event) {
      case 'demo:report':
        payload.deliveries?.forEach((d) => records.delivered(d));
        payload.ends?.forEach(({ userId, reason }) => { if (shown.some((p) => p.id === userId)) records.ended(userId, reason); });
        if (payload.counters) counters.report(payload.node, payload.counters);
        break;
      case 'admin:driver:location:update':
        fleet.update(payload, performance.now());
        break;
      case 'admin:driver:trip:update':
        fleet.setBusy(payload.driverId, payload.currentTripId !== null);
        break;
    }
  });

  // What the map shows of the passenger's trip: the way to the pickup, then to the destination.
  let drawn = '';
  const follow = () => {
    const { trip, running } = passenger;
    timeline.show(trip?.tripId);
    const driverId = trip?.driver?.id ?? trip?.driverId ?? diego.id;
    const state = running ? `${trip.tripId} ${trip.status} ${driverId} ${Boolean(trip.pickup)}` : '';
    if (state === drawn) return;
    drawn = state;
    const name = trip?.driver?.name ?? diego.name;
    map.trip = { me: running ? driverId : diego.id, name: running ? name : diego.name };
    records.watched = new Set([diego.id, map.trip.me]);
    if (!running || !trip.pickup) return;
    const [pickup, dropoff] = [town.point(trip.pickup), town.point(trip.dropoff)];
    const coming = ['accepted', 'arriving'].includes(trip.status);
    const from = coming ? fleet.where(driverId, performance.now()) : pickup;
    Object.assign(map.trip, { pickup: trip.status === 'in_progress' ? undefined : pickup, dropoff, begun: coming || trip.status === 'in_progress', way: from && town.route(from, coming ? pickup : dropoff) });
  };
  for (const client of clients) client.on('event', follow).on('change', follow);
  setInterval(() => {
    follow();
    counters.frames(map.frames);
    map.frames = 0;
    const at = fleet.where(map.trip.me, performance.now());
    map.element.setAttribute('aria-label', `Map of ${town.name} with ${fleet.cars.size} cars.${at ? ` ${map.trip.name} is on ${town.streetAt(at)}.` : ''}`);
  }, 1_000);

  // Those without a phone log in again by themselves, for instance when the server has started anew.
  for (const client of [admins, ...clients.slice(3)]) {
    client.on('change', () => {
      clearTimeout(client.again);
      if (client.state === 'out') client.again = setTimeout(() => client.login().catch(() => {}), 5_000);
    });
  }
  for (const client of clients) await client.login();
}

start().catch((err) => say(inWords(err)));
