// The operators' page of realtimeadmin in a real browser, as examples/dispatch serves it: the login, a
// trip's timeline and a user by the keyboard, and the disconnect of a session.

import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { io } from 'socket.io-client';
import { Dispatch } from '../lib/dispatch.js';
import { launch } from './launch.js';

const patience = 40_000; // milliseconds, for anything at all

describe('the operators\' page', () => {
  let server, browser, page, token;
  const errors = [], foreign = [];

  before(async () => {
    server = await Dispatch.start(null, ['-admin-view', '-cars', '0']);
    token = server.output.match(/^operators: \S+\/operators\/ (\w+)$/m)[1];
    browser = await launch();
    page = await browser.newPage({ viewport: { width: 1280, height: 900 } });
    page.setDefaultTimeout(patience);
    page.on('request', (r) => { if (!r.url().startsWith(server.url) && !r.url().startsWith('data:')) foreign.push(r.url()); });
    page.on('pageerror', (e) => errors.push(e.message));
    page.on('console', (m) => { if (/Content Security Policy|Refused to/.test(m.text())) errors.push(m.text()); });
    await page.goto(`${server.url}/operators/`);
  });

  after(async () => {
    await browser?.close();
    await server?.close();
    assert.deepEqual(errors, []);
    assert.deepEqual(foreign, [], 'requests to other hosts');
  });

  /** Waits until an element has a text. */
  const says = (selector, text) => page.waitForFunction(
    ([where, what]) => document.querySelector(where)?.textContent.includes(what), [selector, text],
  ).catch(async () => assert.fail(`${selector} does not say "${text}" but "${await page.textContent(selector)}"`));

  const post = async (path, body, as) => {
    const answer = await fetch(server.url + path, { method: 'POST', body: JSON.stringify(body), headers: as ? { Authorization: `Bearer ${as}` } : {} });
    assert.ok(answer.ok, `${path}: ${answer.status}`);
    return answer.json();
  };

  it('opens with the token only', async () => {
    await page.waitForSelector('#login', { state: 'visible' });
    assert.equal(await page.isVisible('#content'), false);
    await page.fill('#token', 'wrong');
    await page.keyboard.press('Enter');
    await says('#status', 'wrong token');
    await page.fill('#token', token);
    await page.keyboard.press('Enter');
    await says('#nodes', 'ready');
    await page.reload();
    await says('#nodes', 'ready');
  });

  it('shows a trip and a user, and disconnects a session', async () => {
    const login = await post('/api/login', { userId: 'passenger-1' });
    const phone = io(`${server.url}/passengers`, { auth: { token: login.token }, transports: ['websocket'], forceNew: true });
    const left = new Promise((resolve) => { phone.on('disconnect', resolve); });
    const revoked = new Promise((resolve) => { phone.on('auth:session_revoked', resolve); });
    await new Promise((resolve, reject) => { phone.on('hello', resolve).on('connect_error', reject); });
    const requested = new Promise((resolve) => { phone.on('trip:requested', resolve); });
    const { tripId } = await post('/api/trips', {}, login.token);
    await requested;

    await page.evaluate(() => document.activeElement.blur());
    await page.keyboard.press('t');
    await page.keyboard.type(tripId);
    await page.keyboard.press('Enter');
    await says('#result-title', tripId);
    await says('#result-body', 'trip:requested to /passengers passenger:passenger-1: 1 socket');

    await page.evaluate(() => document.activeElement.blur());
    await page.keyboard.press('/');
    await page.keyboard.type('passenger-1');
    await page.keyboard.press('Enter');
    await says('#result-title', 'User passenger-1');
    await says('#result-body', 'passenger:passenger-1');
    await page.click('#result-body button.danger');
    await says('#confirm-session', login.sid);
    await page.keyboard.press('Escape');
    assert.ok(phone.connected);
    await page.click('#result-body button.danger');
    await page.click('#confirm-yes');
    assert.equal((await revoked).reason, 'operator');
    assert.equal(await left, 'io server disconnect');
    await says('#status', 'was disconnected');
    await says('#result-body', 'This user has no sockets');
    assert.match(server.output, new RegExp(`an operator disconnected a session operator=token sid=${login.sid}`));
    phone.close();
    await page.keyboard.press('Escape');
    await page.waitForSelector('#result', { state: 'hidden' });
  });

  it('fits a phone and the dark, and forgets the token', async () => {
    const color = () => page.evaluate(() => getComputedStyle(document.body).backgroundColor);
    const light = await color();
    await page.emulateMedia({ colorScheme: 'dark' });
    assert.notEqual(await color(), light);
    await page.setViewportSize({ width: 390, height: 800 });
    assert.equal(await page.evaluate(() => document.documentElement.scrollWidth), 390);
    await page.click('#leave');
    await page.waitForSelector('#login', { state: 'visible' });
    assert.equal(await page.evaluate(() => sessionStorage.length + localStorage.length), 0);
    assert.equal(await page.textContent('#nodes'), '');
  });
});
