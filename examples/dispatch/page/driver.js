// The driver's phone: answers offers, and drives: along the streets, with a position each second.

import { distance, heading, toward } from './town.js';
import { meters, money } from './words.js';
import { Phone } from './phone.js';

const speed = 18; // meters a second
const stop = 2_500; // milliseconds at the pickup
const steps = {
  accepted: { path: 'arriving', text: 'Set out' },
  arriving: { path: 'arrived', text: 'I am at the pickup' },
  arrived: { path: 'start', text: 'Start the ride' },
  in_progress: { path: 'complete', text: 'Complete the ride' },
};
const statusOf = {
  'trip:arriving_started': 'arriving', 'trip:driver_arrived_pickup': 'arrived', 'trip:started': 'in_progress',
};

export class DriverPhone extends Phone {
  trip = null; // {tripId, status, pickup, dropoff, ...}; status arrived is at the pickup
  offer = null; // {assignmentId, tripId, expiresAt, ...}
  status = null; // the snapshot of the server
  way = []; // what is left of the way

  constructor(section, client, town) {
    super(section, client);
    this.town = town;
    const place = town.places.find((p) => p.name === 'Old Theater');
    this.at = town.corners[place.corner];
    this.course = 0;
    client.on('event', (event, payload) => this.#received(event, payload));
    setInterval(() => this.#second(), 1_000);
    this.draw();
  }

  get isOnline() {
    return Boolean(this.status?.isOnline);
  }

  async catchUp() {
    const { client } = this;
    const [{ data }, { trip, offer }] = await Promise.all([
      client.api('GET', '/api/driver-availability/driver-auth'),
      client.api('GET', '/api/trips/current'),
    ]);
    const first = !this.caughtUp;
    Object.assign(this, { status: data, caughtUp: true });
    if (first && data.lastLocation) this.at = this.town.point(data.lastLocation);
    this.#setTrip(trip);
    this.offer = offer;
    this.draw();
    if (first && !data.isOnline) await this.online();
  }

  #setTrip(trip) {
    const status = trip?.arrived && trip.status === 'arriving' ? 'arrived' : trip?.status;
    const same = this.trip?.tripId === trip?.tripId && this.trip?.status === status;
    this.trip = trip ? { ...trip, status } : null;
    if (!same) this.#plan();
  }

  /** Finds the way to where the trip goes now. */
  #plan() {
    const { trip, town } = this;
    const goal = { arriving: trip?.pickup, in_progress: trip?.dropoff }[trip?.status];
    this.way = goal ? town.route(this.at, town.point(goal)) : [];
  }

  async #received(event, payload) {
    switch (event) {
      case 'trip:assignment:offered':
        this.offer = payload;
        break;
      case 'trip:assignment:expired':
        this.news('You did not answer in time. The offer went to somebody else.', true);
        this.offer = null;
        break;
      case 'trip:assignment:cancelled':
        this.news('The passenger has changed their mind.');
        this.offer = null;
        break;
      case 'trip:assignment:accepted':
        this.offer = null;
        break;
      case 'trip:driver_assigned':
        this.#setTrip((await this.client.api('GET', '/api/trips/current')).trip);
        break;
      case 'trip:completed':
        this.news(`Completed: ${money(payload.fareTotal, payload.currency)}.`);
        this.#setTrip(null);
        break;
      case 'trip:cancelled':
        this.news(`The ride was canceled by the ${payload.cancelledBy === 'admin' ? 'dispatcher' : payload.cancelledBy}.`, true);
        this.#setTrip(null);
        break;
      case 'driver:availability:update':
        this.status = payload;
        break;
      case 'admin:trip:message_sent':
        this.news(`Dispatch: ${payload.message}`);
        break;
      default:
        if (!statusOf[event] || this.trip?.tripId !== payload.tripId) return;
        this.trip.status = statusOf[event];
        this.#plan();
    }
    this.draw();
  }

  /** What a phone in a car does each second. */
  async #second() {
    this.#drive();
    if (this.client.online && this.isOnline) this.#report();
    this.draw();
    const { trip, client } = this;
    if (!trip || !client.online || this.busy || !this.find('[name=auto]').checked) return;
    const due = { accepted: true, arriving: this.way.length === 0, arrived: Date.now() - this.waited > stop, in_progress: this.way.length === 0 }[trip.status];
    if (!due) return;
    this.busy = true;
    try {
      await this.step();
    } catch {
      await this.catchUp().catch(() => {}); // the trip has changed meanwhile
    }
    this.busy = false;
    this.draw();
  }

  #drive() {
    const from = this.at;
    for (let left = speed; left > 0 && this.way.length > 0; ) {
      const leg = distance(this.at, this.way[0]);
      if (leg > 1) this.course = heading(this.at, this.way[0]);
      if (leg > left) {
        this.at = toward(this.at, this.way[0], left / leg);
        break;
      }
      left -= leg;
      this.at = this.way.shift();
    }
    this.speed = distance(from, this.at);
  }

  #report() {
    const { lat, lng } = this.town.position(this.at);
    this.client.socket.volatile.emit('driver:location:ping', { lat, lng, heading: this.course, speed: this.speed });
  }

  async online() {
    this.#report();
    this.status = await this.client.call('driver:status:update', { isOnline: true, isAvailableForTrips: true });
  }

  async offline() {
    this.status = await this.client.call('driver:status:update', { isOnline: false });
  }

  async accept() {
    const { assignmentId } = this.offer;
    try {
      await this.client.call('driver:offer:accept', { assignmentId });
    } finally {
      if (this.offer?.assignmentId === assignmentId) this.offer = null;
    }
  }

  async reject() {
    await this.client.call('driver:offer:reject', { assignmentId: this.offer.assignmentId, reason: 'too far' });
    this.offer = null;
  }

  async step() {
    const { tripId, status } = this.trip;
    const { path } = steps[status];
    const trip = await this.client.api('POST', `/api/trips/${tripId}/${path}`);
    if (path === 'arrived') this.waited = Date.now();
    if (path !== 'complete') this.#setTrip(trip);
  }

  #view() {
    const { client, trip, offer } = this;
    if (client.state === 'out') return { title: 'Signed out', text: client.why, buttons: { signin: true } };
    if (client.state === 'cut') return { title: 'No network', text: 'The car drives on. The phone keeps the newest position.', buttons: {} };
    const on = client.online;
    if (offer) {
      const pickup = offer.pickup ? `${meters(distance(this.at, this.town.point(offer.pickup)))} away` : '';
      return {
        title: 'A ride for you', text: 'Accept it before the time is over.',
        card: [offer.pickup?.address ?? 'Pickup', pickup, money(offer.priceEstimate, offer.currency)], buttons: { accept: on, reject: on },
      };
    }
    if (trip) {
      const title = { accepted: 'Accepted', arriving: 'Drive to the pickup', arrived: 'At the pickup', in_progress: 'Drive to the destination' }[trip.status];
      const goal = trip.status === 'in_progress' ? trip.dropoff : trip.pickup;
      const left = this.way.length ? `${meters(distance(this.at, this.way.at(-1)))} to go, on ${this.town.streetAt(this.at)}` : 'There.';
      const card = [trip.passenger?.name ?? 'Passenger', goal?.address ?? '', left];
      this.find('[name=step]').textContent = steps[trip.status].text;
      return { title, text: '', card, buttons: { step: on && !this.busy } };
    }
    if (this.isOnline) return { title: 'Waiting for a ride', text: `On ${this.town.streetAt(this.at)}. Offers come by themselves.`, buttons: { offline: on } };
    return { title: 'Offline', text: 'You get no offers.', buttons: { online: on } };
  }

  draw() {
    if (!this.town) return;
    this.show(this.#view());
    this.#countdown();
  }

  #countdown() {
    const { offer } = this;
    const box = this.find('.countdown');
    box.hidden = !offer;
    if (!offer) return;
    const until = Date.parse(offer.expiresAt);
    offer.whole ??= Math.max(1, until - Date.now());
    const left = Math.max(0, until - Date.now());
    box.querySelector('progress').value = left / offer.whole;
    box.querySelector('span').textContent = `${Math.ceil(left / 1_000)} s`;
    clearTimeout(this.countdownTimer);
    if (left > 0) this.countdownTimer = setTimeout(() => this.#countdown(), 200);
    else this.offer = null;
  }
}
