// The page of examples/dispatch in a real browser, after a fresh start: the guided tour by clicking,
// a trip with the keyboard, and what it looks like on a phone, in the dark and without motion.

import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { after, before, describe, it } from 'node:test';
import { Dispatch } from '../lib/dispatch.js';
import { launch } from './launch.js';

const patience = 40_000; // milliseconds, for anything at all

describe('the page of examples/dispatch', () => {
  let server, browser, page;
  const errors = [], foreign = [];

  before(async () => {
    server = await Dispatch.start(null);
    browser = await launch();
    page = await open();
  });

  after(async () => {
    await browser?.close();
    assert.deepEqual(await server?.close(), []);
    assert.deepEqual(errors, []);
    assert.deepEqual(foreign, [], 'requests to other hosts');
  });

  async function open(options = {}, { url } = server) {
    const context = await browser.newContext({ viewport: { width: 1440, height: 900 }, ...options });
    const opened = await context.newPage();
    opened.setDefaultTimeout(patience);
    opened.on('request', (r) => { if (!/^(http|ws)s?:/.test(r.url()) ? !r.url().startsWith('data:') : new URL(r.url()).host !== new URL(url).host) foreign.push(r.url()); });
    opened.on('websocket', (w) => { if (new URL(w.url()).host !== new URL(url).host) foreign.push(w.url()); });
    opened.on('pageerror', (e) => errors.push(e.message));
    opened.on('console', (m) => { if (/Content Security Policy|Refused to/.test(m.text())) errors.push(m.text()); });
    await opened.goto(url);
    return opened;
  }

  /** Waits until an element has a text. */
  const says = (selector, text) => page.waitForFunction(
    ([where, what]) => document.querySelector(where)?.textContent.includes(what), [selector, text],
  ).catch(async () => assert.fail(`${selector} does not say "${text}" but "${await page.textContent(selector)}"`));

  /** Waits until the newest row of an event says that these people have received it, and nobody else. */
  const received = (event, ...people) => page.waitForFunction(([name, who]) => {
    const names = [...document.querySelectorAll('#log thead th')].map((th) => th.textContent);
    const tr = [...document.querySelectorAll('#log tbody tr')].find((r) => r.querySelector('button')?.textContent === name);
    return tr && [...tr.cells].map((cell, i) => cell.className === 'got' && names[i]).filter(Boolean).join() === who;
  }, [event, people.join()]).catch(() => assert.fail(`${event} was not received by ${people}, or by others too`));

  const possible = (section) => page.$$eval(`${section} button`, (all) => all.filter((b) => !b.hidden && !b.disabled).map((b) => b.name));

  it('is a tour of six clicks', async () => {
    for (const [title, during, after] of [
      ['1 of 6: Paula requests a ride', async () => {}, async () => {
        await says('#driver .title', 'A ride for you');
        assert.deepEqual(await possible('#driver'), ['accept', 'reject']);
        assert.deepEqual(await possible('#passenger'), ['cancel']);
        assert.match(await page.textContent('#driver .countdown span'), /^\d+ s$/);
        await received('trip:assignment:offered', 'Diego', 'Ana');
      }],
      ['2 of 6: Diego accepts', async () => {}, async () => {
        await says('#tour p', 'Pedro and Dora received nothing');
        await says('#passenger .card', 'Lada');
        await received('trip:driver_assigned', 'Paula', 'Diego', 'Ana');
        assert.ok(!(await possible('#passenger')).includes('request'));
      }],
      ['3 of 6: Follow the car', async () => {}, () => says('#tour p', 'Three positions reached Paula')],
      ['4 of 6: Diego loses the network', async () => {
        await says('#driver .title', 'No network');
        assert.deepEqual(await possible('#driver'), []);
      }, async () => {
        await says('#tour p', 'that was sent meanwhile, and drives on');
        await says('#driver .news', 'Is everything all right?');
        await received('admin:trip:message_sent', 'Paula', 'Diego', 'Ana');
      }],
      ['5 of 6: The session of Diego is revoked', async () => {
        await says('#driver .text', 'The dispatcher has ended this session. Log in to go on.');
        assert.deepEqual(await possible('#driver'), ['signin']);
      }, async () => {
        await says('#tour p', 'did not come back');
        await received('auth:session_revoked', 'Diego');
      }],
      ['6 of 6: The node drains', async () => {}, async () => {
        await says('#tour p', '5 of them of this page');
        await received('server:drain', 'Paula', 'Diego', 'Ana', 'Pedro', 'Dora');
      }],
    ]) {
      await says('#tour h2', title);
      await page.click('#tour [name=next]'); // when it is enabled
      await during();
      await page.waitForFunction(() => document.querySelector('#tour').dataset.step !== 'running');
      await after();
    }
    await says('#tour h2', 'That was the tour');
    await says('.timeline', 'On the way to the pickup');
    assert.match(await page.textContent('.timeline .done'), /^RequestedPaula \d+ ms · Ana \d+ ms\d\d:\d\d:\d\d/);
    await says('[data-name=sockets]', '17'); // the cars are back as well
    assert.match(await page.textContent('[data-name=p99]'), / (ms|s)$/);
    assert.match(await page.getAttribute('#map .ground', 'aria-label'), /^Map of Puerto Claro with \d+ cars\. Diego is on /);
    await page.click('#desk [name=cancel]');
    await says('#passenger .text', 'The dispatcher has canceled it.');
    await says('#driver .news', 'canceled by the dispatcher');
  });

  it('is a trip with the keyboard, step by step', async () => {
    const press = async (selector) => {
      await page.waitForSelector(`${selector}:enabled`);
      await page.focus(selector);
      await page.keyboard.press('Enter');
    };
    await page.uncheck('#driver [name=auto]');
    await says('#driver .title', 'Waiting for a ride');
    await press('#passenger [name=request]');
    await says('#driver .title', 'A ride for you');
    await press('#driver [name=accept]');
    for (const [title, news] of [['Accepted', 'is on the way'], ['Drive to the pickup', 'is there'], ['At the pickup', 'On the way to Stadium'], ['Drive to the destination', 'You have arrived']]) {
      await says('#driver .title', title);
      await press('#driver [name=step]');
      await says('#passenger .title', news);
    }
    await says('.timeline .done:last-child', 'Arrived');
    assert.equal(await page.locator('.timeline .next').count(), 0);
    await press('#log tbody tr:has(.got) button');
    await says('#log pre', 'domain event');
    await page.selectOption('#passenger [name=to]', 'Central Station');
    assert.deepEqual(await possible('#passenger'), [], 'there is no ride to where one is');
    await page.context().close();
  });

  it('reads the trip after a cut, where the server keeps no events', async () => {
    const plain = await Dispatch.start(null, ['-recovery=false', '-cars', '0']);
    try {
      page = await open({}, plain);
      for (const [title, seen] of [['1 of 6', 'had the offer'], ['2 of 6', 'knew'], ['3 of 6', 'Three positions reached Paula'], ['4 of 6', 'read the trip from the server']]) {
        await says('#tour h2', title);
        await page.click('#tour [name=next]');
        await says('#tour p', seen);
      }
      await received('admin:trip:message_sent', 'Paula', 'Ana');
      await page.context().close();
    } finally {
      assert.deepEqual(await plain.close(), []);
    }
  });

  it('fits on a phone, is dark, and stands still, as the visitor wishes', async () => {
    page = await open({ viewport: { width: 390, height: 844 }, colorScheme: 'dark', reducedMotion: 'reduce', isMobile: true, hasTouch: true });
    await says('#driver .title', 'Waiting for a ride');
    assert.equal(await page.evaluate(() => document.documentElement.scrollWidth), 390);
    const dark = await page.evaluate(() => getComputedStyle(document.body).backgroundColor);
    await page.emulateMedia({ colorScheme: 'light' });
    assert.notEqual(await page.evaluate(() => getComputedStyle(document.body).backgroundColor), dark);
    await page.waitForFunction(() => ['1', '2', '3'].includes(document.querySelector('[data-name=frames]').textContent));
    await page.tap('#passenger [name=request]');
    await says('#driver .title', 'A ride for you');
    await page.tap('#driver [name=reject]');
    await says('#driver .title', 'Waiting for a ride');
  });

  it('says in words what goes wrong', async () => {
    await page.evaluate(() => { for (const b of document.querySelectorAll('#passenger button')) b.disabled = false; });
    await page.evaluate(() => document.querySelector('#passenger [name=request]').click());
    await says('#passenger .news', 'is still running.');
    await server.stop('SIGKILL');
    await says('#passenger .line', 'The server can not be reached. The app keeps trying.');
    await server.start();
    await says('#passenger .line', 'This session was ended. Log in again.');
    await page.tap('#passenger [name=signin]');
    await says('#passenger .line', '/passengers');
  });

  it('has the socket.io-client of npm', async () => {
    const [ours, theirs] = await Promise.all(['../../examples/dispatch/page/socket.io.min.js', '../node_modules/socket.io-client/dist/socket.io.min.js']
      .map((file) => readFile(new URL(file, import.meta.url), 'utf8')));
    const code = (text) => text.replace(/^\/\/# sourceMappingURL=.*$/m, '').trim();
    assert.equal(code(ours), code(theirs));
  });
});
