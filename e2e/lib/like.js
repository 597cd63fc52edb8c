// Comparing a payload with what the contract says about it: exact keys, exact
// values where they are known, kinds of values where they are not.

import assert from 'node:assert/strict';

/** A kind of value: anything for which `test` holds. */
export const is = (name, test) => Object.assign((value) => test(value), { kind: name });

export const uuid = is('a UUID', (v) => typeof v === 'string' && /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/.test(v));
export const time = is('an ISO-8601 UTC time with milliseconds', (v) => typeof v === 'string' && /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/.test(v));
export const text = is('a text', (v) => typeof v === 'string' && v !== '');
export const number = is('a number', (v) => Number.isFinite(v));
export const orNull = (kind) => is(`${kind.kind} or null`, (v) => v === null || kind(v));

/** A key that may be missing; when it is there its value is like `shape`. */
export const maybe = (shape) => ({ [optional]: shape });
const optional = Symbol('optional');

/** A value that is like one of several shapes. */
export const oneOf = (...shapes) => is('one of several shapes', (v) => shapes.some((s) => differences(v, s).length === 0));

/**
 * Asserts that a value has a shape: the same keys, nothing missing, nothing
 * added, each value equal to the shape's or of its kind.
 */
export function like(actual, shape, what = 'payload') {
  const wrong = differences(actual, shape);
  if (wrong.length > 0) {
    assert.fail(`${what}: ${wrong.join('; ')}\nin ${JSON.stringify(actual)}`);
  }
}

function differences(actual, shape, path = '') {
  const at = path || 'it';
  if (typeof shape === 'function') {
    return shape(actual) ? [] : [`${at} is ${JSON.stringify(actual)}, not ${shape.kind ?? 'as it should be'}`];
  }
  if (shape === null || typeof shape !== 'object') {
    return Object.is(actual, shape) ? [] : [`${at} is ${JSON.stringify(actual)}, not ${JSON.stringify(shape)}`];
  }
  if (actual === null || typeof actual !== 'object' || Array.isArray(actual) !== Array.isArray(shape)) {
    return [`${at} is ${JSON.stringify(actual)}, not ${Array.isArray(shape) ? 'an array' : 'an object'}`];
  }
  const wrong = [];
  for (const key of new Set([...Object.keys(shape), ...Object.keys(actual)])) {
    const name = path ? `${path}.${key}` : key;
    const expected = shape[key];
    if (!Object.hasOwn(shape, key)) {
      wrong.push(`${name} should not be there`);
    } else if (!Object.hasOwn(actual, key)) {
      if (!expected?.[optional]) wrong.push(`${name} is missing`);
    } else {
      wrong.push(...differences(actual[key], expected?.[optional] ?? expected, name));
    }
  }
  return wrong;
}
