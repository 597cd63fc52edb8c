// Messages that go over the wire and have to come back as they were.

import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';

/** What the server needs for it. */
export const flags = ['-echo'];

const bytes = Buffer.from(Array.from({ length: 256 }, (_, i) => i));
const texts = [
  '', ' ', '\0', '\x1e', '"\\/\b\f\n\r\t', 'ñandú', 'Привет', '日本語', '🚕', '👩‍👩‍👧‍👦', '\u202esdrawkcab', '\u2028\u2029', '\ud800', '\ufeff', '{"_placeholder":true,"num":0}',
];
const values = [null, true, false, 0, -0.5, 1e-7, 1.7976931348623157e308, 9007199254740991, [], {}, [[[]]], { '': { 'a.b': [null] }, __proto: 1 }];

/** Lists of arguments: binary, Unicode, several, none, empty ones. */
export const messages = [
  [],
  ...texts.map((t) => [t]),
  [texts, Object.fromEntries(texts.map((t, i) => [`${i}${t}`, t]))],
  ...values.map((v) => [v]),
  values,
  [1, 'two', [3], { four: 4 }, null],
  [bytes],
  [Buffer.alloc(0)],
  [bytes, 'between', Buffer.from('second')],
  [{ deep: [{ down: bytes }], other: 'ñ', more: [Buffer.from([0]), 1, Buffer.from([255])] }, texts],
  Array.from({ length: 10 }, (_, i) => Buffer.from([i])),
];

const echo = (c, ...args) => c.ask('conformance:echo', ...args);

/** Everything comes back as it was. */
export async function echoes(world) {
  const [c] = await world.connect('diego');

  for (const args of messages) {
    assert.deepEqual(await echo(c, ...args), args);
  }

  // Typed arrays and ArrayBuffers arrive as Buffers do; old clients do not know the former.
  const [back] = await echo(c, world.setting.legacy ? new Uint8Array([1, 2, 3]).buffer : new Uint8Array([1, 2, 3]));
  assert.deepEqual(Buffer.from(back), Buffer.from([1, 2, 3]));

  // Near the limit of 1 MB; base64, on polling, makes binary a third longer.
  const long = '🚕 ñ and some ASCII. '.repeat(world.setting.twice ? 31_000 : 38_000);
  assert.ok(Buffer.byteLength(world.setting.twice ? Buffer.from(long).toString('latin1') : long) > 900_000);
  assert.deepEqual(await echo(c, long), [long]);
  const blob = randomBytes(world.setting.ends === 'polling' ? 700_000 : 900_000);
  const [same] = await echo(c, blob);
  assert.ok(blob.equals(same), 'a large binary comes back as it was');
  const many = [randomBytes(200_000), long.slice(0, 100_000), randomBytes(200_000)];
  assert.deepEqual(await echo(c, ...many), many);

  // Many at once come back in order.
  const answers = [];
  await Promise.all(Array.from({ length: 300 }, async (_, i) => {
    const args = i % 3 === 0 ? [i, Buffer.from(`${i}`)] : [i];
    assert.deepEqual(await echo(c, ...args), args);
    answers.push(i);
  }));
  assert.deepEqual(answers, Array.from({ length: 300 }, (_, i) => i));
  assert.equal(c.count('disconnect'), 0);
}

/** Nothing is lost or reordered by the upgrade. */
export async function echoesWhileUpgrading(world) {
  const c = world.as('diego');
  await c.hello();
  const upgraded = c.settled();
  let done = false;
  upgraded.finally(() => { done = true; });
  const sent = [];
  const answers = [];
  for (let after = 0; after < 20; after += done ? 1 : 0) {
    const i = sent.length;
    const args = i % 4 === 0 ? [i, randomBytes(5_000)] : [i, 'x'.repeat(i % 2000)];
    const answer = echo(c, ...args).then((back) => {
      assert.deepEqual(back, args);
      answers.push(i);
    });
    answer.catch(() => {}); // awaited below
    sent.push(answer);
    // As fast as the event loop turns, without a growing heap of unanswered ones.
    if (i % 8 === 7) await sent[i - 7];
    else await new Promise(setImmediate);
  }
  await upgraded;
  await Promise.all(sent);
  assert.deepEqual(answers, sent.map((_, i) => i));
  assert.equal(c.count('disconnect'), 0);
}
