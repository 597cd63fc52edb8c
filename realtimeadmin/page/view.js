// The operators' page: it asks for what it shows with fetch, and writes all of it as text.
'use strict';

const byID = (id) => document.getElementById(id);
const tokenKey = 'realtime-admin-token';
let token = sessionStorage.getItem(tokenKey) || '';
let shown = null; // the query whose result is open: {path, id}
let loading = false;

class Refused extends Error {
  constructor(status, text) {
    super(text);
    this.status = status;
  }
}

async function ask(path, options = {}) {
  const headers = { 'X-Realtime-Admin': '1', ...options.headers };
  if (token) headers.Authorization = `Bearer ${token}`;
  let response;
  try {
    response = await fetch(path, { ...options, headers, credentials: 'same-origin', redirect: 'error' });
  } catch {
    throw new Refused(0, 'The server cannot be reached.');
  }
  const body = await response.json().catch(() => ({}));
  if (response.ok) return body;
  if (response.status === 401 || response.status === 429) logOut();
  const wait = response.headers.get('Retry-After');
  throw new Refused(response.status, `${body.error || 'The server refused it'} (${response.status})${wait ? `; try again in ${wait} s` : ''}.`);
}

// element makes an element. What comes from the server is only ever text.
function element(name, attributes = {}, ...children) {
  const e = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key === 'onclick') e.addEventListener('click', value);
    else e.setAttribute(key, value);
  }
  e.append(...children.filter((c) => c !== null && c !== undefined && c !== ''));
  return e;
}

// table makes a table: columns are [title, class, cell of a row].
function table(columns, rows, empty, rowClass = () => '') {
  if (rows.length === 0) return element('p', { class: 'note' }, empty);
  return element('table', {},
    element('thead', {}, element('tr', {}, ...columns.map(([title, kind]) => element('th', { class: kind, scope: 'col' }, title)))),
    element('tbody', {}, ...rows.map((row) => element('tr', { class: rowClass(row) },
      ...columns.map(([, kind, cell]) => element('td', { class: kind }, cell(row)))))));
}

const number = (n) => (n || 0).toLocaleString('en');
const bytes = (n) => (n < 1024 ? `${n || 0} B` : n < 1 << 20 ? `${(n / 1024).toFixed(1)} KiB` : `${(n / (1 << 20)).toFixed(1)} MiB`);
const millis = (n) => (n < 1000 ? `${(n || 0).toFixed(n < 10 ? 1 : 0)} ms` : `${(n / 1000).toFixed(1)} s`);
const nodeName = (n) => n.name || n.id;
const names = (nodes) => nodes.map(nodeName).join(', ');
const clock = (time) => {
  const at = new Date(time);
  return element('time', { datetime: time, title: at.toISOString() }, `${at.toLocaleDateString('sv')} ${at.toLocaleTimeString('sv')}.${String(at.getMilliseconds()).padStart(3, '0')}`);
};
const id = (text) => (text ? element('span', { class: 'id' }, text) : '');

// userLink is an id that finds the user.
const userLink = (user) => (user ? element('button', { type: 'button', class: 'id', onclick: () => openView('user', user) }, user) : '');

function problemsOf(answer) {
  const all = [];
  if (answer.silent.length) all.push(`No answer from ${names(answer.silent)}: what they know is missing.`);
  if (answer.failed.length) all.push(`${names(answer.failed)} answered only in part; the log says why.`);
  if (answer.partial) all.push('Sockets of nodes that did not answer may be missing.');
  return all.join(' ');
}

function showOverview(o) {
  byID('problems').textContent = problemsOf(o);
  byID('problems').hidden = !problemsOf(o);
  const rows = o.nodes.map((node, i) => ({ node, report: o.reports[i] })).filter((r) => r.report);
  const adapter = (what) => (r) => (r.report.adapter ? what(r.report.adapter) : '–');
  byID('nodes').replaceChildren(table([
    ['Node', '', (r) => nodeName(r.node)],
    ['State', '', (r) => element('span', { class: r.report.ready ? 'good' : 'bad' }, r.report.ready ? 'ready' : 'not ready')],
    ['Connections', 'n', (r) => number(r.report.connections)],
    ['Without login', 'n', (r) => number(r.report.unauthenticated)],
    ['Handshakes', 'n', (r) => number(r.report.handshakes)],
    ['Unsent', 'n', (r) => `${number(r.report.outboxMessages)} (${bytes(r.report.outboxBytes)})`],
    ['Largest', 'n', (r) => bytes(r.report.largestOutbox)],
    ['Dropped', 'n', (r) => number(r.report.dropped)],
    ['Replaced', 'n', (r) => number(r.report.replaced)],
    ['Behind others', 'n', adapter((a) => millis(a.probeAgeMs))],
    ['Waiting in, out', 'n', adapter((a) => `${number(a.incoming)}, ${number(a.outgoing)}`)],
    ['Lost', 'n', adapter((a) => number(a.lost))],
    ['Calls that hang', '', (r) => Object.entries(r.report.abandoned).map(([call, n]) => `${call} ${n}`).join(', ')],
    ['Not recorded', 'n', (r) => number(r.report.traceDropped)],
  ], rows, 'No node has answered.'));
  byID('sockets').replaceChildren(table([
    ['Namespace', '', (r) => r.name], ['Node', '', (r) => r.node], ['WebSocket', 'n', (r) => number(r.websocket)],
    ['Polling', 'n', (r) => number(r.polling)], ['Rooms', 'n', (r) => number(r.rooms)],
  ], socketRows(rows), 'There are no namespaces.'));
  const slow = rows.flatMap((r) => (r.report.slow || []).map((e) => ({ ...e, node: nodeName(r.node) })));
  slow.sort((a, b) => (a.time < b.time ? 1 : -1));
  byID('slow').replaceChildren(table([
    ['Time', 't', (e) => clock(e.time)], ['Node', '', (e) => e.node], ['User', '', (e) => userLink(e.user)], ['Namespace', '', (e) => e.namespace || ''],
    ['Socket', '', (e) => id(e.socket)], ['Unsent', 'n', (e) => `${number(e.messages)} (${bytes(e.bytes)})`],
  ], slow.slice(0, 50), 'No client was disconnected because it read too slowly.'));
  byID('refusals').replaceChildren(table([
    ['What', '', (r) => ({ request: 'request', connect: 'CONNECT', limit: 'limit' })[r.kind] || r.kind], ['Reason', '', (r) => r.reason],
    ['Namespace', '', (r) => r.namespace || ''], ['Last 10 minutes', 'n', (r) => number(r.recent)], ['Since the start', 'n', (r) => number(r.total)], ['Last', 't', (r) => clock(r.last)],
  ], sumRefusals(rows), 'Nothing was refused.'));
}

// socketRows has a row for each namespace and node, and with several nodes one for their sum.
function socketRows(rows) {
  const all = [...new Set(rows.flatMap((r) => (r.report.namespaces || []).map((n) => n.name)))].sort();
  return all.flatMap((name) => {
    const parts = rows.flatMap((r) => (r.report.namespaces || []).filter((n) => n.name === name).map((n) => ({ ...n, node: nodeName(r.node) })));
    if (parts.length === 1) return parts;
    const sum = (key) => parts.reduce((n, p) => n + p[key], 0);
    return [{ name, node: `all ${parts.length}`, websocket: sum('websocket'), polling: sum('polling'), rooms: sum('rooms') }, ...parts.map((p) => ({ ...p, name: '' }))];
  });
}

function sumRefusals(rows) {
  const sums = new Map();
  for (const r of rows.flatMap((row) => row.report.refusals || [])) {
    const key = [r.kind, r.reason, r.namespace].join('\n');
    const s = sums.get(key) || { ...r, total: 0, recent: 0 };
    sums.set(key, { ...s, total: s.total + r.total, recent: s.recent + r.recent, last: s.last > r.last ? s.last : r.last });
  }
  return [...sums.values()].sort((a, b) => b.recent - a.recent || b.total - a.total);
}

function showUser(u) {
  byID('result-title').textContent = `User ${u.id}`;
  byID('result-body').replaceChildren(
    table([
      ['Namespace', '', (s) => s.namespace], ['Node', '', (s) => s.node || 'not known'], ['Socket', '', (s) => id(s.id)],
      ['Since', 't', (s) => (s.connecting ? 'connecting' : s.since ? clock(s.since) : '')],
      ['Rooms', '', (s) => id(s.rooms.join(', ') + (s.otherRooms ? ` and ${s.otherRooms} of the host` : ''))],
      ['Session', '', (s) => id(s.session)],
      ['', '', (s) => (s.session ? element('button', { type: 'button', class: 'danger', onclick: () => askAbout(s.session) }, 'Disconnect…') : '')],
    ], u.sockets, 'This user has no sockets.'),
    element('h2', {}, 'Lately'), timeline(u.entries, 'The nodes remember nothing of this user.'));
}

function showTimeline(t) {
  byID('result-title').textContent = `Trip ${t.id}`;
  byID('result-body').replaceChildren(timeline(t.entries, 'The nodes remember nothing of this trip.'));
}

function timeline(entries, empty) {
  return element('div', { class: 'scroll' }, table([
    ['Time', 't', (e) => clock(e.time)], ['Node', 't', (e) => e.node], ['Event', 't', (e) => id(e.event || '')], ['What happened', '', what],
  ], entries, empty, (e) => (e.kind === 'delivered' || e.kind === 'outdated' || e.kind === 'unaddressed' ? '' : 'meanwhile')));
}

// what says in words what an entry is.
function what(e) {
  const who = () => element('span', {}, userLink(e.user), ` in ${e.namespace || 'no namespace'} `);
  const line = (...parts) => element('div', {}, ...parts);
  switch (e.kind) {
    case 'delivered':
      return element('div', {}, ...(e.to || []).map((a) => line(id(a.event), ' to ', id(a.audience), ': ', heard(a))),
        line(element('span', { class: 'note' }, `${millis(e.ageMs)} after it was published, eventId ${e.eventId}`)));
    case 'emitted': return line(' to ', id(e.to[0].audience), ': ', heard(e.to[0]), ', from another node');
    case 'outdated': return element('span', { class: 'bad' }, 'Sent to admins at most: the server knows something newer');
    case 'unaddressed': return element('span', { class: 'bad' }, `Not sent to the ${e.who}: the server does not know who that is`);
    case 'call': return line(who(), element('span', { class: e.code === 'ok' ? 'good' : 'bad' }, `acknowledged: ${e.code}`), ` after ${millis(e.durationMs)}`);
    case 'connected': return line(who(), `connected with ${e.transport}`);
    case 'refused': return line(who(), element('span', { class: 'bad' }, `was refused: ${e.code}`));
    case 'disconnected': return line(who(), `disconnected: ${e.reason}`);
    case 'slow': return line(who(), element('span', { class: 'bad' }, `read too slowly: ${number(e.messages)} unsent (${bytes(e.bytes)})`));
    default: return e.kind;
  }
}

function heard(a) {
  const text = `${a.receivers} ${a.receivers === 1 ? 'socket' : 'sockets'}`;
  if (a.otherNodes) return `${text} here, and other nodes`;
  if (a.receivers) return text;
  return element('span', a.audience.startsWith('/admin ') ? {} : { class: 'bad' }, 'no socket'); // often nobody watches
}

function say(text) { byID('status').textContent = text; }

function show(loggedIn) {
  byID('login').hidden = loggedIn;
  byID('content').hidden = !loggedIn;
  byID('leave').hidden = !token;
}

function logOut() {
  token = '';
  sessionStorage.removeItem(tokenKey);
  for (const part of ['nodes', 'sockets', 'slow', 'refusals', 'result-body']) byID(part).replaceChildren();
  closeView();
  show(false);
  byID('token').focus();
}

async function refresh() {
  if (loading) return;
  loading = true;
  try {
    const o = await ask('api/overview');
    show(true);
    showOverview(o);
    say(`${o.nodes.length} of ${o.nodes.length + o.silent.length} nodes, ${new Date().toLocaleTimeString('sv')}`);
  } catch (e) {
    say(e.status === 401 && !byID('token').value ? 'Please log in.' : e.message);
  } finally {
    loading = false;
  }
}

const views = { user: showUser, timeline: showTimeline };

async function openView(path, key) {
  shown = { path, id: key };
  byID(path === 'user' ? 'user' : 'trip').value = key;
  say('Asking the nodes…');
  try {
    const answer = await ask(`api/${path}?id=${encodeURIComponent(key)}`);
    if (!shown || shown.path !== path || shown.id !== key) return;
    views[path](answer);
    byID('result-note').textContent = [problemsOf(answer), answer.more ? 'There is more than what is shown.' : '',
      path === 'timeline' ? 'Receivers are sockets that an event was queued for. Gray lines are what the people of the trip did meanwhile.' : ''].filter(Boolean).join(' ');
    byID('result').hidden = false;
    byID('result').focus();
    say(`${answer.nodes.length} of ${answer.nodes.length + answer.silent.length} nodes have answered.`);
  } catch (e) {
    say(e.message);
  }
}

function closeView() {
  shown = null;
  byID('result').hidden = true;
}

let doomed = '';

function askAbout(session) {
  doomed = session;
  byID('confirm-session').textContent = session;
  byID('confirm').showModal();
}

async function disconnect() {
  byID('confirm').close();
  try {
    await ask('api/disconnect', { method: 'POST', headers: { 'Content-Type': 'application/json' }, body: JSON.stringify({ sessionId: doomed }) });
    await new Promise((done) => { setTimeout(done, 500); }); // the sockets end a moment later
    if (shown) await openView(shown.path, shown.id);
    say(`Session ${doomed} was disconnected.`);
  } catch (e) {
    say(e.message);
  }
}

byID('login-form').addEventListener('submit', (e) => {
  e.preventDefault();
  token = byID('token').value.trim();
  sessionStorage.setItem(tokenKey, token);
  refresh().then(() => { byID('token').value = ''; });
});
byID('user-form').addEventListener('submit', (e) => { e.preventDefault(); openView('user', byID('user').value.trim()); });
byID('trip-form').addEventListener('submit', (e) => { e.preventDefault(); openView('timeline', byID('trip').value.trim()); });
byID('refresh').addEventListener('click', refresh);
byID('leave').addEventListener('click', () => { logOut(); say('You have logged out.'); });
byID('close').addEventListener('click', closeView);
byID('confirm-no').addEventListener('click', () => byID('confirm').close());
byID('confirm-yes').addEventListener('click', disconnect);
document.addEventListener('keydown', (e) => {
  if (e.ctrlKey || e.metaKey || e.altKey || byID('confirm').open) return;
  if (e.key === 'Escape') { closeView(); return; }
  if (['INPUT', 'TEXTAREA'].includes(e.target.tagName) && e.target.type !== 'checkbox') return;
  const action = { '/': () => byID('user').focus(), t: () => byID('trip').focus(), r: refresh }[e.key];
  if (action && !byID('content').hidden) { e.preventDefault(); action(); }
});
setInterval(() => { if (byID('live').checked && !document.hidden && !byID('content').hidden) refresh(); }, 5000);
refresh();
