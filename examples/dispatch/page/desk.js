// The dispatcher: an admin's client, whose events the map and the lists show, and what admins can do.

import { inWords } from './words.js';

export class Desk {
  tripId = null; // of the passenger's running trip
  followed = null; // the id of the trip whose room the dispatcher is in

  constructor(panel, client, passenger, driver, say) {
    Object.assign(this, { panel, client, passenger, driver, say });
    for (const button of panel.querySelectorAll('button')) {
      button.onclick = async () => {
        button.setAttribute('aria-busy', 'true');
        this.draw();
        try {
          say('');
          await this[button.name]();
        } catch (err) {
          say(inWords(err));
        }
        button.removeAttribute('aria-busy');
        this.draw();
      };
    }
    client.on('change', () => this.draw()).on('online', () => this.#watch());
    setInterval(() => this.draw(), 400);
  }

  // A socket that has come back is not in the room of the reports, and unless it is recovered in none that
  // it had joined.
  async #watch() {
    try {
      await this.client.call('demo:watch');
      if (this.followed && !this.client.recovered) await this.client.call('admin:trip:join', { tripId: this.followed });
    } catch (err) {
      this.say(inWords(err));
    }
  }

  async follow() {
    const { tripId } = this.passenger.trip;
    await this.client.call('admin:trip:join', { tripId });
    this.followed = tripId;
  }

  message(text = 'Hello from the dispatcher.') {
    return this.client.api('POST', `/api/admin/trips/${this.passenger.trip.tripId}/message`, { to: 'both', message: text });
  }

  cancel() {
    return this.client.api('POST', `/api/trips/${this.passenger.trip.tripId}/cancel`, { reason: 'canceled by the dispatcher' });
  }

  cut() {
    return this.driver.client.cut(5_000);
  }

  revoke() {
    return this.client.api('POST', `/api/admin/sessions/${this.driver.client.sid}/revoke`, { reason: 'revoked by the dispatcher' });
  }

  drain() {
    return this.client.api('POST', '/api/admin/drain');
  }

  draw() {
    const { passenger, driver, client } = this;
    const running = client.online && passenger.running;
    const possible = {
      follow: running && this.followed !== passenger.trip.tripId, message: running, cancel: running,
      cut: driver.client.online, revoke: client.online && driver.client.online, drain: client.online,
    };
    for (const button of this.panel.querySelectorAll('button')) button.disabled = !possible[button.name] || button.hasAttribute('aria-busy');
  }
}
