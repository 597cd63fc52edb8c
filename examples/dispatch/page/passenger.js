// The passenger's phone: asks for a ride, and follows it.

import { distance } from './town.js';
import { meters, money } from './words.js';
import { Phone } from './phone.js';

const ended = ['completed', 'cancelled', 'no_drivers_found'];
const statusOf = {
  'trip:requested': 'pending', 'trip:assigning_started': 'assigning', 'trip:driver_accepted': 'accepted', 'trip:driver_assigned': 'accepted',
  'trip:arriving_started': 'arriving', 'trip:driver_arrived_pickup': 'arrived', 'trip:started': 'in_progress', 'trip:completed': 'completed',
  'trip:cancelled': 'cancelled', 'trip:no_drivers_found': 'no_drivers_found',
};

export class PassengerPhone extends Phone {
  trip = null; // {tripId, status, pickup, dropoff, driver, vehicle, ...}; status arrived is at the pickup
  where = null; // the driver's point

  /** driverId is the driver whom the passenger asks for. */
  constructor(section, client, town, driverId) {
    super(section, client);
    Object.assign(this, { town, driverId });
    this.places = new Map(town.places.map((p) => [p.name, town.corners[p.corner]]));
    for (const [name, chosen] of [['from', 'Central Station'], ['to', 'Stadium']]) {
      const select = this.find(`[name=${name}]`);
      select.append(...[...this.places.keys()].map((place) => new Option(place, place, false, place === chosen)));
      select.onchange = () => this.draw();
    }
    client.on('event', (event, payload) => this.#received(event, payload));
    this.draw();
  }

  get running() {
    return this.trip !== null && !ended.includes(this.trip.status);
  }

  async catchUp() {
    const { trip } = await this.client.api('GET', '/api/trips/current');
    if (trip) this.trip = { ...trip, status: trip.arrived && trip.status === 'arriving' ? 'arrived' : trip.status };
    else if (this.running) this.trip = null;
    this.draw();
  }

  #received(event, payload) {
    if (event === 'admin:trip:message_sent') this.news(`Dispatch: ${payload.message}`);
    if (event === 'trip:driver_location') this.where = this.town.point(payload.lastLocation);
    const status = statusOf[event];
    if (!status && event !== 'trip:driver_location') return;
    if (status) {
      if (this.trip?.tripId !== payload.tripId) this.trip = { tripId: payload.tripId };
      const { fareTotal, currency, reason, cancelledBy, driver, vehicle } = payload;
      Object.assign(this.trip, { status }, fareTotal && { fareTotal, currency }, status === 'cancelled' && { reason, cancelledBy }, driver && { driver, vehicle });
      if (!this.running) this.where = null;
    }
    this.draw();
  }

  #choice(name) {
    const place = this.find(`[name=${name}]`).value;
    return { ...this.town.position(this.places.get(place)), address: place };
  }

  async request() {
    const [pickup, dropoff] = [this.#choice('from'), this.#choice('to')];
    const trip = await this.client.api('POST', '/api/trips', { pickup, dropoff, driverId: this.driverId });
    this.trip = { ...trip, status: this.trip?.tripId === trip.tripId ? this.trip.status : trip.status };
  }

  cancel() {
    return this.client.api('POST', `/api/trips/${this.trip.tripId}/cancel`, { reason: 'changed my mind' });
  }

  draw() {
    const { trip, running, client } = this;
    if (!this.places) return;
    this.find('.choice').hidden = running;
    const to = trip?.dropoff?.address ?? 'the destination';
    const driver = trip?.driver?.name ?? 'The driver';
    const card = trip?.driver && running ? [trip.driver.name, vehicle(trip.vehicle), this.#distance()] : undefined;
    const looking = { title: 'Looking for a driver', text: 'The nearest free one is asked first.' };
    const views = {
      pending: looking,
      assigning: looking,
      accepted: { title: `${driver} comes for you`, text: 'Accepted.', card },
      arriving: { title: `${driver} is on the way`, text: 'Please wait at the pickup.', card },
      arrived: { title: `${driver} is there`, text: 'Get in.', card },
      in_progress: { title: `On the way to ${to}`, text: 'Enjoy the ride.', card },
      completed: { title: 'You have arrived', text: `The ride was ${money(trip?.fareTotal, trip?.currency)}. Where next?` },
      cancelled: { title: 'The ride was canceled', text: trip?.cancelledBy === 'admin' ? 'The dispatcher has canceled it.' : 'You can request another one.' },
      no_drivers_found: { title: 'No driver found', text: 'Nobody is free nearby. Try again in a minute.' },
    };
    const view = views[trip?.status] ?? { title: 'Where to?', text: 'Choose, and request a ride.' };
    const { value: from } = this.find('[name=from]');
    const buttons = client.state === 'out' ? { signin: true } : running ? { cancel: client.state !== 'cut' } : { request: client.online && from !== this.find('[name=to]').value };
    this.show({ ...view, buttons });
    this.section.classList.toggle('waiting', running && !trip.driver);
  }

  #distance() {
    const { where, trip, town } = this;
    const goal = trip.status === 'in_progress' ? trip.dropoff : trip.pickup;
    if (!where || !goal || trip.status === 'arrived') return '';
    return `${meters(distance(where, town.point(goal)))} away, on ${town.streetAt(where)}`;
  }
}

const vehicle = (v) => (v ? [v.color, v.make, v.model, v.plateNumber].filter(Boolean).join(' ') : '');
