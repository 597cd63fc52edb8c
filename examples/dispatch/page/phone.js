// What both phones have: the top line with the state of the connection, news, and buttons that are
// there when they mean something.

import { inWords } from './words.js';

const newsFor = 7_000; // milliseconds

export class Phone {
  constructor(section, client) {
    Object.assign(this, { section, client });
    section.querySelector('.who').textContent = client.person.name;
    for (const button of section.querySelectorAll('button')) {
      button.onclick = () => this.run(button);
    }
    client.on('change', () => this.draw()).on('online', () => this.#catchUp());
  }

  /** Reads the state, unless the app has it and has received everything since. */
  async #catchUp() {
    if (this.current && this.client.recovered) return;
    this.current = false;
    try {
      await this.catchUp();
      this.current = true;
    } catch (err) {
      this.news(inWords(err), true);
    }
  }

  /** Does what a button says; while it does, the button is off. */
  async run(button) {
    button.setAttribute('aria-busy', 'true');
    button.disabled = true;
    try {
      await this[button.name]();
    } catch (err) {
      this.news(inWords(err), true);
    }
    button.removeAttribute('aria-busy');
    this.draw();
  }

  signin() {
    return this.client.login();
  }

  /** Says something for a while. */
  news(text, bad = false) {
    const p = this.find('.news');
    p.textContent = text;
    p.classList.toggle('bad', bad);
    p.hidden = false;
    clearTimeout(this.newsTimer);
    this.newsTimer = setTimeout(() => { p.hidden = true; }, newsFor);
  }

  find(selector) {
    return this.section.querySelector(selector);
  }

  /** Draws the top line, a title and a text, a card of up to three lines, and the buttons that are possible. */
  show({ title, text = '', card, buttons = {} }) {
    const { client } = this;
    this.section.dataset.state = client.state;
    this.find('.line').textContent = client.online ? `${client.namespace} · ${client.transport}` : client.why || 'not logged in';
    this.find('.title').textContent = title;
    this.find('.text').textContent = text;
    const box = this.find('.card');
    box.hidden = !card;
    if (card) [...box.children].forEach((line, i) => { line.textContent = card[i] ?? ''; });
    for (const button of this.section.querySelectorAll('button')) {
      button.hidden = !(button.name in buttons);
      button.disabled = buttons[button.name] === false || button.hasAttribute('aria-busy');
    }
  }
}
