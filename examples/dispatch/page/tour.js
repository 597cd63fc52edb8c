// The guided tour: six clicks. Each step says what to look at, does something real, and then says
// what was seen.

import { inWords, millis, seconds } from './words.js';
import { latency } from './records.js';

const patience = 25_000; // milliseconds until a step has failed
const cutFor = 5_000;

export class Tour {
  #at = 0;
  #seen = ''; // what the last step has shown
  #running = false;
  #problem = '';

  /** demo has the phones, the dispatcher and the records. */
  constructor(section, demo) {
    Object.assign(this, { section, demo });
    this.steps = stepsOf(demo);
    this.list = section.querySelector('.steps');
    this.list.append(...this.steps.map((s, i) => {
      const li = document.createElement('li');
      li.textContent = `${i + 1} ${s.name}`;
      return li;
    }));
    this.button = section.querySelector('[name=next]');
    this.button.onclick = () => this.next();
    section.querySelector('[name=close]').onclick = () => { section.hidden = true; };
    setInterval(() => this.#draw(), 300);
    this.#draw();
  }

  async next() {
    if (this.#running) return;
    if (this.#at === this.steps.length || this.#lost()) {
      await this.#do(async () => {
        if (this.demo.passenger.running) await this.demo.passenger.cancel();
        this.#at = 0;
        return '';
      });
      return;
    }
    await this.#do(async () => {
      const seen = await this.steps[this.#at].run();
      this.#at++;
      return seen;
    });
  }

  async #do(f) {
    this.#running = true;
    this.#problem = '';
    this.#draw();
    try {
      this.#seen = await f();
    } catch (err) {
      this.#problem = inWords(err);
    }
    this.#running = false;
    this.#draw();
  }

  /** Why the next step can not be done any more, if so. */
  #lost() {
    return this.steps[this.#at]?.lost?.();
  }

  #draw() {
    const step = this.steps[this.#at];
    const lost = !this.#running && this.#lost();
    [...this.list.children].forEach((li, i) => { li.className = i < this.#at ? 'done' : i === this.#at ? 'now' : ''; });
    const title = step ? `${this.#at + 1} of ${this.steps.length}: ${step.title}` : 'That was the tour';
    const text = this.#problem || (this.#running && step ? step.meanwhile : lost) || [this.#seen, step ? step.text : 'The ride goes on. Try the phones and the buttons of the dispatcher.'].filter(Boolean).join(' ');
    const button = lost || !step ? 'Start again' : step.button;
    const ready = !this.#running && (lost || !step || step.ready());
    set(this.section.querySelector('h2'), title);
    set(this.section.querySelector('p'), text);
    set(this.button, button);
    this.section.querySelector('p').classList.toggle('bad', Boolean(this.#problem || lost));
    this.button.disabled = !ready;
    this.section.dataset.step = this.#running ? 'running' : String(this.#at);
  }
}

function set(element, text) {
  if (element.textContent !== text) element.textContent = text; // or a screen reader would repeat it
}

async function until(what, probe) {
  for (const end = Date.now() + patience; Date.now() < end; ) {
    const found = probe();
    if (found) return found;
    await new Promise((resolve) => setTimeout(resolve, 40));
  }
  throw new Error(`${what} has not happened within ${patience / 1_000} seconds. Try again.`);
}

function stepsOf(demo) {
  const { passenger, driver, desk, records, bystanders } = demo;
  const [rider, wheel] = [passenger.client.person.name, driver.client.person.name];
  const row = (domain) => records.rows.findLast((r) => r.domain === domain && r.tripId === passenger.trip?.tripId);
  const took = (r, person) => millis(latency(r, person.id));
  const nobodyElse = bystanders.length > 0 ? ` ${bystanders.map((p) => p.name).join(' and ')} received nothing.` : '';
  const noTrip = () => !passenger.running && 'The ride has ended meanwhile.';

  return [
    {
      name: 'Request', title: `${rider} requests a ride`, button: 'Request a ride',
      text: `Two phones and a dispatcher, each a stock socket.io client. ${rider} asks for a ride from the Central Station.`,
      meanwhile: 'The server looks for a driver…',
      ready: () => driver.offer || (passenger.client.online && driver.client.online && driver.isOnline && !driver.trip && !passenger.running),
      lost: () => passenger.running && !driver.offer && 'A ride is under way already.',
      async run() {
        if (!passenger.running) await passenger.request();
        await until('The offer', () => driver.offer);
        const r = await until('The report of the server', () => row('trip.assignment.offered')?.to.has(driver.client.person.id) && row('trip.assignment.offered'));
        return `${wheel}'s phone had the offer ${took(r, driver.client.person)} after it was made.`;
      },
    },
    {
      name: 'Accept', title: `${wheel} accepts`, button: 'Accept the offer',
      text: 'The offer runs out in twenty seconds. Look at the countdown, then accept.',
      meanwhile: 'The driver accepts…',
      ready: () => driver.client.online && (driver.offer || driver.trip),
      lost: () => !driver.offer && !driver.trip && 'Nobody has accepted in time, so the offer went to the next driver.',
      async run() {
        if (driver.offer) await driver.accept();
        await until('The driver on the trip', () => driver.trip);
        const r = await until('The news at the passenger', () => row('trip.driver.assigned')?.to.has(passenger.client.person.id) && row('trip.driver.assigned'));
        return `${rider} knew ${took(r, passenger.client.person)} after it was accepted, and sees the car and its plate.${nobodyElse}`;
      },
    },
    {
      name: 'Follow', title: 'Follow the car', button: 'Follow the trip',
      text: `${wheel} drives to the pickup, with one position each second. The dispatcher joins the trip.`,
      meanwhile: 'Waiting for three positions…',
      ready: () => desk.client.online && passenger.running,
      lost: noTrip,
      async run() {
        await desk.follow();
        let count = 0;
        const seen = new Set();
        const r = await until('The third position', () => {
          const found = records.rows.findLast((p) => p.kind === 'position' && p.to.has(passenger.client.person.id) && !seen.has(p));
          if (found) {
            seen.add(found);
            count++;
          }
          return count >= 3 && found;
        });
        return `Three positions reached ${rider}, the last one in ${took(r, passenger.client.person)}. Only the passenger of this trip and the dispatcher get them.`;
      },
    },
    {
      name: 'Cut', title: `${wheel} loses the network`, button: 'Cut it for 5 s',
      text: `The connection of ${wheel}'s phone breaks for five seconds, and the dispatcher sends a message meanwhile. Look at the column of ${wheel}.`,
      meanwhile: `${wheel} has no network. The car turns gray on the map.`,
      ready: () => driver.client.online && desk.client.online && passenger.running,
      lost: noTrip,
      async run() {
        const cut = driver.client.cut(cutFor);
        const began = Date.now();
        setTimeout(() => desk.message('Is everything all right?').catch(() => {}), cutFor / 2);
        await cut;
        const { recovered, missed } = await until('The driver', () => driver.client.online && driver.client.hello);
        const back = `${wheel} was back after ${seconds(Date.now() - began)} by itself`;
        if (!recovered) return `${back}, read the trip from the server, and drives on. The message of meanwhile is not repeated.`;
        return `${back}, has received ${missed > 1 ? `the ${missed} events that were sent meanwhile, with the message` : 'the message that was sent meanwhile'}, and drives on.`;
      },
    },
    {
      name: 'Revoke', title: `The session of ${wheel} is revoked`, button: 'Revoke the session',
      text: 'As after a stolen phone: the dispatcher ends the login. The phone must be told why, and must stay away.',
      meanwhile: `${wheel}'s phone is signed out. In three seconds ${wheel} logs in again.`,
      ready: () => driver.client.online && desk.client.online,
      async run() {
        const began = Date.now();
        await desk.revoke();
        await until('The end of the session', () => driver.client.state === 'out');
        const out = Date.now() - began;
        await new Promise((resolve) => setTimeout(resolve, 3_000));
        if (driver.client.state === 'out') await driver.client.login();
        await until('The driver', () => driver.client.online);
        return `The phone was signed out after ${millis(out)}, with the reason, and did not come back. ${wheel} has logged in again, with a new session.`;
      },
    },
    {
      name: 'Drain', title: 'The node drains', button: 'Drain the node',
      text: 'As in a deploy: every socket is told, and its connection closed. Look at the lines on top of the phones, and at the sockets.',
      meanwhile: 'Every client connects again…',
      ready: () => demo.clients.every((c) => c.online),
      async run() {
        const began = Date.now();
        let dropped = 0;
        for (const c of demo.clients) c.socket.once('disconnect', () => { dropped++; });
        const { closed } = await desk.drain();
        await new Promise((resolve) => setTimeout(resolve, 800)); // until every client knows
        await until('All clients', () => demo.clients.every((c) => c.online));
        return `${closed} sockets were closed, ${dropped} of them of this page, which were back within ${seconds(Date.now() - began)}. Nobody had to log in.`;
      },
    },
  ];
}
